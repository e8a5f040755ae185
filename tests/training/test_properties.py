"""Training on formulas, on several properties at once, on classes, and from the weights of another model."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from ase_matprop import load_model
from ase_matprop.errors import RecipeError
from ase_matprop.networks import build_network
from ase_matprop.training.datasets import load_feature_table
from ase_matprop.training.hull import remove_far_above_hull
from ase_matprop.training.loop import Rows, Trainee, fit
from ase_matprop.training.recipe import DataSection, TrainingSection
from ase_matprop.training.run import train
from ase_matprop.training.splits import Split, make_split, split_held_out, thin_out

RECIPE = """
name = "toy"
[data]
file = "toy.csv.gz"
property = "formation_energy_per_atom"
name = "made in the test"
licence = "none"
citation = "none"
[split]
test = 0.2
validation = 0.2
[descriptor]
name = "fractions"
scaling = "none"
[network]
name = "irnet"
settings = { stacks = [[32, 1], [16, 1]] }
[training]
max_epochs = 12
batch_size = 32
learning_rate = 1e-2
[output]
description = "a toy"
citation = ["none"]
precision = "float32"
"""
CATIONS, ANIONS = ("Li", "Na", "K", "Mg", "Ca", "Al"), ("F", "Cl", "O", "S", "N")


def toy_table(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Formulas whose targets are linear in the fractions; oxides and fluorides have a gap, the others none."""
    rng = np.random.default_rng(seed)
    rows = []
    seen = set()
    while len(rows) < n:
        cation, anion = rng.choice(CATIONS), rng.choice(ANIONS)
        amounts = rng.integers(1, 30, 2)
        reduced = amounts // np.gcd(*amounts)
        if (cation, anion, *reduced) in seen:
            continue
        seen.add((cation, anion, *reduced))
        x = amounts[1] / amounts.sum()
        energy = -0.5 - x * (1.0 + 0.3 * ANIONS.index(anion)) + 0.1 * CATIONS.index(cation) * (1 - x)
        gap = 4.0 * x if anion in ("O", "F") else 0.0
        rows.append((f"{cation}{amounts[0]}{anion}{amounts[1]}", energy, gap))
    return pd.DataFrame(rows, columns=["formula", "formation_energy_per_atom", "gap"])


def run(tmp_path: Path, recipe: str, table: pd.DataFrame, name: str = "a"):
    with gzip.open(tmp_path / "toy.csv.gz", "wt") as stream:
        table.to_csv(stream, index=False)
    path = tmp_path / f"{name}.toml"
    path.write_text(recipe)
    return train(path, data_dir=tmp_path, output=tmp_path / "runs" / name, progress_bar=False)


def test_formulas(tmp_path: Path) -> None:
    table = toy_table()
    result = run(tmp_path, RECIPE, table)
    predictor = load_model(result.model_folder)
    assert not predictor.needs_structure
    predictions = predictor.predict(table["formula"].tolist())
    errors = np.abs(predictions.values - table["formation_energy_per_atom"])
    assert errors.mean() < 0.5 * np.abs(table["formation_energy_per_atom"] - errors.mean()).mean()
    # the card says what the ordinary interface gives
    split = pd.read_json(tmp_path / "runs" / "a" / "split.json", orient="index").T
    test = table["formula"].isin(split["test"].dropna())
    assert errors[test].mean() == pytest.approx(result.card.errors["test"].mae, rel=1e-4)


def test_several_properties_with_gaps(tmp_path: Path) -> None:
    """A row without one of the targets still teaches the other one."""
    table = toy_table()
    table.loc[::3, "gap"] = np.nan
    table.loc[1::3, "formation_energy_per_atom"] = np.nan
    table.loc[299, ["gap", "formation_energy_per_atom"]] = np.nan
    recipe = RECIPE.replace(
        'property = "formation_energy_per_atom"',
        'property = "formation_energy_per_atom"\nfurther_properties = ["band_gap"]\ncolumns = { band_gap = "gap" }',
    )
    result = run(tmp_path, recipe, table)
    card = result.card
    assert card.network.n_outputs == 2
    assert sum(card.training_set.rows.values()) == 299
    assert card.errors["test"].n + card.further_errors["band_gap"]["test"].n < 2 * card.training_set.rows["test"]
    assert (tmp_path / "runs" / "a" / "parity_test_band_gap.png").is_file()
    predictions = load_model(result.model_folder).predict(["MgO", "KCl"])
    gap = predictions["band_gap"]
    assert (gap.unit, predictions["formation_energy_per_atom"].unit) == ("eV", "eV/atom")
    assert gap.values[0] > 1.0 > abs(gap.values[1])
    assert {"band_gap", "band_gap unit", "formation_energy_per_atom"} <= set(predictions.to_frame())


def test_classes(tmp_path: Path) -> None:
    recipe = RECIPE.replace(
        'property = "formation_energy_per_atom"',
        'property = "metallicity"\ncolumns = { metallicity = "gap" }\nclass_edges = [0.0]',
    ).replace("max_epochs = 12", 'max_epochs = 12\nloss = "cross_entropy"')
    result = run(tmp_path, recipe, toy_table())
    assert result.card.errors == {}
    assert result.card.classification["test"].accuracy > 0.9
    assert (tmp_path / "runs" / "a" / "confusion_test.png").is_file()
    predictions = load_model(result.model_folder).predict(["MgO", "KCl", "Xe"])
    assert predictions.labels == ["non-metal", "metal", None]
    np.testing.assert_allclose(predictions.probabilities[:2].sum(axis=1), 1.0, atol=1e-6)
    assert np.isnan(predictions.probabilities[2]).all()
    frame = predictions.to_frame()
    assert list(frame["metallicity"])[:2] == ["non-metal", "metal"]
    assert frame["probability of metal"][1] == predictions.probabilities[1, 0] > 0.5


def test_names_of_classes_may_stand_in_the_file(tmp_path: Path) -> None:
    table = toy_table()
    table["metallicity"] = np.where(table["gap"] > 0, "non-metal", "metal")
    table.loc[7, "metallicity"] = "unknown"
    recipe = RECIPE.replace('"formation_energy_per_atom"', '"metallicity"')
    recipe = recipe.replace("max_epochs = 12", 'max_epochs = 2\nloss = "cross_entropy"')
    result = run(tmp_path, recipe, table)
    assert set(result.card.training_set.rows_without_features) == {f"{table['formula'][7]} (row 8)"}
    assert sum(map(sum, result.card.classification["train"].confusion)) == result.card.training_set.rows["train"]


def test_transfer_starts_from_the_other_model(tmp_path: Path) -> None:
    """With a learning rate of nearly zero the weights stay those of the initial model, so the predictions do too."""
    first = run(tmp_path, RECIPE, toy_table())
    recipe = RECIPE.replace("[network]", f'[network]\ninitial_model = "{first.model_folder}"')
    recipe = recipe.replace("learning_rate = 1e-2", "learning_rate = 1e-12").replace(
        "max_epochs = 12", "max_epochs = 1"
    )
    second = run(tmp_path, recipe, toy_table(60, seed=5), "b")
    formulas = ["MgO", "Na3Cl", "AlN"]
    before, after = (load_model(result.model_folder).predict(formulas).values for result in (first, second))
    fresh = run(tmp_path, RECIPE.replace("max_epochs = 12", "max_epochs = 1"), toy_table(60, seed=5), "c")
    untrained = load_model(fresh.model_folder).predict(formulas).values
    # batch normalisation goes on to take its averages from the new rows
    assert np.abs(after - before).max() < 0.3 * np.abs(untrained - before).max()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[network]", '[network]\ninitial_model = "irnet17-mp"', "the initial model irnet17-mp has the"),
        ("[network]", '[network]\ninitial_model = "irnet71-mp"', "unknown model 'irnet71-mp'.*Did you mean"),
        ('"toy.csv.gz"', '"toy.csv.gz"\nformula_column = "compound"', "no column 'compound'; its columns are formula"),
        ('"toy.csv.gz"', '"toy.csv.gz"\ncolumns = { band_gap = "gap" }', "columns names 'band_gap'"),
        ('"fractions"', '"ward2017"', "has formulas, the descriptor ward2017 needs structures"),
        ("max_epochs", 'loss = "cross_entropy"\nmax_epochs', "'cross_entropy' does not suit formation_energy_per_atom"),
        ("test = 0.2", "test = 0.2\ntrain_rows = 5000", "train_rows is 5000, there are 180"),
        ("max_epochs", "hull_cutoff = -1.0\nmax_epochs", "training.hull_cutoff"),
        ('"formation_energy_per_atom"', '"metallicity"\nclass_edges = [0.0, 1.0]', "2 classes need 1 class_edges"),
        ('"formation_energy_per_atom"', '"band_gap"\nfurther_properties = ["metallicity"]', "is a class and cannot"),
        ('scaling = "none"', 'scaling = "some"', "descriptor.scaling"),
        ('"toy.csv.gz"', '"toy.csv.gz"\nid_key = "mpid"', "no column 'mpid'"),
        ('"toy.csv.gz"', '"toy.csv.gz"\nexclude_elements = ["Xx"]', "'Xx' is no element"),
        (
            '"formation_energy_per_atom"',
            '"formation_energy_per_atom"\nfurther_properties = ["band_gap"]\ncolumns = { band_gap = "nothing" }',
            r"none of the training rows has the property 'band_gap' \('nothing' in toy.csv.gz\)",
        ),
        (
            '"formation_energy_per_atom"',
            '"metallicity"\ncolumns = { metallicity = "one" }\nclass_edges = [0.0]\n#',
            "is a number|all training rows are of one class",
        ),
    ],
)
def test_bad_recipes_are_one_clear_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    recipe = RECIPE.replace(old, new)
    if "metallicity" in new and "max_epochs" not in new:
        recipe = recipe.replace("max_epochs", 'loss = "cross_entropy"\nmax_epochs')
    with pytest.raises((RecipeError, LookupError), match=message) as error:
        run(tmp_path, recipe, toy_table().assign(nothing="", one=1.0))
    assert "\n" not in str(error.value)


def section(**settings) -> DataSection:
    fixed = {"property": "formation_energy_per_atom", "name": "", "licence": "", "citation": ""}
    return DataSection(**fixed, **settings)


def test_rows_of_a_table(tmp_path: Path) -> None:
    """Bad rows cost themselves only; elements and all but the lowest of a formula go, each file by itself."""
    (tmp_path / "a.csv").write_text(
        "formula,formation_energy_per_atom\nFe2O3,-1.0\nFe4O6,-1.5\nFe,0.0\nXx2,-1\nNaN,-0.1\nMgO,\nMgS,nan\nCaO,-3.2\n"
        "Ca2O2,-3.3\nHe2O,-0.2\n"
    )
    (tmp_path / "b.csv").write_text("formula,formation_energy_per_atom\nFe6O9,-0.5\nKCl,-2.1\nKBr,-1.9\n")
    data = section(file="a.csv", held_out_file="b.csv", remove_elements=True, lowest_per_formula=True)
    table = load_feature_table(tmp_path, data, "fractions", cache_dir=tmp_path / "cache")
    assert table.ids == ["Fe4O6", "NaN", "Ca2O2", "Fe6O9", "KCl", "KBr"]
    assert table.held_out.tolist() == [False] * 3 + [True] * 3
    assert table.removed == {"pure elements": 1, "not the lowest of their formula": 2}
    assert set(table.skipped) == {"Xx2 (row 4)", "MgO (row 6)", "MgS (row 7)", "He2O"}
    assert table.elements(np.array([1])) == ["N", "Na"]
    assert table.reduced_formulas()[0] == table.reduced_formulas()[3]
    np.testing.assert_allclose(table.features.sum(axis=1), 1.0)
    again = load_feature_table(tmp_path, data, "fractions", cache_dir=tmp_path / "cache")
    assert (again.ids, again.skipped, again.removed) == (table.ids, table.skipped, table.removed)
    with pytest.raises(RecipeError, match="'Fe2O3' more than once; name a column"):
        (tmp_path / "a.csv").write_text("formula,formation_energy_per_atom\nFe2O3,-1.0\nFe2O3,-1.5\n")
        load_feature_table(tmp_path, section(file="a.csv"), "fractions", cache_dir=tmp_path / "cache")


def test_truncated_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"formula,formation_energy_per_atom\nFe2O3,-1.0\n" * 99)[:60])
    with pytest.raises(RecipeError, match="cannot be read as CSV"):
        load_feature_table(tmp_path, section(file="a.csv.gz"), "fractions", cache_dir=tmp_path / "cache")


def test_numbers_of_classes_and_nothing_else_without_edges(tmp_path: Path) -> None:
    """A band gap of 4.4 eV is no class."""
    (tmp_path / "a.csv").write_text("formula,metallicity\nMgO,1\nCu,0\nNaCl,4.4\nCaO,non-metal\nFe,2\n")
    data = section(file="a.csv").model_copy(update={"property": "metallicity"})
    table = load_feature_table(tmp_path, data, "fractions", cache_dir=tmp_path / "cache")
    assert dict(zip(table.ids, table.targets[:, 0], strict=True)) == {"MgO": 1, "Cu": 0, "CaO": 1}


def test_excluded_elements_make_the_rows_of_descriptors_equal(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("formula,formation_energy_per_atom\nMgO,-3\nHeO,1\nNaCl,-2\n")
    with_it, without = (section(file="a.csv", **more) for more in ({}, {"exclude_elements": ["He"]}))
    whole = load_feature_table(tmp_path, with_it, "composition", cache_dir=tmp_path / "cache")
    assert whole.ids == ["MgO", "HeO", "NaCl"]
    table = load_feature_table(tmp_path, without, "composition", cache_dir=tmp_path / "cache")
    assert (table.ids, table.removed) == (["MgO", "NaCl"], {"with He": 1})
    assert load_feature_table(tmp_path, with_it, "fractions", cache_dir=tmp_path / "cache").ids == table.ids


def test_held_out_rows_are_never_trained_on() -> None:
    held_out = np.arange(100) >= 60
    split = split_held_out(held_out, test=0.1, validation=0.3, seed=0)
    assert split.train.tolist() == list(range(60))
    assert (len(split.test), len(split.validation)) == (10, 30)
    assert sorted([*split.test, *split.validation]) == list(range(60, 100))


def test_smaller_training_sets_are_nested() -> None:
    split = make_split(500, test=0.1, validation=0.1, seed=0)
    few, many = (set(thin_out(split, n, seed=0).train) for n in (50, 200))
    assert few < many < set(split.train)


def test_rows_far_above_the_hull(tmp_path: Path) -> None:
    """Against pymatgen's phase diagram of all training rows together."""
    rng = np.random.default_rng(1)
    symbols = ("Li", "Fe", "O")
    formulas = [
        "".join(f"{symbol}{amount}" for symbol, amount in zip(symbols, amounts, strict=True) if amount)
        for amounts in np.unique(rng.integers(0, 4, (60, 3)), axis=0)
        if (amounts > 0).sum() > 1 and np.gcd.reduce(amounts) == 1
    ]
    energies = rng.uniform(-3, 1, len(formulas))
    pd.DataFrame({"formula": formulas, "formation_energy_per_atom": energies}).to_csv(tmp_path / "a.csv", index=False)
    table = load_feature_table(tmp_path, section(file="a.csv"), "fractions", cache_dir=tmp_path / "cache")
    nothing = np.empty(0, dtype=np.int64)
    split = Split(np.arange(len(formulas) - 2), nothing, np.arange(len(formulas) - 2, len(formulas)), nothing)
    cleaned = remove_far_above_hull(split, table, cutoff=1.2)

    entries = [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in zip(formulas, energies, strict=True)]
    diagram = PhaseDiagram(
        [entries[row] for row in split.train] + [PDEntry(Composition(symbol), 0) for symbol in symbols]
    )
    far = [row for row in split.train if diagram.get_e_above_hull(entries[row], allow_negative=True) > 1.2]
    assert 0 < len(far) < len(split.train) - 3
    assert cleaned.outliers.tolist() == far
    assert sorted([*cleaned.train, *far]) == split.train.tolist()
    assert cleaned.test.tolist() == split.test.tolist()


def learnable(n: int = 512) -> Rows:
    inputs = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
    return Rows(inputs, inputs[:, :2].copy())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_warm_up_and_precision(tmp_path: Path, precision: str) -> None:
    """The learning rate starts at a thousandth, reaches its full value after two epochs and falls to zero."""
    settings = TrainingSection(
        schedule="warm_up", learning_rate=1e-2, max_epochs=10, batch_size=32, precision=precision, optimizer="adam"
    )
    torch.manual_seed(0)
    network = build_network("plain", 8, 2, {"stacks": [[32, 2]]})
    state = fit(
        network, learnable(), learnable(), settings, seed=0, folder=tmp_path, target_scale=1.0, progress_bar=False
    )
    history = pd.read_csv(tmp_path / "history.csv")
    rates = history["learning_rate"]
    assert rates[0] == pytest.approx(1e-2 * 10**-1.5, rel=0.2)  # after the first of two epochs
    assert rates[1] == pytest.approx(1e-2, rel=0.02)
    assert rates.iloc[-1] < 1e-4 and rates[1:].is_monotonic_decreasing
    assert history["validation_mae"].iloc[-1] < 0.3 * history["validation_mae"].iloc[0]
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}


def test_missing_targets_give_no_gradient() -> None:
    settings = TrainingSection()
    network = build_network("plain", 4, 2, {"stacks": [[8, 1]]})
    module = Trainee(network, settings, target_scale=1.0)
    inputs = torch.randn(6, 4)
    targets = torch.randn(6, 2)
    targets[:, 1] = torch.nan
    loss, metric = module._errors(network(inputs), targets)
    loss.backward()
    assert torch.isfinite(metric)
    assert network.output.weight.grad[1].abs().max() == 0.0 < network.output.weight.grad[0].abs().max()

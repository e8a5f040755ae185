"""Training of SchNet and PaiNN from recipes: energies of pairs that a network can learn, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write
from safetensors.torch import load_file

from ase_matprop import SchNet, load_model
from ase_matprop.descriptors.neighbors import neighbor_graphs
from ase_matprop.errors import RecipeError
from ase_matprop.models import artefact
from ase_matprop.training.baseline_recipe import BaselineRecipe
from ase_matprop.training.datasets import load_feature_table
from ase_matprop.training.element_offsets import fit_element_offsets
from ase_matprop.training.loop import Rows
from ase_matprop.training.recipe import Recipe
from ase_matprop.training.run import TrainingResult, train
from tests.conftest import rattled

RECIPE = """
name = "toy"
[data]
file = "toy.extxyz"
property = "formation_energy_per_atom"
name = "made in the test"
licence = "none"
citation = "none"
[split]
test = 0.2
validation = 0.15
seed = 3
[descriptor]
name = "neighbors"
[network]
name = "schnet"
settings = { n_atom_basis = 16, n_interactions = 2, n_rbf = 12, cutoff = 4.5 }
[training]
max_epochs = 4
batch_size = 8
learning_rate = 1e-2
[output]
description = "a toy"
citation = ["none"]
precision = "float32"
"""
SIZES = {"Li": 0.2, "Na": -0.1, "Mg": 0.4, "O": -0.6, "S": 0.1, "Cl": -0.3}


def toy_structures(n: int = 120) -> list[Atoms]:
    """Distorted rocksalt and CsCl cells whose energies are constants of the elements and a Lennard-Jones potential."""
    rng = np.random.default_rng(0)
    potential = LennardJones(sigma=2.3, epsilon=0.08, rc=4.4, smooth=True)
    structures = []
    for index in range(n):
        cation, anion = rng.choice(["Li", "Na", "Mg"]), rng.choice(["O", "S", "Cl"])
        kind, a = [("rocksalt", rng.uniform(4.6, 5.8)), ("cesiumchloride", rng.uniform(2.85, 3.5))][index % 2]
        atoms = rattled(bulk(f"{cation}{anion}", kind, a) * (1, 1, 1 + index % 3), index, 0.1)
        atoms.calc = potential
        target = (atoms.get_potential_energy() + sum(SIZES[symbol] for symbol in atoms.symbols)) / len(atoms)
        atoms.calc = None
        atoms.info = {"material_id": f"toy-{index}", "formation_energy_per_atom": float(target)}
        structures.append(atoms)
    return structures


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path / "toy.extxyz", toy_structures())
    return tmp_path


def run(data: Path, recipe: str, name: str = "a", **options: Any) -> TrainingResult:
    path = data / f"{name}.toml"
    path.write_text(recipe)
    return train(path, data_dir=data, output=data / "runs" / name, progress_bar=False, **options)


def rows_of(data: Path, name: str = "a") -> dict[str, list[Atoms]]:
    """The structures of each set of a run."""
    split = json.loads((data / "runs" / name / "split.json").read_text())
    structures = {atoms.info["material_id"]: atoms for atoms in toy_structures()}
    return {part: [structures[row] for row in split[part]] for part in ("train", "validation", "test")}


def targets(structures: list[Atoms]) -> np.ndarray:
    return np.array([atoms.info["formation_energy_per_atom"] for atoms in structures])


@pytest.mark.parametrize("network", ["schnet", "painn"])
def test_whole_run(network: str, data: Path) -> None:
    recipe = RECIPE.replace('"schnet"', f'"{network}"').replace("max_epochs = 4", "max_epochs = 20")
    state = torch.get_rng_state()
    result = run(data, recipe)
    assert torch.equal(torch.get_rng_state(), state)
    folder = data / "runs" / "a"
    for name in ("recipe.toml", "split.json", "learning_curve.png", "parity_test.png", "toy/card.json"):
        assert (folder / name).is_file()

    card = result.card
    assert (card.descriptor.name, card.descriptor.labels, card.network.n_inputs) == ("neighbors", [], 100)
    assert card.network.settings["cutoff"] == 4.5 and card.network.settings["n_output_layers"] == 2
    assert card.elements == ["Li", "O", "Na", "Mg", "S", "Cl"]
    rows = rows_of(data)
    assert card.training_set.rows == {part: len(found) for part, found in rows.items()}

    # better than the mean, and better than the constants of the elements with which it begins
    predictor = load_model(result.model_folder)
    predicted = predictor.predict(rows["test"])
    errors = np.abs(predicted.values - targets(rows["test"]))
    assert errors.mean() == pytest.approx(card.errors["test"].mae, rel=1e-4)
    constant = np.abs(targets(rows["test"]) - np.median(targets(rows["train"]))).mean()
    assert errors.mean() < 0.2 * constant
    assert errors.mean() < 0.5 * np.abs(offsets_only(rows) - targets(rows["test"])).mean()
    # nothing of its own training rows is new to it
    assert predictor.predict(rows["train"]).warnings == [None] * len(rows["train"])

    atoms = rows["test"][0]
    atoms.calc = SchNet(result.model_folder)
    assert atoms.get_potential_energy() / len(atoms) == pytest.approx(predicted.values[0], abs=1e-5)


def offsets_only(rows: dict[str, list[Atoms]]) -> np.ndarray:
    """Predictions for the test rows by least squares on the fractions of the elements in the training rows."""
    train, test = (fractions(rows[part]) for part in ("train", "test"))
    mean = targets(rows["train"]).mean()
    coefficients = np.linalg.lstsq(train, targets(rows["train"]) - mean, rcond=None)[0]
    return mean + test @ coefficients


def fractions(structures: list[Atoms]) -> np.ndarray:
    return np.array([np.bincount(atoms.numbers, minlength=100) / len(atoms) for atoms in structures])


def test_element_offsets_in_the_model(data: Path) -> None:
    """They are those of least squares on the training rows, but for a small pull towards the mean."""
    result = run(data, RECIPE.replace("max_epochs = 4", "max_epochs = 1"))
    target = artefact.load(result.model_folder).target
    rows = rows_of(data)
    assert target.offset[0] == pytest.approx(targets(rows["train"]).mean())
    found = target.offset[0] + target.of_elements(fractions(rows["test"]))[:, 0]
    np.testing.assert_allclose(found, offsets_only(rows), atol=1e-3)
    remaining = target.remaining(targets(rows["train"])[:, None], fractions(rows["train"]))
    assert remaining.std() == pytest.approx(1.0) and abs(remaining.mean()) < 0.01
    unused = np.setdiff1d(np.arange(100), [3, 8, 11, 12, 16, 17])
    assert not target.element_offsets[unused].any()


def test_fit_of_element_offsets() -> None:
    """A linear law is found again; of an element without rows, and of rows without a target, nothing is learnt."""
    rng = np.random.default_rng(0)
    shares = np.zeros((300, 100))
    shares[:, [8, 26, 28]] = rng.dirichlet([1, 1, 1], 300)
    values = np.column_stack([shares[:, [8, 26, 28]] @ [-3.0, 1.0, 2.0], shares[:, [8, 26, 28]] @ [0.5, 0.5, -8.0]])
    values[:, 1] += rng.normal(scale=0.1, size=300)
    values[::3, 1] = np.nan
    target = fit_element_offsets(shares, values)
    found = target.offset + target.of_elements(shares)
    np.testing.assert_allclose(found[:, 0], values[:, 0], atol=2e-3)
    assert target.scale[1] == pytest.approx(0.1, rel=0.2)
    np.testing.assert_allclose(np.nanstd(target.remaining(values, shares), axis=0)[1], 1.0, rtol=1e-6)
    assert np.count_nonzero(target.element_offsets.any(axis=1)) == 3
    np.testing.assert_allclose(target.inverse(target.remaining(values, shares)) + target.of_elements(shares), values)
    # one row of one element is pulled to the mean, and targets that are all equal have the scale 1
    equal = fit_element_offsets(shares, np.full((300, 1), 2.0))
    assert (equal.offset[0], equal.scale[0]) == (2.0, 1.0) and not equal.element_offsets.any()


@pytest.mark.parametrize("network", ["schnet", "painn"])
def test_interrupted_run_is_resumed_with_the_same_result(network: str, data: Path, monkeypatch) -> None:
    from ase_matprop.training.trainer import History

    recipe = RECIPE.replace('"schnet"', f'"{network}"')
    whole = run(data, recipe, "whole")
    original = History.on_train_epoch_end

    def stop_in_epoch_2(self, trainer, module):
        if trainer.current_epoch == 2:
            raise ConnectionError("power cut")
        original(self, trainer, module)

    monkeypatch.setattr(History, "on_train_epoch_end", stop_in_epoch_2)
    with pytest.raises(ConnectionError):
        run(data, recipe, "cut")
    monkeypatch.undo()
    with pytest.raises(RecipeError, match="--resume"):
        run(data, recipe, "cut")
    resumed = run(data, recipe, "cut", resume=True)
    histories = [pd.read_csv(data / "runs" / name / "member_0" / "history.csv") for name in ("whole", "cut")]
    pd.testing.assert_frame_equal(*histories)
    assert list(histories[1]["epoch"]) == [0, 1, 2, 3]
    assert resumed.card.errors["test"].mae == pytest.approx(whole.card.errors["test"].mae, rel=1e-4)


def test_table_that_is_trained_is_the_network_that_is_saved(data: Path) -> None:
    """The last validation error of the training, with tabulated filters, is that of the exact network."""
    result = run(data, RECIPE)
    history = pd.read_csv(data / "runs" / "a" / "member_0" / "history.csv")
    assert history["validation_mae"].min() == pytest.approx(result.card.errors["validation"].mae, rel=5e-3)


def test_bfloat16(data: Path) -> None:
    recipe = RECIPE.replace("max_epochs = 4", 'max_epochs = 4\nprecision = "bfloat16"')
    result = run(data, recipe)
    rows = rows_of(data)
    tensors = load_file(data / "runs" / "a" / "member_0" / "finished.safetensors")
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float32}
    constant = np.abs(targets(rows["test"]) - np.median(targets(rows["train"]))).mean()
    assert result.card.errors["test"].mae < 0.6 * constant


def test_ensemble_and_several_properties(data: Path) -> None:
    """Rows without one of the targets still teach the other one."""
    structures = toy_structures()
    for index, atoms in enumerate(structures):
        atoms.info["gap"] = 1.0 + float(atoms.get_volume()) / len(atoms) / 20.0
        if index % 3 == 0:
            del atoms.info["gap"]
    write(data / "toy.extxyz", structures)
    recipe = RECIPE.replace(
        'property = "formation_energy_per_atom"',
        'property = "formation_energy_per_atom"\nfurther_properties = ["band_gap"]\ncolumns = { band_gap = "gap" }',
    ).replace('"schnet"', '"schnet"\nmembers = 2')
    result = run(data, recipe)
    assert result.card.network.n_members == 2 and result.card.network.n_outputs == 2
    predictions = load_model(result.model_folder).predict(structures[1:3])
    assert (predictions.spread > 0).all() and (predictions["band_gap"].values > 0.5).all()
    assert result.card.further_errors["band_gap"]["test"].n < result.card.errors["test"].n


def test_excluded_formulas(data: Path) -> None:
    """They leave training and validation, and not the test; an identifier names all rows of its formula."""
    plain = run(data, RECIPE.replace("max_epochs = 4", "max_epochs = 1"), "plain")
    chosen = rows_of(data, "plain")["test"][0]
    excluded = chosen.get_chemical_formula(empirical=True)
    listed = [chosen.info["material_id"], None, *(f"row {number} of another set" for number in range(50))]
    pd.DataFrame({"material_id": listed, "x": 1}).to_csv(data / "transfer.csv", index=False)
    recipe = RECIPE.replace("max_epochs = 4", 'max_epochs = 1\nexclude_formulas_of = "transfer.csv"')
    result = run(data, recipe)
    before, after = rows_of(data, "plain"), rows_of(data)
    formulas = {part: [atoms.get_chemical_formula(empirical=True) for atoms in rows] for part, rows in after.items()}
    assert excluded not in formulas["train"] + formulas["validation"] and excluded in formulas["test"]
    assert [atoms.info for atoms in after["test"]] == [atoms.info for atoms in before["test"]]
    for part in ("train", "validation"):
        kept = [atoms.info for atoms in before[part] if atoms.get_chemical_formula(empirical=True) != excluded]
        assert [atoms.info for atoms in after[part]] == kept and len(kept) < len(before[part])
    assert result.card.training_set.rows["train"] < plain.card.training_set.rows["train"]
    # what is listed may change under a run no more than the data
    pd.DataFrame({"material_id": ["toy-1", "toy-2"]}).to_csv(data / "transfer.csv", index=False)
    with pytest.raises(RecipeError, match="changed since the run"):
        run(data, recipe, resume=True)


def test_transfer_starts_from_the_other_model(data: Path) -> None:
    """With a learning rate of nearly zero the model stays what it was, and knows the environments of both trainings."""
    first = run(data, RECIPE)
    stretched = toy_structures()[:40]
    for atoms in stretched:
        atoms.set_cell(0.9 * atoms.cell, scale_atoms=True)
    write(data / "toy.extxyz", stretched)
    recipe = RECIPE.replace("[network]", f'[network]\ninitial_model = "{first.model_folder}"')
    second = run(data, recipe.replace("1e-2", "1e-12").replace("max_epochs = 4", "max_epochs = 1"), "b")
    before, after = (load_model(result.model_folder) for result in (first, second))
    values = [model.predict(toy_structures()[:20]).values for model in (before, after)]
    np.testing.assert_allclose(*values, atol=1e-5)
    known = rows_of(data)["train"]
    assert after.predict(known).warnings == [None] * len(known)
    assert sum(map(bool, after.predict(stretched).warnings)) < sum(map(bool, before.predict(stretched).warnings))
    wrong = recipe.replace("cutoff = 4.5", "cutoff = 5.0")
    with pytest.raises(RecipeError, match="the initial model .* has the settings"):
        run(data, wrong, "c")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"neighbors"', '"ward2017"', "networks painn and schnet, and only these, take the descriptor 'neighbors'"),
        ('"neighbors"', '"neighbors+fractions"', "'neighbors' stands alone"),
        ('"schnet"', '"irnet"', "networks painn and schnet, and only these, take the descriptor 'neighbors'"),
        ('"schnet"', '"schnett"', "unknown network 'schnett'.*Did you mean 'schnet'"),
        ('"schnet"\nsettings = {', '"painn"\nsettings = { n_filters = 8,', "cannot be built: only SchNet has n_filter"),
        ("cutoff = 4.5", "cutoff = -4.5", "cannot be built: cutoff is too small. Got -4.5"),
        ("cutoff = 4.5", "cutoff = inf", "cannot be built: the cutoff must be finite. Got inf"),
        ("cutoff = 4.5", 'cutoff = "far"', "cannot be built"),
        ("n_rbf", "n_rfb", "cannot be built: .*n_rfb"),
        (
            '"formation_energy_per_atom"',
            '"metallicity"\ncolumns = { metallicity = "x" }\nclass_edges = [0.0]',
            "schnet is for numbers, metallicity is a class",
        ),
        ("toy.extxyz", "toy.csv", "has formulas, the descriptor neighbors needs structures"),
        ("[training]", '[training]\nexclude_formulas_of = "none.csv"', "none.csv is no CSV file with a column"),
        ("[training]", '[training]\nexclude_formulas_of = "toy.csv"', "none of the identifiers in .*toy.csv"),
        ("[training]", '[training]\nexclude_formulas_of = "all.csv"', "leaves no .* rows"),
    ],
)
def test_bad_recipes_are_one_clear_error(data: Path, old: str, new: str, message: str) -> None:
    (data / "toy.csv").write_text("material_id,formula,formation_energy_per_atom\na,NaCl,-2.0\nb,MgO,-3.0\n")
    pd.DataFrame({"material_id": [f"toy-{i}" for i in range(120)]}).to_csv(data / "all.csv", index=False)
    with pytest.raises(RecipeError, match=message) as error:
        run(data, RECIPE.replace(old, new))
    assert "\n" not in str(error.value)


def test_baselines_need_feature_vectors(data: Path) -> None:
    head = RECIPE[: RECIPE.index("[network]")]
    (data / "b.toml").write_text(head + '[[baseline]]\nname = "linear"\n')
    with pytest.raises(RecipeError, match="'neighbors' gives graphs, a baseline needs feature vectors"):
        BaselineRecipe.read(data / "b.toml")


def test_table_of_graphs(data: Path) -> None:
    """Bad rows cost themselves only, and graphs stay with their rows."""
    structures = toy_structures(12)
    structures[3].positions[1] = structures[3].positions[0]
    del structures[5].info["formation_energy_per_atom"]
    structures[7].numbers[0] = 2
    write(data / "toy.extxyz", structures)
    (data / "a.toml").write_text(RECIPE.replace('"toy.extxyz"', '"toy.extxyz"\nexclude_elements = ["He"]'))
    recipe = Recipe.read(data / "a.toml")
    assert recipe.cutoff == 4.5
    table = load_feature_table(data, recipe.data, "neighbors", cache_dir=data / "cache", cutoff=recipe.cutoff)
    kept = [row for row in range(12) if row not in (3, 5, 7)]
    assert table.ids == [f"toy-{row}" for row in kept] and set(table.skipped) == {"toy-3", "toy-5"}
    assert table.removed == {"with He": 1} and not (data / "cache").exists()
    expected = neighbor_graphs([structures[row] for row in kept], 4.5)
    for name in ("numbers", "positions", "n_neighbors", "neighbors", "shifts"):
        np.testing.assert_allclose(getattr(table.features, name), getattr(expected, name), atol=1e-7)
    shares = table.element_fractions(np.arange(len(table)))
    np.testing.assert_allclose(shares, fractions([structures[row] for row in kept]))


@pytest.mark.parametrize("vectors", [False, True])
def test_rows_of_a_batch(vectors: bool) -> None:
    structures = toy_structures(9)
    rows = Rows(neighbor_graphs(structures, 4.5), targets(structures)[:, None].astype(np.float32), vectors)
    assert len(rows) == 9
    inputs, found = rows[[4, 0, 7]]
    np.testing.assert_allclose(found[:, 0], targets(structures)[[4, 0, 7]], rtol=1e-6)
    assert inputs["n_atoms"].tolist() == [len(structures[row]) for row in (4, 0, 7)]
    assert inputs["numbers"].tolist() == [z for row in (4, 0, 7) for z in structures[row].numbers]
    assert ("vectors" in inputs) == vectors
    if vectors:
        distances = np.linalg.norm(inputs["vectors"], axis=1)
        np.testing.assert_allclose(distances, neighbor_graphs([structures[i] for i in (4, 0, 7)], 4.5).distances, 1e-5)

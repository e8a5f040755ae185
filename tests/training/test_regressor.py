"""NetworkRegressor: scikit-learn's contract, recipes, and what it learns."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Composition
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import ase_matprop
from ase_matprop import MatProp, load_model
from ase_matprop.errors import (
    CompositionError,
    DescriptorError,
    MatPropError,
    RecipeError,
    StructureError,
    UnknownNameError,
)
from ase_matprop.featurizers import MagpieComposition, NetworkFeaturizer, Ward2017
from ase_matprop.models import list_models
from ase_matprop.models.reach import TrainingDistance
from ase_matprop.models.registry import read_card
from ase_matprop.training import NetworkRegressor
from ase_matprop.training.regressor import _hold_out
from ase_matprop.training.regressor_settings import read_settings

SMALL = {
    "network": {"name": "irnet", "settings": {"stacks": [[16, 1], [8, 1]]}},
    "training": {"max_epochs": 3, "learning_rate": 0.02, "batch_size": 32},
}
FRACTIONS = SMALL | {"descriptor": {"name": "fractions"}}
ALLOYS = [f"Fe{n}Ni{m}" for n in range(1, 6) for m in range(1, 6)]


def share_of_iron(formulas: list[str]) -> np.ndarray:
    return np.array([Composition(formula).get_atomic_fraction("Fe") for formula in formulas])


def plane(n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).normal(size=(n_rows, 4))
    return X, 3.0 * X[:, 0] - 2.0 * X[:, 1] + 5.0


def rock_salts() -> tuple[list[Atoms], np.ndarray]:
    """Sixteen crystals and a number that follows from them."""
    found = [
        bulk(f"{cation}{anion}", "rocksalt", a)
        for cation, a in (("Li", 4.9), ("Na", 5.5), ("K", 6.2), ("Mg", 4.6))
        for anion in ("F", "Cl", "Br", "O")
    ]
    return found, np.array([atoms.get_volume() / 50.0 for atoms in found])


# the only check that is skipped is check_array_api_input, which scikit-learn itself skips without SCIPY_ARRAY_API
@parametrize_with_checks([NetworkRegressor(SMALL)])
def test_scikit_learns_checks(estimator: NetworkRegressor, check) -> None:
    check(estimator)


def test_it_learns() -> None:
    """A product of two features, which a linear model cannot give."""
    X, _ = plane(600)
    y = 3.0 * X[:, 0] * X[:, 1] + 5.0
    regressor = NetworkRegressor(SMALL, max_epochs=30, random_state=1).fit(X[:500], y[:500])
    assert regressor.score(X[500:], y[500:]) > 0.7 > 0.2 > Ridge().fit(X[:500], y[:500]).score(X[500:], y[500:])
    history = regressor.history_[0]
    assert len(history) == 30 and history["validation_mae"].iloc[-1] < 0.5 * history["validation_mae"].iloc[0]
    # the weights are those of the best epoch, and the history is in the unit of y
    mae = np.abs(regressor.validation_errors_).mean()
    assert mae == pytest.approx(history["validation_mae"].min(), rel=1e-3)
    rows = np.concatenate([regressor.train_rows_, regressor.validation_rows_])
    assert sorted(rows) == list(range(500)) and len(regressor.validation_rows_) == 50
    held_out = regressor.validation_rows_
    np.testing.assert_allclose(
        regressor.predict(X)[held_out] - y[held_out], regressor.validation_errors_[:, 0], atol=1e-6
    )


def test_equal_seeds_give_equal_networks(tmp_path: Path) -> None:
    X, y = plane(60)
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].tolist()
    first = NetworkRegressor(SMALL, random_state=3).fit(X, y).predict(X)
    assert torch.equal(state, torch.get_rng_state()) and np.random.get_state()[1].tolist() == numpy_state
    np.testing.assert_array_equal(NetworkRegressor(SMALL, random_state=3).fit(X, y).predict(X), first)
    generator = np.random.RandomState(3)
    others = [NetworkRegressor(SMALL, random_state=state).fit(X, y).predict(X) for state in (4, None, generator)]
    assert all(np.abs(other - first).max() > 1e-3 for other in others)
    np.testing.assert_array_equal(NetworkRegressor(SMALL, random_state=None).fit(X, y).predict(X), others[1])


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    NetworkRegressor(SMALL).fit(*plane(30))
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


def test_several_outputs_and_members() -> None:
    X, y = plane(200)
    both = np.column_stack([y, 10.0 * X[:, 1] - 30.0])
    regressor = NetworkRegressor(SMALL, max_epochs=20, members=2).fit(X, both)
    assert regressor.predict(X).shape == (200, 2) and regressor.score(X, both) > 0.9
    assert len(regressor.history_) == len(regressor.ensemble_.members) == 2
    assert NetworkRegressor(SMALL).fit(X, y[:, None]).predict(X[:3]).shape == (3, 1)


def test_pickle_and_joblib(tmp_path: Path) -> None:
    X, y = plane(40)
    regressor = NetworkRegressor(SMALL).fit(X, y)
    joblib.dump(regressor, tmp_path / "r.joblib")
    for again in (pickle.loads(pickle.dumps(regressor)), joblib.load(tmp_path / "r.joblib")):
        np.testing.assert_array_equal(again.predict(X), regressor.predict(X))
    with pytest.raises(NotFittedError):
        clone(regressor).predict(X)


def test_in_pipelines_and_searches() -> None:
    y = share_of_iron(ALLOYS)
    pipeline = make_pipeline(MagpieComposition(), NetworkRegressor(SMALL))
    scores = cross_val_score(pipeline, np.array(ALLOYS, dtype=object), y, cv=2)
    assert scores.shape == (2,) and np.isfinite(scores).all()
    search = GridSearchCV(
        NetworkRegressor(FRACTIONS),
        {"max_epochs": [1, 25], "settings": [{"stacks": [[8, 1]]}]},
        cv=2,
        scoring="neg_mean_absolute_error",
    ).fit(ALLOYS, y)
    assert search.best_params_["max_epochs"] == 25 and np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict(["Fe3Ni"])[0] == pytest.approx(0.75, abs=0.15)
    structures, volumes = rock_salts()
    frame = pd.DataFrame({"structure": pd.Series([*structures, None], dtype=object)})
    from_structures = make_pipeline(Ward2017(), SimpleImputer(), NetworkRegressor(SMALL))
    with pytest.warns(UserWarning, match="1 of 17 rows"):
        from_structures.fit(frame[["structure"]], [*volumes, 1.0])
    assert from_structures.predict(structures).shape == (16,)


# structures and compositions


@pytest.mark.parametrize(
    "give", [list, lambda x: np.array(x, dtype=object), pd.Series, lambda x: pd.DataFrame({"f": x}), tuple]
)
def test_formulas(give) -> None:
    y = share_of_iron(ALLOYS)
    regressor = NetworkRegressor(FRACTIONS, max_epochs=20).fit(give(ALLOYS), y)
    assert regressor.elements_ == ["Fe", "Ni"] and not hasattr(regressor, "n_features_in_")
    same = regressor.predict(give(["FeNi", "Fe0.5Ni0.5"]))
    assert same[0] == pytest.approx(same[1], abs=1e-6) == pytest.approx(0.5, abs=0.15)
    assert regressor.predict([Composition("FeNi")])[0] == pytest.approx(same[0], abs=1e-6)
    with pytest.warns(UserWarning, match="never saw Co"):
        regressor.predict(["FeCo"])


def test_structures_of_one_formula_stay_together() -> None:
    formulas = ["FeNi", "Fe2Ni2", "Ni3Fe3", "Fe", "Fe2", "Ni", "FeNi3", "Fe3Ni9", "Fe2Ni"]
    regressor = NetworkRegressor(FRACTIONS, validation_fraction=0.4).fit(formulas, np.arange(9.0))
    held_out = set(regressor.validation_rows_)
    for same in ({0, 1, 2}, {3, 4}, {6, 7}):
        assert same <= held_out or not same & held_out
    X = np.repeat(np.arange(6.0), 3)[:, None]
    held_out = NetworkRegressor(SMALL).fit(X, X[:, 0]).validation_rows_
    assert len(held_out) == 3 and len(set(held_out // 3)) == 1
    groups = np.tile([0, 1, 2], 6)
    held_out = NetworkRegressor(SMALL).fit(X, X[:, 0], groups=groups).validation_rows_
    assert len(held_out) == 6 and len(set(groups[held_out])) == 1


@pytest.mark.parametrize("network", ["schnet", "painn", "irnet"])
def test_structures_and_the_model_folder(network: str, tmp_path: Path) -> None:
    """What is saved predicts what the regressor predicts, through every interface."""
    structures, y = rock_salts()
    small = {"n_atom_basis": 8, "n_interactions": 1, "n_rbf": 8, "cutoff": 4.0}
    recipe = SMALL | {"descriptor": {"name": "ward2017+fractions"}}
    if network != "irnet":
        recipe = {"network": {"name": network, "settings": small}, "training": SMALL["training"]}
    regressor = NetworkRegressor(recipe, members=2, n_jobs=1).fit(structures, y)
    card = regressor.save(tmp_path / "mine", "formation_energy_per_atom", training_set="rock salts")
    expected = regressor.predict(structures)
    seen = [set(atoms.get_chemical_symbols()) <= set(card.elements) for atoms in structures]
    values = load_model(tmp_path / "mine").predict(structures).values
    assert np.isfinite(values).tolist() == seen and sum(seen) > 8
    np.testing.assert_allclose(values[seen], expected[seen], atol=2e-5)
    first = structures[seen.index(True)].copy()
    first.calc = MatProp(tmp_path / "mine")
    assert first.get_potential_energy() == pytest.approx(2 * expected[seen.index(True)], abs=1e-4)
    assert len(NetworkFeaturizer(tmp_path / "mine", output="representation").featurize(first)) == 16
    assert card.errors["validation"].mae == pytest.approx(np.abs(regressor.validation_errors_).mean())
    assert NetworkRegressor(tmp_path / "mine").fit(structures, y).predict(structures) == pytest.approx(
        NetworkRegressor(recipe, members=2).fit(structures, y).predict(structures)
    )


@pytest.mark.parametrize("network", ["irnet", "painn", "schnet"])
def test_reach_of_the_saved_model(network: str, tmp_path: Path) -> None:
    """That of collect_reach: of the training rows alone, and in the representation that the model folder has."""
    structures, y = rock_salts()
    recipe = SMALL | {"descriptor": {"name": "ward2017+fractions"}}
    if network != "irnet":
        small = {"n_atom_basis": 8, "n_interactions": 1, "n_rbf": 8, "cutoff": 4.0}
        recipe = {"network": {"name": network, "settings": small}, "training": SMALL["training"]}
    regressor = NetworkRegressor(recipe, members=2).fit(structures, y)
    regressor.save(tmp_path / "mine", "formation_energy_per_atom")
    model = load_model(tmp_path / "mine")
    train = [structures[row] for row in regressor.train_rows_]
    held_out = [structures[row] for row in regressor.validation_rows_]
    predictions = model.predict(train)
    np.testing.assert_allclose(predictions.distance, 0.0, atol=0.05)
    assert predictions.warnings == [None] * len(train)
    expected = TrainingDistance.fit(model.represent(train)[0], model.represent(held_out)[0])
    distances = expected.of(model.represent(held_out)[0])
    np.testing.assert_allclose(regressor.reach_.distance.of(model.represent(held_out)[0]), distances, rtol=0.02)
    assert regressor.reach_.pairs.count("Na") == sum("Na" in atoms.symbols for atoms in train)
    assert "never occurred together" in model.predict([bulk("LiNa", "rocksalt", 5.0)]).warnings[0]
    assert (regressor.reach_.environments is None) == (network == "irnet")
    few = regressor.fit(structures[:8], y[:8])
    assert few.reach_.distance is None and few.reach_.pairs is not None
    if network == "irnet":
        assert not hasattr(regressor.set_params(recipe=SMALL).fit(*plane(20)), "reach_")


def test_errors_of_save(tmp_path: Path) -> None:
    regressor = NetworkRegressor(FRACTIONS).fit(ALLOYS, share_of_iron(ALLOYS))
    (tmp_path / "file").touch()
    for folder, properties, words in (
        (tmp_path, "band_gap", "is not empty"),
        (tmp_path / "file", "band_gap", "is a file; choose a new folder"),
        (tmp_path / "file" / "new", "band_gap", "cannot be written"),
        (tmp_path / "new", ["band_gap", "volume_per_atom"][:1] * 2, "gives 1 numbers"),
        (tmp_path / "new", "metallicity", "gives 1 numbers"),
    ):
        with pytest.raises(RecipeError, match=words):
            regressor.save(folder, properties)
    with pytest.raises(UnknownNameError, match="Did you mean 'band_gap'"):
        regressor.save(tmp_path / "new", "bandgap")
    with pytest.raises(RecipeError, match="fitted to a table of numbers"):
        NetworkRegressor(SMALL).fit(*plane(20)).save(tmp_path / "new", "band_gap")
    assert not (tmp_path / "new").exists()


# recipes


@pytest.mark.parametrize("model", list_models())
def test_recipes_of_shipped_models(model: str) -> None:
    card = read_card(model)
    if card.classification:
        with pytest.raises(RecipeError, match="for classes, and a regressor learns numbers"):
            read_settings(model)
        return
    settings = read_settings(model, max_epochs=7, members=3)
    assert (
        settings.network.name == card.network.name
        and settings.network.settings.items() <= card.network.settings.items()
    )
    assert settings.network.initial_model is None and settings.network.members == 3
    assert settings.training.learning_rate == card.recipe["training"]["learning_rate"]
    assert settings.training.max_epochs == 7 and settings.training.outlier_sigma is None
    assert settings.descriptor.name == card.descriptor.name


def test_recipe_of_the_default_model_and_of_a_file(tmp_path: Path) -> None:
    X, y = plane(20)
    regressor = NetworkRegressor(max_epochs=1, members=1).fit(X, y)
    assert regressor.ensemble_.n_layers == 16  # and the output layer is the 17th of IRNet-17
    path = tmp_path / "mine.toml"
    path.write_text("[network]\nname = 'plain'\nsettings = { stacks = [[8, 2]] }\n[training]\nmax_epochs = 2\n")
    assert len(NetworkRegressor(path).fit(X, y).history_[0]) == 2
    stopped = NetworkRegressor(path, max_epochs=200, early_stopping_patience=1, learning_rate=0.5).fit(X, y)
    assert len(stopped.history_[0]) < 200
    recipes = Path(ase_matprop.__file__).parents[1] / "recipes"
    assert read_settings(str(recipes / "nn24-mp.toml")).network.name == "nn24"
    with pytest.raises(RecipeError, match="begins with the weights of .*use ase_matprop.finetune"):
        read_settings(recipes / "schnet-mp.toml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"recipe": 3}, "name of a model, a path or a dictionary. Got int"),
        ({"recipe": None}, "name of a model, a path or a dictionary. None was given"),
        ({"recipe": {}}, "no section 'network'"),
        ({"recipe": SMALL | {"optimiser": {}}}, "unknown section 'optimiser'"),
        ({"recipe": {"network": "irnet"}}, "'network' must be a dictionary. Got 'irnet'"),
        ({"recipe": {"network": {"name": "irnett"}}}, "Did you mean 'irnet'"),
        ({"recipe": SMALL | {"training": {"epochs": 3}}}, "training.epochs: unknown key"),
        ({"recipe": SMALL | {"descriptor": {"name": "neighbors"}}}, "only these, take the descriptor"),
        ({"recipe": "missing.toml"}, "missing.toml cannot be read: No such file"),
        ({"recipe": "irnet17"}, "Did you mean 'irnet17-mp'"),
        ({"recipe": SMALL, "max_epochs": 0}, "training.max_epochs: input should be greater"),
        ({"recipe": SMALL, "members": 0}, "network.members"),
        ({"recipe": SMALL, "settings": {"depht": 3}}, "depht"),
        ({"recipe": SMALL, "validation_fraction": 1.5}, "validation_fraction must be .*Got 1.5"),
        ({"recipe": {"network": {"name": "schnet"}}}, "takes structures, and X has numbers"),
    ],
)
def test_wrong_parameters(arguments: dict, words: str) -> None:
    with pytest.raises(MatPropError, match=words):
        NetworkRegressor(**arguments).fit(*plane(10))


def test_wrong_inputs() -> None:
    X, y = plane(10)
    with pytest.raises(RecipeError, match="Got sample_weight; the training loop weighs all rows alike"):
        NetworkRegressor(SMALL).fit(X, y, sample_weight=np.ones(10))
    with pytest.raises(RecipeError, match="Got weights"):
        NetworkRegressor(SMALL).fit(X, y, weights=1)
    with pytest.raises(RecipeError, match="3 rows or more to learn from. Got n_samples = 2"):
        NetworkRegressor(SMALL).fit(X[:2], y[:2])
    with pytest.raises(RecipeError, match="groups has 3 labels"):
        NetworkRegressor(SMALL).fit(X, y, groups=[1, 2, 3])
    for recipe, rows, error, words in (
        (FRACTIONS, ["NaCl", "Xx2", "MgO"], CompositionError, "row 1: .*Xx is no element.*Drop such rows"),
        (FRACTIONS, ["NaCl", "FlO", "MgO"], DescriptorError, "row 1: "),
        (SMALL, [bulk("Cu"), None, bulk("Fe")], StructureError, "row 1: .*None"),
        ({"network": {"name": "schnet"}}, [bulk("Cu"), bulk("Fm", "fcc", 4.0), bulk("Fe")], DescriptorError, "row 1: "),
    ):
        with pytest.raises(error, match=words):
            NetworkRegressor(recipe).fit(rows, [1.0, 2.0, 3.0])
    with pytest.raises(RecipeError, match=r"X has 2 rows, and y has the shape \(3,\)"):
        NetworkRegressor(FRACTIONS).fit(["NaCl", "MgO"], [1.0, 2.0, 3.0])
    for groups, label in (([None, *"abababab", "b"], "row 0 .None."), ([1.0, np.nan] + [2.0] * 8, "row 1 .nan.")):
        with pytest.raises(RecipeError, match=f"no label for {label}"):
            NetworkRegressor(SMALL).fit(X, y, groups=groups)
    with pytest.raises(RecipeError, match="must be of one kind, numbers or strings. Got int, str"):
        NetworkRegressor(SMALL).fit(X, y, groups=[1, "a"] * 5)
    of_numbers, of_formulas = NetworkRegressor(SMALL).fit(X, y), NetworkRegressor(FRACTIONS).fit(ALLOYS[:9], y[:9])
    with pytest.raises(RecipeError, match="must be a table of 4 numbers"):
        of_numbers.predict(["NaCl"])
    with pytest.raises(RecipeError, match="must have structures or compositions"):
        of_formulas.predict(X)
    for nothing in ([], np.array([], dtype=object), pd.DataFrame({"f": []})):
        assert of_formulas.predict(nothing).shape == (0,)
    assert NetworkRegressor(FRACTIONS).fit(ALLOYS[:9], np.column_stack([y[:9], y[:9]])).predict([]).shape == (0, 2)
    of_formulas.fit(X, y)
    assert of_formulas.predict(X).shape == (10,) and not hasattr(of_formulas, "elements_")


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([1.0, np.nan, 3.0], "Input y contains NaN. 1 of 3 rows have no finite target: row 1, counted from 0; drop"),
        ([1.0, None, 3.0], "contains NaN. 1 of 3 rows .* row 1,"),
        (pd.Series([1.0, pd.NA, 3.0], dtype="Float64", index=[7, 8, 9]), "row 1,"),
        ([-np.inf, 2.0, np.inf], "contains infinity or a value too large .* 2 of 3 .* rows 0, 2,"),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, np.nan]], "1 of 3 rows .* row 2,"),
        ([np.nan] * 9, "9 of 9 rows .* rows 0, 1, 2, 3, 4 and 4 more,"),
    ],
)
def test_targets_that_are_no_finite_numbers(y, words: str) -> None:
    for recipe, rows in ((FRACTIONS, ALLOYS[: len(y)]), (SMALL, plane(len(y))[0])):
        with pytest.raises(RecipeError, match=words):
            NetworkRegressor(recipe).fit(rows, y)


def test_missing_targets() -> None:
    with pytest.raises(ValueError, match="requires y to be passed"):
        NetworkRegressor(SMALL).fit(plane(9)[0], None)
    with pytest.raises(RecipeError, match="requires y, and None was given"):
        NetworkRegressor(FRACTIONS).fit(ALLOYS, None)
    with pytest.raises(ValueError, match="could not convert string to float"):
        NetworkRegressor(FRACTIONS).fit(ALLOYS[:3], ["1.0", "two", "3.0"])


def test_hold_out_leaves_rows_to_learn_from() -> None:
    for groups in ([0] * 9 + [1], [0] * 10, range(10)):
        for seed in range(10):
            train, validation = _hold_out(10, groups, 0.1, seed)
            assert len(train) > 1 and len(validation) > 0 and sorted([*train, *validation]) == list(range(10))


def test_lazy_names() -> None:
    assert ase_matprop.NetworkRegressor is NetworkRegressor and "NetworkRegressor" not in ase_matprop.__all__
    with pytest.raises(AttributeError):
        _ = ase_matprop.training.NoRegressor

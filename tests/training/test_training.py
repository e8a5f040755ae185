"""Training: recipes, splits, data, and a whole run with interruption and resume."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

from ase_matprop import load_model
from ase_matprop.errors import RecipeError
from ase_matprop.models.artefact import Scaler
from ase_matprop.training import datasets
from ase_matprop.training.metrics import summarize, summarize_classes, summarize_groups
from ase_matprop.training.recipe import Recipe
from ase_matprop.training.run import train
from ase_matprop.training.splits import make_split, remove_outliers

RECIPE = """
name = "toy"
[data]
file = "toy.extxyz.xz"
property = "formation_energy_per_atom"
name = "made in the test"
licence = "none"
citation = "none"
[split]
test = 0.2
validation = 0.2
seed = 3
[descriptor]
name = "composition+fractions"
[network]
name = "irnet"
members = 2
settings = { stacks = [[32, 1], [16, 1]] }
[training]
max_epochs = 6
batch_size = 16
learning_rate = 5e-3
[output]
description = "a toy"
citation = ["none"]
precision = "float32"
"""
ROOT = Path(__file__).parents[2]


def toy_structures(n: int = 120) -> list[Atoms]:
    """Random binary rocksalt cells with a target that is linear in the atomic numbers, so that it can be learnt."""
    rng = np.random.default_rng(0)
    structures = []
    for index in range(n):
        cation, anion = rng.choice(["Li", "Na", "K", "Mg", "Ca"]), rng.choice(["F", "Cl", "O", "S"])
        atoms = bulk(f"{cation}{anion}", "rocksalt", a=rng.uniform(4.2, 6.0))
        target = -0.1 * float(atoms.numbers[0]) + 0.05 * float(atoms.numbers[1]) + rng.normal(0, 0.01)
        atoms.info = {"material_id": f"toy-{index}", "formation_energy_per_atom": target}
        structures.append(atoms)
    return structures


@pytest.fixture
def setup(tmp_path: Path) -> tuple[Path, Path]:
    """A recipe and the folder of its data."""
    structures = toy_structures()
    structures[5].info.pop("formation_energy_per_atom")
    structures[6].positions[1] = structures[6].positions[0]
    write(tmp_path / "toy.extxyz", structures)
    with lzma.open(tmp_path / "toy.extxyz.xz", "wb") as stream:
        stream.write((tmp_path / "toy.extxyz").read_bytes())
    (tmp_path / "toy.toml").write_text(RECIPE)
    return tmp_path / "toy.toml", tmp_path


def test_whole_run(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    result = train(recipe, data_dir=data, output=tmp_path / "runs" / "a", progress_bar=False)
    run = tmp_path / "runs" / "a"
    for name in ("recipe.toml", "split.json", "learning_curve.png", "parity_test.png", "toy/card.json"):
        assert (run / name).is_file()
    history = pd.read_csv(run / "member_1" / "history.csv")
    assert list(history["epoch"]) == list(range(6))
    assert history["validation_mae"].iloc[-1] < history["validation_mae"].iloc[0]

    card = result.card
    assert card.elements == ["Li", "O", "F", "Na", "Mg", "S", "Cl", "K", "Ca"]
    assert card.network.settings == {
        "depth": 17,
        "residual": "individual",
        "dropout": 0.0,
        "stacks": [[32, 1], [16, 1]],
    }
    assert card.training_set.rows == {"train": 70, "validation": 24, "test": 24}
    assert set(card.training_set.rows_without_features) == {"toy-5", "toy-6"}
    assert card.errors["test"].n == 24
    predictor = load_model(result.model_folder)
    # the card's errors are those of the model as it is loaded, through the ordinary interface
    split = pd.read_json(run / "split.json", orient="index").T
    structures = {atoms.info["material_id"]: atoms for atoms in toy_structures()}
    test = [structures[name] for name in split["test"].dropna()]
    predicted = predictor.predict(test).values
    reference = np.array([atoms.info["formation_energy_per_atom"] for atoms in test])
    assert np.abs(predicted - reference).mean() == pytest.approx(card.errors["test"].mae, rel=1e-4)
    sets = [set(split[name].dropna()) for name in ("train", "validation", "test")]
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_interrupted_run_is_resumed_with_the_same_result(
    setup: tuple[Path, Path], tmp_path: Path, monkeypatch, dropout: float
) -> None:
    from ase_matprop.training.trainer import History

    recipe, data = setup
    recipe.write_text(RECIPE.replace("[16, 1]] }", f"[16, 1]], dropout = {dropout} }}"))
    whole = train(recipe, data_dir=data, output=tmp_path / "runs" / "whole", progress_bar=False)

    original = History.on_train_epoch_end

    def stop_in_epoch_4(self, trainer, module):
        if trainer.current_epoch == 4:
            raise ConnectionError("power cut")
        original(self, trainer, module)

    monkeypatch.setattr(History, "on_train_epoch_end", stop_in_epoch_4)
    output = tmp_path / "runs" / "cut"
    with pytest.raises(ConnectionError):
        train(recipe, data_dir=data, output=output, progress_bar=False)
    monkeypatch.undo()
    # no finished epoch is lost, whether it was the best one or not
    assert torch.load(output / "member_0" / "last.ckpt", weights_only=True)["epoch"] == 3
    with pytest.raises(RecipeError, match="--resume"):
        train(recipe, data_dir=data, output=output, progress_bar=False)
    state = torch.get_rng_state()
    resumed = train(recipe, data_dir=data, output=output, progress_bar=False, resume=True)
    assert torch.equal(torch.get_rng_state(), state)
    pd.testing.assert_frame_equal(
        *(pd.read_csv(tmp_path / "runs" / name / "member_0" / "history.csv") for name in ("whole", "cut"))
    )
    assert list(pd.read_csv(output / "member_0" / "history.csv")["epoch"]) == list(range(6))
    assert resumed.card.errors["test"].mae == pytest.approx(whole.card.errors["test"].mae, rel=1e-4)


def test_control_c_is_an_interruption(setup: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    """Lightning turns it into an exit with code 1."""
    from ase_matprop.training.trainer import History

    recipe, data = setup

    def interrupt(self, trainer, module):
        raise KeyboardInterrupt

    monkeypatch.setattr(History, "on_train_epoch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data_dir=data, output=tmp_path / "runs" / "a", progress_bar=False)


def test_missing_data_leave_nothing_behind(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, _ = setup
    with pytest.raises(RecipeError, match="does not exist"):
        train(recipe, data_dir=tmp_path / "nowhere", output=tmp_path / "runs" / "a", progress_bar=False)
    assert not (tmp_path / "runs" / "a").exists()


def test_a_run_can_be_repeated(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    first, second = (
        train(recipe, data_dir=data, output=tmp_path / "runs" / name, progress_bar=False) for name in ("a", "b")
    )
    assert first.card.weights.sha256 == second.card.weights.sha256


def test_features_are_cached(setup: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    recipe, data = setup
    arguments = (data, Recipe.read(recipe).data, "composition")
    first = datasets.load_feature_table(*arguments, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(datasets, "read_records", lambda *_: pytest.fail("the cache was not used"))
    second = datasets.load_feature_table(*arguments, cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(first.features, second.features)
    assert (first.ids, first.skipped) == (second.ids, second.skipped)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_epochs", "max_epoch", "training.max_epoch: unknown key"),
        ('"irnet"', '"irnett"', "unknown network 'irnett'.*Did you mean 'irnet'"),
        ("formation_energy_per_atom", "formation_energy", "Did you mean 'formation_energy_per_atom'"),
        ("composition+fractions", "composition+fraction", "Did you mean 'fractions'"),
        ("batch_size = 16", "batch_size = 'many'", "training.batch_size"),
        ("stacks = [[32, 1], [16, 1]]", "depth = 18", "cannot be built: the depth must be one of"),
        ("stacks", "stakcs", "cannot be built: .*stakcs"),
        ("[split]", "[split", "no valid TOML"),
        ("toy.extxyz.xz", "missing.xyz", "does not exist.*--data-dir"),
        ("toy.extxyz.xz", "toy.toml", "must end in .extxyz, .xyz, .csv"),
        (
            'property = "form',
            'columns = { formation_energy_per_atom = "e" }\nproperty = "form',
            "has no row with the property",
        ),
        ("test = 0.2", "test = 0.85", "cannot be split"),
    ],
)
def test_bad_recipes_are_one_clear_error(setup, tmp_path: Path, old: str, new: str, message: str) -> None:
    recipe, data = setup
    recipe.write_text(RECIPE.replace(old, new))
    with pytest.raises(RecipeError, match=message) as error:
        train(recipe, data_dir=data, output=tmp_path / "runs" / "x", progress_bar=False)
    assert "\n" not in str(error.value)


def test_data_that_changed_under_a_run(setup: tuple[Path, Path], tmp_path: Path) -> None:
    """Rows that were trained on must not become test rows of a resumed run."""
    recipe, data = setup
    output = tmp_path / "runs" / "a"
    train(recipe, data_dir=data, output=output, progress_bar=False)
    structures = toy_structures()[20:]
    write(data / "toy.extxyz", structures)
    (data / "toy.extxyz.xz").write_bytes(lzma.compress((data / "toy.extxyz").read_bytes()))
    with pytest.raises(RecipeError, match="changed since the run"):
        train(recipe, data_dir=data, output=output, progress_bar=False, resume=True)


def test_targets_that_changed_under_a_run(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    output = tmp_path / "runs" / "a"
    train(recipe, data_dir=data, output=output, progress_bar=False)
    structures = toy_structures()
    structures[5].info.pop("formation_energy_per_atom")
    structures[6].positions[1] = structures[6].positions[0]
    for atoms in structures[7:]:
        atoms.info["formation_energy_per_atom"] += 1.0
    write(data / "toy.extxyz", structures)
    (data / "toy.extxyz.xz").write_bytes(lzma.compress((data / "toy.extxyz").read_bytes()))
    with pytest.raises(RecipeError, match="changed since the run"):
        train(recipe, data_dir=data, output=output, progress_bar=False, resume=True)


def test_words_may_change_under_a_run(setup: tuple[Path, Path], tmp_path: Path) -> None:
    """What a finished run says of its model can be corrected without training again."""
    recipe, data = setup
    output = tmp_path / "runs" / "a"
    first = train(recipe, data_dir=data, output=output, progress_bar=False)
    recipe.write_text(RECIPE.replace('"a toy"', '"a better word"'))
    second = train(recipe, data_dir=data, output=output, progress_bar=False, resume=True)
    assert second.card.description == "a better word"
    assert second.card.weights.sha256 == first.card.weights.sha256


def test_wrong_device_leaves_nothing_behind(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    with pytest.raises(RecipeError, match="device must be cpu, cuda or auto"):
        train(recipe, data_dir=data, output=tmp_path / "runs" / "a", device="tpu", progress_bar=False)
    assert not (tmp_path / "runs").exists()


def test_recipe_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.read(tmp_path / "none.toml")


TRAINING_RECIPES = [path for path in sorted((ROOT / "recipes").glob("*.toml")) if not path.stem.startswith("baselines")]


@pytest.mark.parametrize("path", TRAINING_RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_repository(path: Path) -> None:
    assert Recipe.read(path).name == path.stem


def test_split_is_seeded_and_complete() -> None:
    first, second = (make_split(1000, test=0.1, validation=0.05, seed=7) for _ in range(2))
    other = make_split(1000, test=0.1, validation=0.05, seed=8)
    np.testing.assert_array_equal(first.test, second.test)
    assert (first.test != other.test).any()
    assert (len(first.train), len(first.validation), len(first.test)) == (850, 50, 100)
    assert sorted(np.concatenate([first.train, first.validation, first.test])) == list(range(1000))


def test_groups_stay_together() -> None:
    groups = [f"formula {index // 4}" for index in range(400)]
    split = make_split(400, test=0.2, validation=0.1, seed=0, groups=groups)
    parts = [{groups[row] for row in rows} for rows in (split.train, split.validation, split.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert sum(map(len, parts)) == 100


def test_outliers_leave_training_and_validation_but_not_test() -> None:
    split = make_split(200, test=0.2, validation=0.2, seed=0)
    targets = np.random.default_rng(0).normal(size=200)
    far = [split.train[0], split.validation[0], split.test[0]]
    targets[far] = -40.0
    cleaned = remove_outliers(split, targets, 5.0)
    assert set(cleaned.outliers) == set(far[:2])
    assert split.test[0] in cleaned.test
    assert not set(cleaned.outliers) & set(np.concatenate([cleaned.train, cleaned.validation]))


def test_scaler() -> None:
    features = np.column_stack([np.linspace(0, 10, 50), np.full(50, 3.0)])
    scaler = Scaler.fit(features, clip=1.0)
    scaled = scaler.transform(features)
    assert scaled.dtype == np.float32
    assert np.abs(scaled).max() <= 1.0
    assert (scaled[:, 1] == 0.0).all()


def test_metrics() -> None:
    """Errors 0, 1, 2, 3, 4: mean 2, median 2, 90th percentile 3.6, root mean square sqrt(6)."""
    summary = summarize(np.arange(5.0), np.zeros(5))
    assert (summary.n, summary.mae, summary.median) == (5, 2.0, 2.0)
    assert summary.percentile_90 == pytest.approx(3.6)
    assert summary.rmse == pytest.approx(6**0.5)
    numbers = np.array([[8, 0], [8, 12], [8, 12], [8, 12], [8, 12]])
    groups = summarize_groups(np.arange(5.0), np.zeros(5), numbers, np.array([False, False, False, True, True]))
    assert {name: group.n for name, group in groups.items()} == {
        "1 element": 1,
        "2 elements": 4,
        "oxides": 4,
        "formulas not in training": 2,
        "formulas in training": 3,
    }
    assert groups["formulas not in training"].mae == 3.5


def test_classification_metrics() -> None:
    """Three of four rows right; of the pairs of unlike rows, three of four are ranked rightly."""
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.45, 0.55]])
    summary = summarize_classes(probabilities, np.array([0, 0, 1, 1]))
    assert (summary.n, summary.accuracy, summary.balanced_accuracy) == (4, 0.75, 0.75)
    assert summary.roc_auc == 0.75
    assert summary.confusion == [[1, 1], [0, 2]]
    assert summary.log_loss == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.55]).mean())
    assert summarize_classes(probabilities[:2], np.array([0, 0])).roc_auc is None

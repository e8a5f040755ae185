"""Baselines: the search, what is written, resuming, and agreement with scikit-learn and with the networks' rows."""

from __future__ import annotations

import json
import logging
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.neighbors import KNeighborsRegressor
from typer.testing import CliRunner

from ase_matprop.cli import app
from ase_matprop.errors import RecipeError
from ase_matprop.models.artefact import Scaler
from ase_matprop.training import baselines
from ase_matprop.training.baseline_recipe import CLASSIFIERS, REGRESSORS, BaselineRecipe
from ase_matprop.training.baselines import run_baselines
from ase_matprop.training.datasets import load_feature_table
from ase_matprop.training.preparation import split_table
from ase_matprop.training.recipe import ExclusionSection, Recipe
from ase_matprop.training.run import train

ROOT = Path(__file__).parents[2]
ROWS = """
name = "toy"
[data]
file = "toy.csv"
property = "formation_energy_per_atom"
id_key = "id"
name = "made in the test"
licence = "none"
citation = "none"
[split]
test = 0.2
validation = 0.2
seed = 3
[descriptor]
name = "fractions"
[training]
outlier_sigma = 4.0
"""
RECIPE = (
    ROWS
    + """
[[baseline]]
name = "linear"
[[baseline]]
name = "ridge"
grid = { alpha = [10.0, 0.1, 1000.0] }
[[baseline]]
name = "random_forest"
train_rows = 60
settings = { n_estimators = 5 }
grid = { max_depth = [2, 6], max_features = [0.5, 1.0] }
"""
)
NETWORK = """
max_epochs = 1
batch_size = 16
[network]
name = "irnet"
settings = { stacks = [[8, 1]] }
[output]
description = "a toy"
citation = ["none"]
"""
COEFFICIENTS = {"Li": -0.4, "Na": -0.1, "Mg": -0.9, "Ca": 0.3, "Fe": 0.7, "O": -2.0, "F": -3.0, "S": -1.1, "Cl": -1.7}


def toy_table(n: int = 200) -> pd.DataFrame:
    """Ternaries whose target is linear in the fractions of the elements, and a class that follows from it."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(n):
        elements = rng.choice(list(COEFFICIENTS), 3, replace=False)
        amounts = rng.integers(1, 9, 3)
        energy = sum(COEFFICIENTS[e] * a for e, a in zip(elements, amounts, strict=True)) / amounts.sum()
        formula = "".join(f"{e}{a}" for e, a in zip(elements, amounts, strict=True))
        kind = "metal" if energy > -1.0 else "non-metal"
        rows.append((f"toy-{index}", formula, energy, kind))
    frame = pd.DataFrame(rows, columns=["id", "formula", "formation_energy_per_atom", "metallicity"])
    frame.loc[10, "formation_energy_per_atom"] = 40.0  # an outlier, a training row
    return frame


@pytest.fixture
def setup(tmp_path: Path) -> tuple[Path, Path]:
    """A recipe and the folder of its data."""
    toy_table().to_csv(tmp_path / "toy.csv", index=False)
    (tmp_path / "toy.toml").write_text(RECIPE)
    return tmp_path / "toy.toml", tmp_path


def arrays(recipe_path: Path, data: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scaled inputs and targets of each set, made from the parts of which ``train`` is made."""
    recipe = BaselineRecipe.read(recipe_path)
    table = load_feature_table(data, recipe.data, recipe.descriptor.name, cache_dir=data / "cache")
    split = split_table(recipe, table, data)
    scaled = Scaler.fit(table.features[split.train], 8.0).transform(table.features).astype(np.float64)
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    return {name: (scaled[rows], table.targets[rows, 0]) for name, rows in sets.items()}


def test_whole_run(setup: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe, data = setup
    run = tmp_path / "runs" / "a"
    with caplog.at_level(logging.INFO, logger="ase_matprop"):
        result = run_baselines(recipe, data_dir=data, output=run)
    assert sum("validation_mae" in record.message for record in caplog.records) == 8
    names = {"recipe.toml", "split.json", "results.csv", "summary.csv", "summary.json", "predictions.csv"}
    assert {path.name for path in run.iterdir()} == names | {"errors_test.png"}

    # the best point is the one with the lowest validation error
    results = pd.read_csv(run / "results.csv")
    assert results["baseline"].tolist() == ["linear"] + ["ridge"] * 3 + ["random_forest"] * 4
    summary = pd.read_csv(run / "summary.csv").set_index("baseline")
    best = results.loc[results.groupby("baseline")["validation_mae"].idxmin()].set_index("baseline")
    assert summary["parameters"].to_dict() == best["parameters"].to_dict()
    assert json.loads(summary.loc["ridge", "parameters"]) == {"alpha": 0.1}
    assert summary["train_rows"].to_dict() == {"linear": 119, "ridge": 119, "random_forest": 60}
    assert result.unit == "eV/atom" and result.summary["baseline"].tolist() == ["linear", "ridge", "random_forest"]

    # a linear target is learnt by the linear method, which was not told of the outlier
    assert summary.loc["linear", "validation_mae"] < 1e-6 and summary.loc["linear", "test_mae"] < 1e-6
    # the errors of the summary are those of the stored predictions
    predictions = pd.read_csv(run / "predictions.csv")
    energies = toy_table().set_index("id")["formation_energy_per_atom"]
    np.testing.assert_allclose(predictions["reference"], energies[predictions["id"]])
    for name, row in summary.iterrows():
        errors = (predictions[name] - predictions["reference"]).abs()
        assert row["test_mae"] == pytest.approx(errors.mean()) and row["test_rows"] == len(errors) == 40
        assert row["test_percentile_90"] == pytest.approx(errors.quantile(0.9))
    document = json.loads((run / "summary.json").read_text())
    assert document["rows"] == {"train": 119, "validation": 40, "test": 40}
    assert document["baselines"][1]["parameters"] == {"alpha": 0.1}
    assert document["baselines"][1]["test"]["mae"] == pytest.approx(summary.loc["ridge", "test_mae"])


def test_networks_have_the_same_rows(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    (tmp_path / "network.toml").write_text(ROWS + NETWORK)
    train(tmp_path / "network.toml", data_dir=data, output=tmp_path / "runs" / "network", progress_bar=False)
    run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / "baselines")
    network, ours = (
        json.loads((tmp_path / "runs" / name / "split.json").read_text()) for name in ("network", "baselines")
    )
    assert network == ours and ours["outliers"] == ["toy-10"]
    assert pd.read_csv(tmp_path / "runs" / "baselines" / "predictions.csv")["id"].tolist() == network["test"]


def test_results_are_those_of_scikit_learn(setup: tuple[Path, Path], tmp_path: Path) -> None:
    """Reference: the estimators fitted here, without the package's search."""
    recipe, data = setup
    recipe.write_text(
        ROWS
        + """
[[baseline]]
name = "ridge"
grid = { alpha = [5.0] }
[[baseline]]
name = "k_neighbors"
grid = { n_neighbors = [2, 4], weights = ["distance", "uniform"] }
[[baseline]]
name = "random_forest"
grid = { n_estimators = [5], min_samples_split = [5] }
"""
    )
    run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / "a", n_jobs=2)
    results = pd.read_csv(tmp_path / "runs" / "a" / "results.csv").set_index(["baseline", "parameters"])
    predictions = pd.read_csv(tmp_path / "runs" / "a" / "predictions.csv")
    sets = arrays(recipe, data)
    models = {
        ("ridge", '{"alpha": 5.0}'): Ridge(alpha=5.0),
        ("random_forest", '{"min_samples_split": 5, "n_estimators": 5}'): RandomForestRegressor(
            n_estimators=5, min_samples_split=5, random_state=3
        ),
    }
    for neighbors, weights in product([2, 4], ["distance", "uniform"]):
        key = json.dumps({"n_neighbors": neighbors, "weights": weights})
        models["k_neighbors", key] = KNeighborsRegressor(neighbors, weights=weights)
    assert set(models) == set(results.index)
    for key, model in models.items():
        model.fit(*sets["train"])
        expected = mean_absolute_error(sets["validation"][1], model.predict(sets["validation"][0]))
        assert results.loc[key, "validation_mae"] == pytest.approx(expected, abs=1e-12)
        if key[0] != "k_neighbors":
            np.testing.assert_allclose(predictions[key[0]], model.predict(sets["test"][0]), atol=1e-12)


def test_interrupted_run_is_resumed(setup: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, data = setup
    whole = run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / "whole").summary

    original, fitted = baselines._Task.fit, []

    def stop_in_point_6(self, section, parameters):
        if len(fitted) == 5:
            raise KeyboardInterrupt
        fitted.append((section.name, parameters))
        return original(self, section, parameters)

    monkeypatch.setattr(baselines._Task, "fit", stop_in_point_6)
    output = tmp_path / "runs" / "cut"
    with pytest.raises(KeyboardInterrupt):
        run_baselines(recipe, data_dir=data, output=output)
    assert len(pd.read_csv(output / "results.csv")) == 5
    assert pd.read_csv(output / "predictions.csv").columns.tolist() == ["id", "reference", "linear", "ridge"]
    with pytest.raises(RecipeError, match="--resume"):
        run_baselines(recipe, data_dir=data, output=output)

    def count(self, section, parameters):
        fitted.append((section.name, parameters))
        return original(self, section, parameters)

    monkeypatch.setattr(baselines._Task, "fit", count)
    resumed = run_baselines(recipe, data_dir=data, output=output, resume=True).summary
    assert [name for name, _ in fitted[5:]].count("random_forest") == len(fitted[5:]) <= 4
    pd.testing.assert_frame_equal(resumed.drop(columns="fit_seconds"), whole.drop(columns="fit_seconds"), rtol=1e-12)
    # a finished run is read, not fitted
    monkeypatch.setattr(baselines._Task, "fit", lambda *arguments: pytest.fail("a finished point was fitted again"))
    again = run_baselines(recipe, data_dir=data, output=output, resume=True).summary
    pd.testing.assert_frame_equal(again, resumed)
    # neither other grids nor another kind of recipe go on with it
    recipe.write_text(RECIPE.replace("1000.0", "100.0"))
    with pytest.raises(RecipeError, match="another recipe"):
        run_baselines(recipe, data_dir=data, output=output, resume=True)
    recipe.write_text(ROWS + NETWORK)
    with pytest.raises(RecipeError, match="another recipe"):
        train(recipe, data_dir=data, output=output, resume=True, progress_bar=False)


def test_best_point_of_an_interrupted_search_is_fitted_again(
    setup: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its predictions are those of the whole run."""
    recipe, data = setup
    recipe.write_text(ROWS + '[[baseline]]\nname = "ridge"\ngrid = { alpha = [0.1, 10.0] }')
    run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / "whole")
    cut = tmp_path / "runs" / "cut"
    original = baselines._Task.fit

    def stop(self, section, parameters):
        if parameters["alpha"] == 10.0:
            raise KeyboardInterrupt
        return original(self, section, parameters)

    monkeypatch.setattr(baselines._Task, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        run_baselines(recipe, data_dir=data, output=cut)
    monkeypatch.undo()
    run_baselines(recipe, data_dir=data, output=cut, resume=True)
    whole = (tmp_path / "runs" / "whole" / "predictions.csv").read_text()
    assert (cut / "predictions.csv").read_text() == whole


def test_classes(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    recipe.write_text(
        ROWS.replace("formation_energy_per_atom", "metallicity").replace("outlier_sigma = 4.0\n", "")
        + "".join(f'[[baseline]]\nname = "{name}"\n' for name in CLASSIFIERS)
        + "grid = { alpha = [1e-4, 1e-2] }\n"  # of the last one, sgd
    )
    output = tmp_path / "runs" / "a"
    result = run_baselines(recipe, data_dir=data, output=output)
    assert (output / "confusion_test.png").is_file() and result.unit == ""
    results = pd.read_csv(output / "results.csv")
    assert results["validation_error_rate"].between(0.0, 0.3).all()
    summary = result.summary.set_index("baseline")
    assert set(summary.index) == set(CLASSIFIERS)
    assert summary.loc["logistic_regression", "test_accuracy"] > 0.85
    predictions = pd.read_csv(output / "predictions.csv")
    assert set(predictions["reference"]) == {"metal", "non-metal"}
    for name in CLASSIFIERS:
        metal, other = (predictions[f"{name}: probability of {kind}"] for kind in ("metal", "non-metal"))
        np.testing.assert_allclose(metal + other, 1.0)
        accuracy = ((other > metal) == (predictions["reference"] == "non-metal")).mean()
        assert summary.loc[name, "test_accuracy"] == pytest.approx(accuracy)
    document = json.loads((output / "summary.json").read_text())
    assert np.sum(document["baselines"][0]["test"]["confusion"]) == 40


def test_every_method_fits(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    recipe.write_text(ROWS + "".join(f'[[baseline]]\nname = "{name}"\n' for name in REGRESSORS))
    summary = run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / "a").summary
    assert summary["baseline"].tolist() == list(REGRESSORS)
    spread = toy_table()["formation_energy_per_atom"].drop(10).std()
    assert summary["test_mae"].lt(spread).all()


def test_a_run_can_be_repeated(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    first, second = (
        run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / name).summary for name in ("a", "b")
    )
    pd.testing.assert_frame_equal(first.drop(columns="fit_seconds"), second.drop(columns="fit_seconds"))


def test_points_that_cannot_be_fitted_keep_their_reason(setup: tuple[Path, Path], tmp_path: Path) -> None:
    """150 neighbours of 119 rows do not exist; a grid of such points leaves the other baselines alone."""
    recipe, data = setup
    recipe.write_text(
        ROWS
        + '[[baseline]]\nname = "k_neighbors"\ngrid = { n_neighbors = [3, 150] }\n'
        + '[[baseline]]\nname = "adaboost"\nsettings = { estimator__max_depth = -1 }\n'
    )
    output = tmp_path / "runs" / "a"
    for resume in (False, True):
        result = run_baselines(recipe, data_dir=data, output=output, resume=resume)
        assert result.summary["baseline"].tolist() == ["k_neighbors"]
        assert json.loads(result.summary["parameters"][0]) == {"n_neighbors": 3}
        results = pd.read_csv(output / "results.csv")
        assert results["validation_mae"].isna().tolist() == [False, True, True]
        assert results["remark"][1].startswith("failed: Expected n_neighbors <= n_samples_fit")
        assert "'max_depth' parameter" in results["remark"][2]
    recipe.write_text(ROWS + '[[baseline]]\nname = "k_neighbors"\ngrid = { n_neighbors = [150] }\n')
    with pytest.raises(RecipeError, match=r"no baseline .* could be fitted.*results.csv"):
        run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / "b")


def test_warnings_become_remarks(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    recipe.write_text(ROWS + '[[baseline]]\nname = "lasso"\nsettings = { alpha = 1e-4, max_iter = 1 }')
    run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / "a")
    results = pd.read_csv(tmp_path / "runs" / "a" / "results.csv")
    assert results["remark"][0].startswith("ConvergenceWarning: Objective did not converge")
    assert results["validation_mae"].notna().all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"random_forest"', '"random_forrest"', "unknown regressor 'random_forrest'. Did you mean 'random_forest'"),
        ('"linear"', '"logistic_regression"', "unknown regressor 'logistic_regression'"),
        ("max_depth", "max_deph", "unknown random_forest parameter 'max_deph'. Did you mean 'max_depth'"),
        ("n_estimators", "n_estimator", "unknown random_forest parameter 'n_estimator'. Did you mean 'n_estimators'"),
        ("[2, 6]", "[2, nan]", "baseline.2.grid: .*max_depth must be finite. Got nan"),
        ("[2, 6]", "[2, -6]", "baseline random_forest: The 'max_depth' parameter .* Got -6"),
        ("[2, 6]", "6", "baseline.2.grid.max_depth: input should be a valid list"),
        ("[2, 6]", "[]", "baseline.2.grid: .*max_depth has no value"),
        ("n_estimators = 5", "max_depth = 5", "'max_depth' stands in settings and in grid"),
        ("train_rows", "train_row", "baseline.2.train_row: unknown key"),
        ("train_rows = 60", "train_rows = 6000", "train_rows is 6000, there are 119 training rows"),
        ('"linear"', '"ridge"', "baseline ridge stands twice"),
        ("outlier_sigma", "batch_size", "training.batch_size: unknown key"),
        ('id_key = "id"', 'further_properties = ["band_gap"]', "a baseline learns one property"),
        ("[[baseline]]", "[[baselines]]", "baseline: field required"),
        ("toy.csv", "missing.csv", "does not exist.*--data-dir"),
    ],
)
def test_bad_recipes_are_one_clear_error(setup, tmp_path: Path, old: str, new: str, message: str) -> None:
    recipe, data = setup
    assert old in RECIPE
    recipe.write_text(RECIPE.replace(old, new))
    with pytest.raises(RecipeError, match=message) as error:
        run_baselines(recipe, data_dir=data, output=tmp_path / "runs" / "x")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs" / "x").exists()


def test_classifiers_need_probabilities(setup: tuple[Path, Path]) -> None:
    recipe, _ = setup
    rows = ROWS.replace("formation_energy_per_atom", "metallicity").replace("outlier_sigma = 4.0\n", "")
    recipe.write_text(rows + '[[baseline]]\nname = "sgd"\ngrid = { loss = ["log_loss", "hinge"] }')
    with pytest.raises(RecipeError, match=r"baseline sgd: gives no probabilities .*hinge"):
        BaselineRecipe.read(recipe)


def test_command(setup: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = setup
    arguments = ["baseline", str(recipe), "--data-dir", str(data), "--output", str(tmp_path / "runs" / "a")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith(
        "baseline,parameters,train_rows,validation_mae,fit_seconds,test_rows"
    )
    assert len(result.stdout.splitlines()) == 4
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "--resume" in result.stderr
    result = CliRunner().invoke(app, [*arguments, "--resume", "--jobs", "0"])
    assert result.exit_code == 2 and "number of jobs must be positive" in result.stderr


@pytest.mark.parametrize(
    ("path", "network"),
    [("baselines-mp", "irnet17-mp"), ("baselines-composition-mp", "irnet17-composition-mp")],
)
def test_recipes_of_the_repository(path: str, network: str) -> None:
    """They are on the rows of the networks with which they are compared."""
    recipe, other = (
        BaselineRecipe.read(ROOT / "recipes" / f"{path}.toml"),
        Recipe.read(ROOT / "recipes" / f"{network}.toml"),
    )
    assert recipe.name == path
    # what has no element fractions is left out on both sides
    same = {"exclude_elements"}
    assert recipe.data.model_dump(exclude=same) == other.data.model_dump(exclude=same)
    assert recipe.split == other.split
    assert recipe.training.model_dump() == {key: getattr(other.training, key) for key in ExclusionSection.model_fields}

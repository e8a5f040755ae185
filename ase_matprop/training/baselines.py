"""Baselines: scikit-learn's estimators on the rows and features of a network, tuned by grid search.

They say what a network has to beat (D. Jha et al., Sci. Rep. 11, 4244 (2021), doi:10.1038/s41598-021-83193-1, and Table
4.3 of the first author's thesis).  Every choice is made on the validation rows, as for the networks; the test rows are
used once, for the best point of each grid.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from joblib import parallel_config
from numpy.typing import NDArray

import ase_matprop
from ase_matprop import plots
from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.errors import RecipeError
from ase_matprop.models.artefact import Scaler
from ase_matprop.models.card import ClassificationSummary, ErrorSummary
from ase_matprop.properties import get_property
from ase_matprop.training import figures
from ase_matprop.training.baseline_recipe import BaselineRecipe, BaselineSection, build_estimator
from ase_matprop.training.datasets import FeatureTable, load_feature_table
from ase_matprop.training.metrics import summarize, summarize_classes
from ase_matprop.training.preparation import RECIPE_FILE, SPLIT_FILE, check_output, split_table, store_split
from ase_matprop.training.splits import IntArray, Split, thin_out

logger = logging.getLogger(__name__)

RESULTS_FILE = "results.csv"
PREDICTIONS_FILE = "predictions.csv"
SUMMARY_FILE = "summary.csv"

Row = dict[str, Any]


@dataclass(frozen=True)
class BaselineResult:
    """What a run leaves behind.

    Attributes:
        output: folder of the run.
        recipe: its recipe.
        summary: a row per baseline, as in ``summary.csv``, in the order of the recipe.
        unit: unit of the errors; empty for a class.
    """

    output: Path
    recipe: BaselineRecipe
    summary: pd.DataFrame
    unit: str


def run_baselines(
    recipe_path: Path,
    *,
    data_dir: Path,
    output: Path,
    cache_dir: Path | None = None,
    resume: bool = False,
    n_jobs: int = 1,
    feature_progress: Callable[[int, int], None] | None = None,
) -> BaselineResult:
    """Search the grids of a recipe on its validation rows, and measure the best point of each on its test rows.

    With the sections ``[data]``, ``[split]`` and ``[training]`` of a network's recipe, the rows of each set are those
    of :func:`ase_matprop.training.run.train`, as long as both descriptors fail for the same rows; the files
    ``split.json`` tell.  Inputs are scaled as the networks' are, targets stay in their unit.

    ``output`` gets ``recipe.toml`` and ``split.json``; ``results.csv``, a row per point of the grids, written as it
    goes; for the best point of each baseline ``summary.csv``, ``summary.json`` and ``predictions.csv`` (test rows:
    identifier, reference and a column per baseline, for a class one per baseline and class with its probability); the
    figure ``errors_test.png``, or ``confusion_test.png`` of the best classifier.  A number is judged by the mean
    absolute error, a class by the share of wrong rows.  A point that cannot be fitted has no error, and the reason as
    its remark.

    Args:
        recipe_path: the recipe.
        data_dir: folder to which the recipe's data file is relative.
        output: folder of the run.
        cache_dir: folder of cached features; ``cache`` beside ``output`` by default.
        resume: go on with a run that was interrupted; finished points are not fitted again.
        n_jobs: threads of the estimators that can use several; -1 for one per core.
        feature_progress: called with the number of finished and of all rows while features are computed.

    Raises:
        RecipeError: if the recipe or its data cannot be used, ``output`` holds another run, or no point can be fitted.
    """
    if n_jobs == 0 or n_jobs < -1:
        raise RecipeError(f"the number of jobs must be positive, or -1 for one per core. Got {n_jobs!r}.")
    recipe = BaselineRecipe.read(recipe_path)
    check_output(recipe, recipe_path, output, resume)
    table = load_feature_table(
        data_dir,
        recipe.data,
        recipe.descriptor.name,
        cache_dir=cache_dir or output.parent / "cache",
        progress=feature_progress,
    )
    task = _Task.prepare(recipe, table, data_dir, n_jobs)
    output.mkdir(parents=True, exist_ok=True)
    if not (output / RECIPE_FILE).is_file():
        shutil.copyfile(recipe_path, output / RECIPE_FILE)
    store_split(task.split, table.ids, output / SPLIT_FILE)

    test = task.split.test
    stored = _read(output / RESULTS_FILE, numbers=(task.metric, "fit_seconds"))
    results = [{str(name): value for name, value in row.items()} for row in stored.to_dict("records")]
    predictions = _read(output / PREDICTIONS_FILE)
    if predictions.empty:
        predictions = pd.DataFrame({"id": [table.ids[row] for row in test], "reference": task.reference(test)})
    best: dict[str, Row] = {}
    for section in recipe.baseline:
        point, model = _search(task, section, results, output / RESULTS_FILE)
        if point is None:
            logger.warning("%s could not be fitted; %s has the reasons", section.name, output / RESULTS_FILE)
            continue
        best[section.name] = point
        columns = task.columns(section.name)
        if columns[0] not in predictions:
            if model is None:  # an interrupted run fitted it
                model = task.fit(section, json.loads(point["parameters"]))
            predictions[columns] = task.predict(model, test)
            _write(predictions, output / PREDICTIONS_FILE)
    if not best:
        raise RecipeError(f"no baseline of {recipe_path} could be fitted; {output / RESULTS_FILE} has the reasons")
    return BaselineResult(output, recipe, _report(task, best, predictions, output), task.unit)


@dataclass(frozen=True, eq=False)
class _Task:
    """Scaled inputs, shape (n, n_features), and targets, shape (n,), of all rows, and how they are learnt."""

    recipe: BaselineRecipe
    inputs: NDArray[np.float32]
    targets: NDArray[np.float64]
    split: Split
    n_jobs: int

    @classmethod
    def prepare(cls, recipe: BaselineRecipe, table: FeatureTable, data_dir: Path, n_jobs: int) -> _Task:
        assert not isinstance(table.features, Graphs)  # without a cutoff there are none
        split = split_table(recipe, table, data_dir)
        options = recipe.descriptor
        scaler = Scaler.fit(table.features[split.train], options.clip, scaling=options.scaling)
        task = cls(recipe, scaler.transform(table.features), table.targets[:, 0], split, n_jobs)
        for section in recipe.baseline:
            task.train_rows(section)  # too many are an error before anything is fitted
        return task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.recipe.data.classes

    @property
    def unit(self) -> str:
        return get_property(self.recipe.data.property).unit

    @property
    def metric(self) -> str:
        """Name of the error by which a point is chosen; the lowest is the best."""
        return "validation_error_rate" if self.classes else "validation_mae"

    def train_rows(self, section: BaselineSection) -> IntArray:
        if section.train_rows is None:
            return self.split.train
        return thin_out(self.split, section.train_rows, self.recipe.split.seed).train

    def columns(self, name: str) -> list[str]:
        """Columns of a baseline in the table of predictions."""
        return [f"{name}: probability of {kind}" for kind in self.classes] or [name]

    def reference(self, rows: IntArray) -> NDArray[Any]:
        """Targets as they stand in the table of predictions."""
        return np.array(self.classes)[self.targets[rows].astype(int)] if self.classes else self.targets[rows]

    def fit(self, section: BaselineSection, parameters: dict[str, Any]) -> Any:
        model = build_estimator(section.name, parameters, bool(self.classes), self.recipe.split.seed)
        rows = self.train_rows(section)
        with parallel_config(backend="threading", n_jobs=self.n_jobs):
            return model.fit(self._inputs(rows), self.targets[rows])

    def predict(self, model: Any, rows: IntArray) -> NDArray[np.float64]:
        """Return values, shape (n, 1), or the probabilities of all classes, shape (n, n_classes)."""
        with parallel_config(backend="threading", n_jobs=self.n_jobs):
            if not self.classes:
                return np.asarray(model.predict(self._inputs(rows)), dtype=np.float64).reshape(-1, 1)
            probabilities = np.zeros((len(rows), len(self.classes)))  # a class may be missing in the training rows
            probabilities[:, model.classes_.astype(int)] = model.predict_proba(self._inputs(rows))
            return probabilities

    def measure(self, predicted: NDArray[np.float64], rows: IntArray) -> ErrorSummary | ClassificationSummary:
        if self.classes:
            return summarize_classes(predicted, self.targets[rows].astype(np.int64))
        return summarize(predicted[:, 0], self.targets[rows])

    def validation_error(self, model: Any) -> float:
        rows = self.split.validation
        predicted = self.predict(model, rows)
        if not np.isfinite(predicted).all():
            raise ValueError("its predictions are not finite")
        if self.classes:
            return float((predicted.argmax(axis=1) != self.targets[rows]).mean())
        return summarize(predicted[:, 0], self.targets[rows]).mae

    def _inputs(self, rows: IntArray) -> NDArray[np.float64]:
        return self.inputs[rows].astype(np.float64)  # linear solvers would work in single precision


def _search(task: _Task, section: BaselineSection, results: list[Row], path: Path) -> tuple[Row | None, Any]:
    """Return the best point of a grid, and its fitted estimator unless an earlier run fitted it.

    ``results`` has the finished points of all baselines; new ones are added and written to ``path``.
    """
    finished = {(row["baseline"], row["parameters"]): row for row in results}
    best: Row | None = None
    best_model: Any = None
    points = list(section.points())
    for number, parameters in enumerate(points, start=1):
        written = json.dumps(parameters, sort_keys=True)
        row, model = finished.get((section.name, written)), None
        if row is None:
            row, model = _evaluate(task, section, parameters, written)
            results.append(row)
            _write(pd.DataFrame(results), path)
            logger.info("%s %d/%d %s: %s", section.name, number, len(points), written, _describe(row, task.metric))
        if math.isfinite(row[task.metric]) and (best is None or row[task.metric] < best[task.metric]):
            best, best_model = row, model
    return best, best_model


def _describe(row: Row, metric: str) -> str:
    if not math.isfinite(row[metric]):
        return str(row["remark"])
    outcome = f"{metric} {row[metric]:.4f}, fitted in {row['fit_seconds']:.1f} s"
    return f"{outcome} ({row['remark']})" if row["remark"] else outcome


def _evaluate(task: _Task, section: BaselineSection, parameters: dict[str, Any], written: str) -> tuple[Row, Any]:
    """Fit one point; return its row of the results, and the estimator."""
    model: Any = None
    error = fit_seconds = math.nan
    remarks: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            started = time.perf_counter()
            model = task.fit(section, parameters)
            fit_seconds = time.perf_counter() - started
            error = task.validation_error(model)
        except ValueError as failure:  # parameters that exclude one another, a descent that diverges
            remarks.append(f"failed: {failure}")
    remarks += [f"{warning.category.__name__}: {warning.message}" for warning in caught]
    row = {
        "baseline": section.name,
        "parameters": written,
        "train_rows": len(task.train_rows(section)),
        task.metric: error,
        "fit_seconds": fit_seconds,
        "remark": "; ".join(dict.fromkeys(remark.splitlines()[0] for remark in remarks)),
    }
    return row, model


def _report(task: _Task, best: dict[str, Row], predictions: pd.DataFrame, output: Path) -> pd.DataFrame:
    """Write and return the summary of the best points, and draw their errors on the test rows."""
    recipe, test = task.recipe, task.split.test
    measured = {name: task.measure(predictions[task.columns(name)].to_numpy(), test) for name in best}
    kept = ("baseline", "parameters", "train_rows", task.metric, "fit_seconds")
    chosen = {name: {key: point[key] for key in kept} for name, point in best.items()}
    summary = pd.DataFrame(
        chosen[name]
        | {"test_rows": quality.n}
        | {f"test_{key}": value for key, value in quality.model_dump(exclude={"n", "confusion"}).items()}
        for name, quality in measured.items()
    )
    _write(summary, output / SUMMARY_FILE)
    document = {
        "recipe": recipe.name,
        "property": recipe.data.property,
        "unit": task.unit,
        "descriptor": recipe.descriptor.name,
        "data": recipe.data.name,
        "rows": {name: len(getattr(task.split, name)) for name in ("train", "validation", "test")},
        "baselines": [
            chosen[name] | {"parameters": json.loads(best[name]["parameters"]), "test": quality.model_dump()}
            for name, quality in measured.items()
        ],
        "versions": {"ase_matprop": ase_matprop.__version__, "scikit-learn": sklearn.__version__},
    }
    (output / SUMMARY_FILE).with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    title = f"{recipe.name}\n{len(test)} test rows"
    first = min(best, key=lambda name: best[name][task.metric])
    quality = measured[first]
    if isinstance(quality, ClassificationSummary):
        title += f", {first}, accuracy {quality.accuracy:.4f}"
        figures.confusion(quality.confusion, task.classes, title, output / "confusion_test.png")
    else:
        errors = {name: (predictions[name] - predictions["reference"]).to_numpy() for name in best}
        title = f"{title}, {get_property(recipe.data.property).long_name}"
        plots.save(plots.error_cdf(errors, unit=task.unit, title=title), output / "errors_test.png")
    return summary


def _read(path: Path, numbers: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table, empty if there is none yet; ``numbers`` may be missing, and "NaN" is text elsewhere."""
    if not path.is_file():
        return pd.DataFrame()
    missing = {name: [""] for name in numbers}
    text = dict.fromkeys(("id", "baseline", "parameters", "remark"), str)
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing, float_precision="round_trip")


def _write(frame: pd.DataFrame, path: Path) -> None:
    partial = path.with_suffix(".partial")
    frame.to_csv(partial, index=False)
    partial.replace(path)  # complete, or not there

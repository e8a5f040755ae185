"""Ten-fold cross-validation of networks and of simpler methods, on the same folds, fold by fold and resumable."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ase_matprop.diffraction.xrd.background import remove_background
from ase_matprop.diffraction.xrd.baselines import BASELINES, baseline_features, fit_baseline
from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError
from ase_matprop.diffraction.xrd.evaluation import image_scale, probabilities
from ase_matprop.diffraction.xrd.networks import NETWORKS, build_pattern_network
from ase_matprop.diffraction.xrd.simulation import ImageSet, simulate
from ase_matprop.diffraction.xrd.training import TrainingSettings, train_network
from ase_matprop.errors import unknown_name

#: what networks see, as Figure 7.7 names it, and the method of background removal behind it
INPUTS = {"I": "none", "I-MF": "minimum", "I-CS": "minimum_mean"}

#: raised whenever networks, training or trees give other results, so that folds of two versions are never mixed
RESULTS_VERSION = 2


@dataclass(frozen=True)
class Experiment:
    """One method on one set of images.

    Attributes:
        kind: ``"slac"`` or ``"nist"``.
        size: height and width of the images in pixels.
        seed: of the simulated images, the folds and the networks.
        method: ``"padnet"``, ``"plain-cnn"`` or one of :data:`ase_matprop.diffraction.xrd.baselines.BASELINES`.
        train_input: what networks are trained on: ``"I"``, ``"I-MF"`` or ``"I-CS"``; they are tested on all three.
        network: settings of the network besides those that the images decide.
        training: of a network.
        n_folds: number of parts.
    """

    kind: str
    size: int
    seed: int
    method: str
    train_input: str = "I"
    network: dict[str, Any] = field(default_factory=dict)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    n_folds: int = 10

    def __post_init__(self) -> None:
        if self.method not in NETWORKS and self.method not in BASELINES:
            raise unknown_name("method", self.method, (*NETWORKS, *BASELINES))
        if self.train_input not in INPUTS:
            raise unknown_name("input of networks", self.train_input, INPUTS)
        if self.n_folds < 2:
            raise DiffractionSettingsError(f"a cross-validation needs at least two folds. Got {self.n_folds}.")

    @property
    def name(self) -> str:
        """Name of the folder of its results: what it is, and a hash of all settings."""
        settings = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        what = f"{self.method}-{self.train_input}" if self.method in NETWORKS else self.method
        return f"{self.kind}{self.size}-{what}-seed{self.seed}-{settings}"


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Result of an experiment.

    Attributes:
        experiment: what was done.
        predicted: predicted region of each sample when it was in the test fold, by input; shape (n,) each.
        labels: right region of each sample, shape (n,).
        folds: test fold of each sample, shape (n,).
    """

    experiment: Experiment
    predicted: dict[str, NDArray[np.int64]]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]

    def accuracy(self, test_input: str | None = None) -> float:
        """Return the share of all samples that are right; by default on the kind of input that it was trained on."""
        return float(np.mean(self.predicted[self._input(test_input)] == self.labels))

    def fold_accuracies(self, test_input: str | None = None) -> NDArray[np.float64]:
        """Return the accuracy on each fold, shape (n_folds,)."""
        right = self.predicted[self._input(test_input)] == self.labels
        return np.array([right[self.folds == fold].mean() for fold in range(self.experiment.n_folds)])

    def _input(self, test_input: str | None) -> str:
        if test_input is None:
            return self.experiment.train_input if self.experiment.train_input in self.predicted else "I"
        return test_input


def split_folds(n: int, n_folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each of ``n`` samples: random, without regard to the classes as in the thesis, shape (n,).

    Raises:
        DiffractionSettingsError: if there are more folds than samples.
    """
    if n_folds > n:
        raise DiffractionSettingsError(f"{n} samples cannot be split into {n_folds} folds")
    return np.random.default_rng([seed, 7]).permutation(np.arange(n) % n_folds)


def cross_validate(
    experiment: Experiment,
    folder: Path,
    *,
    n_processes: int = 1,
    data: ImageSet | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CrossValidation:
    """Run an experiment, or what is left of it.

    Each fold writes ``<folder>/<name>/fold-<number>.json`` when it is done; a fold with such a file is not run again.
    No test sample has a part in the training of its fold: scaling is that of the training samples, and training stops
    after a fixed number of epochs.

    Args:
        experiment: what to do.
        folder: of the results of all experiments.
        n_processes: folds that run at the same time, each with one thread.
        data: images in place of those that are simulated, for tests and other data; ``experiment.kind`` names them.
        progress: called with the number of finished and of all folds.

    Raises:
        DiffractionSettingsError: if settings do not go together, or finished folds are of other images or of another
            version of the networks and their training.
    """
    target = folder / experiment.name
    target.mkdir(parents=True, exist_ok=True)
    todo = [fold for fold in range(experiment.n_folds) if not _fold_file(target, fold).is_file()]
    if todo and data is None:
        data = simulate(experiment.kind, experiment.size, seed=experiment.seed)
    _record(experiment, data, target, resumed=len(todo) < experiment.n_folds)
    done = experiment.n_folds - len(todo)
    if progress is not None:
        progress(done, experiment.n_folds)
    for _ in _run_folds(experiment, data, todo, target, n_processes):
        done += 1
        if progress is not None:
            progress(done, experiment.n_folds)
    return _collect(experiment, target)


def _record(experiment: Experiment, data: ImageSet | None, target: Path, *, resumed: bool) -> None:
    """Write what is run, on which images; refuse to go on with folds of something else."""
    path = target / "experiment.json"
    facts: dict[str, Any] = {"results_version": RESULTS_VERSION}
    if data is not None:
        digest = hashlib.sha256()
        for array in (data.images, data.compositions, data.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        facts["data_sha256"] = digest.hexdigest()
    if resumed:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        other = [name for name, value in facts.items() if found.get(name) != value]
        if other:
            raise DiffractionSettingsError(
                f"the finished folds in {target} are of something else ({', '.join(other)}); give another folder"
            )
        return
    path.write_text(json.dumps(asdict(experiment) | facts, indent=2) + "\n", encoding="utf-8")


def _run_folds(
    experiment: Experiment, data: ImageSet | None, todo: Sequence[int], target: Path, n_processes: int
) -> Iterator[int]:
    """Yield the number of each fold once it is done."""
    if not todo:
        return
    assert data is not None
    versions = _inputs(experiment, data)
    if n_processes <= 1:
        for fold in todo:
            _run_fold(experiment, data, versions, fold, target)
            yield fold
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = {pool.submit(_run_fold, experiment, data, versions, fold, target): fold for fold in todo}
        for future in as_completed(futures):
            future.result()
            yield futures[future]


def _inputs(experiment: Experiment, data: ImageSet) -> dict[str, NDArray[np.float32]]:
    """Return what the method sees: images by kind of input, or the features of a simpler method."""
    if experiment.method in BASELINES:
        features = baseline_features(experiment.method, data.images, data.geometries, data.compositions)
        return {"I": features.astype(np.float32)}
    return {name: remove_background(data.images, method)[0].astype(np.float32) for name, method in INPUTS.items()}


def _run_fold(
    experiment: Experiment, data: ImageSet, versions: dict[str, NDArray[np.float32]], fold: int, target: Path
) -> None:
    folds = split_folds(len(data), experiment.n_folds, experiment.seed)
    test, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    seed = 1000 * experiment.seed + fold
    if experiment.method in BASELINES:
        model = fit_baseline(experiment.method, versions["I"][train], data.labels[train], seed)
        predicted = {"I": model.predict(versions["I"][test])}
    else:
        images = versions[experiment.train_input][train]
        scale = image_scale(images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_pattern_network(
                experiment.method,
                {"size": experiment.size, "n_frames": data.images.shape[1], "n_classes": len(data.classes)}
                | experiment.network,
            )
            compositions = data.compositions[train]
            train_network(network, images / scale, compositions, data.labels[train], experiment.training, seed=seed)
        predicted = {
            name: probabilities(
                network, version[test] / scale, data.compositions[test], mirror=experiment.training.flip
            ).argmax(axis=1)
            for name, version in versions.items()
        }
    result = {
        "rows": test.tolist(),
        "labels": data.labels[test].tolist(),
        "predicted": {name: np.asarray(values).tolist() for name, values in predicted.items()},
    }
    path = _fold_file(target, fold)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(result) + "\n", encoding="utf-8")
    os.replace(partial, path)  # noqa: PTH105 (overwrites on every system)


def _collect(experiment: Experiment, target: Path) -> CrossValidation:
    results = [json.loads(_fold_file(target, fold).read_text(encoding="utf-8")) for fold in range(experiment.n_folds)]
    rows = np.concatenate([result["rows"] for result in results])
    order = np.argsort(rows)
    folds = np.repeat(np.arange(len(results)), [len(result["rows"]) for result in results])
    predicted = {
        name: np.concatenate([result["predicted"][name] for result in results])[order]
        for name in results[0]["predicted"]
    }
    labels = np.concatenate([result["labels"] for result in results])[order]
    return CrossValidation(experiment, predicted, labels, folds[order])


def _fold_file(target: Path, fold: int) -> Path:
    return target / f"fold-{fold:02d}.json"

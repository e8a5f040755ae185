"""Training, cross-validation and the methods beside PADNet, on small images that are easy to tell apart."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ase_matprop.diffraction.xrd import cross_validation
from ase_matprop.diffraction.xrd.baselines import BASELINES, baseline_features, fit_baseline
from ase_matprop.diffraction.xrd.cross_validation import Experiment, cross_validate, split_folds
from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError
from ase_matprop.diffraction.xrd.evaluation import image_scale, probabilities
from ase_matprop.diffraction.xrd.geometry import nist_geometries, slac_geometry
from ase_matprop.diffraction.xrd.networks import padnet, plain_cnn
from ase_matprop.diffraction.xrd.simulation import ImageSet
from ase_matprop.diffraction.xrd.training import TrainingSettings, _Batches, train_network
from ase_matprop.errors import UnknownNameError

SIZE, CLASSES = 32, ("a", "b", "c")
NETWORK = {"filter_size": 4, "strides": (2, 1, 1)}
TRAINING = TrainingSettings(epochs=20, batch_size=8)


@pytest.fixture(scope="module")
def rings() -> ImageSet:
    """60 images with one ring; where it is tells the class.  Compositions tell nothing."""
    rng = np.random.default_rng(0)
    geometry = slac_geometry(SIZE)
    labels = np.arange(60) % 3
    centres = np.array([15.0, 25.0, 35.0])[labels]
    peaks = 400.0 * np.exp(-0.5 * ((geometry.two_theta() - centres[:, np.newaxis, np.newaxis]) / 1.5) ** 2)
    backgrounds = np.broadcast_to(rng.uniform(50.0, 150.0, (60, 1, 1)), peaks.shape)
    images = rng.poisson(peaks + backgrounds)[:, np.newaxis].astype(np.float32)
    compositions = rng.dirichlet(np.ones(3), 60)
    return ImageSet(images, compositions, labels, CLASSES, (geometry,), backgrounds[:, np.newaxis].astype(np.float32))


@pytest.mark.parametrize("trainable", [False, True])
def test_a_network_learns_rings(rings: ImageSet, trainable: bool) -> None:
    torch.manual_seed(0)
    network = padnet(size=SIZE, n_classes=3, trainable=trainable, **NETWORK)
    before = network.inputs[0].filters.detach().clone()
    losses: list[float] = []
    scaled = rings.images / image_scale(rings.images)
    train_network(
        network,
        scaled[:48],
        rings.compositions[:48],
        rings.labels[:48],
        TRAINING,
        seed=0,
        progress=lambda epoch, loss: losses.append(loss),
    )
    assert len(losses) == 20 and losses[-1] < 0.3 * losses[0] and not network.training
    assert torch.equal(before, network.inputs[0].filters) is not trainable
    found = probabilities(network, scaled[48:], rings.compositions[48:])
    assert np.allclose(found.sum(axis=1), 1.0)
    assert (found.argmax(axis=1) == rings.labels[48:]).mean() > 0.8


def test_same_seed_same_network(rings: ImageSet) -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        network = plain_cnn(size=SIZE, n_classes=3, strides=(2, 1, 1))
        settings = replace(TRAINING, epochs=2, flip=True)
        train_network(network, rings.images / 100.0, rings.compositions, rings.labels, settings, seed=5)
        found.append(probabilities(network, rings.images / 100.0, rings.compositions))
    assert np.array_equal(*found)


def test_flips_keep_the_scattering_angles() -> None:
    for geometry in (slac_geometry(SIZE), *nist_geometries(SIZE)):
        assert np.allclose(geometry.two_theta(), geometry.two_theta()[:, ::-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(({name: value}, "at least one epoch") for name, value in (("epochs", 0), ("batch_size", 1))),
        ({"learning_rate": 0.0}, "a learning rate above zero"),
        *(({name: -1}, "must be zero or more") for name in ("weight_decay", "shift", "mixup")),
    ],
)
def test_settings_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(DiffractionSettingsError, match=message):
        TrainingSettings(**changes)


def test_augmentation() -> None:
    """Each image of a step is as it is or mirrored, moved with the others, and mixed with one of them."""
    images = torch.arange(4 * 25, dtype=torch.float32).reshape(4, 1, 1, 5, 5)
    versions, cations, classes = [images, images.flip(-1)], torch.rand(4, 3), torch.eye(4)
    rows, rng = np.array([3, 1, 0]), np.random.default_rng(0)
    settings = replace(TRAINING, flip=True)
    seen = torch.stack([_Batches(versions, cations, classes, settings, rng).augment(rows)[0] for _ in range(20)])
    for place, row in enumerate(rows):
        found = {float(image[0, 0, 0, 0]) for image in seen[:, place]}
        assert found == {25.0 * row, 25.0 * row + 4.0}
    assert torch.equal(versions[0], images)  # is not written to
    moved = [_Batches([images], cations, classes, replace(TRAINING, shift=1), rng).augment(rows)[0] for _ in range(20)]
    expected = [images[rows].roll((down, right), (-2, -1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    assert all(any(torch.equal(each, one) for one in expected) for each in moved)
    mixed, composition, wanted = _Batches([images], cations, classes, replace(TRAINING, mixup=1.0), rng).augment(rows)
    assert torch.allclose(wanted.sum(dim=1), torch.ones(3))
    assert torch.allclose(composition, wanted @ cations)
    assert torch.allclose(mixed.flatten(1), wanted @ images.flatten(1))


def test_mean_over_mirror_images(rings: ImageSet) -> None:
    torch.manual_seed(0)
    network = padnet(size=SIZE, n_classes=3, **NETWORK).eval()
    images, compositions = rings.images[:4] / 100.0, rings.compositions[:4]
    both = [probabilities(network, view, compositions) for view in (images, images[..., ::-1])]
    found = probabilities(network, images, compositions, mirror=True)
    assert np.allclose(found, np.mean(both, axis=0)) and not np.allclose(both[0], both[1])


def test_too_few_images(rings: ImageSet) -> None:
    network = plain_cnn(size=SIZE, n_classes=3, strides=(2, 1, 1))
    with pytest.raises(DiffractionSettingsError, match="5 images are fewer than the batch size 8"):
        train_network(network, rings.images[:5], rings.compositions[:5], rings.labels[:5], TRAINING, seed=0)


def test_folds_are_a_partition() -> None:
    folds = split_folds(177, 10, seed=0)
    assert sorted(np.bincount(folds)) == [17] * 3 + [18] * 7
    assert np.array_equal(folds, split_folds(177, 10, seed=0)) and not np.array_equal(folds, split_folds(177, 10, 1))
    with pytest.raises(DiffractionSettingsError, match="3 samples cannot be split into 5 folds"):
        split_folds(3, 5, 0)


def experiment(method: str, **changes: object) -> Experiment:
    network = NETWORK if method == "padnet" else {}
    return Experiment("rings", SIZE, 0, method, **({"network": network, "training": TRAINING, "n_folds": 3} | changes))


def test_cross_validation_resumes(rings: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    task = experiment("padnet")
    first = cross_validate(task, tmp_path, data=rings, progress=lambda *step: steps.append(step))
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert first.accuracy() > 0.45 and set(first.predicted) == {"I", "I-MF", "I-CS"}
    assert first.accuracy() == first.accuracy("I") and len(first.fold_accuracies("I")) == 3
    assert np.array_equal(first.labels, rings.labels)
    monkeypatch.setattr(cross_validation, "train_network", lambda *a, **k: pytest.fail("was done before"))
    again = cross_validate(task, tmp_path, data=rings)
    assert all(np.array_equal(again.predicted[name], first.predicted[name]) for name in first.predicted)
    (tmp_path / task.name / "fold-01.json").unlink()
    with pytest.raises(pytest.fail.Exception, match="was done before"):
        cross_validate(task, tmp_path, data=rings)


def test_folds_of_something_else_are_refused(rings: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = experiment("adaboost-1d")
    cross_validate(task, tmp_path, data=rings)
    cross_validate(task, tmp_path, data=rings)
    other = replace(rings, images=rings.images + 1.0)
    with pytest.raises(DiffractionSettingsError, match=r"are of something else \(data_sha256\)"):
        cross_validate(task, tmp_path, data=other)
    monkeypatch.setattr(cross_validation, "RESULTS_VERSION", 99)
    with pytest.raises(DiffractionSettingsError, match=r"are of something else \(results_version\)"):
        cross_validate(task, tmp_path, data=rings)


def test_test_images_have_no_part_in_training(rings: ImageSet, tmp_path: Path) -> None:
    """Other test images, other answers for these alone: the network that answers is the same."""
    task = experiment("padnet", training=replace(TRAINING, epochs=1))
    folds = split_folds(60, 3, 0)
    changed = replace(rings, images=rings.images.copy(), labels=rings.labels.copy())
    row = int(np.flatnonzero(folds == 1)[0])
    changed.images[row] *= 50.0
    changed.labels[row] = (changed.labels[row] + 1) % 3
    for name, data in (("a", rings), ("b", changed)):
        cross_validate(task, tmp_path / name, data=data)
    results = [json.loads((tmp_path / name / task.name / "fold-01.json").read_text()) for name in ("a", "b")]
    place = results[0]["rows"].index(row)
    for kind in ("I", "I-MF", "I-CS"):
        answers = [[p for i, p in enumerate(each["predicted"][kind]) if i != place] for each in results]
        assert answers[0] == answers[1]


def test_processes_give_the_same(rings: ImageSet, tmp_path: Path) -> None:
    task = experiment("adaboost-1d")
    alone = cross_validate(task, tmp_path / "a", data=rings)
    together = cross_validate(task, tmp_path / "b", data=rings, n_processes=2)
    assert np.array_equal(alone.predicted["I"], together.predicted["I"]) and alone.accuracy() > 0.9


@pytest.mark.parametrize("name", BASELINES)
def test_baselines(name: str, rings: ImageSet) -> None:
    features = baseline_features(name, rings.images, rings.geometries, rings.compositions)
    patterns, composition = BASELINES[name].patterns, BASELINES[name].composition
    assert features.shape == (60, SIZE * (patterns is not None) + 3 * composition)
    model = fit_baseline(name, features[:40], rings.labels[:40], 0)
    right = (model.predict(features[40:]) == rings.labels[40:]).mean()
    assert right > 0.9 if patterns else right < 0.7


def test_names_and_checks() -> None:
    tasks = [experiment("padnet"), experiment("padnet", train_input="I-MF"), experiment("plain-cnn")]
    tasks += [experiment("padnet", training=replace(TRAINING, epochs=9))]
    assert len({task.name for task in tasks}) == 4 and tasks[0].name.startswith("rings32-padnet-I-seed0-")
    with pytest.raises(UnknownNameError, match="unknown method 'padnets'. Did you mean 'padnet'"):
        experiment("padnets")
    with pytest.raises(UnknownNameError, match="unknown input of networks 'I-C'"):
        experiment("padnet", train_input="I-C")
    with pytest.raises(DiffractionSettingsError, match="at least two folds"):
        experiment("padnet", n_folds=1)

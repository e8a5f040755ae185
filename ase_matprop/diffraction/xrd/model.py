"""From images with known phase regions to a model folder."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ase_matprop import __version__
from ase_matprop.diffraction.xrd.background import remove_background, scaled_filter_size
from ase_matprop.diffraction.xrd.card import (
    Accuracy,
    InputSpec,
    PatternCard,
    PatternNetworkSpec,
    geometry_entries,
    save,
)
from ase_matprop.diffraction.xrd.evaluation import image_scale, probabilities
from ase_matprop.diffraction.xrd.networks import build_pattern_network
from ase_matprop.diffraction.xrd.predictor import PatternPredictor
from ase_matprop.diffraction.xrd.regions import METALS
from ase_matprop.diffraction.xrd.simulation import ImageSet
from ase_matprop.diffraction.xrd.training import TrainingSettings, train_network
from ase_matprop.models.folder import WeightsSpec, load_network, network_tensors

_CITATION = ["D. Jha, Ph.D. thesis, Northwestern University (2020), chapter 7"]


def train_model(
    data: ImageSet,
    folder: Path,
    *,
    name: str,
    description: str,
    method: str = "padnet",
    network: Mapping[str, Any] | None = None,
    training: TrainingSettings | None = None,
    background: str = "none",
    training_set: Mapping[str, Any] | None = None,
    cross_validation: Accuracy | None = None,
    test: tuple[str, ImageSet] | None = None,
    notes: tuple[str, ...] = (),
    precision: str = "float32",
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> PatternPredictor:
    """Train a network on all images of a set, and write its model folder.

    Args:
        data: images with labels.
        folder: of the model.
        name: of the model.
        description: one sentence for its card.
        method: ``"padnet"`` or ``"plain-cnn"``.
        network: settings of the network besides those that the images decide.
        training: settings of the training.
        background: what is taken off images before the network: ``"none"``, ``"minimum"`` or ``"minimum_mean"``.
        training_set: facts on the data for the card, besides the number of images of each region.
        cross_validation: what networks with the same settings reached in cross-validation, for the card.
        test: further images, and what the card is to say of them; the training has no part of them, and the share that
            the stored weights get right is written into the card.
        notes: for the card.
        precision: of the stored weights, ``"float32"`` or ``"float16"``.
        seed: of initial weights and of the order of the images.
        progress: as for :func:`ase_matprop.diffraction.xrd.training.train_network`.

    Raises:
        UnknownNameError: for an unknown method.
        DiffractionSettingsError: for settings that do not go together.
    """
    training = TrainingSettings() if training is None else training
    size = data.images.shape[-1]
    filter_size = scaled_filter_size((size, size))
    images = remove_background(data.images, background, filter_size)[0].astype(np.float32)
    scale = image_scale(images)
    settings: dict[str, Any] = {"size": size, "n_frames": images.shape[1], "n_classes": len(data.classes)}
    settings |= dict(network or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_pattern_network(method, settings)
        train_network(model, images / scale, data.compositions, data.labels, training, seed=seed, progress=progress)
    load_network(model, network_tensors(model, precision))  # rounded as they are stored, before anything is measured
    accuracies = {} if cross_validation is None else {"cross_validation": cross_validation}
    if test is not None:
        of, held_out = test
        inputs = remove_background(held_out.images, background, filter_size)[0].astype(np.float32) / scale
        found = probabilities(model, inputs, held_out.compositions, mirror=training.flip).argmax(axis=1)
        share = round(float(np.mean(found == held_out.labels)), 4)
        accuracies["test"] = Accuracy(n=len(held_out), accuracy=share, of=of)
    means = data.images.mean(axis=(1, 2, 3))
    counts = np.bincount(data.labels, minlength=len(data.classes))
    card = PatternCard(
        name=name,
        description=description,
        network=PatternNetworkSpec(
            name=method, settings=settings, n_parameters=sum(each.numel() for each in model.parameters())
        ),
        inputs=InputSpec(
            background=background,
            background_size=filter_size,
            image_scale=scale,
            mean_counts=(float(means.min()), float(means.max())),
            composition=list(METALS) if model.n_composition else [],
            geometries=geometry_entries(data.geometries),
        ),
        classes=list(data.classes),
        accuracies=accuracies,
        training_set=dict(training_set or {})
        | {"images": {region: int(n) for region, n in zip(data.classes, counts, strict=True)}},
        training=asdict(training) | {"seed": seed},
        notes=list(notes),
        citation=_CITATION,
        code_version=__version__,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        weights=WeightsSpec(sha256="", dtype=precision),
    )
    return PatternPredictor(save(folder, card, model), model)

"""Training of PADNet and of the plain network on images with known phase regions.

The loop runs for a fixed number of epochs and keeps the last state: with 16 images per phase region or less, a
validation part that is large enough to choose a state would cost more than it gives, and no test image ever decides
anything.  What the fixed slope filters make of the images is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError
from ase_matprop.diffraction.xrd.networks import PatternNetwork

_EVALUATION_BATCH = 32


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
        epochs: number of passes over the images.
        batch_size: images per step; the last incomplete batch of an epoch is left out.
        learning_rate: largest learning rate of the one-cycle schedule with Adam; the thesis has 0.001.
        weight_decay: coefficient of the L2 penalty; the thesis has 0.0001.
        flip: whether images are mirrored left to right at random, which leaves the scattering angles as they are (the
            detectors here are symmetric about the middle column); the thesis does not do that.
    """

    epochs: int = 40
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    flip: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or not self.learning_rate > 0.0 or self.weight_decay < 0.0:
            raise DiffractionSettingsError(
                "training needs at least one epoch, batches of two, a learning rate above zero and a weight decay of "
                f"zero or more. Got {self}."
            )


def image_scale(images: NDArray[np.float32]) -> float:
    """Return what counts are divided by: the median over the images of their mean, 1 if that is not above zero."""
    scale = float(np.median(np.abs(images).mean(axis=(1, 2, 3))))
    return scale if scale > 0.0 else 1.0


def train_network(
    network: PatternNetwork,
    images: NDArray[np.float32],
    compositions: NDArray[np.float64],
    labels: NDArray[np.int64],
    settings: TrainingSettings,
    *,
    seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Train a network in place, and leave it in evaluation mode.

    Args:
        network: freshly initialised network.
        images: divided by :func:`image_scale`, shape (n, frames, size, size).
        compositions: shape (n, 3).
        labels: numbers of the phase regions, shape (n,).
        settings: of the training.
        seed: seed of the order of the images.
        progress: called after each epoch with its number from 1 and the mean loss.

    Raises:
        DiffractionSettingsError: if there are fewer images than a batch has.
    """
    n_batches = len(labels) // settings.batch_size
    if not n_batches:
        raise DiffractionSettingsError(
            f"{len(labels)} images are fewer than the batch size {settings.batch_size}; give a smaller batch_size"
        )
    inputs = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
    cations, targets = torch.from_numpy(compositions.astype(np.float32)), torch.from_numpy(labels)
    versions = [inputs, inputs.flip(-1)] if settings.flip else [inputs]
    if network.fixed_inputs:
        versions = [_respond(network, version) for version in versions]
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * n_batches, pct_start=0.15
    )
    rng = np.random.default_rng(seed)
    for epoch in range(settings.epochs):
        network.train()
        order, losses = rng.permutation(len(labels)), []
        for rows in np.array_split(order[: n_batches * settings.batch_size], n_batches):
            batch = versions[rng.integers(len(versions))][rows]
            responses = batch if network.fixed_inputs else network.respond(batch)
            loss = nn.functional.cross_entropy(network.classify(responses, cations[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        if progress is not None:
            progress(epoch + 1, float(np.mean(losses)))
    network.eval()


def probabilities(
    network: PatternNetwork, images: NDArray[np.float32], compositions: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the probability of each phase region, shape (n, n_classes).

    Args:
        network: in evaluation mode.
        images: divided by the scale of the training, shape (n, frames, size, size).
        compositions: shape (n, 3), or None for a network on images alone.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), _EVALUATION_BATCH):
            rows = slice(start, start + _EVALUATION_BATCH)
            batch = torch.from_numpy(np.ascontiguousarray(images[rows], dtype=np.float32))
            cations = None if compositions is None else torch.from_numpy(compositions[rows].astype(np.float32))
            parts.append(network(batch, cations).double().softmax(dim=1).numpy())
    return np.concatenate(parts)


def _respond(network: PatternNetwork, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network.respond(part) for part in images.split(_EVALUATION_BATCH)])

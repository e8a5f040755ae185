"""Training of PADNet and of the plain network on images with known phase regions.

The loop runs for a fixed number of epochs and keeps the last state: with 16 images per phase region or less, a
validation part that is large enough to choose a state would cost more than it gives, and no test image ever decides
anything.  What the fixed slope filters make of the images is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError
from ase_matprop.diffraction.xrd.evaluation import EVALUATION_BATCH
from ase_matprop.diffraction.xrd.networks import PatternNetwork
from ase_matprop.training.trainer import run_trainer


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
        epochs: number of passes over the images.
        batch_size: images per step; the last incomplete batch of an epoch is left out.
        learning_rate: largest learning rate of the one-cycle schedule with Adam; the thesis has 0.001.
        weight_decay: coefficient of the L2 penalty; the thesis has 0.0001.
        flip: whether images are mirrored left to right at random, which leaves the scattering angles as they are (the
            detectors here are symmetric about the middle column); the thesis does not do that.  Answers are then the
            mean over image and mirror image.
        shift: largest number of pixels by which the images of a step are moved along rows and columns at random; what
            leaves at one border comes in at the other.
        mixup: parameter of the Beta distribution of the shares with which two images of a step, their compositions and
            their labels are mixed (Zhang et al., arXiv:1710.09412); 0 for none.
    """

    epochs: int = 40
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    flip: bool = False
    shift: int = 0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or not self.learning_rate > 0.0:
            raise DiffractionSettingsError(
                f"training needs at least one epoch, batches of two and a learning rate above zero. Got {self}."
            )
        if min(self.weight_decay, self.shift, self.mixup) < 0.0:
            raise DiffractionSettingsError(f"weight_decay, shift and mixup must be zero or more. Got {self}.")


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
        images: divided by :func:`ase_matprop.diffraction.xrd.evaluation.image_scale`, shape (n, frames, size, size).
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
    classes = nn.functional.one_hot(targets, network.n_classes).float()
    versions = [inputs, inputs.flip(-1)] if settings.flip else [inputs]
    if network.fixed_inputs:
        versions = [_respond(network, version) for version in versions]
    network.graphs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster
    batches = _Batches(versions, cations, classes, settings, np.random.default_rng(seed))
    module = _Trainee(network, settings, n_batches * settings.epochs)
    callbacks = [] if progress is None else [_Progress(progress)]
    network.train()
    run_trainer(module, DataLoader(batches, batch_size=None), max_epochs=settings.epochs, callbacks=callbacks)
    network.eval()


class _Batches(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Images or responses, compositions and shares of the classes of the steps of an epoch.

    Args:
        versions: of the images: as they are, and mirrored.
        cations: shape (n, 3).
        classes: shape (n, n_classes).
        settings: of the training.
        rng: which goes on from epoch to epoch.
    """

    def __init__(
        self,
        versions: list[Tensor],
        cations: Tensor,
        classes: Tensor,
        settings: TrainingSettings,
        rng: np.random.Generator,
    ) -> None:
        self.versions = versions
        self.cations = cations
        self.classes = classes
        self.settings = settings
        self.rng = rng

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        order, size = self.rng.permutation(len(self.classes)), self.settings.batch_size
        for start in range(0, len(order) - size + 1, size):
            yield self.augment(order[start : start + size])

    def augment(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a step sees of some rows: each as it is or mirrored, moved together, mixed with one another."""
        settings, rng = self.settings, self.rng
        batch, mixed, wanted = self.versions[0][rows], self.cations[rows], self.classes[rows]
        if len(self.versions) > 1:
            mirrored = torch.from_numpy(rng.integers(2, size=len(rows)) == 1)
            batch[mirrored] = self.versions[1][rows[mirrored.numpy()]]
        if settings.shift:
            down, right = rng.integers(-settings.shift, settings.shift + 1, 2).tolist()
            batch = batch.roll((down, right), (-2, -1))
        if settings.mixup:
            share = float(rng.beta(settings.mixup, settings.mixup))
            partners = torch.from_numpy(rng.permutation(len(rows)))
            batch, mixed, wanted = (share * each + (1.0 - share) * each[partners] for each in (batch, mixed, wanted))
        return batch, mixed, wanted


class _Trainee(pl.LightningModule):
    """Lightning module of a network on responses that were computed before, or on images."""

    def __init__(self, network: PatternNetwork, settings: TrainingSettings, n_steps: int) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.n_steps = n_steps

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_index: int) -> Tensor:
        given, cations, wanted = batch
        responses = given if self.network.fixed_inputs else self.network.respond(given)
        loss = nn.functional.cross_entropy(self.network.classify(responses, cations), wanted)
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(cations))
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.settings
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=self.n_steps, pct_start=0.15
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Progress(Callback):
    def __init__(self, tell: Callable[[int, float], None]) -> None:
        self.tell = tell

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.tell(trainer.current_epoch + 1, float(trainer.callback_metrics["train_loss"]))


def _respond(network: PatternNetwork, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network.respond(part) for part in images.split(EVALUATION_BATCH)])

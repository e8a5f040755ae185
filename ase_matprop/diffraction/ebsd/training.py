"""Training of EBSD networks on patterns that are made as they are needed, no two of them alike."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.estimator import Estimator, to_fundamental_zone
from ase_matprop.diffraction.ebsd.evaluation import predict_all
from ase_matprop.diffraction.ebsd.losses import OrientationLoss
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing
from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe, TrainingSection
from ase_matprop.diffraction.ebsd.simulation import Simulator
from ase_matprop.errors import RecipeError
from ase_matprop.models.folder import load_network, network_tensors
from ase_matprop.training.trainer import History, decayed_groups, run_trainer

#: seeds of the patterns that no network is trained on; those of ``test`` are never used for a choice
HELD_OUT_SEEDS = {"validation": 10_001, "test": 61_207}


@dataclass(frozen=True, eq=False)
class SimulatedSet:
    """Simulated patterns with their orientations.

    Attributes:
        quaternions: true orientations, shape (n, 4), float64.
        patterns: shape (n, rows, columns), whole numbers as float32.
    """

    quaternions: NDArray[np.float64]
    patterns: Tensor


def held_out(
    recipe: EbsdRecipe, name: Literal["validation", "test"], master_pattern: MasterPattern | None = None
) -> SimulatedSet:
    """Return the patterns for validation or test: always the same for a recipe's detector and disturbances.

    Args:
        recipe: of the run.
        name: which.
        master_pattern: in place of the one that the recipe names.

    Raises:
        MissingDependencyError: if kikuchipy is needed for the master pattern, and not installed.
    """
    is_test = name == "test"
    disturbances = (recipe.test_disturbances if is_test else None) or recipe.disturbances
    simulator = Simulator(master_pattern or MasterPattern.nickel(), recipe.detector, disturbances)
    n = recipe.training.test_patterns if is_test else recipe.training.validation_patterns
    quaternions = convert.random_orientations(n, seed=HELD_OUT_SEEDS[name])
    return SimulatedSet(quaternions, simulator.patterns(quaternions, seed=HELD_OUT_SEEDS[name] + 1))


def train(
    recipe: EbsdRecipe,
    *,
    seed: int,
    folder: Path,
    master_pattern: MasterPattern | None = None,
    start_from: Estimator | None = None,
    checkpoint_every: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> Estimator:
    """Train one network, and return it in evaluation mode as it is after the last step.

    Seed and step alone decide the patterns of a batch, so that a run that was interrupted goes on from
    ``folder/last.ckpt`` as if it had not been.

    Args:
        recipe: all settings.
        seed: of the initial weights and of the patterns.
        folder: for checkpoint and history; made if there is none.
        master_pattern: in place of the one that the recipe names.
        start_from: a trained network of the same kind, whose weights the training starts with; fewer steps and a lower
            learning rate are enough then, for another detector, phase of the same Laue group, or other disturbances.
        checkpoint_every: steps between validations and checkpoints.
        progress: called with the number of steps that are done, and that are to be done.

    Raises:
        RecipeError: if the folder holds the run of another recipe, seed or start, the settings do not suit the network,
            the seed is that of held-out patterns, or ``start_from`` is a network of another kind.
        MissingDependencyError: if kikuchipy is needed for the master pattern, and not installed.
    """
    taken = {value + shift for value in HELD_OUT_SEEDS.values() for shift in (0, 1)}
    if seed in taken:
        raise RecipeError(f"the seed {seed} is that of held-out patterns; choose another one than {sorted(taken)}")
    source = master_pattern or MasterPattern.nickel()
    simulator = Simulator(source, recipe.detector, recipe.disturbances)
    preparation = recipe.preparation.build(recipe.detector)
    settings = recipe.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = build(recipe, preparation, source.symmetry)
    if start_from is not None:
        _take_weights(estimator, start_from)
    validation = held_out(recipe, "validation", source)
    settings_of_run = recipe.model_dump(mode="json", exclude_defaults=True)  # new settings do not end old runs
    start = [] if start_from is None else [_fingerprint(start_from)]
    identity = json.dumps([settings_of_run, seed, source.source, *start], sort_keys=True)
    module = _Trainee(estimator, settings, preparation, OrientationLoss(settings.loss, source.symmetry), identity)
    callbacks: list[Callback] = [History(folder, ("train_loss", "validation_mean", "validation_median"), timed=True)]
    if progress is not None:
        callbacks.append(_Progress(progress, settings.steps))
    estimator.train()
    run_trainer(
        module,
        DataLoader(
            _Batches(simulator, preparation, settings, seed),
            sampler=_Steps(settings.steps, checkpoint_every),
            batch_size=None,
        ),
        DataLoader([(validation.patterns, torch.from_numpy(validation.quaternions))], batch_size=None),  # type: ignore[arg-type]
        max_epochs=math.ceil(settings.steps / checkpoint_every),
        folder=folder,
        gradient_clip=settings.gradient_clip,
        callbacks=callbacks,
    )
    return estimator.eval()


def build(recipe: EbsdRecipe, preparation: Preprocessing, symmetry: str) -> Estimator:
    """Return the untrained network of a recipe.

    Raises:
        RecipeError: if the settings do not suit the network.
    """
    try:
        return recipe.network.build(preparation.output_shape, symmetry)
    except ValueError as error:
        raise RecipeError(f"the recipe {recipe.name!r} has mistakes: network: {error}") from None


def _take_weights(estimator: Estimator, other: Estimator) -> None:
    same = (estimator.output, estimator.symmetry) == (other.output, other.symmetry)
    try:
        if not same:
            raise ValueError(f"{other.output} of {other.symmetry}, not {estimator.output} of {estimator.symmetry}")
        load_network(estimator.network, network_tensors(other.network, "float32"))
    except (RuntimeError, ValueError) as error:
        raise RecipeError(f"the training cannot start from a network of another kind: {error}") from None


def _fingerprint(estimator: Estimator) -> float:
    return float(sum(parameter.detach().double().abs().sum() for parameter in estimator.network.parameters()))


class _Steps(Sampler[int]):
    """Numbers of the steps of an epoch, which is what lies between two checkpoints."""

    def __init__(self, n_steps: int, per_epoch: int) -> None:
        self.n_steps = n_steps
        self.per_epoch = per_epoch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:  # called by Lightning
        self.epoch = epoch

    def __len__(self) -> int:
        return min(self.per_epoch, self.n_steps - self.epoch * self.per_epoch)

    def __iter__(self) -> Iterator[int]:  # a generator: of a resumed run, the epoch is set after the call
        first = self.epoch * self.per_epoch
        yield from range(first, first + len(self))


@dataclass(frozen=True, eq=False)
class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """Prepared patterns of a step and their true orientations; seed and step alone decide them."""

    simulator: Simulator
    preparation: Preprocessing
    settings: TrainingSection
    seed: int

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng([self.seed, step])
        quaternions = convert.random_orientations(self.settings.batch_size, seed=random)
        ramp = self.settings.noise_ramp * self.settings.steps
        scale = min(1.0, step / ramp) if ramp else 1.0
        patterns = self.simulator.patterns(quaternions, seed=random, noise_scale=scale)
        return self.preparation(patterns), torch.from_numpy(quaternions).float()


class _Trainee(pl.LightningModule):
    """Lightning module of an estimator."""

    def __init__(
        self,
        estimator: Estimator,
        settings: TrainingSection,
        preparation: Preprocessing,
        loss_function: OrientationLoss,
        identity: str,
    ) -> None:
        super().__init__()
        self.estimator = estimator
        self.settings = settings
        self.preparation = preparation
        self.loss_function = loss_function
        self.identity = identity

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        prepared, quaternions = batch
        true = to_fundamental_zone(quaternions, self.estimator.operators.float())
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            outputs = self.estimator(prepared)
        outputs, targets = outputs.float(), self.estimator.targets(true)
        losses = []
        for parameters in outputs.unbind(1):
            predicted = self.estimator.predicted(parameters) if "mde" in self.loss_function.terms else true
            losses.append(self.loss_function(parameters, targets, predicted, true))
        loss = torch.stack(losses).mean()
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(prepared))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        patterns, quaternions = batch
        found, _, _ = predict_all([self.estimator], self.preparation, patterns)
        degrees = convert.disorientations(found, quaternions.numpy(), self.estimator.symmetry)
        self.log("validation_mean", float(degrees.mean()), batch_size=1)
        self.log("validation_median", float(np.median(degrees)), batch_size=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.settings
        groups = decayed_groups(self.estimator.parameters(), settings.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["identity"] = self.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get("identity") != self.identity:
            raise RecipeError(
                f"{self.trainer.default_root_dir} holds the run of another recipe or seed, or one with another start; "
                "choose another output folder"
            )


class _Progress(Callback):
    def __init__(self, tell: Callable[[int, int], None], n_steps: int) -> None:
        self.tell = tell
        self.n_steps = n_steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.tell(trainer.global_step, self.n_steps)

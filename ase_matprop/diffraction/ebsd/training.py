"""Training of EBSD networks on patterns that are made as they are needed, no two of them alike."""

from __future__ import annotations

import csv
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.estimator import Estimator, to_fundamental_zone
from ase_matprop.diffraction.ebsd.losses import OrientationLoss
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing
from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe, TrainingSection
from ase_matprop.diffraction.ebsd.simulation import Simulator
from ase_matprop.errors import RecipeError

logger = logging.getLogger(__name__)

CHECKPOINT = "last.pt"
HISTORY = "history.csv"
#: seeds of the patterns that no network is trained on; those of ``test`` are never used for a choice
HELD_OUT_SEEDS = {"validation": 10_001, "test": 20_001}
_COLUMNS = ("step", "seconds", "learning_rate", "train_loss", "validation_mean", "validation_median")


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


@torch.no_grad()
def predict_all(
    members: list[Estimator], preparation: Preprocessing, patterns: Tensor, *, batch_size: int = 256
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return orientations of patterns, the spread of the estimates and their residuals.

    Args:
        members: networks in evaluation mode, of one Laue group.
        preparation: of the patterns.
        patterns: shape (n, rows, columns).
        batch_size: patterns that are evaluated together.

    Returns:
        Quaternions in the fundamental zone, shape (n, 4); mean disorientation of the estimates from these in degrees,
        shape (n,); mean residual, shape (n,).
    """
    quaternions, spreads, residuals = [np.empty((0, 4))], [np.empty(0)], [np.empty(0)]
    for part in patterns.split(batch_size) if len(patterns) else ():
        prepared = preparation(part)
        estimates = [member.estimate(member(prepared)) for member in members]
        found = torch.cat([estimate.quaternions for estimate in estimates], dim=1).numpy()
        mean, spread = convert.mean_orientations(found, members[0].symmetry)
        quaternions.append(mean)
        spreads.append(spread)
        residuals.append(torch.cat([estimate.residuals for estimate in estimates], dim=1).mean(dim=1).numpy())
    return np.concatenate(quaternions), np.concatenate(spreads), np.concatenate(residuals)


def train(
    recipe: EbsdRecipe,
    *,
    seed: int,
    folder: Path,
    master_pattern: MasterPattern | None = None,
    checkpoint_every: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> Estimator:
    """Train one network, and return it in evaluation mode as it is after the last step.

    Seed and step alone decide the patterns of a batch, so that a run that was interrupted goes on from
    ``folder/last.pt`` as if it had not been.

    Args:
        recipe: all settings.
        seed: of the initial weights and of the patterns.
        folder: for checkpoint and history; made if there is none.
        master_pattern: in place of the one that the recipe names.
        checkpoint_every: steps between validations and checkpoints.
        progress: called with the number of steps that are done, and that are to be done.

    Raises:
        RecipeError: if the folder holds the run of another recipe or seed, or the settings do not suit the network.
        MissingDependencyError: if kikuchipy is needed for the master pattern, and not installed.
    """
    source = master_pattern or MasterPattern.nickel()
    simulator = Simulator(source, recipe.detector, recipe.disturbances)
    preparation = recipe.preparation.build(recipe.detector)
    settings = recipe.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        estimator = build(recipe, preparation, source.symmetry)
    loss_function = OrientationLoss(settings.loss, source.symmetry)
    optimizer = torch.optim.AdamW(_groups(estimator, settings.weight_decay), lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.2
    )
    folder.mkdir(parents=True, exist_ok=True)
    identity = json.dumps([recipe.model_dump(mode="json"), seed, source.source], sort_keys=True)
    first, seconds = _resume(folder, identity, {"network": estimator, "optimizer": optimizer, "schedule": schedule})
    validation = held_out(recipe, "validation", source)
    losses: list[float] = []
    started = time.monotonic()
    estimator.train()
    for step in range(first, settings.steps):
        loss = _loss(estimator, loss_function, simulator, preparation, settings, seed, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(estimator.parameters(), settings.gradient_clip)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if progress is not None:
            progress(step + 1, settings.steps)
        if (step + 1) % checkpoint_every == 0 or step + 1 == settings.steps:
            seconds += time.monotonic() - started
            errors = _validate(estimator, preparation, validation)
            row = (step + 1, seconds, schedule.get_last_lr()[0], np.mean(losses), errors.mean(), np.median(errors))
            logger.info("seed %d, step %d: loss %.4f, validation %.2f degrees", seed, step + 1, row[3], row[4])
            _save(folder, identity, step + 1, seconds, estimator, optimizer, schedule, row)
            losses.clear()
            started = time.monotonic()
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


def _loss(
    estimator: Estimator,
    loss_function: OrientationLoss,
    simulator: Simulator,
    preparation: Preprocessing,
    settings: TrainingSection,
    seed: int,
    step: int,
) -> Tensor:
    random = np.random.default_rng([seed, step])
    quaternions = convert.random_orientations(settings.batch_size, seed=random)
    ramp = settings.noise_ramp * settings.steps
    scale = min(1.0, step / ramp) if ramp else 1.0
    prepared = preparation(simulator.patterns(quaternions, seed=random, noise_scale=scale))
    true = to_fundamental_zone(torch.from_numpy(quaternions).float(), estimator.operators.float())
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
        outputs = estimator(prepared)
    outputs, targets = outputs.float(), estimator.targets(true)
    losses = []
    for parameters in outputs.unbind(1):
        predicted = estimator.predicted(parameters) if "mde" in loss_function.terms else true
        losses.append(loss_function(parameters, targets, predicted, true))
    return torch.stack(losses).mean()


def _validate(estimator: Estimator, preparation: Preprocessing, validation: SimulatedSet) -> NDArray[np.float64]:
    estimator.eval()
    found, _, _ = predict_all([estimator], preparation, validation.patterns)
    estimator.train()
    return convert.disorientations(found, validation.quaternions, estimator.symmetry)


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = list(module.parameters())
    return [  # biases and normalisation are not decayed
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _resume(folder: Path, identity: str, parts: dict[str, Any]) -> tuple[int, float]:
    """Load a checkpoint into the parts; return the steps that are done and the seconds that these took."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        raise RecipeError(f"{folder} holds the run of another recipe or seed; choose another output folder")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"]), float(state["seconds"])


def _save(
    folder: Path, identity: str, step: int, seconds: float, network: Any, optimizer: Any, schedule: Any, row: Any
) -> None:
    history = folder / HISTORY
    rows: list[list[str]] = []
    if history.is_file():
        with history.open(newline="") as stream:
            rows = [old for old in list(csv.reader(stream))[1:] if int(old[0]) < step]
    with history.open("w", newline="") as stream:
        csv.writer(stream).writerows([_COLUMNS, *rows, [row[0], *(f"{float(value):.6g}" for value in row[1:])]])
    state = {"identity": identity, "step": step, "seconds": seconds}
    state |= {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    partial = folder / f"{CHECKPOINT}.partial"
    torch.save(state, partial)
    partial.replace(folder / CHECKPOINT)

"""From a recipe to a model folder: one network for each seed, measured on patterns that none of them was trained on."""

from __future__ import annotations

import csv
import datetime
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import ase_matprop
from ase_matprop.diffraction.ebsd import artefact
from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.card import Confidence, EbsdCard, EbsdNetworkSpec, OrientationErrors, PhaseSpec
from ase_matprop.diffraction.ebsd.evaluation import predict_all
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe
from ase_matprop.diffraction.ebsd.training import HELD_OUT_SEEDS, held_out, train
from ase_matprop.models.folder import WeightsSpec, load_network, network_tensors
from ase_matprop.training.trainer import HISTORY

logger = logging.getLogger(__name__)

_WRONG = 5.0  # degrees
_SHARE_WRONG = 0.01
_FEWEST = 20
_SMALLEST_UNIT = 1e-6
_PRECISION = "float16"


def summarize(degrees: NDArray[np.float64]) -> OrientationErrors:
    """Return the statistics of disorientations from the truth, shape (n,)."""
    return OrientationErrors(
        n=len(degrees),
        mean=float(degrees.mean()),
        median=float(np.median(degrees)),
        percentile_90=float(np.percentile(degrees, 90)),
        maximum=float(degrees.max()),
        share_below_2=float((degrees < 2.0).mean()),
    )


def calibrate(degrees: NDArray[np.float64], spread: NDArray[np.float64], residual: NDArray[np.float64]) -> Confidence:
    """Return what spread and residual say, from results whose disorientation from the truth is known, shapes (n,)."""
    right = degrees < _WRONG
    if right.sum() < _FEWEST:
        right[:] = True
    units = [float(np.percentile(values[right], 90)) for values in (spread, residual)]
    units = [unit if unit > _SMALLEST_UNIT else 0.0 for unit in units]
    unlimited = Confidence(spread_unit=units[0], residual_unit=units[1], limit=0.0, share_within_limit=0.0)
    distance = unlimited.distances(spread, residual)
    order = np.argsort(distance)
    count = np.arange(1, len(order) + 1)
    trusted = np.flatnonzero((np.cumsum(degrees[order] >= _WRONG) <= _SHARE_WRONG * count) & (count >= _FEWEST))
    if not len(trusted) or not np.isfinite(distance).all():
        return unlimited
    last = int(trusted[-1])
    update = {"limit": float(distance[order[last]]), "share_within_limit": (last + 1) / len(order)}
    return unlimited.model_copy(update=update)


def run_recipe(
    recipe: EbsdRecipe,
    output: Path,
    *,
    master_pattern: MasterPattern | None = None,
    start_from: artefact.EbsdArtefact | None = None,
    checkpoint_every: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> EbsdCard:
    """Train the networks of a recipe, measure them and write the model folder ``output/<name of the recipe>``.

    Each seed has the folder ``output/seed-<seed>``; what was interrupted goes on when it is run again.

    Args:
        recipe: all settings.
        output: folder; made if there is none.
        master_pattern: in place of the one that the recipe names.
        start_from: a model whose weights the training starts with, its first member for the first seed and so on.
        checkpoint_every: steps between validations and checkpoints.
        progress: called with the steps that are done, of all seeds together, and that are to be done.

    Raises:
        RecipeError: if the folder holds another run, or the settings do not suit the network.
        MissingDependencyError: if kikuchipy is needed for the master pattern, and not installed.
    """
    source = master_pattern or MasterPattern.nickel()
    steps, members, seconds = recipe.training.steps, [], []
    for number, seed in enumerate(recipe.seeds):
        folder = output / f"seed-{seed}"

        def advance(done: int, total: int, before: int = number * steps) -> None:
            if progress is not None:
                progress(before + done, total * len(recipe.seeds))

        members.append(
            train(
                recipe,
                seed=seed,
                folder=folder,
                master_pattern=source,
                start_from=None if start_from is None else start_from.members[number % len(start_from.members)],
                checkpoint_every=checkpoint_every,
                progress=advance,
            )
        )
        with (folder / HISTORY).open(newline="") as stream:
            seconds.append(round(float(list(csv.DictReader(stream))[-1]["seconds"]), 1))
    for member in members:  # what is measured is what is stored
        load_network(member.network, network_tensors(member.network, _PRECISION))
    preparation = recipe.preparation.build(recipe.detector)
    validation = held_out(recipe, "validation", source)
    found, spread, residual = predict_all(members, preparation, validation.patterns)
    degrees = convert.disorientations(found, validation.quaternions, source.symmetry)
    errors = {"validation": summarize(degrees)}
    card = EbsdCard(
        name=recipe.name,
        description=recipe.description,
        network=EbsdNetworkSpec(
            name=recipe.network.name,
            output=recipe.network.output,
            settings=recipe.network.resolved(source.symmetry),
            n_members=len(members),
            n_parameters=sum(parameter.numel() for parameter in members[0].parameters()),
        ),
        phase=PhaseSpec(
            name=source.phase, symmetry=source.symmetry, space_group=source.space_group, lattice=source.lattice
        ),
        detector=recipe.detector,
        preparation=recipe.preparation,
        source=f"simulated from the master pattern of {source.source}; held-out seeds {HELD_OUT_SEEDS}",
        errors=errors,
        confidence=calibrate(degrees, spread, residual),
        training_patterns=steps * recipe.training.batch_size,
        training_seconds=seconds,
        notes=recipe.notes if start_from is None else [*recipe.notes, f"Training began with {start_from.card.name}."],
        citation=recipe.citation,
        recipe=recipe.model_dump(mode="json"),
        code_version=ase_matprop.__version__,
        created=datetime.date.today().isoformat(),
        weights=WeightsSpec(sha256="", dtype=_PRECISION),
    )
    folder = output / recipe.name
    artefact.save(folder, card, members)
    loaded = artefact.load(folder)
    test = held_out(recipe, "test", source)
    found, _, _ = predict_all(loaded.members, preparation, test.patterns)
    errors["test"] = summarize(convert.disorientations(found, test.quaternions, source.symmetry))
    alone = {}
    for seed, member in zip(recipe.seeds, loaded.members, strict=True):
        found, _, _ = predict_all([member], preparation, test.patterns)
        alone[str(seed)] = summarize(convert.disorientations(found, test.quaternions, source.symmetry))
    card = loaded.card.model_copy(update={"errors": errors, "errors_by_seed": alone})
    card.write(folder)
    return card

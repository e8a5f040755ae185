"""One training run, from a recipe to a model folder."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

import ase_matprop
from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.models import artefact
from ase_matprop.models.artefact import Artefact, Scaler, TargetTransform
from ase_matprop.models.card import (
    ModelCard,
    NetworkSpec,
    TrainingSet,
    WeightsSpec,
)
from ase_matprop.models.loading import load_model
from ase_matprop.networks import build_network, resolve_settings
from ase_matprop.networks.ensemble import Ensemble, Network
from ase_matprop.properties import get_property
from ase_matprop.training import figures
from ase_matprop.training.datasets import FeatureTable, load_feature_table
from ase_matprop.training.element_offsets import fit_element_offsets
from ase_matprop.training.loop import HISTORY, Rows, fit
from ase_matprop.training.preparation import (
    PROVENANCE_FILE,
    RECIPE_FILE,
    SPLIT_FILE,
    check_network,
    check_output,
    check_targets,
    initial_model,
    n_inputs,
    split_table,
    store_provenance,
    store_split,
)
from ase_matprop.training.reach import add_reach
from ase_matprop.training.recipe import Recipe
from ase_matprop.training.report import (
    describe_descriptor,
    describe_split,
    error_unit,
    first_rows,
    measure,
    notes_on_initial_model,
)
from ase_matprop.training.splits import Split

_LISTED_ROWS = 20  # of those without features, in the card


@dataclass(frozen=True)
class TrainingResult:
    """What a run leaves behind: the model folder and the card that lies in it."""

    model_folder: Path
    card: ModelCard


def train(
    recipe_path: Path,
    *,
    data_dir: Path,
    output: Path,
    cache_dir: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    progress_bar: bool = True,
    feature_progress: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Run a recipe and write a model folder, the split, the history and figures.

    ``output`` gets ``recipe.toml``, ``split.json`` (identifiers of the rows of each set), ``member_<k>/`` with
    checkpoints and ``history.csv``, ``learning_curve.png``, ``parity_test.png`` and ``<recipe name>/``, the model
    folder.

    Args:
        recipe_path: the recipe.
        data_dir: folder to which the recipe's data file is relative.
        output: folder of the run.
        cache_dir: folder of cached features; ``cache`` beside ``output`` by default.
        resume: go on with a run that was interrupted.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        progress_bar: whether to draw progress bars.
        feature_progress: called with the number of finished and of all structures while features are computed.

    Raises:
        RecipeError: if the recipe or its data cannot be used, or ``output`` holds another run.
    """
    recipe = Recipe.read(recipe_path)
    check_network(recipe, device)
    check_output(recipe, recipe_path, output, resume)
    initial = initial_model(recipe)
    table = load_feature_table(
        data_dir,
        recipe.data,
        recipe.descriptor.name,
        cache_dir=cache_dir or output.parent / "cache",
        cutoff=recipe.cutoff,
        progress=feature_progress,
    )
    output.mkdir(parents=True, exist_ok=True)
    if not (output / RECIPE_FILE).is_file():
        shutil.copyfile(recipe_path, output / RECIPE_FILE)
    split = split_table(recipe, table, data_dir)
    check_targets(recipe, table, split)
    store_split(split, table.ids, output / SPLIT_FILE)
    store_provenance(table, recipe, initial, output / PROVENANCE_FILE)

    if initial is None:
        scaler, target = _fit_transforms(recipe, table, split.train)
    else:
        scaler, target = initial.scaler, initial.target
    train_set, validation_set = (_rows(recipe, table, rows, scaler, target) for rows in (split.train, split.validation))
    members: list[Network] = []
    for member in range(recipe.network.members):
        folder = output / f"member_{member}"
        seed = recipe.training.seed + member
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_network(
                recipe.network.name, n_inputs(recipe), recipe.data.n_outputs, recipe.network.settings
            )
            if initial is not None:
                source = initial.network.members[member % len(initial.network.members)]
                network.load_state_dict(source.state_dict())
            finished = folder / "finished.safetensors"
            if finished.is_file():
                state = load_file(finished)
            else:
                state = fit(
                    network,
                    train_set,
                    validation_set,
                    recipe.training,
                    seed=seed,
                    folder=folder,
                    target_scale=float(target.scale[0]) if len(recipe.data.properties) == 1 else 1.0,
                    progress_bar=progress_bar,
                    device=device,
                )
                partial = finished.with_suffix(".partial")
                save_file(state, partial)
                partial.replace(finished)  # complete, or not there
            network.load_state_dict(state)
        members.append(network)
    histories = [pd.read_csv(output / f"member_{member}" / HISTORY) for member in range(len(members))]
    figures.training_history(histories, recipe.name, error_unit(recipe), output / "learning_curve.png")
    return _finish(recipe, table, split, Ensemble(members), scaler, target, initial, output)


def _fit_transforms(recipe: Recipe, table: FeatureTable, rows: np.ndarray) -> tuple[Scaler | None, TargetTransform]:
    """Fit what prepares features and targets on the training rows; graphs need no scaler, and have element offsets."""
    targets = table.targets[rows]
    if recipe.data.classes:
        target = TargetTransform(np.zeros(1), np.ones(1))
    elif isinstance(table.features, Graphs):
        target = fit_element_offsets(table.element_fractions(rows), targets)
    else:
        target = _standardized(targets)
    if isinstance(table.features, Graphs):
        return None, target
    return Scaler.fit(table.features[rows], recipe.descriptor.clip, scaling=recipe.descriptor.scaling), target


def _standardized(targets: np.ndarray) -> TargetTransform:
    """Return what makes training targets, shape (n, n_properties), zero on average and one wide."""
    scale = np.nanstd(targets, axis=0)
    return TargetTransform(np.nanmean(targets, axis=0), np.where(scale > 0.0, scale, 1.0))


def _rows(
    recipe: Recipe, table: FeatureTable, rows: np.ndarray, scaler: Scaler | None, target: TargetTransform
) -> Rows:
    """Return what the network gets of some rows."""
    if not isinstance(table.features, Graphs):
        assert scaler is not None
        targets = (table.targets[rows] - target.offset) / target.scale
        return Rows(scaler.transform(table.features[rows]), targets.astype(np.float32))
    targets = target.remaining(table.targets[rows], table.element_fractions(rows))
    vectors = recipe.network.name != "schnet"
    return Rows(table.features[rows], targets.astype(np.float32), vectors)


def _finish(
    recipe: Recipe,
    table: FeatureTable,
    split: Split,
    network: Ensemble,
    scaler: Scaler | None,
    target: TargetTransform,
    initial: Artefact | None,
    output: Path,
) -> TrainingResult:
    """Write the model, measure it as it will be loaded, and complete its card with the errors."""
    entry = get_property(recipe.data.property)
    card = ModelCard(
        name=recipe.name,
        description=recipe.output.description,
        property=entry.name,
        further_properties=recipe.data.further_properties,
        unit=entry.unit,
        per_atom=entry.per_atom,
        network=NetworkSpec(
            name=recipe.network.name,
            settings=resolve_settings(recipe.network.name, recipe.network.settings),
            n_inputs=n_inputs(recipe),
            n_outputs=recipe.data.n_outputs,
            n_members=recipe.network.members,
            n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        ),
        descriptor=describe_descriptor(recipe),
        elements=table.elements(split.train),
        training_set=TrainingSet(
            name=recipe.data.name,
            licence=recipe.data.licence,
            citation=recipe.data.citation,
            source=" and ".join(filter(None, (recipe.data.file, recipe.data.held_out_file))),
            source_sha256=table.source_sha256,
            rows={name: len(getattr(split, name)) for name in ("train", "validation", "test")},
            split=describe_split(recipe),
            outliers_removed=len(split.outliers),
            rows_removed=table.removed,
            rows_without_features=first_rows(table.skipped, _LISTED_ROWS),
        ),
        errors={},
        notes=[*recipe.output.notes, *notes_on_initial_model(initial)],
        citation=recipe.output.citation,
        recipe=recipe.model_dump(mode="json"),
        code_version=ase_matprop.__version__,
        created=datetime.date.today().isoformat(),
        weights=WeightsSpec(sha256="", dtype=recipe.output.precision),
    )
    folder = output / recipe.name
    artefact.save(folder, card, network, scaler, target)
    card = add_reach(folder, load_model(folder), table, split, None if initial is None else initial.reach)
    card = card.model_copy(update=measure(load_model(folder), table, split, output))
    card.write(folder)
    return TrainingResult(folder, card)

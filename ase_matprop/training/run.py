"""One training run, from a recipe to a model folder."""

from __future__ import annotations

import datetime
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

import ase_matprop
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import RecipeError
from ase_matprop.models import artefact
from ase_matprop.models.artefact import Artefact, Scaler, TargetTransform
from ase_matprop.models.card import (
    DescriptorSpec,
    ErrorSummary,
    ModelCard,
    NetworkSpec,
    TrainingSet,
    WeightsSpec,
)
from ase_matprop.models.predictor import Predictor, load_model
from ase_matprop.models.registry import find_model
from ase_matprop.networks import build_network, resolve_settings
from ase_matprop.networks.ensemble import Ensemble
from ase_matprop.networks.vector import VectorNetwork
from ase_matprop.properties import get_property
from ase_matprop.training import figures
from ase_matprop.training.datasets import FeatureTable, load_feature_table
from ase_matprop.training.hull import remove_far_above_hull
from ase_matprop.training.loop import HISTORY, Batches, fit
from ase_matprop.training.metrics import summarize, summarize_classes, summarize_groups
from ase_matprop.training.recipe import DataRecipe, Recipe
from ase_matprop.training.splits import Split, make_split, remove_outliers, split_held_out, thin_out

logger = logging.getLogger(__name__)

RECIPE_FILE = "recipe.toml"
SPLIT_FILE = "split.json"
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
    _check_network(recipe, device)
    check_output(recipe, recipe_path, output, resume)
    initial = _initial_model(recipe)
    table = load_feature_table(
        data_dir,
        recipe.data,
        recipe.descriptor.name,
        cache_dir=cache_dir or output.parent / "cache",
        progress=feature_progress,
    )
    output.mkdir(parents=True, exist_ok=True)
    if not (output / RECIPE_FILE).is_file():
        shutil.copyfile(recipe_path, output / RECIPE_FILE)
    split = split_table(recipe, table)
    store_split(split, table.ids, output / SPLIT_FILE)

    if initial is None:
        scaling = recipe.descriptor.scaling
        scaler = Scaler.fit(table.features[split.train], recipe.descriptor.clip, scaling=scaling)
        target = _target_transform(recipe, table.targets[split.train])
    else:
        scaler, target = initial.scaler, initial.target
    train_set, validation_set = (
        Batches(
            scaler.transform(table.features[rows]),
            ((table.targets[rows] - target.offset) / target.scale).astype(np.float32),
        )
        for rows in (split.train, split.validation)
    )
    members: list[VectorNetwork] = []
    for member in range(recipe.network.members):
        folder = output / f"member_{member}"
        seed = recipe.training.seed + member
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_network(
                recipe.network.name, table.features.shape[1], recipe.data.n_outputs, recipe.network.settings
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
    figures.learning_curve(histories, recipe.name, _error_unit(recipe), output / "learning_curve.png")
    return _finish(recipe, table, split, Ensemble(members), scaler, target, output)


def split_table(recipe: DataRecipe, table: FeatureTable) -> Split:
    """Split the rows as the recipe says, and take out of training what it excludes."""
    options = recipe.split
    shares: dict[str, Any] = {"test": options.test, "validation": options.validation, "seed": options.seed}
    if recipe.data.held_out_file is not None:
        split = split_held_out(table.held_out, **shares)
    else:
        groups = table.reduced_formulas() if options.grouped else None
        split = make_split(len(table), groups=groups, **shares)
    if recipe.training.outlier_sigma is not None and not recipe.data.classes:
        split = remove_outliers(split, table.targets, recipe.training.outlier_sigma)
    if recipe.training.hull_cutoff is not None:
        split = remove_far_above_hull(split, table, recipe.training.hull_cutoff)
    return split if options.train_rows is None else thin_out(split, options.train_rows, options.seed)


def _target_transform(recipe: Recipe, targets: np.ndarray) -> TargetTransform:
    """Return what makes training targets, shape (n, n_properties), zero on average and one wide; classes stay."""
    if recipe.data.classes:
        return TargetTransform(np.zeros(1), np.ones(1))
    scale = np.nanstd(targets, axis=0)
    return TargetTransform(np.nanmean(targets, axis=0), np.where(scale > 0.0, scale, 1.0))


def _error_unit(recipe: Recipe) -> str:
    if recipe.data.classes:
        return "nats"
    return get_property(recipe.data.property).unit if len(recipe.data.properties) == 1 else "standard deviations"


def _initial_model(recipe: Recipe) -> Artefact | None:
    """Load the model from which the recipe starts, and check that its weights can be used."""
    name = recipe.network.initial_model
    if name is None:
        return None
    initial = artefact.load(find_model(name))
    card = initial.card
    wanted = resolve_settings(recipe.network.name, recipe.network.settings)
    found = (card.network.name, card.network.settings, card.descriptor.name, card.properties)
    expected = (recipe.network.name, wanted, get_descriptor(recipe.descriptor.name).name, recipe.data.properties)
    for what, one, other in zip(("network", "settings", "descriptor", "properties"), found, expected, strict=True):
        if json.dumps(one) != json.dumps(other):
            raise RecipeError(f"the initial model {name} has the {what} {one}, the recipe {recipe.name} has {other}")
    return initial


def _check_network(recipe: Recipe, device: str) -> None:
    """Find wrong settings before anything is computed or written."""
    if device not in ("cpu", "cuda", "auto"):
        raise RecipeError(f"the device must be cpu, cuda or auto. Got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("the device cuda is not there; train with --device cpu")
    try:
        with torch.device("meta"):  # shapes only
            n_inputs = len(get_descriptor(recipe.descriptor.name).labels)
            build_network(recipe.network.name, n_inputs, recipe.data.n_outputs, recipe.network.settings)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"the network of the recipe {recipe.name} cannot be built: {error}") from None


def store_split(split: Split, ids: list[str], path: Path) -> None:
    """Write the split, or check that a resumed run has the one it began with: no test row was ever trained on."""
    text = split.to_json(ids)
    if not path.is_file():
        path.write_text(text)
    elif path.read_text() != text:
        raise RecipeError(
            f"the data or the descriptor changed since the run in {path.parent} began; start again in another folder"
        )


def check_output(recipe: DataRecipe, recipe_path: Path, output: Path, resume: bool) -> None:
    """Refuse a folder with something else in it."""
    stored = output / RECIPE_FILE
    if not resume and output.exists() and any(output.iterdir()):
        raise RecipeError(
            f"the output folder {output} is not empty; choose another one, or go on with its run with --resume"
        )
    if resume and stored.is_file() and not _is_recipe(stored, recipe):
        raise RecipeError(f"{output} holds a run of another recipe than {recipe_path}; choose another output folder")


def _is_recipe(path: Path, recipe: DataRecipe) -> bool:
    try:
        return type(recipe).read(path) == recipe
    except RecipeError:  # a recipe of another kind
        return False


def _finish(
    recipe: Recipe,
    table: FeatureTable,
    split: Split,
    network: Ensemble,
    scaler: Scaler,
    target: TargetTransform,
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
            n_inputs=table.features.shape[1],
            n_outputs=recipe.data.n_outputs,
            n_members=recipe.network.members,
            n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        ),
        descriptor=_descriptor_spec(recipe),
        elements=table.elements(split.train),
        training_set=TrainingSet(
            name=recipe.data.name,
            licence=recipe.data.licence,
            citation=recipe.data.citation,
            source=" and ".join(filter(None, (recipe.data.file, recipe.data.held_out_file))),
            source_sha256=table.source_sha256,
            rows={name: len(getattr(split, name)) for name in ("train", "validation", "test")},
            split=_describe_split(recipe),
            outliers_removed=len(split.outliers),
            rows_removed=table.removed,
            rows_without_features=_first(table.skipped, _LISTED_ROWS),
        ),
        errors={},
        notes=recipe.output.notes,
        citation=recipe.output.citation,
        recipe=recipe.model_dump(mode="json"),
        code_version=ase_matprop.__version__,
        created=datetime.date.today().isoformat(),
        weights=WeightsSpec(sha256="", dtype=recipe.output.precision),
    )
    folder = output / recipe.name
    card = artefact.save(folder, card, network, scaler, target)
    card = card.model_copy(update=_measure(load_model(folder), table, split, output))
    card.write(folder)
    return TrainingResult(folder, card)


def _measure(predictor: Predictor, table: FeatureTable, split: Split, output: Path) -> dict[str, Any]:
    """Return the card's fields of measured errors, and draw them."""
    card = predictor.card
    predicted = _predict_rows(predictor, table)
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    title = f"{card.name}\n{len(split.test)} test rows, "
    if card.material_property.classes:
        reference = table.targets[:, 0].astype(np.int64)
        quality = {name: summarize_classes(predicted[rows], reference[rows]) for name, rows in sets.items()}
        title += f"accuracy {quality['test'].accuracy:.4f}"
        figures.confusion(
            quality["test"].confusion, card.material_property.classes, title, output / "confusion_test.png"
        )
        return {"classification": quality}
    errors: dict[str, dict[str, ErrorSummary]] = {}
    for column, name in enumerate(card.properties):
        known = {part: rows[np.isfinite(table.targets[rows, column])] for part, rows in sets.items()}
        errors[name] = {
            part: summarize(predicted[rows, column], table.targets[rows, column])
            for part, rows in known.items()
            if len(rows)
        }
        entry = get_property(name)
        label = f"{entry.long_name} ({entry.unit})"
        test = known["test"]
        if not len(test):
            continue
        figures.parity(
            table.targets[test, column],
            predicted[test, column],
            f"{title}mean absolute error {errors[name]['test'].mae:.4f} {entry.unit}",
            label,
            output / ("parity_test.png" if column == 0 else f"parity_test_{name}.png"),
        )
    test = split.test[np.isfinite(table.targets[split.test, 0])]
    formulas = table.reduced_formulas()
    new_formula = ~np.isin(formulas[test], formulas[split.train])
    by_group = summarize_groups(predicted[test, 0], table.targets[test, 0], table.numbers[test], new_formula)
    first, *further = card.properties
    return {
        "errors": errors[first],
        "test_errors_by_group": by_group,
        "further_errors": {name: errors[name] for name in further},
    }


def _describe_split(recipe: Recipe) -> dict[str, Any]:
    if recipe.data.held_out_file is not None:
        method = f"training rows as published, {recipe.data.held_out_file} divided at random"
    else:
        method = "random by reduced formula" if recipe.split.grouped else "random by row"
    return {
        "method": method,
        "seed": recipe.split.seed,
        "test": recipe.split.test,
        "validation": recipe.split.validation,
    }


def _first(rows: dict[str, str], n_listed: int) -> dict[str, str]:
    """Return the first rows, and how many more there are."""
    listed = dict(islice(rows.items(), n_listed))
    return listed if len(rows) <= n_listed else listed | {"further rows": str(len(rows) - n_listed)}


def _descriptor_spec(recipe: Recipe) -> DescriptorSpec:
    descriptor = get_descriptor(recipe.descriptor.name)
    return DescriptorSpec(
        name=descriptor.name,
        version=descriptor.version,
        labels=list(descriptor.labels),
        clip=recipe.descriptor.clip,
    )


def _predict_rows(predictor: Predictor, table: FeatureTable) -> np.ndarray:
    blocks = [
        predictor.predict_features(table.features[start : start + 4096]).mean(axis=0)
        for start in range(0, len(table), 4096)
    ]
    return np.concatenate(blocks)

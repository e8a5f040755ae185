"""What a training run checks and fixes before it begins: output folder, data, split, initial weights."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import RecipeError
from ase_matprop.models import artefact
from ase_matprop.models.artefact import Artefact
from ase_matprop.models.predictor import descriptor_of
from ase_matprop.models.registry import find_model
from ase_matprop.networks import build_network, resolve_settings
from ase_matprop.networks.schnetpack_adapter import MAX_Z
from ase_matprop.training.datasets import FeatureTable
from ase_matprop.training.hull import remove_far_above_hull
from ase_matprop.training.recipe import DataRecipe, Recipe
from ase_matprop.training.splits import Split, make_split, remove_outliers, split_held_out, thin_out

RECIPE_FILE = "recipe.toml"
SPLIT_FILE = "split.json"
PROVENANCE_FILE = "provenance.json"


def split_table(recipe: DataRecipe, table: FeatureTable, data_dir: Path) -> Split:
    """Split the rows as the recipe says, and take out of training what it excludes.

    Raises:
        RecipeError: if a set would be empty, or the file of excluded formulas cannot be used.
    """
    options = recipe.split
    shares: dict[str, Any] = {"test": options.test, "validation": options.validation, "seed": options.seed}
    if recipe.data.held_out_file is not None:
        split = split_held_out(table.held_out, **shares)
    else:
        groups = table.reduced_formulas() if options.grouped else None
        split = make_split(len(table), groups=groups, **shares)
    if recipe.training.exclude_formulas_of is not None:
        split = _without_formulas(split, table, data_dir / recipe.training.exclude_formulas_of, recipe.data.id_key)
    if recipe.training.outlier_sigma is not None:
        split = remove_outliers(split, table.targets, recipe.training.outlier_sigma)
    if recipe.training.hull_cutoff is not None:
        split = remove_far_above_hull(split, table, recipe.training.hull_cutoff)
    return split if options.train_rows is None else thin_out(split, options.train_rows, options.seed)


def _without_formulas(split: Split, table: FeatureTable, path: Path, id_key: str) -> Split:
    """Take the rows out of training and validation whose reduced formula is that of a row listed in a file."""
    try:
        listed = pd.read_csv(path, dtype={id_key: str})[id_key].dropna()
    except (OSError, ValueError, KeyError) as error:
        raise RecipeError(f"{path} is no CSV file with a column {id_key!r}: {error}") from None
    formulas = table.reduced_formulas()
    excluded = np.isin(formulas, formulas[np.isin(table.ids, listed)])
    if not excluded.any():
        raise RecipeError(f"none of the identifiers in {path} is one of the data")
    train, validation = (rows[~excluded[rows]] for rows in (split.train, split.validation))
    for part, rows in (("training", train), ("validation", validation)):
        if not len(rows):
            raise RecipeError(f"exclude_formulas_of = {path.name!r} leaves no {part} rows; list fewer formulas")
    return replace(split, train=train, validation=validation)


def check_network(recipe: Recipe, device: str) -> None:
    """Find wrong settings before anything is computed or written."""
    if device not in ("cpu", "cuda", "auto"):
        raise RecipeError(f"the device must be cpu, cuda or auto. Got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("the device cuda is not there; train with --device cpu")
    try:
        # shapes only, where that is possible
        where = nullcontext() if recipe.cutoff is not None else torch.device("meta")
        with torch.random.fork_rng(devices=[]), where:
            build_network(recipe.network.name, n_inputs(recipe), recipe.data.n_outputs, recipe.network.settings)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"the network of the recipe {recipe.name} cannot be built: {error}") from None


def n_inputs(recipe: Recipe) -> int:
    """Number of inputs of the network: of features, or of atomic numbers that have an embedding."""
    return MAX_Z if recipe.cutoff is not None else len(get_descriptor(recipe.descriptor.name).labels)


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
    """Whether the recipe at ``path`` does the same as ``recipe``; what is only said may differ."""
    try:
        stored = type(recipe).read(path)
    except RecipeError:  # a recipe of another kind
        return False
    said: dict[str, Any] = {"output": True, "data": {"name", "licence", "citation"}}
    return stored.model_dump(exclude=said) == recipe.model_dump(exclude=said)


def initial_model(recipe: Recipe) -> Artefact | None:
    """Load the model from which the recipe starts, and check that its weights can be used."""
    name = recipe.network.initial_model
    if name is None:
        return None
    initial = artefact.load(find_model(name))
    card = initial.card
    wanted = resolve_settings(recipe.network.name, recipe.network.settings)
    descriptor = descriptor_of(card)  # of the version of the initial model
    scaling = card.recipe.get("descriptor", {}).get("scaling", recipe.descriptor.scaling)
    pairs = {
        "network": (card.network.name, recipe.network.name),
        "settings": (card.network.settings, wanted),
        "descriptor": (descriptor.name, get_descriptor(recipe.descriptor.name).name),
        "scaling": (scaling, recipe.descriptor.scaling),
        "clip": (card.descriptor.clip, recipe.descriptor.clip),
        "properties": (card.properties, recipe.data.properties),
    }
    for what, (one, other) in pairs.items():
        if json.loads(json.dumps(one)) != json.loads(json.dumps(other)):  # tuples and lists are the same here
            raise RecipeError(f"the initial model {name} has the {what} {one}, the recipe {recipe.name} has {other}")
    return initial


def check_targets(recipe: Recipe, table: FeatureTable, split: Split) -> None:
    """Find targets that teach nothing before anything is computed."""
    for column, name in enumerate(recipe.data.properties):
        for part, rows in (("training", split.train), ("validation", split.validation)):
            if not np.isfinite(table.targets[rows, column]).any():
                raise RecipeError(
                    f"none of the {part} rows has the property {name!r} "
                    f"({recipe.data.target_columns[name]!r} in {recipe.data.file}); check the name and the data"
                )
    if recipe.data.classes and len(np.unique(table.targets[split.train, 0])) < 2:
        raise RecipeError(
            f"all training rows are of one class of {recipe.data.property}; check the column and the class_edges"
        )


def store_split(split: Split, ids: list[str], path: Path) -> None:
    """Write the split, or check that a resumed run has the one it began with: no test row was ever trained on."""
    _write_or_compare(path, split.to_json(ids), "the data or the descriptor")


def store_provenance(table: FeatureTable, recipe: Recipe, initial: Artefact | None, path: Path) -> None:
    """Write what the run was made of, or check that a resumed run has the same."""
    descriptor = get_descriptor(recipe.descriptor.name)
    content = {
        "data_sha256": table.source_sha256,
        "descriptor": f"{descriptor.name} {descriptor.version}",
        "initial_weights_sha256": "" if initial is None else initial.card.weights.sha256,
    }
    _write_or_compare(path, json.dumps(content, indent=2) + "\n", "the data, the descriptor or the initial model")


def _write_or_compare(path: Path, text: str, what: str) -> None:
    """Write what a run began with, or refuse to go on where it is another than before."""
    if not path.is_file():
        path.write_text(text)
    elif path.read_text() != text:
        raise RecipeError(f"{what} changed since the run in {path.parent} began; start again in another folder")

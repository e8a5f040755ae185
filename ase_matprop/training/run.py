"""One training run, from a recipe to a model folder."""

from __future__ import annotations

import datetime
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import ase_matprop
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import RecipeError
from ase_matprop.models import artefact
from ase_matprop.models.artefact import Scaler, TargetTransform
from ase_matprop.models.card import (
    DescriptorSpec,
    ErrorSummary,
    ModelCard,
    NetworkSpec,
    TrainingSet,
    WeightsSpec,
)
from ase_matprop.models.predictor import Predictor, load_model
from ase_matprop.networks import build_network, resolve_settings
from ase_matprop.networks.ensemble import Ensemble
from ase_matprop.properties import get_property
from ase_matprop.training import figures
from ase_matprop.training.datasets import FeatureTable, load_feature_table
from ase_matprop.training.loop import HISTORY, Batches, fit
from ase_matprop.training.metrics import summarize, summarize_groups
from ase_matprop.training.recipe import Recipe
from ase_matprop.training.splits import Split, make_split, remove_outliers

logger = logging.getLogger(__name__)

RECIPE_FILE = "recipe.toml"
SPLIT_FILE = "split.json"


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
    _check_output(recipe, recipe_path, output, resume)
    table = load_feature_table(
        data_dir / recipe.data.file,
        recipe.data.property,
        recipe.descriptor.name,
        cache_dir=cache_dir or output.parent / "cache",
        id_key=recipe.data.id_key,
        progress=feature_progress,
    )
    output.mkdir(parents=True, exist_ok=True)
    if not (output / RECIPE_FILE).is_file():
        shutil.copyfile(recipe_path, output / RECIPE_FILE)
    split = make_split(
        len(table),
        test=recipe.split.test,
        validation=recipe.split.validation,
        seed=recipe.split.seed,
        groups=table.reduced_formulas() if recipe.split.grouped else None,
    )
    if recipe.training.outlier_sigma is not None:
        split = remove_outliers(split, table.targets, recipe.training.outlier_sigma)
    _store_split(split, table.ids, output / SPLIT_FILE)

    scaler = Scaler.fit(table.features[split.train], recipe.descriptor.clip)
    train_targets = table.targets[split.train]
    target = TargetTransform(np.array([train_targets.mean()]), np.array([train_targets.std() or 1.0]))
    train_set, validation_set = (
        Batches(
            scaler.transform(table.features[rows]),
            ((table.targets[rows] - target.offset) / target.scale).astype(np.float32)[:, None],
        )
        for rows in (split.train, split.validation)
    )
    members: list[nn.Module] = []
    for member in range(recipe.network.members):
        folder = output / f"member_{member}"
        seed = recipe.training.seed + member
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build_network(recipe.network.name, table.features.shape[1], 1, recipe.network.settings)
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
                    target_scale=float(target.scale[0]),
                    progress_bar=progress_bar,
                    device=device,
                )
                partial = finished.with_suffix(".partial")
                save_file(state, partial)
                partial.replace(finished)  # complete, or not there
            network.load_state_dict(state)
        members.append(network)
    histories = [pd.read_csv(output / f"member_{member}" / HISTORY) for member in range(len(members))]
    unit = get_property(recipe.data.property).unit
    figures.learning_curve(histories, recipe.name, unit, output / "learning_curve.png")
    return _finish(recipe, table, split, Ensemble(members), scaler, target, output)


def _check_network(recipe: Recipe, device: str) -> None:
    """Find wrong settings before anything is computed or written."""
    if device not in ("cpu", "cuda", "auto"):
        raise RecipeError(f"the device must be cpu, cuda or auto. Got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("the device cuda is not there; train with --device cpu")
    try:
        with torch.device("meta"):  # shapes only
            build_network(recipe.network.name, len(_descriptor_spec(recipe).labels), 1, recipe.network.settings)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"the network of the recipe {recipe.name} cannot be built: {error}") from None


def _store_split(split: Split, ids: list[str], path: Path) -> None:
    """Write the split, or check that a resumed run has the one it began with: no test row was ever trained on."""
    text = split.to_json(ids)
    if not path.is_file():
        path.write_text(text)
    elif path.read_text() != text:
        raise RecipeError(
            f"the data or the descriptor changed since the run in {path.parent} began; start again in another folder"
        )


def _check_output(recipe: Recipe, recipe_path: Path, output: Path, resume: bool) -> None:
    """Refuse a folder with something else in it."""
    stored = output / RECIPE_FILE
    if not resume and output.exists() and any(output.iterdir()):
        raise RecipeError(
            f"the output folder {output} is not empty; choose another one, or go on with its run with --resume"
        )
    if resume and stored.is_file() and Recipe.read(stored) != recipe:
        raise RecipeError(f"{output} holds a run of another recipe than {recipe_path}; choose another output folder")


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
        unit=entry.unit,
        per_atom=entry.per_atom,
        network=NetworkSpec(
            name=recipe.network.name,
            settings=resolve_settings(recipe.network.name, recipe.network.settings),
            n_inputs=table.features.shape[1],
            n_members=recipe.network.members,
            n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        ),
        descriptor=_descriptor_spec(recipe),
        elements=table.elements(split.train),
        training_set=TrainingSet(
            name=recipe.data.name,
            licence=recipe.data.licence,
            citation=recipe.data.citation,
            source=recipe.data.file,
            source_sha256=table.source_sha256,
            rows={name: len(getattr(split, name)) for name in ("train", "validation", "test")},
            split={
                "method": "random by reduced formula" if recipe.split.grouped else "random by row",
                "seed": recipe.split.seed,
                "test": recipe.split.test,
                "validation": recipe.split.validation,
            },
            outliers_removed=len(split.outliers),
            rows_without_features=table.skipped,
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
    predictor = load_model(folder)
    predicted = _predict_rows(predictor, table)
    errors: dict[str, ErrorSummary] = {
        name: summarize(predicted[rows], table.targets[rows])
        for name, rows in (("train", split.train), ("validation", split.validation), ("test", split.test))
    }
    test = split.test
    formulas = table.reduced_formulas()
    new_formula = ~np.isin(formulas[test], formulas[split.train])
    by_group = summarize_groups(predicted[test], table.targets[test], table.amounts[test], new_formula)
    card = card.model_copy(update={"errors": errors, "test_errors_by_group": by_group})
    card.write(folder)
    title = f"{recipe.name}\n{len(test)} test rows, mean absolute error {errors['test'].mae:.4f} {entry.unit}"
    label = f"{entry.long_name} ({entry.unit})"
    figures.parity(table.targets[test], predicted[test], title, label, output / "parity_test.png")
    return TrainingResult(folder, card)


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

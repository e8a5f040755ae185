"""The model folder of a fitted regressor, so that calculators, featurizers and the command line can use it."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ase_matprop
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import RecipeError
from ase_matprop.models import artefact
from ase_matprop.models.card import DescriptorSpec, ErrorSummary, ModelCard, NetworkSpec, TrainingSet
from ase_matprop.models.folder import WeightsSpec
from ase_matprop.networks import resolve_settings
from ase_matprop.networks.schnetpack_adapter import MAX_Z
from ase_matprop.properties import get_property
from ase_matprop.training.metrics import summarize

if TYPE_CHECKING:
    from ase_matprop.training.regressor import NetworkRegressor


def save_model(
    regressor: NetworkRegressor,
    folder: str | os.PathLike[str],
    properties: Sequence[str],
    *,
    description: str,
    training_set: str,
    citation: Sequence[str],
) -> ModelCard:
    """Write what :meth:`ase_matprop.training.NetworkRegressor.save` says.

    Raises:
        RecipeError: if the regressor was fitted to a table of numbers, the folder is not empty or cannot be written, or
            the properties are not those of a regression with as many outputs.
        UnknownNameError: if there is no such property.
    """
    folder = Path(folder)
    entries = [get_property(name) for name in properties]
    classes = [entry.name for entry in entries if entry.classes]
    n_outputs = len(regressor.target_.offset)
    if not hasattr(regressor, "elements_"):
        raise RecipeError(
            "a network that was fitted to a table of numbers is no model of structures; fit NetworkRegressor to the "
            "structures or compositions themselves, or keep it with joblib.dump"
        )
    if classes or len(entries) != n_outputs:
        raise RecipeError(f"the network gives {n_outputs} numbers. Got the properties {', '.join(properties)}.")
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"{folder} is a file; choose a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise RecipeError(f"the folder {folder} is not empty; choose another one")
    recipe = regressor.settings_
    descriptor = get_descriptor(recipe.descriptor.name)
    labels = list(descriptor.labels)
    card = ModelCard(
        name=folder.name,
        description=description or f"NetworkRegressor, {recipe.network.name}",
        property=entries[0].name,
        further_properties=[entry.name for entry in entries[1:]],
        unit=entries[0].unit,
        per_atom=entries[0].per_atom,
        network=NetworkSpec(
            name=recipe.network.name,
            settings=resolve_settings(recipe.network.name, recipe.network.settings),
            n_inputs=MAX_Z if recipe.takes_graphs else len(labels),
            n_outputs=n_outputs,
            n_members=recipe.network.members,
            n_parameters=sum(parameter.numel() for parameter in regressor.ensemble_.parameters()),
        ),
        descriptor=DescriptorSpec(
            name=descriptor.name, version=descriptor.version, labels=labels, clip=recipe.descriptor.clip
        ),
        elements=regressor.elements_,
        training_set=TrainingSet(
            name=training_set,
            licence="",
            citation="",
            source="NetworkRegressor.fit",
            rows={"train": len(regressor.train_rows_), "validation": len(regressor.validation_rows_)},
            split={"validation_fraction": regressor.validation_fraction, "seed": recipe.training.seed},
        ),
        errors={"validation": _summary(regressor, 0)},
        further_errors={
            entry.name: {"validation": _summary(regressor, column)} for column, entry in enumerate(entries[1:], start=1)
        },
        notes=["the validation rows chose the epoch; there is no error of rows that were never used"],
        citation=list(citation),
        recipe=recipe.model_dump(mode="json"),
        code_version=ase_matprop.__version__,
        created=datetime.date.today().isoformat(),
        weights=WeightsSpec(sha256="", dtype="float32"),
    )
    try:
        return artefact.save(folder, card, regressor.ensemble_, regressor.scaler_, regressor.target_, regressor.reach_)
    except OSError as error:
        raise RecipeError(f"the folder {folder} cannot be written: {error.strerror}; choose another one") from None


def _summary(regressor: NetworkRegressor, column: int) -> ErrorSummary:
    errors = regressor.validation_errors_[:, column]
    return summarize(errors, np.zeros_like(errors))

"""What a fine-tuning and a learning curve begin with: the model, the settings, and a folder of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ase_matprop.errors import FinetuneError
from ase_matprop.finetune.schemes import default_training
from ase_matprop.finetune.writing import write_text
from ase_matprop.models import artefact
from ase_matprop.models.artefact import Artefact
from ase_matprop.models.card import ModelCard
from ase_matprop.models.folder import describe_validation
from ase_matprop.models.loading import load_model
from ase_matprop.models.predictor import Predictor
from ase_matprop.models.registry import find_model, list_models
from ase_matprop.training.recipe import TrainingSection


def load_source(model: str | os.PathLike[str]) -> tuple[Predictor, Artefact]:
    """Return a model to start from, as what predicts and as what it consists of.

    Args:
        model: name or folder.

    Raises:
        FinetuneError: if it predicts several properties or a class.
        MatPropError: if there is no such model, or it cannot be read.
    """
    predictor = load_model(model)
    source = artefact.load(find_model(model))
    if source.card.further_properties or source.card.material_property.classes:
        raise FinetuneError(
            f"the model {source.card.name} predicts several properties or a class; take one of one number"
        )
    return predictor, source


def training_settings(
    card: ModelCard,
    *,
    learning_rate: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    l2: float = 0.0,
    from_scratch: bool = False,
) -> TrainingSection:
    """Return the settings of the training: the defaults with what the user gave.

    Args:
        card: of the model to start from.
        learning_rate: None for the default by the kind of network.  It is for weights that are nearly right; random
            ones get the default of their own if that is larger.
        epochs: most rounds through the rows.
        batch_size: rows per step.
        l2: weight of an l2 penalty on the weights.
        from_scratch: whether the weights are random at first.

    Raises:
        FinetuneError: if a setting is impossible.
    """
    settings = default_training(card, from_scratch=from_scratch)
    given = {"learning_rate": learning_rate, "max_epochs": epochs, "batch_size": batch_size}
    if from_scratch and learning_rate is not None:
        given["learning_rate"] = max(learning_rate, settings.learning_rate)
    changes = {name: value for name, value in given.items() if value is not None} | {"weight_decay": l2}
    try:
        return TrainingSection.model_validate(settings.model_dump() | changes)
    except ValidationError as error:
        raise FinetuneError(f"the settings cannot be used: {describe_validation(error)}") from None


def claim(folder: Path, identity: dict[str, Any], *, file: str, what: str, resume: bool) -> None:
    """Take a folder, or make sure that what is in it is the same, interrupted.

    Args:
        folder: to write to.
        identity: what makes the results; with anything else in the folder, they do not belong together.
        file: name of the file that keeps it.
        what: a name of what is done, for messages.
        resume: whether the folder may be in use.

    Raises:
        FinetuneError: if the folder is in use, or with ``resume`` holds something else.
    """
    stored = folder / file
    content = json.dumps(identity, indent=1) + "\n"
    check_free(folder, file=file, what=what, resume=resume)
    if _names(folder) - {file, f"{file}.partial"}:  # with nothing but that file in it, nothing was made yet
        if not stored.is_file() or stored.read_text(encoding="utf-8") != content:
            raise FinetuneError(
                f"{folder} holds something else than this {what}, or it was made of other data or settings; choose "
                "another output"
            )
        return
    if stored.is_file() and stored.read_text(encoding="utf-8") == content:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(stored, content)
    except OSError as error:
        raise FinetuneError(_unwritable(folder, error)) from None


def check_free(folder: Path, *, file: str, what: str, resume: bool, data: Any = None) -> None:
    """Make sure that a folder can be claimed, as far as that can be said before anything is read.

    Args:
        folder: to write to.
        file: as for :func:`claim`.
        what: a name of what is done, for messages.
        resume: whether the folder may be in use.
        data: what will be read, if that is not done yet.

    Raises:
        FinetuneError: if it is no folder, in use, or in a folder of data.
    """
    _check_outside(folder, data)
    if folder.exists() and not folder.is_dir():
        raise FinetuneError(f"the output {folder} is a file; give the name of a folder")
    if _names(folder) - {file, f"{file}.partial"} and not resume:
        raise FinetuneError(
            f"the output {folder} is not empty; choose another name, or go on with an interrupted {what} with "
            "resume=True (--resume)"
        )


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise FinetuneError(_unwritable(folder, error)) from None


def _unwritable(folder: Path, error: OSError) -> str:
    return f"the output {folder} cannot be written ({error.strerror or error}); choose a folder that you may write to"


def _check_outside(folder: Path, data: Any) -> None:
    """Make sure that nothing is written into a folder of data."""
    items = [data] if isinstance(data, (str, os.PathLike)) else data
    for item in items if isinstance(items, (list, tuple)) else ():
        if isinstance(item, (str, os.PathLike)) and Path(item).is_dir():
            place = Path(item).resolve()
            if folder.resolve() == place or place in folder.resolve().parents:
                raise FinetuneError(
                    f"the output {folder} lies in the folder of data {item}, into which nothing is written; choose "
                    "one beside it"
                )


def check_name(folder: Path) -> None:
    """Make sure that a model can be called by the name of its folder.

    Raises:
        FinetuneError: if a shipped model has it: ``MatProp(name)`` would be that one.
    """
    name = folder.resolve().name
    if name in list_models():
        raise FinetuneError(
            f"the output {folder} has the name of a shipped model, and {name!r} would go on to mean that one; choose "
            f"another name, such as my-{name}"
        )

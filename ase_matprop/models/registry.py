"""Where models are found by name: those that ship with the package, and folders of the user."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from ase_matprop.errors import ArtefactError, unknown_name
from ase_matprop.models.card import ModelCard
from ase_matprop.models.folder import CARD_FILE

ZOO = Path(str(files("ase_matprop.models").joinpath("zoo")))


def list_models() -> dict[str, Path]:
    """Return the folders of the shipped models by name, sorted."""
    if not ZOO.is_dir():
        return {}
    return {path.name: path for path in sorted(ZOO.iterdir()) if (path / CARD_FILE).is_file()}


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a model, given by the name of a shipped one or by the path of a folder.

    A name without a path separator is looked up among the shipped models first.

    Raises:
        UnknownNameError: if there is no such shipped model and no such folder; the message names the closest model.
        ArtefactError: if the folder exists but holds no model.
    """
    name = os.fspath(name_or_path)
    shipped = list_models()
    if name in shipped:
        return shipped[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / CARD_FILE).is_file():
            below = sorted(path.parent for path in folder.glob(f"*/{CARD_FILE}"))
            hint = f"; did you mean {below[0]}?" if below else ""
            raise ArtefactError(f"{folder} is no model folder: it has no {CARD_FILE}{hint}")
        return folder
    if len(folder.parts) > 1 or name.startswith((".", "~")) or os.sep in name:
        raise ArtefactError(f"the model folder {folder} does not exist")
    raise unknown_name("model", name, shipped)


def read_card(name_or_path: str | os.PathLike[str]) -> ModelCard:
    """Return the card of a model without loading its weights."""
    return ModelCard.read(find_model(name_or_path))

"""Diffraction networks that come with the package: model folders ``zoo/<name>``."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Literal

from ase_matprop.errors import unknown_name
from ase_matprop.models.folder import CARD_FILE, FolderCard

Kind = Literal["ebsd", "xrd"]

ZOO = Path(str(files("ase_matprop.diffraction").joinpath("zoo")))
#: kind of network -> what the field ``kind`` of its card says
_CARD_KINDS: dict[Kind, str] = {"ebsd": "ebsd", "xrd": "xrd-phase-regions"}


def names(kind: Kind) -> list[str]:
    """Return the names of the shipped networks of a kind, sorted."""
    return sorted(card.parent.name for card in ZOO.glob(f"*/{CARD_FILE}") if _kind(card) == _CARD_KINDS[kind])


def model_path(name_or_path: str | os.PathLike[str], kind: Kind) -> Path:
    """Return the folder of a shipped network, or the given one if it exists.

    Args:
        name_or_path: a name of :func:`names`, or a model folder.
        kind: of network.

    Raises:
        UnknownNameError: if it is neither.
    """
    known = names(kind)
    if str(name_or_path) in known:
        return ZOO / str(name_or_path)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    raise unknown_name(f"{kind.upper()} model (neither a shipped one nor a model folder)", str(name_or_path), known)


def list_models() -> dict[str, Path]:
    """Return the folders of all shipped diffraction networks by name, sorted."""
    return {card.parent.name: card.parent for card in sorted(ZOO.glob(f"*/{CARD_FILE}"))}


def find_model(name_or_path: str | os.PathLike[str]) -> Path | None:
    """Return the folder of a diffraction network of any kind, None where there is none of this name."""
    folder = list_models().get(os.fspath(name_or_path), Path(name_or_path).expanduser())
    return folder if _kind(folder / CARD_FILE) in _CARD_KINDS.values() else None


def read_card(folder: Path) -> FolderCard:
    """Return the card of a diffraction network of any kind.

    Raises:
        ArtefactError: if it is no card that this version understands.
    """
    from ase_matprop.diffraction.ebsd.card import EbsdCard
    from ase_matprop.diffraction.xrd.card import PatternCard

    return (EbsdCard if _kind(folder / CARD_FILE) == _CARD_KINDS["ebsd"] else PatternCard).read(folder)


def verify(folder: Path) -> FolderCard:
    """Load a diffraction network of any kind and return its card.

    Raises:
        ArtefactError: if the folder is incomplete, was altered, or its tensors do not fit the network of the card.
    """
    from ase_matprop.diffraction.ebsd import artefact
    from ase_matprop.diffraction.xrd import card as xrd

    if _kind(folder / CARD_FILE) == _CARD_KINDS["ebsd"]:
        return artefact.load(folder).card
    return xrd.load(folder)[0]


def _kind(card: Path) -> str | None:
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # reading that card says what is wrong with it
        return None
    return content.get("kind") if isinstance(content, dict) else None

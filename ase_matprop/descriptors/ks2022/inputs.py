"""What the functions of KS2022 are given, as ASE Atoms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ase_matprop.errors import DescriptorError, StructureError, UnknownElementError
from ase_matprop.structures import as_atoms
from ase_matprop.structures.objects import is_single


def atoms_of(structure: Any, name: str) -> Atoms:
    """Return ``structure`` itself if it is Atoms, which are taken to be valid, and the Atoms that it stands for if not.

    Args:
        structure: what :func:`ase_matprop.structures.as_atoms` takes.
        name: what to call it in messages.

    Raises:
        StructureError: if it is no structure.
    """
    if isinstance(structure, Atoms):
        return structure
    if structure is None:
        raise StructureError(f"{name}: None was given; give ASE Atoms, a pymatgen Structure, or the path of a file")
    return as_atoms(structure, name=name)


def list_of_atoms(structures: Any, what: str = "structure") -> list[Atoms]:
    """Return the Atoms of several structures.

    Args:
        structures: an iterable of what :func:`atoms_of` takes.
        what: what to call one of them in messages, before its number.

    Raises:
        DescriptorError: if this is a single structure, or not iterable.
        StructureError: for the first one that is no structure.
    """
    check_several(structures, f"{what}s", "structures")
    return [atoms_of(structure, f"{what} {index}") for index, structure in enumerate(structures)]


def check_several(items: Any, name: str, kind: str) -> None:
    """Raise a DescriptorError for a single structure or text, and for what has no items.

    Args:
        items: what should be a list.
        name: what to call it in the message.
        kind: what the list should have.
    """
    if items is None:
        raise DescriptorError(f"{name} must be a list of {kind}. None was given.")
    if is_single(items) or not isinstance(items, Iterable):
        got = repr(items) if isinstance(items, str) else type(items).__name__
        raise DescriptorError(f"{name} must be a list of {kind}. Got {got}; put a single one into a list.")


def numbers_of(elements: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the atomic numbers of a list of element symbols, shape (len(elements),).

    Raises:
        DescriptorError: if this is no list, or an empty one.
        UnknownElementError: for the first one that is no element symbol.
    """
    check_several(elements, "elements", "element symbols")
    symbols = list(elements)
    if not symbols:
        raise DescriptorError("elements is empty; name at least one foreign element, for example ['Cr']")
    for symbol in symbols:
        if not isinstance(symbol, str) or symbol not in atomic_numbers:
            raise UnknownElementError(f"{symbol!r} is not an element symbol; give symbols such as 'Cr'")
    return np.array([atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)

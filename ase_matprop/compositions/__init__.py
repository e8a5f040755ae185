"""Compositions: formulas, pymatgen ``Composition`` objects, dictionaries and structures as amounts of elements.

The counterpart of :mod:`ase_matprop.structures` for models that need nothing but a formula.  A composition is a
dictionary of atomic number -> number of atoms in the formula unit (a positive number, not necessarily whole).

Every object with atoms has a composition: a molecule without a cell and a disordered structure of pymatgen too.  Files
are read by :mod:`ase_matprop.structures`, with all the checks that are made there.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from ase_matprop.compositions.formulas import Amounts, is_formula, parse_formula
from ase_matprop.compositions.objects import amounts_of_mapping, amounts_of_object, unsupported
from ase_matprop.compositions.tables import FORMULA_COLUMNS, TableError, find_tables, is_table, read_formulas
from ase_matprop.errors import CompositionError, MatPropError
from ase_matprop.structures import StructureEntry, iter_structures, one_entry_each
from ase_matprop.structures.files import file_kind
from ase_matprop.structures.formula_text import format_formula, reduced_formula
from ase_matprop.structures.objects import is_single, label

__all__ = [
    "FORMULA_COLUMNS",
    "Amounts",
    "CompositionEntry",
    "as_amounts",
    "composition_entries",
    "format_formula",
    "is_formula",
    "iter_compositions",
    "parse_formula",
    "reduced_formula",
]


@dataclass(frozen=True, eq=False, slots=True)
class CompositionEntry:
    """One composition of the input: either the amounts of its elements, or the reason why there are none.

    Attributes:
        name: the formula as it was given, or the name of the structure or file.
        amounts: atomic number -> number of atoms, or None.
        error: what is wrong and the remedy, in one line, or None.
        n_atoms: number of atoms of the structure; 0 for a formula, which has no cell.
    """

    name: str
    amounts: Amounts | None
    error: str | None
    n_atoms: int = 0

    @property
    def item(self) -> Amounts | None:
        """What a descriptor takes."""
        return self.amounts

    @property
    def elements(self) -> Set[int]:
        """Atomic numbers of the elements."""
        return (self.amounts or {}).keys()

    @property
    def formula(self) -> str:
        """The formula with metals first, empty where there is none."""
        return "" if self.amounts is None else format_formula(self.amounts)


def as_amounts(obj: object) -> Amounts:
    """Return the composition of whatever has one.

    Args:
        obj: a single one of what :func:`composition_entries` takes.

    Returns:
        Atomic number -> number of atoms.

    Raises:
        CompositionError: if ``obj`` has no composition.
    """
    entry = _entry(obj, 0)
    if entry.amounts is None:
        raise CompositionError(f"{entry.name}: {entry.error}")
    return entry.amounts


def composition_entries(inputs: object) -> Iterator[CompositionEntry]:
    """Yield exactly one entry for each of ``inputs``; a single formula, composition or structure counts as one.

    Args:
        inputs: one or an iterable of: formulas; ``Composition`` objects of pymatgen and mappings of element -> amount;
            whatever else has atoms (ASE ``Atoms``, structures, molecules and entries of pymatgen, their dictionaries),
            with or without a cell; paths of files with one structure.  A string that is a formula is taken as one,
            another as the path of a file if it looks like that; a ``Path`` is always that of a file.

    Raises:
        CompositionError: if ``inputs`` as a whole is not something that can hold compositions.
    """
    for index, item in enumerate(_items(inputs)):
        yield _entry(item, index)


def iter_compositions(inputs: object) -> Iterator[CompositionEntry]:
    """Yield an entry for each composition of ``inputs``.

    As :func:`composition_entries`, and folders, glob patterns and files with any number of structures besides, as
    for :func:`ase_matprop.structures.iter_structures`.  A CSV file (``.csv``, plain or compressed as .gz, .xz or .bz2)
    gives an entry for each row of its column ``formula``, ``composition``, ``reduced_formula`` or ``pretty_formula``.

    Raises:
        CompositionError: if ``inputs`` as a whole is not something that can hold compositions.
    """
    for index, item in enumerate(_items(inputs)):
        entry = _text_entry(item, index) if isinstance(item, str) else None
        if entry is not None:
            yield entry
        elif not isinstance(item, (str, os.PathLike)):
            yield _entry(item, index)
        elif is_table(item):
            for path in find_tables(item):
                yield from _table_entries(path)
        else:
            yield from map(_from_structure, iter_structures(item))


def _items(inputs: object) -> Iterable[object]:
    """Return the single inputs of what a user gave as one or several."""
    if hasattr(inputs, "columns") and hasattr(inputs, "iloc"):
        raise CompositionError("a DataFrame is not a list of compositions; give its column, for example df['formula']")
    if is_single(inputs) or isinstance(inputs, (bytes, CompositionEntry, StructureEntry)):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise CompositionError(unsupported(inputs))
    return inputs


def _entry(item: object, index: int) -> CompositionEntry:
    """Return the one entry of an input, the ``index``-th in its list."""
    if isinstance(item, str) and (entry := _text_entry(item, index)) is not None:
        return entry
    if isinstance(item, (str, os.PathLike)):
        if is_table(item):
            return CompositionEntry(os.fspath(item), None, "is a table; read it with ase_matprop.predict")
        (item,) = one_entry_each([item])
    if isinstance(item, StructureEntry):
        return _from_structure(item)
    return item if isinstance(item, CompositionEntry) else _object_entry(item, index)


def _object_entry(obj: object, index: int) -> CompositionEntry:
    name = label(obj)
    try:
        amounts, n_atoms = amounts_of_object(obj)
    except MatPropError as error:
        return CompositionEntry(name or f"composition {index}", None, str(error))
    except Exception as error:  # an object that only looks as if it had a composition costs its own row in a batch
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return CompositionEntry(
            name or f"composition {index}", None, f"cannot be converted ({reason}); give its formula"
        )
    kind = "structure" if n_atoms else "composition"
    return CompositionEntry(name or f"{kind} {index} ({format_formula(amounts)})", amounts, None, n_atoms)


def _text_entry(text: str, index: int) -> CompositionEntry | None:
    """Return the entry of a formula, or None for a string that was meant as a path."""
    entry = _formula_entry(str(text), f"composition {index}")
    return None if entry.error is not None and _looks_like_path(text) else entry


def _formula_entry(text: str, name: str) -> CompositionEntry:
    """Return the entry of a formula; ``name`` is for one that is empty."""
    try:
        return CompositionEntry(text, parse_formula(text), None)
    except CompositionError as error:
        return CompositionEntry(text if text.strip() else name, None, str(error))


def _table_entries(path: Path) -> Iterator[CompositionEntry]:
    try:
        for number, formula in enumerate(read_formulas(path)):
            yield _formula_entry(formula, f"{path}#{number}")
    except TableError as error:
        yield CompositionEntry(str(path), None, str(error))


def _from_structure(entry: StructureEntry) -> CompositionEntry:
    if entry.atoms is None:
        return CompositionEntry(entry.name, None, entry.error)
    amounts = amounts_of_mapping(Counter(entry.atoms.numbers.tolist()))
    return CompositionEntry(entry.name, amounts, None, n_atoms=len(entry.atoms))


def _looks_like_path(text: str) -> bool:
    """Whether a string that is no formula was meant as a path: it has a separator or an ending, or is one."""
    return (
        os.sep in text
        or re.search(r"\.[A-Za-z]\w*$", text) is not None
        or file_kind(Path(text)) is not None
        or os.path.lexists(text)
    )

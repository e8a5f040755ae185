"""Compositions: formulas, pymatgen ``Composition`` objects, dictionaries and structures as amounts of elements.

The counterpart of :mod:`ase_matprop.structures` for models that need nothing but a formula.  A composition is a
dictionary of atomic number -> number of atoms in the formula unit (a positive number, not necessarily whole).
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from ase.formula import non_metals

from ase_matprop.errors import CompositionError
from ase_matprop.structures import StructureEntry, iter_structures, one_entry_each

Amounts = dict[int, float]

_NUMBER = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")
_TABLE = re.compile(r"\.csv(\.gz|\.xz|\.bz2)?$")
#: columns of a table in which formulas are looked for
FORMULA_COLUMNS = ("formula", "composition", "reduced_formula", "pretty_formula")
#: what separates the parts of an adduct such as CuSO4·5H2O
_ADDUCT = re.compile("[·•⋅∙*]")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_ISOTOPES = {"D": 1, "T": 1}


@dataclass(frozen=True, eq=False)
class CompositionEntry:
    """One composition of the input: either the amounts of its elements, or the reason why there are none.

    Attributes:
        name: the formula as it was given, or the name of the structure.
        amounts: atomic number -> number of atoms, or None.
        error: what is wrong and the remedy, in one line, or None.
        n_atoms: number of atoms of the structure; 0 for a formula, which has no cell.
    """

    name: str
    amounts: Amounts | None
    error: str | None
    n_atoms: int = 0

    @property
    def formula(self) -> str:
        """The formula with its elements by electronegativity as pymatgen orders them, empty where there is none."""
        return "" if self.amounts is None else format_formula(self.amounts)


def parse_formula(formula: str) -> Amounts:
    """Return the amounts of the elements in a formula.

    Understood is what pymatgen understands (brackets, broken amounts), and besides adducts (``CuSO4·5H2O``) and
    subscript digits.  Deuterium and tritium count as hydrogen.

    Args:
        formula: for example ``"Fe2O3"``, ``"Lu(MnGe)6"`` or ``"Ag0.48Mg0.52"``.

    Returns:
        Atomic number -> number of atoms in the formula unit, each positive.

    Raises:
        CompositionError: if the formula does not parse, has an unknown element or no element at all.
    """
    text = formula if formula.isascii() else formula.translate(_SUBSCRIPTS)
    if not text.strip():
        raise CompositionError("the formula is empty; give one such as 'Fe2O3'")
    amounts: Amounts = {}
    for part in _ADDUCT.split(text):
        leading = _NUMBER.match(part)
        factor = float(leading.group()) if leading else 1.0
        for number, amount in _parse_part(part[leading.end() :] if leading else part, formula).items():
            amounts[number] = amounts.get(number, 0.0) + factor * amount
    if not all(math.isfinite(amount) for amount in amounts.values()):
        raise CompositionError(f"the formula {formula!r} has an amount that is too large")
    return amounts


def _parse_part(text: str, formula: str) -> Amounts:
    """Parse a formula without adducts; ``formula`` is what messages quote."""
    from pymatgen.core import Composition

    try:
        return _from_mapping(Composition(text))
    except CompositionError as error:
        raise CompositionError(f"the formula {formula!r} cannot be used: {error}") from None
    except ValueError as error:  # pymatgen's reason is the part that it could not read
        reason = str(error).removesuffix("!")
        raise CompositionError(f"{formula!r} is no formula ({reason}); write it as in 'Fe2O3'") from None


def format_formula(amounts: Mapping[int, float]) -> str:
    """Return amounts as a formula with metals first, as ASE writes them: ``{8: 3, 26: 2}`` gives ``"Fe2O3"``."""
    terms = []
    for number in sorted(amounts, key=_metals_first):
        amount = amounts[number]
        terms.append(chemical_symbols[number] + ("" if amount == 1 else f"{amount:.6g}"))
    return "".join(terms)


#: order of the non-metals in ASE's formulas in the mode "metal"
_NON_METALS = [atomic_numbers[symbol] for symbol in non_metals if symbol in atomic_numbers]


def _metals_first(number: int) -> tuple[bool, int | str]:
    non_metal = number in _NON_METALS
    return non_metal, _NON_METALS.index(number) if non_metal else chemical_symbols[number]


def as_amounts(obj: object) -> Amounts:
    """Return the composition of whatever has one.

    Args:
        obj: a formula, a pymatgen ``Composition``, a mapping of element -> amount, or whatever
            :func:`ase_matprop.structures.as_atoms` takes (strings are formulas here, paths must be ``Path`` objects).

    Returns:
        Atomic number -> number of atoms.

    Raises:
        CompositionError: if ``obj`` has no composition.
        StructureError: if it is a structure that cannot be used.
    """
    if isinstance(obj, str):
        return parse_formula(obj)
    if _is_composition(obj):
        return _from_mapping(obj)
    entry = next(iter(composition_entries([obj])))
    if entry.amounts is None:
        raise CompositionError(f"{entry.name}: {entry.error}")
    return entry.amounts


def composition_entries(inputs: object) -> Iterator[CompositionEntry]:
    """Yield exactly one entry for each of ``inputs``; a single formula, composition or structure counts as one.

    As :func:`ase_matprop.structures.one_entry_each`, and formulas, ``Composition`` objects and mappings of element ->
    amount besides.  A string that is a formula is taken as one, another as the path of a structure file; a ``Path`` is
    always that of a file.

    Raises:
        StructureError: if ``inputs`` as a whole is not something that can hold structures or compositions.
    """
    if isinstance(inputs, str) or _is_composition(inputs):
        inputs = [inputs]
    if not isinstance(inputs, Iterable) or isinstance(inputs, os.PathLike | Atoms | Mapping):
        yield from map(_from_structure, one_entry_each(inputs))
        return
    if _is_pymatgen(inputs) or hasattr(inputs, "columns"):
        yield from map(_from_structure, one_entry_each(inputs))
        return
    for index, item in enumerate(inputs):
        yield _entry(item, index)


def iter_compositions(inputs: object) -> Iterator[CompositionEntry]:
    """Yield an entry for each composition of ``inputs``.

    As :func:`ase_matprop.structures.iter_structures` (folders, glob patterns, files with any number of structures), and
    formulas, ``Composition`` objects and mappings of element -> amount besides.  A CSV file (``.csv``, plain or
    compressed) gives an entry for each row of its column ``formula``, ``composition``, ``reduced_formula`` or
    ``pretty_formula``.

    Raises:
        StructureError: if ``inputs`` as a whole is not something that can hold structures or compositions.
    """
    if isinstance(inputs, str | os.PathLike | Atoms | Mapping) or _is_pymatgen(inputs):
        inputs = [inputs]
    if not isinstance(inputs, Iterable) or hasattr(inputs, "columns"):
        yield from map(_from_structure, iter_structures(inputs))
        return
    for index, item in enumerate(inputs):
        if isinstance(item, str | os.PathLike) and _TABLE.search(os.fspath(item)):
            yield from _table_entries(Path(item).expanduser())
        elif isinstance(item, os.PathLike) or (isinstance(item, str) and _is_path(item)):
            yield from map(_from_structure, iter_structures(item))
        else:
            yield _entry(item, index)


def _is_path(text: str) -> bool:
    try:
        parse_formula(text)
    except CompositionError:
        return looks_like_path(text)
    return False


def _table_entries(path: Path) -> Iterator[CompositionEntry]:
    import pandas as pd

    try:
        for block in pd.read_csv(path, dtype=str, keep_default_na=False, chunksize=50_000):
            column = next((name for name in FORMULA_COLUMNS if name in block), None)
            if column is None:
                columns = ", ".join(map(str, block.columns))
                error = f"has no column {' or '.join(FORMULA_COLUMNS)}; its columns are {columns}"
                yield CompositionEntry(str(path), None, error)
                return
            yield from (_entry(formula, index) for index, formula in enumerate(block[column]))
    except (OSError, ValueError, EOFError) as error:
        yield CompositionEntry(str(path), None, f"cannot be read as a table: {error}")


def looks_like_path(text: str) -> bool:
    """Whether a string that is no formula was meant as a path: it has a separator or an ending."""
    return os.sep in text or bool(re.search(r"\.[A-Za-z]\w*$", text)) or os.path.lexists(text)


def _entry(item: object, index: int) -> CompositionEntry:
    if isinstance(item, CompositionEntry):
        return item
    name = item if isinstance(item, str) and item else f"composition {index}"
    try:
        if item is None or isinstance(item, float):  # a gap in a table
            raise CompositionError(f"is {item}, not a composition; give a formula")
        if isinstance(item, str):
            return CompositionEntry(name, parse_formula(item), None)
        if _is_composition(item):
            amounts = _from_mapping(item)
            return CompositionEntry(f"{name} ({format_formula(amounts)})", amounts, None)
    except CompositionError as error:
        if not (isinstance(item, str) and looks_like_path(item)):
            return CompositionEntry(name, None, str(error))
    structure = _from_structure(next(iter(one_entry_each([item]))))
    number = re.sub(r"^structure 0(?= \(|$)", f"structure {index}", structure.name)  # it is alone in its list
    return replace(structure, name=number)


def _from_structure(entry: StructureEntry) -> CompositionEntry:
    if entry.atoms is None:
        return CompositionEntry(entry.name, None, entry.error)
    counts = Counter(entry.atoms.numbers.tolist())
    amounts = {number: float(count) for number, count in counts.items()}
    return CompositionEntry(entry.name, amounts, None, n_atoms=len(entry.atoms))


def _is_pymatgen(obj: object) -> bool:
    return any(base.__module__.partition(".")[0] == "pymatgen" for base in type(obj).__mro__)


def _is_composition(obj: object) -> bool:
    """Whether ``obj`` is a pymatgen Composition, or a mapping whose keys are all elements."""
    if any(base.__name__ == "Composition" for base in type(obj).__mro__) and _is_pymatgen(obj):
        return True
    return isinstance(obj, Mapping) and bool(obj) and all(_element_number(key) is not None for key in obj)


def _element_number(key: Any) -> int | None:
    """Return the atomic number of a symbol, a number, or an Element or Species of pymatgen."""
    if isinstance(key, int):
        return key if 0 < key < len(chemical_symbols) else None
    symbol = key if isinstance(key, str) else getattr(key, "symbol", None)
    return atomic_numbers.get(symbol) or _ISOTOPES.get(symbol) if isinstance(symbol, str) and symbol != "X" else None


def _from_mapping(obj: Any) -> Amounts:
    """Return the amounts of a Composition or of a mapping of elements; species of one element are added up."""
    amounts: Amounts = {}
    for key, amount in obj.items():
        number = _element_number(key)
        if number is None:
            symbol = getattr(key, "symbol", key)
            raise CompositionError(f"the composition has {symbol}, which is no element; replace or remove it")
        try:
            value = float(amount)
        except (TypeError, ValueError):
            raise CompositionError(f"the amount of {key} is {amount!r}; give a number") from None
        if not math.isfinite(value) or value < 0.0:
            raise CompositionError(f"the amount of {key} is {amount!r}; give a positive number")
        if value:
            amounts[number] = amounts.get(number, 0.0) + value
    if not amounts:
        raise CompositionError("the composition is empty; give a positive amount of an element")
    return amounts

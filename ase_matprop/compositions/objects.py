"""Compositions of objects; private part of :mod:`ase_matprop.compositions`.

pymatgen is not imported here: an object that comes from it brings all that is needed.  Messages here do not name the
object: the caller does.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_matprop.compositions.formulas import ELEMENTS, Amounts, sound_amounts
from ase_matprop.errors import CompositionError
from ase_matprop.structures.checks import find_disorder
from ase_matprop.structures.objects import convert, is_single

#: a species as a key of pymatgen's ``Composition.as_dict()``, such as "Fe3+" or "Ni2+,spin=5"
_SPECIES = re.compile(r"([A-Z][a-z]?)(?:[0-9.]*[+-])?(?:,.*)?")


def amounts_of_object(obj: Any) -> tuple[Amounts, int]:
    """Return the composition of an object that is no text, and its number of atoms, 0 for what has none by itself.

    Raises:
        MatPropError: if it has no composition.
    """
    if obj is None or isinstance(obj, float):
        raise CompositionError(
            f"is {obj}, a gap in a table; give a formula (pandas takes the formula NaN for a gap, unless it reads the "
            "table with keep_default_na=False)"
        )
    if _is_composition(obj):
        return amounts_of_mapping(obj), 0
    if _is_pymatgen(obj) and hasattr(obj, "composition"):  # an entry may have its structure with it
        return amounts_of_mapping(obj.composition), len(getattr(getattr(obj, "structure", obj), "sites", ()))
    if _is_pymatgen(obj) or not is_single(obj):
        raise CompositionError(unsupported(obj))
    if isinstance(obj, Atoms) and (disorder := find_disorder(obj)):
        raise CompositionError(f"{disorder.partition(';')[0]}; give its formula")
    symbols = convert(obj).get_chemical_symbols()
    return amounts_of_mapping(Counter(symbols)), len(symbols)


def amounts_of_mapping(mapping: Mapping[Any, Any]) -> Amounts:
    """Return the amounts of a Composition or of a mapping of elements; species of one element are added up.

    Raises:
        CompositionError: for a key that is no element, and amounts that are no positive numbers.
    """
    amounts: Amounts = {}
    for key, amount in mapping.items():
        number = _element_number(key)
        if number is None:
            raise CompositionError(f"has {getattr(key, 'symbol', key)}, which is no element; replace or remove it")
        try:
            value = float(amount)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value) or value < 0.0:
            raise CompositionError(f"has the amount {amount!r} of {chemical_symbols[number]}; give a positive number")
        amounts[number] = amounts.get(number, 0.0) + value
    return sound_amounts(amounts)


def unsupported(obj: object) -> str:
    """Return the message for an object that has no composition."""
    given = "is None" if obj is None else f"is of type {type(obj).__name__}"
    return f"{given}, not a composition; give a formula, a pymatgen Composition or a structure"


def _is_pymatgen(obj: object) -> bool:
    return any(base.__module__.partition(".")[0] == "pymatgen" for base in type(obj).__mro__)


def _is_composition(obj: object) -> bool:
    """Whether ``obj`` is a pymatgen Composition, or a mapping with elements among its keys."""
    if not isinstance(obj, Mapping):
        return False
    return _is_pymatgen(obj) or not obj or any(_element_number(key) is not None for key in obj)


def _element_number(key: Any) -> int | None:
    """Return the atomic number of a symbol, a number, or an Element or Species of pymatgen."""
    if isinstance(key, (int, np.integer)):
        return int(key) if 0 < key < len(chemical_symbols) else None
    symbol = key if isinstance(key, str) else getattr(key, "symbol", None)
    if not isinstance(symbol, str):
        return None
    species = _SPECIES.fullmatch(symbol)
    return ELEMENTS.get(species[1]) if species else None

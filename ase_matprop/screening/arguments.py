"""Arguments that users give: elements and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ase_matprop.errors import MatPropError, UnknownElementError


def element_numbers(elements: Iterable[str | int]) -> tuple[int, ...]:
    """Return the atomic numbers of a list of symbols or atomic numbers, ascending.

    Raises:
        UnknownElementError: for what is no element.
        MatPropError: if it is no list, is empty, or has an element twice.
    """
    if isinstance(elements, (str, Mapping)) or not isinstance(elements, Iterable):
        raise MatPropError(f"elements must be a list of symbols such as ['Li', 'Fe', 'O'], and not {elements!r}")
    numbers = [element_number(element) for element in elements]
    if not numbers:
        raise MatPropError("elements is empty; give symbols such as ['Li', 'Fe', 'O']")
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice:
        raise MatPropError(
            f"elements has {', '.join(chemical_symbols[number] for number in twice)} more than once; give each once"
        )
    return tuple(sorted(numbers))


def element_number(element: object) -> int:
    """Return the atomic number of an element that is given as symbol or number.

    Raises:
        UnknownElementError: for what is no element.
    """
    if isinstance(element, str):
        number: int = atomic_numbers.get(element.strip(), 0)
        if number:
            return number
        close = element.strip().capitalize()
        hint = f"; did you mean {close!r}?" if atomic_numbers.get(close) else "; give a symbol such as 'Fe'"
        raise UnknownElementError(f"{element!r} is no element{hint}")
    if isinstance(element, (int, np.integer)) and not isinstance(element, bool):
        if 0 < element < len(chemical_symbols):
            return int(element)
        raise UnknownElementError(f"{element} is no element: atomic numbers are 1 to {len(chemical_symbols) - 1}")
    raise UnknownElementError(f"{element!r} is no element; give a symbol such as 'Fe'")


def positive(name: str, value: object) -> int:
    """Return a positive whole number.

    Raises:
        MatPropError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise MatPropError(f"{name} must be a positive whole number, and not {value!r}")
    return int(value)

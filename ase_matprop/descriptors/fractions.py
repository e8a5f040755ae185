"""Element fractions: the 86-component input of ElemNet.

D. Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y; the 86 elements are listed in section 5.2.1 of
D. Jha, Ph.D. thesis, Northwestern University (2020): hydrogen to plutonium without He, Ne, Ar, Po, At, Rn, Fr and Ra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

_ABSENT = {atomic_numbers[symbol] for symbol in ("He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra")}

#: atomic numbers of the 86 elements, in ascending order
ELEMENTS: tuple[int, ...] = tuple(z for z in range(1, atomic_numbers["Pu"] + 1) if z not in _ABSENT)

_COLUMN = {number: column for column, number in enumerate(ELEMENTS)}
_COLUMNS = np.full(256, len(ELEMENTS) + 1)
_COLUMNS[0] = len(ELEMENTS)
_COLUMNS[list(ELEMENTS)] = np.arange(len(ELEMENTS))


def feature_labels() -> list[str]:
    """Return the names of the 86 features, a fresh list."""
    return [f"fraction of {chemical_symbols[number]}" for number in ELEMENTS]


def compute_amounts(amounts: Sequence[Mapping[int, float]]) -> tuple[NDArray[np.float64], list[str | None]]:
    """Compute the element fractions of compositions given as atomic number -> amount.

    Returns:
        Fractions of shape (n, 86), NaN in the rows that have none, and n entries of None or the reason.
    """
    features = np.zeros((len(amounts), len(ELEMENTS)))
    errors: list[str | None] = [_error(entry) for entry in amounts]
    good = [row for row, error in enumerate(errors) if error is None]
    if good:
        lengths = [len(amounts[row]) for row in good]
        columns = np.fromiter((_COLUMN[number] for row in good for number in amounts[row]), dtype=np.int64)
        values = np.fromiter((amount for row in good for amount in amounts[row].values()), dtype=np.float64)
        features[np.repeat(good, lengths), columns] = values
        features[good] /= features[good].sum(axis=1, keepdims=True)
    features[[error is not None for error in errors]] = np.nan
    return features, errors


def compute_columns(numbers: NDArray[np.uint8], amounts: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the element fractions of compositions that are given as columns.

    Args:
        numbers: atomic numbers of the elements of each composition, 0 where it has fewer than k, shape (n, k).
        amounts: amounts of these, 0 where the number is, shape (n, k).

    Returns:
        Fractions of shape (n, 86), NaN in the rows with an element that is not covered.
    """
    features = np.zeros((len(numbers), len(ELEMENTS) + 2))  # beside the 86: no element, and one that is not covered
    shares = amounts / amounts.sum(axis=1, keepdims=True)
    rows = np.arange(len(numbers))
    for column in range(numbers.shape[1]):
        features[rows, _COLUMNS[numbers[:, column]]] += shares[:, column]
    features[features[:, -1] > 0] = np.nan
    return features[:, : len(ELEMENTS)]


def _error(amounts: Mapping[int, float]) -> str | None:
    if not amounts:
        return "the composition is empty"
    if amounts.keys() <= _COLUMN.keys():
        return None
    unknown = [chemical_symbols[number] for number in amounts if number not in _COLUMN]
    return (
        f"the element fractions do not cover {', '.join(unknown)}; they have H to Pu without "
        "He, Ne, Ar, Po, At, Rn, Fr and Ra"
    )

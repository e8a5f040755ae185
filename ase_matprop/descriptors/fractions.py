"""Element fractions: the 86-component input of ElemNet.

D. Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y; the 86 elements are listed in section 5.2.1 of
D. Jha, Ph.D. thesis, Northwestern University (2020): hydrogen to plutonium without He, Ne, Ar, Po, At, Rn, Fr and Ra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

_ABSENT = {atomic_numbers[symbol] for symbol in ("He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra")}

#: atomic numbers of the 86 elements, in ascending order
ELEMENTS: tuple[int, ...] = tuple(z for z in range(1, atomic_numbers["Pu"] + 1) if z not in _ABSENT)

_COLUMN = {number: column for column, number in enumerate(ELEMENTS)}


def feature_labels() -> list[str]:
    """Return the names of the 86 features, a fresh list."""
    return [f"fraction of {chemical_symbols[number]}" for number in ELEMENTS]


def compute_amounts(amounts: Sequence[Mapping[int, float]]) -> tuple[NDArray[np.float64], list[str | None]]:
    """Compute the element fractions of compositions given as atomic number -> amount.

    Returns:
        Fractions of shape (n, 86), NaN in the rows that have none, and n entries of None or the reason.
    """
    features = np.zeros((len(amounts), len(ELEMENTS)))
    errors: list[str | None] = [None] * len(amounts)
    for row, entry in enumerate(amounts):
        unknown = [chemical_symbols[number] for number in entry if number not in _COLUMN]
        if unknown or not entry:
            errors[row] = (
                f"the element fractions do not cover {', '.join(unknown)}; they have H to Pu without "
                "He, Ne, Ar, Po, At, Rn, Fr and Ra"
                if unknown
                else "the composition is empty"
            )
            features[row] = np.nan
            continue
        for number, amount in entry.items():
            features[row, _COLUMN[number]] = amount
        features[row] /= features[row].sum()
    return features, errors

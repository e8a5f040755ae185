"""Numbers as they are given to plots, checked; private part of the plots."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError

Values = NDArray[np.float64]


def column(values: Any, what: str) -> Values:
    """Return values as an array of the shape (n,); None counts as NaN.

    Raises:
        MatPropError: if they are no numbers, or have another shape.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise MatPropError(f"{what} must be numbers, one per row; got {_shown(values)}") from None
    if found.ndim != 1:
        raise MatPropError(f"{what} must have one number per row, the shape (n,); got the shape {found.shape}")
    return found


def pairs(first: Any, second: Any, names: tuple[str, str]) -> tuple[Values, Values, NDArray[np.bool_]]:
    """Return two columns of equal length, and which rows have a finite number in both.

    Raises:
        MatPropError: if they are no numbers, or differ in length.
    """
    left, right = column(first, names[0]), column(second, names[1])
    if left.shape != right.shape:
        raise MatPropError(f"there are {len(left)} {names[0]} and {len(right)} {names[1]}; give as many of both")
    return left, right, np.isfinite(left) & np.isfinite(right)


def span(values: Values, share: float = 0.0) -> tuple[float, float]:
    """Return bounds of an axis with some room at both ends, without a percentage of the values at either end."""
    low, high = (float(bound) for bound in np.percentile(values, [share, 100.0 - share]))
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _shown(values: Any) -> str:
    text = repr(values)
    return text if len(text) < 60 else f"{text[:60]}..."

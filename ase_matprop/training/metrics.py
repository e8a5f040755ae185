"""Errors of predictions, over a set and over chemically meaningful parts of it."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from ase_matprop.models.card import ErrorSummary

FloatArray = NDArray[np.float64]


def summarize(predicted: FloatArray, reference: FloatArray) -> ErrorSummary:
    """Return mean, median, 90th percentile and root mean square of the absolute errors."""
    errors = np.abs(predicted - reference)
    return ErrorSummary(
        n=len(errors),
        mae=float(errors.mean()),
        median=float(np.median(errors)),
        percentile_90=float(np.percentile(errors, 90)),
        rmse=float(np.sqrt((errors**2).mean())),
    )


def summarize_groups(
    predicted: FloatArray, reference: FloatArray, amounts: NDArray[np.int64], new_formula: NDArray[np.bool_]
) -> dict[str, ErrorSummary]:
    """Return the errors by number of elements, with and without oxygen, and for new and known formulas.

    Args:
        predicted: shape (n,).
        reference: shape (n,).
        amounts: number of atoms of each element, column = atomic number, shape (n, 119).
        new_formula: whether no training row has the reduced formula, shape (n,).
    """
    n_elements = (amounts > 0).sum(axis=1)
    oxide = (amounts[:, atomic_numbers["O"]] > 0) & (n_elements > 1)
    groups = {f"{n} element{'s' if n > 1 else ''}": n_elements == n for n in range(1, 6)}
    groups |= {
        "6 or more elements": n_elements >= 6,
        "oxides": oxide,
        "compounds without O": ~oxide & (n_elements > 1),
        "formulas not in training": new_formula,
        "formulas in training": ~new_formula,
    }
    return {name: summarize(predicted[rows], reference[rows]) for name, rows in groups.items() if rows.any()}

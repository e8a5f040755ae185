"""What each element contributes on average: fitted before a network on neighbour graphs learns the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from ase_matprop.models.artefact import TargetTransform

_RIDGE = 1e-2  # in units of rows that consist of one element only: keeps rare elements near the mean


def fit_element_offsets(fractions: NDArray[np.float64], targets: NDArray[np.float64]) -> TargetTransform:
    """Fit a constant per element by ridge regression, and the scale of what remains.

    Args:
        fractions: share of each atomic number among the atoms, shape (n, MAX_Z).
        targets: values per atom, NaN where a row has none, shape (n, n_outputs).

    Returns:
        Offset, scale and element offsets; the offset of an element without rows is zero.
    """
    n_outputs = targets.shape[1]
    offset, scale = np.zeros(n_outputs), np.ones(n_outputs)
    element_offsets = np.zeros((fractions.shape[1], n_outputs))
    for column in range(n_outputs):
        known = np.isfinite(targets[:, column])
        offset[column] = targets[known, column].mean()
        fit = Ridge(alpha=_RIDGE, fit_intercept=False)
        fit.fit(fractions[known], targets[known, column] - offset[column])
        element_offsets[:, column] = fit.coef_
        remaining = targets[known, column] - offset[column] - fractions[known] @ fit.coef_
        if remaining.std() > 0.0:
            scale[column] = remaining.std()
    return TargetTransform(offset, scale, element_offsets)

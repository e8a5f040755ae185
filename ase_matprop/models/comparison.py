"""Models of one property, compared with one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import MatPropError
from ase_matprop.models.card import ModelCard


def disagreement(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation over models, NaN where the first of them or all others have no value.

    Args:
        values: shape (n_models, n), NaN where a model has none.
    """
    known = np.isfinite(values[0]) & (np.isfinite(values).sum(axis=0) > 1)
    found = np.full(values.shape[1], np.nan)
    found[known] = np.nanstd(values[:, known], axis=0)
    return found


def check_comparable_models(card: ModelCard, others: Sequence[ModelCard]) -> None:
    """Raise a MatPropError if the predictions of a model cannot be compared with those of others."""
    for number, other in enumerate(others):
        _check_comparable(card, other)
        if any(other.weights.sha256 == earlier.weights.sha256 for earlier in others[:number]):
            raise MatPropError(f"the model {other.name} is given twice for comparison; give it once")


def _check_comparable(card: ModelCard, other: ModelCard) -> None:
    if (card.property, card.unit) != (other.property, other.unit):
        raise MatPropError(
            f"the model {card.name} predicts {card.property} and {other.name} {other.property}; compare models of one "
            "property (matprop models list)"
        )
    if card.material_property.classes:
        raise MatPropError(f"the model {card.name} predicts classes; look at their probabilities instead")
    if card.weights.sha256 == other.weights.sha256:
        raise MatPropError(f"the model {card.name} cannot be compared with itself; name another one")
    if (
        get_descriptor(other.descriptor.name).needs_structure
        and not get_descriptor(card.descriptor.name).needs_structure
    ):
        raise MatPropError(
            f"the model {other.name} needs structures and {card.name} none; compare {other.name} with {card.name}, "
            "the other way round"
        )

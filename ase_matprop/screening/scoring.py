"""Formulas to values at the speed of the network's matrix products: no object per formula."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ase_matprop.descriptors import fractions
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import MatPropError
from ase_matprop.models import Predictor
from ase_matprop.screening.spaces.base import FormulaBlock

_ROWS_AT_ONCE = 2048  # whose activations stay in the cache of a core


class FormulaScorer:
    """Evaluates a model on columns of formulas.

    Args:
        predictor: a model that needs no structure, whose first property is a number.
        precision: ``"float32"``, or ``"bfloat16"`` for the matrix products of wide layers.  Processors with
            AVX512-BF16, AMX or tensor cores multiply these several times as fast; the values change by some meV/atom
            (docs/scaling.md).

    Raises:
        MatPropError: if the model needs structures or predicts classes, or there is no such precision.
    """

    def __init__(self, predictor: Predictor, precision: str = "float32") -> None:
        card = predictor.card
        if predictor.needs_structure:
            raise MatPropError(
                f"the model {card.name} needs structures; screen prototypes with it, or formulas with elemnet-mp"
            )
        if card.material_property.classes:
            raise MatPropError(f"the model {card.name} predicts classes, and nothing can be cut by these; take another")
        self._predictor = predictor.with_precision(precision)
        self._descriptor = get_descriptor(card.descriptor.name)

    def values(self, block: FormulaBlock) -> NDArray[np.float64]:
        """Return the model's first property of each formula in its unit, the mean over the ensemble, shape (n,).

        Formulas that the descriptor does not cover are NaN.
        """
        values = np.empty(len(block))
        for start in range(0, len(block), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            features = self._features(FormulaBlock(block.numbers[rows], block.amounts[rows]))
            values[rows] = self._predictor.predict_features(features)[:, :, 0].mean(axis=0)
        return values

    def _features(self, block: FormulaBlock) -> NDArray[np.float64]:
        if self._descriptor.name == "fractions":
            return fractions.compute_columns(block.numbers, block.amounts)
        features, _ = self._descriptor.compute(block.compositions())
        return features

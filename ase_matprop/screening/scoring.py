"""Formulas to values at the speed of the network's matrix products: no object per formula."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ase_matprop.descriptors import fractions
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import MatPropError
from ase_matprop.models import Predictor
from ase_matprop.screening.spaces.base import FormulaBlock

#: version of the rule by which :func:`sieve_margin` finds margins
MARGIN_RULE = 1

_ROWS_AT_ONCE = 2048  # whose activations stay in the cache of a core
_SAFETY = 5.0  # changes have a long tail: the largest of 8,192 may be a third of the largest of 60,000
_LEAST_SHARE = 0.05  # of the standard deviation of the values
_LEAST_MARGIN = 1e-3  # rounding of float32, in the unit of the property
_FLOAT32_SHARE = 1e-4  # of the largest value


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


def sieve_margin(predictor: Predictor, precision: str, elements: Iterable[int], sizes: Iterable[int], n: int) -> float:
    """Return how far the values of a sieve may be from those of the predictor, in the unit of the property.

    Five times the largest change over a fixed sample of formulas, but at least 5 % of the standard deviation of their
    values; for float32 what rounding may come to.

    Args:
        predictor: a model that needs no structure, whose first property is a number.
        precision: of the sieve.
        elements: atomic numbers of the elements of the sample.
        sizes: numbers of different elements of its formulas.
        n: number of formulas.
    """
    block = draw_formulas(elements, sizes, n)
    values = FormulaScorer(predictor).values(block)
    finite = values[np.isfinite(values)]
    least = max(_LEAST_MARGIN, _FLOAT32_SHARE * float(np.abs(finite).max(initial=0.0)))
    if precision == "float32" or not len(finite):
        return least
    changes = np.abs(FormulaScorer(predictor, precision).values(block) - values)
    largest = float(changes[np.isfinite(changes)].max(initial=0.0))
    return max(least, _SAFETY * largest, _LEAST_SHARE * float(finite.std()))


def draw_formulas(elements: Iterable[int], sizes: Iterable[int], n: int, seed: int = 0) -> FormulaBlock:
    """Return formulas at random, the same for the same arguments: elements, and 1 to 8 atoms of each."""
    rng = np.random.default_rng(seed)
    known = np.array(sorted(elements), dtype=np.uint8)
    possible = [size for size in sorted(set(sizes)) if size <= len(known)] or [len(known)]
    width = possible[-1]
    chosen = known[rng.random((n, len(known))).argsort(axis=1)[:, :width]]
    absent = np.arange(width) >= rng.choice(possible, n)[:, None]
    numbers = np.sort(np.where(absent, 255, chosen), axis=1)  # atomic numbers in ascending order, zeros last
    numbers = np.where(numbers == 255, 0, numbers).astype(np.uint8)
    return FormulaBlock(numbers, np.where(numbers > 0, rng.integers(1, 9, (n, width)), 0))

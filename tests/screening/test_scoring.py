"""Values of columns of formulas: those of the Predictor, in float32 and nearly so in bfloat16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.data import atomic_numbers

from ase_matprop.descriptors import fractions
from ase_matprop.errors import MatPropError
from ase_matprop.models import Predictor, load_model
from ase_matprop.screening.scoring import FormulaScorer, draw_formulas, sieve_margin
from ase_matprop.screening.spaces.base import FormulaBlock

MODELS = ("elemnet-mp", "irnet17-composition-mp")


def drawn_formulas(predictor: Predictor, n: int, seed: int = 5) -> FormulaBlock:
    """Return formulas of 1 to 4 elements that a model knows, up to 5 atoms of each."""
    rng = np.random.default_rng(seed)
    known = np.array(sorted(predictor.elements))
    numbers, amounts = np.zeros((n, 4), dtype=np.uint8), np.zeros((n, 4), dtype=np.int64)
    for row in range(n):
        size = rng.integers(1, 5)
        numbers[row, :size] = np.sort(rng.choice(known, size, replace=False))
        amounts[row, :size] = rng.integers(1, 6, size)
    return FormulaBlock(numbers, amounts)


def to_block(*formulas: str) -> FormulaBlock:
    """Return formulas of one atom each, with symbols separated by blanks."""
    rows = [sorted(atomic_numbers[symbol] for symbol in formula.split()) for formula in formulas]
    width = max(map(len, rows))
    numbers = np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.uint8)
    return FormulaBlock(numbers, (numbers > 0).astype(np.int64))


@pytest.fixture(scope="module", params=MODELS)
def predictor(request: pytest.FixtureRequest) -> Predictor:
    return load_model(request.param)


def test_values_in_float32_are_those_of_the_predictor(predictor: Predictor) -> None:
    block = drawn_formulas(predictor, 500)
    values = FormulaScorer(predictor).values(block)
    expected = predictor.predict(block.formulas()).values
    assert values.shape == (500,) and values.dtype == np.float64
    np.testing.assert_allclose(values, expected, atol=1e-5)


def margin_of(predictor: Predictor, precision: str) -> float:
    return sieve_margin(predictor, precision, predictor.elements, (1, 2, 3, 4), 1024)


def test_margins_are_those_of_the_model(predictor: Predictor) -> None:
    assert 1e-3 <= margin_of(predictor, "float32") < 0.01 < margin_of(predictor, "bfloat16") < 0.3
    assert margin_of(predictor, "bfloat16") == margin_of(predictor, "bfloat16")


def test_margins_cover_the_largest_changes_of_a_shipped_model() -> None:
    """Over 60,000 quaternaries the values of elemnet-oqmd change by 0.055 eV/atom at most."""
    predictor = load_model("elemnet-oqmd")
    assert sieve_margin(predictor, "bfloat16", predictor.elements, [4], 8192) > 0.055


def test_formulas_are_drawn_as_they_are_asked_for() -> None:
    block = draw_formulas([3, 8, 26, 11], [2, 3], 500)
    sizes = (block.numbers > 0).sum(axis=1)
    assert set(sizes) == {2, 3} and ((block.amounts > 0) == (block.numbers > 0)).all()
    assert set(block.numbers.ravel()) == {0, 3, 8, 11, 26} and set(block.amounts.ravel()) == set(range(9))
    for row, size in zip(block.numbers.tolist(), sizes, strict=True):
        assert row[:size] == sorted(set(row[:size])) and not any(row[size:])
    again = draw_formulas([26, 11, 3, 8], [3, 2], 500)
    np.testing.assert_array_equal(again.numbers, block.numbers)
    assert draw_formulas([3, 8], [4, 5], 10).numbers.shape == (10, 2)


def test_values_in_bfloat16_change_by_some_mev(predictor: Predictor) -> None:
    block = drawn_formulas(predictor, 1500)
    changes = np.abs(FormulaScorer(predictor, "bfloat16").values(block) - FormulaScorer(predictor).values(block))
    assert 0.0 < changes.mean() < 0.002
    assert changes.max() < margin_of(predictor, "bfloat16")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_at_a_time_is_all_at_once(predictor: Predictor, precision: str) -> None:
    scorer = FormulaScorer(predictor, precision)
    block = drawn_formulas(predictor, 40)
    one_by_one = [scorer.values(block.take(np.array([row])))[0] for row in range(len(block))]
    # the order of a sum in bfloat16 depends on the size of a batch
    tolerance = 1e-5 if precision == "float32" else margin_of(predictor, "bfloat16")
    np.testing.assert_allclose(one_by_one, scorer.values(block), atol=tolerance)


def test_batches_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load_model("elemnet-mp")
    block = drawn_formulas(predictor, 101)
    expected = FormulaScorer(predictor).values(block)
    for rows in (1, 50, 100, 101, 1000):
        monkeypatch.setattr("ase_matprop.screening.scoring._ROWS_AT_ONCE", rows)
        np.testing.assert_allclose(FormulaScorer(predictor).values(block), expected, atol=1e-5)
    assert FormulaScorer(predictor).values(block.take(np.array([], dtype=np.int64))).shape == (0,)


def test_padding_changes_nothing(predictor: Predictor) -> None:
    block = drawn_formulas(predictor, 50)
    wide = FormulaBlock(np.pad(block.numbers, ((0, 0), (0, 3))), np.pad(block.amounts, ((0, 0), (0, 3))))
    scorer = FormulaScorer(predictor)
    np.testing.assert_allclose(scorer.values(wide), scorer.values(block), atol=1e-5)


def test_multiples_of_a_formula_are_the_same(predictor: Predictor) -> None:
    block = drawn_formulas(predictor, 50)
    scorer = FormulaScorer(predictor)
    other = FormulaBlock(block.numbers, 2.5 * block.amounts)
    np.testing.assert_allclose(scorer.values(other), scorer.values(block), atol=1e-5)


def test_columns_of_fractions_are_those_of_amounts() -> None:
    rng = np.random.default_rng(0)
    numbers = np.zeros((300, 5), dtype=np.uint8)
    for row in range(300):
        size = rng.integers(1, 6)
        numbers[row, :size] = np.sort(rng.choice(np.arange(1, 100), size, replace=False))
    block = FormulaBlock(numbers, np.where(numbers > 0, rng.random((300, 5)) + 0.1, 0.0))
    expected, errors = fractions.compute_amounts(block.compositions())
    found = fractions.compute_columns(block.numbers, block.amounts)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    uncovered = np.array([error is not None for error in errors])
    assert uncovered.any() and not uncovered.all()
    assert np.isnan(found[uncovered]).all() and np.isfinite(found[~uncovered]).all()


def test_formulas_that_the_descriptor_does_not_cover_are_nan() -> None:
    scorer = FormulaScorer(load_model("elemnet-mp"))
    values = scorer.values(to_block("Na Cl", "He", "Fe O He", "Cm", "Fe O"))
    assert np.isnan(values).tolist() == [False, True, True, True, False]


def test_the_predictor_stays_as_it_is() -> None:
    predictor = load_model("elemnet-mp")
    before = predictor.predict(["NaCl", "Fe2O3"]).values
    rounded = predictor.with_precision("bfloat16")
    block = to_block("Na Cl")
    features = fractions.compute_columns(block.numbers, block.amounts)
    assert rounded is not predictor and predictor.with_precision("float32") is predictor
    assert rounded.predict_features(features) != pytest.approx(predictor.predict_features(features), abs=1e-9)
    np.testing.assert_array_equal(predictor.predict(["NaCl", "Fe2O3"]).values, before)
    assert rounded.card is predictor.card


def test_precisions_that_cannot_be_had(schnet_model: Path) -> None:
    with pytest.raises(MatPropError, match="precision must be one of float32, bfloat16. Got 'float16'"):
        FormulaScorer(load_model("elemnet-mp"), "float16")
    with pytest.raises(MatPropError, match="float32 only"):
        load_model(schnet_model).with_precision("bfloat16")


def test_models_that_cannot_score_formulas(structure_model: Path, classifier_model: Path) -> None:
    with pytest.raises(MatPropError, match="structural needs structures; screen prototypes with it, or formulas with"):
        FormulaScorer(load_model(structure_model))
    with pytest.raises(MatPropError, match="classifier predicts classes, and nothing can be cut by these"):
        FormulaScorer(load_model(classifier_model))


def test_the_first_of_several_properties(two_property_model: Path) -> None:
    predictor = load_model(two_property_model)
    values = FormulaScorer(predictor).values(to_block("Na Cl", "Mg O"))
    np.testing.assert_allclose(values, predictor.predict(["NaCl", "MgO"]).values, atol=1e-5)

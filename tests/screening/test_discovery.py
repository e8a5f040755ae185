"""The measures of discovery, against numbers worked out by hand and scikit-learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn import metrics

from ase_matprop.errors import MatPropError
from ase_matprop.screening.discovery import (
    cumulative_precision_recall,
    discovery_metrics,
    draw_discovery,
    precision_recall_curve,
)

# ten compounds, four of them stable; five selected, three of these rightly
TRUE = [-0.1, 0.0, -0.05, -0.02, 0.1, 0.2, 0.05, 0.3, 0.4, 0.01]
PRED = [-0.2, -0.1, 0.0, 0.1, -0.05, 0.3, -0.01, 0.2, 0.5, 0.02]


def random_pairs(n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    true = rng.normal(0.1, 0.15, n)
    return true, np.round(true + rng.normal(0.0, 0.1, n), 2)  # rounded, so that there are equal predictions


def test_numbers_worked_by_hand() -> None:
    found = discovery_metrics(TRUE, PRED)
    assert (found.n, found.n_missing) == (10, 0)
    counts = (found.true_positives, found.false_positives, found.true_negatives, found.false_negatives)
    assert counts == (3, 2, 4, 1)
    assert found.prevalence == pytest.approx(0.4)
    assert found.precision == pytest.approx(3 / 5) and found.recall == pytest.approx(3 / 4)
    assert found.fpr == pytest.approx(2 / 6) and found.tnr == pytest.approx(4 / 6)
    assert found.f1 == pytest.approx(2 * 0.6 * 0.75 / 1.35) and found.accuracy == pytest.approx(0.7)
    assert found.daf == pytest.approx(1.5)
    assert found.mae == pytest.approx(0.089)  # .1 .1 .05 .12 .15 .1 .06 .1 .1 .01
    # squares: .01 .01 .0025 .0144 .0225 .01 .0036 .01 .01 .0001
    assert found.rmse == pytest.approx(math.sqrt(0.0931 / 10))
    # the mean is .089, the squares sum to .3155, so that the variance times n is .3155 - 10 * .089^2
    assert found.r2 == pytest.approx(1 - 0.0931 / (0.3155 - 10 * 0.089**2))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.1])
def test_agrees_with_scikit_learn(threshold: float) -> None:
    true, pred = random_pairs()
    found = discovery_metrics(true, pred, threshold)
    stable, selected = true <= threshold, pred <= threshold
    assert found.precision == pytest.approx(metrics.precision_score(stable, selected))
    assert found.recall == pytest.approx(metrics.recall_score(stable, selected))
    assert found.f1 == pytest.approx(2 * found.precision * found.recall / (found.precision + found.recall))
    assert found.tnr == pytest.approx(metrics.recall_score(~stable, ~selected))
    assert found.fpr == pytest.approx(1 - found.tnr)
    assert found.daf == pytest.approx(metrics.precision_score(stable, selected) / stable.mean())
    assert found.threshold == threshold


def test_curve_is_that_of_scikit_learn() -> None:
    true, pred = random_pairs()
    curve = precision_recall_curve(true, pred)
    precision, recall, scores = metrics.precision_recall_curve(true <= 0, -pred)
    np.testing.assert_allclose(curve["cut"], -scores[::-1])
    np.testing.assert_allclose(curve["precision"], precision[:-1][::-1])
    np.testing.assert_allclose(curve["recall"], recall[:-1][::-1])
    for row in curve.iloc[[0, 20, 50, -1]].itertuples():
        expected = discovery_metrics(true, pred, cut=row.cut)
        assert (row.n_selected, row.false_alarms) == (
            expected.true_positives + expected.false_positives,
            expected.false_positives,
        )
        assert row.f1 == pytest.approx(expected.f1)


def test_cumulative_numbers_by_rank() -> None:
    ranked = cumulative_precision_recall(TRUE, PRED)
    assert ranked["index"].tolist() == [0, 1, 4, 6, 2, 9, 3, 7, 5, 8]
    assert ranked["n_stable"].tolist() == [1, 2, 2, 2, 3, 3, 4, 4, 4, 4]
    np.testing.assert_allclose(ranked["precision"].head(5), [1, 1, 2 / 3, 1 / 2, 3 / 5])
    np.testing.assert_allclose(ranked["recall"].head(5), [0.25, 0.5, 0.5, 0.5, 0.75])
    same = cumulative_precision_recall([0.1, -0.1, 0.1], [0.0, 0.0, 0.0])
    assert same["index"].tolist() == [0, 1, 2]


def test_what_is_undefined_is_nan() -> None:
    none_stable = discovery_metrics([0.1, 0.2], [-0.1, 0.3])
    assert math.isnan(none_stable.recall) and math.isnan(none_stable.daf)
    assert (none_stable.prevalence, none_stable.precision, none_stable.f1) == (0.0, 0.0, 0.0)
    none_selected = discovery_metrics([-0.1, 0.2], [0.1, 0.3])
    assert math.isnan(none_selected.precision) and math.isnan(none_selected.daf)
    assert (none_selected.recall, none_selected.f1) == (0.0, 0.0)
    all_stable = discovery_metrics([-0.1, -0.2], [-0.1, 0.3])
    assert math.isnan(all_stable.fpr) and math.isnan(all_stable.tnr) and all_stable.daf == 1.0
    assert math.isnan(discovery_metrics([0.1, 0.2], [0.1, 0.2]).f1)
    assert math.isnan(discovery_metrics([0.1], [0.1]).r2)
    assert np.isnan(precision_recall_curve([0.1, 0.2], [0.1, 0.2])["recall"]).all()
    assert np.isnan(cumulative_precision_recall([0.1, 0.2], [0.1, 0.2])["recall"]).all()


def test_compound_without_prediction_counts_as_unstable() -> None:
    found = discovery_metrics([-0.1, -0.2, 0.3], [-0.1, np.nan, np.nan])
    assert (found.n_missing, found.true_positives, found.false_negatives, found.true_negatives) == (2, 1, 1, 1)
    assert found.recall == 0.5 and found.mae == 0.0
    assert precision_recall_curve([-0.1, -0.2], [0.1, np.nan])["recall"].tolist() == [0.5]
    assert cumulative_precision_recall([-0.1, -0.2], [np.nan, 0.1])["index"].tolist() == [1]
    assert math.isnan(discovery_metrics([-0.1], [np.nan]).mae)


@pytest.mark.parametrize(
    ("true", "pred", "message"),
    [
        ([], [], "no compound"),
        ([0.1], [0.1, 0.2], "1 calculated and 2 predicted"),
        ([0.1, np.nan], [0.1, 0.2], "calculated hull distance 1 is nan"),
        ([0.1, 0.2], [0.1, np.inf], "predicted hull distance 1 is inf"),
        ([[0.1]], [[0.1]], "shape \\(1, 1\\)"),
        (["low"], [0.1], "calculated hull distances are no numbers"),
    ],
)
def test_bad_input_is_named(true: list, pred: list, message: str) -> None:
    with pytest.raises(MatPropError, match=message):
        discovery_metrics(true, pred)


def test_bad_threshold_and_no_predictions() -> None:
    with pytest.raises(MatPropError, match="threshold"):
        discovery_metrics([0.1], [0.1], math.nan)
    for function in (precision_recall_curve, cumulative_precision_recall):
        with pytest.raises(MatPropError, match="none of the compounds"):
            function([0.1], [np.nan])


def test_figure_is_written(tmp_path: Path) -> None:
    true, pred = random_pairs()
    draw_discovery(true, pred, tmp_path / "curve.png", title="Ti-O")
    picture = imread(tmp_path / "curve.png")
    assert picture.shape[:2] == (660, 1425) and picture[..., :3].std() > 0.05
    draw_discovery([0.1], [0.2], tmp_path / "one.png")

"""How well predicted hull distances find stable compounds: the measures of Matbench Discovery.

J. Riebesell et al., "A framework to evaluate machine learning crystal stability predictions", Nat. Mach. Intell. 7,
836-847 (2025), doi:10.1038/s42256-025-01055-1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics

from ase_matprop.errors import MatPropError

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[np.float64]


@dataclass(frozen=True)
class DiscoveryMetrics:
    """Quality of a selection of stable compounds by predicted hull distance.

    A measure that is a quotient is NaN where its denominator is zero: ``recall`` and ``daf`` where nothing is stable,
    ``fpr`` and ``tnr`` where everything is, ``precision`` and ``daf`` where nothing was selected, ``f1`` where both
    nothing is stable and nothing was selected.  (Matbench Discovery's own code makes F1 NaN too where no selected
    compound is stable; here it is 0 then, as in scikit-learn.)

    Attributes:
        n: number of compounds.
        n_missing: those without a prediction (NaN): they count as predicted unstable, and not in mae, rmse and r2.
        threshold: greatest hull distance of a compound that counts as stable, eV/atom.
        prevalence: share of the compounds that are stable.
        true_positives: stable ones that were selected.
        false_positives: others that were selected, the false alarms.
        true_negatives: others that were not.
        false_negatives: stable ones that were missed.
        precision: share of the selected ones that are stable.
        recall: share of the stable ones that were selected, the true positive rate.
        fpr: share of the unstable ones that were selected, the false positive rate.
        tnr: share of the unstable ones that were not selected.
        f1: harmonic mean of precision and recall.
        accuracy: share of the compounds on the right side.
        daf: discovery acceleration factor, precision / prevalence: how many times as many stable compounds are found
            as with a selection by chance.
        mae: mean absolute error of the hull distance, eV/atom; NaN without any prediction.
        rmse: root of the mean squared error, eV/atom; NaN without any prediction.
        r2: coefficient of determination; NaN for fewer than two predictions.
    """

    n: int
    n_missing: int
    threshold: float
    prevalence: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    precision: float
    recall: float
    fpr: float
    tnr: float
    f1: float
    accuracy: float
    daf: float
    mae: float
    rmse: float
    r2: float


def discovery_metrics(
    e_above_hull_true: ArrayLike, e_above_hull_pred: ArrayLike, threshold: float = 0.0, cut: float | None = None
) -> DiscoveryMetrics:
    """Return how well a predicted hull distance selects the stable compounds.

    Args:
        e_above_hull_true: calculated hull distances, eV/atom, shape (n,).
        e_above_hull_pred: predicted ones, NaN where there is no prediction, shape (n,).
        threshold: a compound is stable if its calculated hull distance is not greater, eV/atom.
        cut: a compound is selected if its predicted hull distance is not greater, eV/atom; the threshold by default.

    Raises:
        MatPropError: if there is no compound, the shapes differ, or a calculated value is not finite.
    """
    true, pred = _checked(e_above_hull_true, e_above_hull_pred, threshold)
    stable = true <= threshold
    selected = pred <= (threshold if cut is None else cut)
    (tn, fp), (fn, tp) = metrics.confusion_matrix(stable, selected, labels=[False, True]).tolist()
    precision = _ratio(tp, tp + fp)
    prevalence = _ratio(tp + fn, len(true))
    known = ~np.isnan(pred)
    true, pred = true[known], pred[known]
    return DiscoveryMetrics(
        n=len(stable),
        n_missing=int((~known).sum()),
        threshold=float(threshold),
        prevalence=prevalence,
        true_positives=tp,
        false_positives=fp,
        true_negatives=tn,
        false_negatives=fn,
        precision=precision,
        recall=_ratio(tp, tp + fn),
        fpr=_ratio(fp, fp + tn),
        tnr=_ratio(tn, fp + tn),
        f1=float(metrics.f1_score(stable, selected, zero_division=np.nan)),
        accuracy=float(metrics.accuracy_score(stable, selected)),
        daf=_ratio(precision, prevalence),
        mae=float(metrics.mean_absolute_error(true, pred)) if len(true) else math.nan,
        rmse=float(metrics.root_mean_squared_error(true, pred)) if len(true) else math.nan,
        r2=float(metrics.r2_score(true, pred)) if len(true) > 1 else math.nan,
    )


def precision_recall_curve(
    e_above_hull_true: ArrayLike, e_above_hull_pred: ArrayLike, threshold: float = 0.0
) -> pd.DataFrame:
    """Return precision and recall against the cut on the predicted hull distance.

    Args:
        e_above_hull_true: calculated hull distances, eV/atom, shape (n,).
        e_above_hull_pred: predicted ones, eV/atom, shape (n,); a compound with NaN is never selected.
        threshold: a compound is stable if its calculated hull distance is not greater, eV/atom.

    Returns:
        A row for each distinct predicted value as the cut, ascending, with the columns cut (eV/atom), n_selected,
        false_alarms, precision, recall and f1; recall is NaN where nothing is stable.

    Raises:
        MatPropError: as for :func:`discovery_metrics`, and if there is no prediction.
    """
    import pandas as pd

    true, pred = _checked(e_above_hull_true, e_above_hull_pred, threshold)
    known = ~np.isnan(pred)
    if not known.any():
        raise MatPropError("none of the compounds has a predicted hull distance, so that there is no curve")
    stable = true <= threshold
    cuts, counts = np.unique(pred[known], return_counts=True)
    selected = counts.cumsum()
    found = np.bincount(np.searchsorted(cuts, pred[known]), weights=stable[known], minlength=len(cuts)).cumsum()
    n_stable = stable.sum()
    precision = found / selected
    recall = found / n_stable if n_stable else np.full(len(cuts), np.nan)
    return pd.DataFrame(
        {
            "cut": cuts,
            "n_selected": selected,
            "false_alarms": selected - found.astype(int),
            "precision": precision,
            "recall": recall,
            "f1": 2.0 * found / (selected + n_stable),
        }
    )


def cumulative_precision_recall(
    e_above_hull_true: ArrayLike, e_above_hull_pred: ArrayLike, threshold: float = 0.0
) -> pd.DataFrame:
    """Return precision and recall of the first k compounds, ordered by predicted hull distance, for each k.

    What a laboratory sees that works through the list.  Compounds of equal prediction keep the order in which they
    were given; those without one are not in the list.

    Args:
        e_above_hull_true: calculated hull distances, eV/atom, shape (n,).
        e_above_hull_pred: predicted ones, eV/atom, shape (n,).
        threshold: a compound is stable if its calculated hull distance is not greater, eV/atom.

    Returns:
        A table with the columns rank (from 1), index (place in the input), e_above_hull_pred, n_stable (found up to
        this rank), precision and recall.

    Raises:
        MatPropError: as for :func:`precision_recall_curve`.
    """
    import pandas as pd

    true, pred = _checked(e_above_hull_true, e_above_hull_pred, threshold)
    order = np.argsort(pred, kind="stable")[: int((~np.isnan(pred)).sum())]
    if not len(order):
        raise MatPropError("none of the compounds has a predicted hull distance, so that there is no list")
    stable = true <= threshold
    found = stable[order].cumsum()
    rank = np.arange(1, len(order) + 1)
    return pd.DataFrame(
        {
            "rank": rank,
            "index": order,
            "e_above_hull_pred": pred[order],
            "n_stable": found,
            "precision": found / rank,
            "recall": found / stable.sum() if stable.any() else np.full(len(order), np.nan),
        }
    )


def draw_discovery(
    e_above_hull_true: ArrayLike,
    e_above_hull_pred: ArrayLike,
    path: str | Path | BinaryIO,
    threshold: float = 0.0,
    title: str = "",
) -> None:
    """Draw precision, recall and F1 against the cut, and precision and recall against the rank, as PNG.

    Args:
        e_above_hull_true: calculated hull distances, eV/atom, shape (n,).
        e_above_hull_pred: predicted ones, eV/atom, shape (n,).
        path: file to write.
        threshold: a compound is stable if its calculated hull distance is not greater, eV/atom.
        title: title of the figure.

    Raises:
        MatPropError: as for :func:`precision_recall_curve`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    true, pred = _checked(e_above_hull_true, e_above_hull_pred, threshold)
    curve = precision_recall_curve(true, pred, threshold)
    ranked = cumulative_precision_recall(true, pred, threshold)
    prevalence = float((true <= threshold).mean())
    figure = Figure(figsize=(9.5, 4.4), layout="constrained")
    by_cut, by_rank = figure.subplots(1, 2, sharey=True)
    for name, label in (("precision", "precision"), ("recall", "recall"), ("f1", "F1")):
        by_cut.step(curve["cut"], curve[name], where="post", label=label)
    by_cut.axvline(threshold, color="grey", lw=0.8, ls="--", label="threshold of stability")
    by_cut.set(xlabel="cut on the predicted hull distance (eV/atom)", xlim=_shown_cuts(curve["cut"].to_numpy(), true))
    n_selected = int((pred <= threshold).sum())
    for name in ("precision", "recall"):
        by_rank.plot(ranked["rank"], ranked[name], label=name)
    if n_selected:
        by_rank.axvline(n_selected, color="grey", lw=0.8, ls="--", label="predicted to be stable")
    by_rank.set(xlabel="rank by predicted hull distance", xscale="log")
    by_rank.xaxis.set_major_formatter("{x:,.0f}")
    for axes in (by_cut, by_rank):
        axes.axhline(prevalence, color="black", lw=0.8, ls=":", label=f"precision by chance ({prevalence:.2g})")
        axes.set_ylim(-0.02, 1.02)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    if title:
        figure.suptitle(title)
    FigureCanvasAgg(figure)  # no pyplot: nothing global, no display
    figure.savefig(path, dpi=150, format="png")


def _shown_cuts(cuts: Values, true: Values) -> tuple[float, float]:
    """Return limits of the axis within which something happens, without the far tail of hopeless compounds."""
    low, high = float(cuts[0]), float(np.percentile(np.append(cuts, true), 95.0))
    margin = 0.03 * (high - low) or 0.05
    return low - margin, max(high, low) + margin


def _checked(true: ArrayLike, pred: ArrayLike, threshold: float) -> tuple[Values, Values]:
    first, second = _numbers(true, "calculated"), _numbers(pred, "predicted")
    if first.shape != second.shape:
        raise MatPropError(f"there are {len(first)} calculated and {len(second)} predicted hull distances; give pairs")
    if not len(first):
        raise MatPropError("there is no compound to measure with; give at least one hull distance")
    if not np.isfinite(first).all():
        place = int(np.flatnonzero(~np.isfinite(first))[0])
        raise MatPropError(f"the calculated hull distance {place} is {first[place]}; leave such compounds out")
    if np.isinf(second).any():
        place = int(np.flatnonzero(np.isinf(second))[0])
        raise MatPropError(f"the predicted hull distance {place} is {second[place]}; give NaN where there is none")
    if not math.isfinite(threshold):
        raise MatPropError(f"the threshold of stability must be a finite number in eV/atom, not {threshold}")
    return first, second


def _numbers(values: Any, kind: str) -> Values:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise MatPropError(f"the {kind} hull distances are no numbers; give them in eV/atom") from None
    if numbers.ndim != 1:
        raise MatPropError(f"the {kind} hull distances have the shape {numbers.shape}; give one number per compound")
    return numbers


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan

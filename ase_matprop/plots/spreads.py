"""Whether errors are as large as a spread or a distance says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ase_matprop.plots import style
from ase_matprop.plots.numbers import Values, pairs

_ROWS_PER_BIN, _MOST_BINS = 10, 20


def calibration(
    errors: ArrayLike,
    spreads: ArrayLike,
    *,
    unit: str,
    title: str | None = None,
    spread_name: str = "spread",
    spread_unit: str | None = None,
    backend: style.Backend = "matplotlib",
) -> Any:
    """Return a figure of the mean absolute error against the mean spread, in bins of equally many rows.

    Rows are sorted by their spread and cut into up to 20 bins of at least 10.  Vertical lines go from the lower to the
    upper quartile of the absolute errors in a bin.  On the diagonal errors are as large as the spread; where the spread
    has another unit, such as a distance to the training set, there is none.  The corner has Spearman's rank
    correlation of all rows, 1 where a larger spread always means a larger error.

    Args:
        errors: with or without their sign, shape (n,); rows without error or spread are left out.
        spreads: spread, disagreement or distance, shape (n,).
        unit: of the errors.
        title: of the figure.
        spread_name: what the spreads are called.
        spread_unit: unit of the spreads; that of the errors by default, ``""`` for none.
        backend: ``"matplotlib"`` or ``"plotly"``.

    Returns:
        ``matplotlib.figure.Figure`` or ``plotly.graph_objects.Figure``.

    Raises:
        MatPropError: for values that are no numbers, columns of different length, or no row with both.
        MissingDependencyError: for ``backend="plotly"`` without Plotly.
    """
    given, spread, known = pairs(errors, spreads, ("errors", "spreads"))
    if not known.any():
        raise style.nothing_to_draw(f"none of the {len(known)} rows has an error and a {spread_name}")
    bins = _bins(np.abs(given[known]), spread[known])
    own_unit = unit if spread_unit is None else spread_unit
    text = f"{_rank_correlation(np.abs(given[known]), spread[known])}\n{int(known.sum()):,} rows"
    labels = style.with_unit(f"mean {spread_name}", own_unit), style.with_unit("mean absolute error", unit)
    comparable = own_unit == unit
    logarithmic = bool((bins[:2] > 0.0).all()) and comparable
    draw = _plotly if style.is_plotly(backend) else _matplotlib
    return draw(bins, labels, text, title, comparable, logarithmic)


def _bins(errors: Values, spreads: Values) -> Values:
    """Return mean spread, mean error, lower and upper quartile of the errors of each bin, shape (4, n_bins)."""
    order = np.argsort(spreads, kind="stable")
    n = int(np.clip(len(order) // _ROWS_PER_BIN, 1, _MOST_BINS))
    parts = np.array_split(order, n)
    quartiles = np.array([np.percentile(errors[part], [25.0, 75.0]) for part in parts]).T
    means = [[values[part].mean() for part in parts] for values in (spreads, errors)]
    return np.concatenate([np.array(means), quartiles])


def _rank_correlation(errors: Values, spreads: Values) -> str:
    if len(errors) < 3 or np.ptp(errors) == 0.0 or np.ptp(spreads) == 0.0:
        return "Spearman: none, too few different values"
    from scipy.stats import spearmanr

    return f"Spearman {spearmanr(spreads, errors)[0]:.2f}"


def _diagonal(bins: Values, logarithmic: bool) -> tuple[float, float]:
    low = float(bins[:2].min()) if logarithmic else 0.0
    return low, float(bins[:2].max())


def _matplotlib(
    bins: Values, labels: tuple[str, str], text: str, title: str | None, comparable: bool, logarithmic: bool
) -> Any:
    figure = style.new_figure(5.4, 4.4)
    axes = figure.add_subplot()
    x, y, low, high = bins
    axes.vlines(x, low, high, color=style.COLOURS[0], lw=1.0, alpha=0.5, label="middle half of the rows")
    axes.plot(x, y, "o", color=style.COLOURS[0], label="mean of a bin")
    if comparable:
        ends = _diagonal(bins, logarithmic)
        axes.plot(ends, ends, "--", color=style.NEUTRAL, label="error as large as the spread")
    if logarithmic:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        style.label_logarithmic(axes)
        left, right = axes.get_xlim()
        if right < 20.0 * left:
            axes.xaxis.set_minor_formatter("{x:g}")
            axes.tick_params(axis="x", which="both", rotation=45)
        else:
            from matplotlib.ticker import NullFormatter

            axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0.0)
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.set_title(title or "", fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    return figure


def _plotly(
    bins: Values, labels: tuple[str, str], text: str, title: str | None, comparable: bool, logarithmic: bool
) -> Any:
    figure = style.plotly_objects().Figure()
    x, y, low, high = bins
    if comparable:
        ends = _diagonal(bins, logarithmic)
        figure.add_scatter(
            x=ends, y=ends, mode="lines", line={"color": style.NEUTRAL, "dash": "dash"},
            name="error as large as the spread", hoverinfo="skip",
        )  # fmt: skip
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"color": style.COLOURS[0], "size": 9},
        error_y={"symmetric": False, "array": high - y, "arrayminus": y - low, "thickness": 1, "width": 0},
        name="mean of a bin, line: middle half of its rows",
        showlegend=True,
        hovertemplate=f"{labels[0]}: %{{x:.4g}}<br>{labels[1]}: %{{y:.4g}}<extra></extra>",
    )
    style.lay_out(figure, title, *labels)
    if logarithmic:
        figure.update_xaxes(type="log", tickformat="~g", dtick="D2")
        figure.update_yaxes(type="log", tickformat="~g", dtick="D2")
    else:
        figure.update_yaxes(rangemode="tozero")
    style.corner_text(figure, text)
    return figure

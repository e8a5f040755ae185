"""Distribution of errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ase_matprop.plots import style
from ase_matprop.plots.numbers import Values, column

_LEVELS = (0.5, 0.9)  # the median and the 90th percentile


def error_cdf(
    errors: Mapping[str, ArrayLike],
    *,
    unit: str,
    title: str | None = None,
    marks: Mapping[str, float] | None = None,
    backend: style.Backend = "matplotlib",
) -> Any:
    """Return a figure of the share of rows whose absolute error is at most so large, a curve per model.

    The dotted lines are at the median and the 90th percentile (thesis of D. Jha, Figures 3.4 and 4.5).  The error axis
    is logarithmic, unless no row has any error: rows without error are in the height at which a curve begins.

    Args:
        errors: name of a model -> errors with or without their sign, shape (n,); NaN is left out.
        unit: of the errors.
        title: of the figure.
        marks: names of errors that mean something, and their sizes in ``unit``; a vertical line each.
        backend: ``"matplotlib"`` or ``"plotly"``.

    Returns:
        ``matplotlib.figure.Figure`` or ``plotly.graph_objects.Figure``.

    Raises:
        MatPropError: for errors that are no numbers, or no model with a single one.
        MissingDependencyError: for ``backend="plotly"`` without Plotly.
    """
    ordered = {name: _ordered(values, name) for name, values in errors.items()}
    ordered = {name: values for name, values in ordered.items() if len(values)}
    if not ordered:
        raise style.nothing_to_draw("no model has an error")
    labels = [f"{name} (mean {values.mean():.3g})" for name, values in ordered.items()]
    bounds = _bounds(np.concatenate(list(ordered.values())), marks or {})
    text = style.with_unit("absolute error", unit)
    draw = _plotly if style.is_plotly(backend) else _matplotlib
    return draw(list(ordered.values()), labels, bounds, text, title, marks or {})


def _ordered(values: ArrayLike, name: str) -> Values:
    found = np.abs(column(values, f"the errors of {name}"))
    return np.sort(found[np.isfinite(found)])


def _bounds(everything: Values, marks: Mapping[str, float]) -> tuple[float, float]:
    positive = everything[everything > 0.0]
    if not len(positive) and not marks:
        return 0.0, 1.0
    low, high = np.percentile(positive, [2.0, 99.8]) if len(positive) else (0.1, 1.0)
    for size in marks.values():
        low, high = min(low, 0.8 * size), max(high, 1.25 * size)
    return float(low), float(max(high, 1.01 * low))


def _matplotlib(
    curves: list[Values],
    labels: list[str],
    bounds: tuple[float, float],
    text: str,
    title: str | None,
    marks: Mapping[str, float],
) -> Any:
    figure = style.new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    for number, (values, label) in enumerate(zip(curves, labels, strict=True)):
        turn, place = divmod(number, len(style.COLOURS))
        axes.ecdf(values, color=style.COLOURS[place], ls=style.DASHES[turn % len(style.DASHES)], label=label)
    for share in _LEVELS:
        axes.axhline(share, color="black", lw=0.8, ls=":")
    for name, size in marks.items():
        axes.axvline(size, color="black", lw=0.8, ls="--", label=name)
    axes.set(xlabel=text, ylabel="share of the rows", xlim=bounds, ylim=(0.0, 1.02))
    axes.set_xscale("log" if bounds[0] > 0.0 else "linear")
    axes.set_title(title or "", fontsize="medium")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small", loc="upper left")
    return figure


def _plotly(
    curves: list[Values],
    labels: list[str],
    bounds: tuple[float, float],
    text: str,
    title: str | None,
    marks: Mapping[str, float],
) -> Any:
    figure = style.plotly_objects().Figure()
    for number, (values, label) in enumerate(zip(curves, labels, strict=True)):
        turn, place = divmod(number, len(style.COLOURS))
        dash = style.PLOTLY_DASHES[turn % len(style.PLOTLY_DASHES)]
        figure.add_scatter(
            x=values,
            y=np.arange(1, len(values) + 1) / len(values),
            mode="lines" if len(values) > 1 else "markers",
            line={"color": style.COLOURS[place], "dash": dash, "shape": "hv"},
            marker={"color": style.COLOURS[place]},
            name=label,
            showlegend=True,
            hovertemplate="%{y:.1%} of the rows: at most %{x:.4g}<extra></extra>",
        )
    style.lay_out(figure, title, text, "share of the rows")
    if bounds[0] > 0.0:
        grid = {"dtick": "D1", "showgrid": True}
        figure.update_xaxes(type="log", range=np.log10(bounds).tolist(), dtick=1, minor=grid)
    figure.update_xaxes(tickformat="~g")
    figure.update_yaxes(range=[0.0, 1.02], tickformat=".0%")
    for share in _LEVELS:
        figure.add_hline(y=share, line={"color": style.NEUTRAL, "width": 1, "dash": "dot"})
    for name, size in marks.items():
        figure.add_vline(x=size, line={"color": style.NEUTRAL, "width": 1, "dash": "dash"})
        # an annotation of add_vline would take the size for its logarithm
        figure.add_annotation(
            x=float(np.log10(size)), y=0.02, text=name, textangle=-90, showarrow=False, xanchor="left", yanchor="bottom"
        )
    return figure

"""Errors against the number of training rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ase_matprop.errors import MatPropError
from ase_matprop.plots import style
from ase_matprop.plots.numbers import Values, column


@dataclass(frozen=True, eq=False)
class Line:
    """What was measured with several numbers of rows: means, and standard deviations, NaN for a single repeat."""

    sizes: Values
    means: Values
    deviations: Values


def learning_curve(
    sizes: ArrayLike,
    errors: Mapping[str, ArrayLike],
    *,
    unit: str,
    title: str | None = None,
    level: float | None = None,
    backend: style.Backend = "matplotlib",
) -> Any:
    """Return a figure of the error against the number of training rows, both on logarithmic scales.

    Args:
        sizes: numbers of training rows, shape (n,).
        errors: name of a line -> mean absolute errors, shape (n,), or (n, k) for k repeats with other seeds: the line
            is their mean then, and a band shows one standard deviation on either side.  NaN where nothing was measured.
        unit: of the errors.
        title: of the figure.
        level: error without any training row, a horizontal line.
        backend: ``"matplotlib"`` or ``"plotly"``.

    Returns:
        ``matplotlib.figure.Figure`` or ``plotly.graph_objects.Figure``.

    Raises:
        MatPropError: for numbers of rows that are not positive, errors of another shape, or no error at all.
        MissingDependencyError: for ``backend="plotly"`` without Plotly.
    """
    rows = column(sizes, "numbers of training rows")
    if not (np.isfinite(rows) & (rows > 0.0)).all():
        raise MatPropError(f"numbers of training rows must be positive; got {rows.tolist()}")
    lines = {name: line for name, each in errors.items() if len((line := _line(rows, each, name)).sizes)}
    if not lines:
        raise style.nothing_to_draw("no line has an error")
    text = style.with_unit("mean absolute error", unit)
    if style.is_plotly(backend):
        return _plotly(lines, text, title, level)
    figure = style.new_figure(6.0, 4.4)
    axes = figure.add_subplot()
    draw_lines(axes, lines, text, level)
    axes.legend(fontsize="small")
    axes.set_title(title or "", fontsize="medium")
    return figure


def draw_lines(
    axes: Axes, lines: Mapping[str, Line], text: str, level: float | None = None, *, logarithmic: bool = True
) -> None:
    """Draw lines with their bands into axes of matplotlib.

    Args:
        axes: where to.
        lines: by name.
        text: what was measured, with its unit.
        level: what was measured without training rows, a horizontal line.
        logarithmic: whether the measured axis is logarithmic; that of the rows always is.
    """
    if level is not None:
        axes.axhline(level, color="black", lw=0.8, ls="--", label="source")
    for number, (name, line) in enumerate(lines.items()):
        turn, place = divmod(number, len(style.COLOURS))
        colour, mark = style.COLOURS[place], style.MARKERS[turn % len(style.MARKERS)]
        axes.plot(line.sizes, line.means, color=colour, marker=mark, ms=4.0, label=name)
        low, high = _band(line, logarithmic)
        if np.isfinite(line.deviations).any():
            axes.fill_between(line.sizes, low, high, color=colour, alpha=0.2, lw=0.0)
    axes.set(xlabel="training rows", ylabel=text, xscale="log")
    if logarithmic:
        axes.set_yscale("log")
        style.label_logarithmic(axes)
    ticks = _ticks(lines)
    axes.set_xticks(ticks, [f"{size:g}" for size in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3, which="both")


def _line(sizes: Values, errors: ArrayLike, name: str) -> Line:
    try:
        values = np.asarray(errors, dtype=np.float64)
    except (TypeError, ValueError):
        raise MatPropError(f"the errors of {name} must be numbers, as many for each number of rows") from None
    if values.ndim not in (1, 2) or len(values) != len(sizes):
        raise MatPropError(
            f"the errors of {name} have the shape {values.shape}; give ({len(sizes)},), one for each number of rows, "
            f"or ({len(sizes)}, k) for k repeats"
        )
    table = values.reshape(len(sizes), -1)
    counts = np.isfinite(table).sum(axis=1)
    order = np.argsort(sizes, kind="stable")
    order = order[counts[order] > 0]
    chosen = np.where(np.isfinite(table), table, np.nan)[order]
    means = np.array([np.nanmean(row) for row in chosen])
    spread = [np.nanstd(row, ddof=1) if n > 1 else np.nan for row, n in zip(chosen, counts[order], strict=True)]
    return Line(sizes[order], means, np.array(spread, dtype=np.float64))


def _band(line: Line, logarithmic: bool) -> tuple[Values, Values]:
    spread = np.nan_to_num(line.deviations)
    low = line.means - spread
    if logarithmic:  # a band that reaches zero has no end on such an axis
        low = np.maximum(low, 0.1 * line.means)
    return low, line.means + spread


def _ticks(lines: Mapping[str, Line]) -> list[float]:
    """Return the numbers of rows, without those that have no room beside a smaller one."""
    found = sorted({float(size) for line in lines.values() for size in line.sizes})
    room = 0.06 * np.log(max(found[-1] / found[0], 1.5))
    shown = found[:1]
    for size in found[1:]:
        if np.log(size / shown[-1]) > room:
            shown.append(size)
    return shown


def _plotly(lines: Mapping[str, Line], text: str, title: str | None, level: float | None) -> Any:
    figure = style.plotly_objects().Figure()
    for number, (name, line) in enumerate(lines.items()):
        turn, place = divmod(number, len(style.COLOURS))
        colour = style.COLOURS[place]
        if np.isfinite(line.deviations).any():
            low, high = _band(line, True)
            figure.add_scatter(
                x=np.concatenate([line.sizes, line.sizes[::-1]]),
                y=np.concatenate([high, low[::-1]]),
                fill="toself",
                mode="none",
                fillcolor=f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:], 16)},0.2)",
                hoverinfo="skip",
                legendgroup=name,
                showlegend=False,
            )
        symbol = style.PLOTLY_MARKERS[turn % len(style.PLOTLY_MARKERS)]
        figure.add_scatter(
            x=line.sizes,
            y=line.means,
            mode="lines+markers",
            line={"color": colour},
            marker={"color": colour, "symbol": symbol, "size": 8},
            name=name,
            legendgroup=name,
            showlegend=True,
            hovertemplate="%{x:,} rows: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
    style.lay_out(figure, title, "training rows", text)
    ticks = _ticks(lines)
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{size:g}" for size in ticks])
    figure.update_yaxes(type="log", tickformat="~g", dtick="D2")
    if level is not None:
        ends = [line.sizes[k] for line in lines.values() for k in (0, -1)]
        figure.add_scatter(
            x=[min(ends), max(ends)],
            y=[level, level],
            mode="lines",
            line={"color": style.NEUTRAL, "dash": "dash"},
            name="source",
            showlegend=True,
        )
    return figure

"""Predicted against reference values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ase_matprop.errors import MatPropError
from ase_matprop.plots import style
from ase_matprop.plots.numbers import Values, pairs, span

_MANY = 2000  # rows; with more, hexagons are coloured by their number, and the axes leave out the tails
_TAIL = 0.05  # percent of many rows that may be outside at each end
_FEW = 20  # rows; the density of fewer means nothing
_CELLS = 40  # of the grid on which rows are counted, in each direction


def parity(
    true: ArrayLike,
    predicted: ArrayLike | Mapping[str, ArrayLike],
    *,
    unit: str,
    title: str | None = None,
    property_name: str | None = None,
    names: Sequence[str] | None = None,
    backend: style.Backend = "matplotlib",
) -> Any:
    """Return a figure of predicted against reference values, with the mean absolute error in the corner.

    Rows where one of the two is missing are left out, and counted in the corner.  Points are coloured by how many are
    near them; matplotlib draws more than 2000 as hexagons.  Several models get a panel each (matplotlib) or a colour
    each (Plotly).

    Args:
        true: reference values, shape (n,); NaN where there is none.
        predicted: predicted values, shape (n,); or those of several models by name.
        unit: of both, such as ``"eV/atom"``.
        title: of the figure.
        property_name: what the values are: the name of a property, or words.
        names: of the rows, n of them; Plotly shows them when the pointer is over a point.
        backend: ``"matplotlib"`` or ``"plotly"``.

    Returns:
        ``matplotlib.figure.Figure`` or ``plotly.graph_objects.Figure``.

    Raises:
        MatPropError: for values that are no numbers, columns of different length, or no row with both values.
        MissingDependencyError: for ``backend="plotly"`` without Plotly.
    """
    drawn = predicted if isinstance(predicted, Mapping) else {"": predicted}
    if not drawn:
        raise style.nothing_to_draw("no model has predictions")
    rows = {name: _Rows(true, values, unit) for name, values in drawn.items()}
    labels = None if names is None else np.asarray([str(name) for name in names], dtype=object)
    n = len(next(iter(rows.values())).known)
    if labels is not None and len(labels) != n:
        raise MatPropError(f"there are {n} rows and {len(labels)} names; give one name per row")
    what = style.quantity(property_name)
    texts = (style.with_unit(f"reference {what}", unit), style.with_unit(f"predicted {what}", unit))
    if style.is_plotly(backend):
        return _plotly(rows, texts, title, labels)
    return _matplotlib(rows, texts, title)


class _Rows:
    """Rows of one model that have both values."""

    def __init__(self, true: Any, predicted: Any, unit: str) -> None:
        reference, found, self.known = pairs(true, predicted, ("reference values", "predicted values"))
        self.true, self.predicted = reference[self.known], found[self.known]
        if not len(self.true):
            raise style.nothing_to_draw(f"none of the {len(self.known)} rows has both values")
        self.mae = float(np.abs(self.predicted - self.true).mean())
        self.n = len(self.true)
        self.text = f"MAE {self.mae:.4g} {unit}".rstrip()
        self.count = f"{self.n:,} row{'s' if self.n > 1 else ''}"
        if self.n < len(self.known):
            self.count += f", {len(self.known) - self.n:,} without a value"


def _bounds(rows: Mapping[str, _Rows]) -> tuple[float, float]:
    everything = np.concatenate([part for each in rows.values() for part in (each.true, each.predicted)])
    return span(everything, _TAIL if len(everything) > 2 * _MANY else 0.0)


def _outside(rows: _Rows, bounds: tuple[float, float]) -> str:
    low, high = bounds
    n = int(((rows.true < low) | (rows.true > high) | (rows.predicted < low) | (rows.predicted > high)).sum())
    return f"\n{n:,} outside of the axes" if n else ""


def _above_is_free(rows: _Rows, bounds: tuple[float, float]) -> bool:
    """Return whether fewer points are in the upper left corner than in the lower right one."""
    low, high = bounds
    left, right = low + 0.4 * (high - low), high - 0.4 * (high - low)
    above = ((rows.true < left) & (rows.predicted > right)).sum()
    below = ((rows.true > right) & (rows.predicted < left)).sum()
    return bool(above <= below)


def _matplotlib(rows: Mapping[str, _Rows], texts: tuple[str, str], title: str | None) -> Figure:
    alone = len(rows) == 1
    figure = style.new_figure(5.0 if alone else 4.2 * len(rows), 4.4)
    panels = figure.subplots(1, len(rows), sharex=True, sharey=True, squeeze=False)[0]
    bounds = _bounds(rows)
    for axes, (name, each) in zip(panels, rows.items(), strict=True):
        axes.plot(bounds, bounds, color=style.NEUTRAL, lw=1.0, zorder=2 if each.n > _MANY else 0)
        _points(axes, each, bounds, figure if alone else None)
        x, y, ha, va = (0.03, 0.97, "left", "top") if _above_is_free(each, bounds) else (0.97, 0.03, "right", "bottom")
        axes.text(
            x, y, f"{each.text}\n{each.count}{_outside(each, bounds)}", transform=axes.transAxes, ha=ha, va=va,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 2.0}, zorder=5,
        )  # fmt: skip
        axes.set(xlabel=texts[0], xlim=bounds, ylim=bounds, title=name)
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(texts[1])
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure


def _points(axes: Axes, rows: _Rows, bounds: tuple[float, float], figure: Figure | None) -> None:
    """Draw the points of a panel; a figure gets a bar that says what the colours mean."""
    if rows.n > _MANY:
        drawn: Any = axes.hexbin(
            rows.true, rows.predicted, gridsize=90, bins="log", mincnt=1, extent=bounds + bounds, cmap=style.SEQUENTIAL
        )
        if figure is not None:
            figure.colorbar(drawn, label="rows")
        return
    size = float(np.clip(3000.0 / rows.n, 8.0, 30.0))
    if rows.n < _FEW:
        axes.scatter(rows.true, rows.predicted, s=size, color=style.COLOURS[0], lw=0.0)
        return
    density = _density(rows.true, rows.predicted, bounds)
    order = np.argsort(density, kind="stable")  # the densest on top
    drawn = axes.scatter(
        rows.true[order], rows.predicted[order], s=size, c=density[order], cmap=style.SEQUENTIAL, lw=0.0
    )
    if figure is not None:
        figure.colorbar(drawn, label="density of the rows, part of the highest")


def _density(x: Values, y: Values, bounds: tuple[float, float]) -> Values:
    """Return how many rows are near each row, as a part of the most that are near one, shape (n,)."""
    from scipy.ndimage import gaussian_filter

    low, high = bounds
    width = (high - low) / _CELLS
    cells = np.clip(((np.stack([x, y]) - low) / width).astype(np.int64), 0, _CELLS - 1)
    counts = np.zeros((_CELLS, _CELLS))
    np.add.at(counts, (cells[0], cells[1]), 1.0)
    near = gaussian_filter(counts, 1.0)[cells[0], cells[1]]
    return np.asarray(near / near.max())


def _plotly(rows: Mapping[str, _Rows], texts: tuple[str, str], title: str | None, names: Any) -> Any:
    go = style.plotly_objects()
    figure = go.Figure()
    bounds = _bounds(rows)
    figure.add_scatter(
        x=bounds, y=bounds, mode="lines", line={"color": style.NEUTRAL, "width": 1}, hoverinfo="skip", showlegend=False
    )
    alone = len(rows) == 1
    for number, (name, each) in enumerate(rows.items()):
        draw = go.Scattergl if each.n > _MANY else go.Scatter
        size = 4 if each.n > _MANY else 7
        marker: dict[str, Any] = {
            "size": size,
            "color": style.COLOURS[number % len(style.COLOURS)],
            "symbol": style.PLOTLY_MARKERS[number % len(style.PLOTLY_MARKERS)],
            "opacity": 0.7,
        }
        if alone and each.n >= _FEW:
            density = _density(each.true, each.predicted, bounds)
            marker = {"size": size, "color": density, "colorscale": style.SEQUENTIAL}
        template = "reference %{x:.4f}<br>predicted %{y:.4f}"
        figure.add_trace(
            draw(
                x=each.true,
                y=each.predicted,
                mode="markers",
                marker=marker,
                name=name if alone else f"{name}: {each.text},<br>{each.count}",
                showlegend=not alone,
                customdata=None if names is None else names[each.known],
                hovertemplate=("" if names is None else "%{customdata}<br>") + template + f"<extra>{name}</extra>",
            )
        )
    style.lay_out(figure, title, *texts, height=520)
    figure.update_xaxes(range=bounds)
    figure.update_xaxes(constrain="domain")
    figure.update_yaxes(range=bounds, scaleanchor="x", constrain="domain")
    if alone:
        each = next(iter(rows.values()))
        text = f"{each.text}\n{each.count}{_outside(each, bounds)}"
        style.corner_text(figure, text, left=_above_is_free(each, bounds))
    return figure

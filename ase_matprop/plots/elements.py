"""Numbers by element, on a periodic table."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from ase_matprop.compositions.formulas import parse_formula
from ase_matprop.errors import CompositionError, MatPropError, missing_dependency, unknown_name
from ase_matprop.plots import style
from ase_matprop.plots.numbers import column

_HIGHEST = 95.0  # percentile of the elements at which the colours end: a rare element has an error of chance
_LAST = 103  # element that is drawn even where it has no number


def error_by_element(
    formulas: Sequence[str | Collection[str]],
    errors: ArrayLike,
    *,
    unit: str,
    title: str | None = None,
    backend: style.Backend = "matplotlib",
) -> Any:
    """Return a periodic table with the mean absolute error of the rows that have each element, and their number.

    A row counts for each of its elements, whatever its amount.  Rows without an error are left out.

    Args:
        formulas: n formulas, or the symbols of the elements of each row.
        errors: with or without their sign, shape (n,); NaN where there is none.
        unit: of the errors.
        title: of the figure.
        backend: ``"matplotlib"``, or ``"plotly"`` with pymatviz.

    Returns:
        ``matplotlib.figure.Figure`` or ``plotly.graph_objects.Figure``.

    Raises:
        MatPropError: for errors that are no numbers or not as many as formulas, or where there is none at all.
        CompositionError: for a row with an error that has no formula that can be read.
        MissingDependencyError: for ``backend="plotly"`` without Plotly or pymatviz.
    """
    values = np.abs(column(errors, "errors"))
    if len(values) != len(formulas):
        raise MatPropError(f"there are {len(formulas)} formulas and {len(values)} errors; give as many of both")
    found: dict[str, list[float]] = {}
    for formula, error in zip(formulas, values, strict=True):
        if np.isfinite(error):
            for symbol in _symbols(formula):
                found.setdefault(symbol, []).append(float(error))
    if not found:
        raise style.nothing_to_draw("no row has an error")
    means = {symbol: float(np.mean(each)) for symbol, each in found.items()}
    counts = {symbol: len(each) for symbol, each in found.items()}
    text = style.with_unit("mean absolute error", unit)
    if style.is_plotly(backend):
        details = {
            symbol: f"mean absolute error {mean:.4g} {unit}<br>{counts[symbol]:,} rows"
            for symbol, mean in means.items()
        }
        figure = periodic_table(means, details, text, limits=_limits(means), form=_short)
        if title:
            figure.update_layout(title=style.title_of(title), margin={"t": 50})
        return figure
    return _matplotlib(means, counts, text, title)


def periodic_table(
    values: Mapping[str, float],
    details: Mapping[str, str],
    text: str,
    *,
    limits: tuple[float | None, float | None] = (None, None),
    form: str | Callable[[float], str] = ".3g",
    logarithmic: bool = False,
) -> Any:
    """Return an interactive periodic table; pymatviz draws it.

    Args:
        values: symbol -> number, at least one.
        details: symbol -> what to show when the pointer is over the element.
        text: what the numbers are, for the bar of colours.
        limits: where the colours begin and end; None for the least and the greatest number.
        form: how to write a number on its tile.
        logarithmic: whether the colours go by the logarithm.

    Raises:
        MissingDependencyError: without Plotly or pymatviz.
        MatPropError: where the installed pymatviz and Plotly do not work together.
    """
    style.plotly_objects()
    try:
        import pymatviz
    except ImportError:
        raise missing_dependency("pymatviz", "an interactive periodic table", extra="plots") from None
    # called ptable_heatmap_plotly before 0.18, when there was another one for matplotlib
    draw: Callable[..., Any] = getattr(pymatviz, "ptable_heatmap_plotly", None) or pymatviz.ptable_heatmap
    bar: dict[str, Any] = {"title": text} | ({} if logarithmic else {"tickformat": "~g", "title_font_size": 13})
    try:
        with np.errstate(invalid="ignore"):  # shares of a sum that may be zero
            figure = draw(
                dict(values),
                log=logarithmic,
                fmt=form,
                hover_data=dict(details),
                colorscale=style.SEQUENTIAL,
                cscale_range=limits,
                colorbar=bar,
                gap=2,
            )
    except AttributeError as error:  # pymatviz 0.18 calls what plotly 7 has no more
        raise MatPropError(
            f"the installed pymatviz and plotly do not work together ({error}); install those that do with: "
            "pip install 'ase-matprop[plots]'"
        ) from None
    figure.update_layout(
        autosize=True,
        width=None,
        height=520,
        margin={"l": 4, "r": 4, "t": 10, "b": 10, "pad": 0},
        meta={"wide": _wide(figure), "narrow": _narrow(figure)},
    )
    return figure


def _wide(figure: Any) -> dict[str, Any]:
    """Return texts of tiles and height of a figure as they are."""
    texts = {f"annotations[{number}].text": note.text for number, note in enumerate(figure.layout.annotations)}
    return {**texts, "height": 520}


def _narrow(figure: Any) -> dict[str, Any]:
    """Return the texts of tiles for a page on which symbols alone have room: see :func:`ase_matprop.plots.save`."""
    changes: dict[str, Any] = {"height": 360}
    for number, note in enumerate(figure.layout.annotations):
        symbol = re.sub(r"<[^>]*>", "", (note.text or "").partition("<br>")[0])
        changes[f"annotations[{number}].text"] = f"<span style='font-size: 9px'>{symbol}</span>"
    return changes


def _symbols(formula: str | Collection[str]) -> set[str]:
    if isinstance(formula, str):
        return {chemical_symbols[number] for number in parse_formula(formula)}
    if formula is None or not isinstance(formula, Collection):
        raise CompositionError(f"each row needs a formula or the symbols of its elements; got {formula!r}")
    for symbol in formula:
        if symbol not in atomic_numbers or symbol == "X":
            raise unknown_name("element", symbol, atomic_numbers.keys() - {"X"})
    return set(formula)


def _limits(means: Mapping[str, float]) -> tuple[float, float]:
    highest = float(np.percentile(list(means.values()), _HIGHEST))
    return 0.0, highest or 1.0


def place(number: int) -> tuple[int, int]:
    """Return column (1 to 18) and row (1 to 7; lanthanides and actinides 9 and 10) of an element."""
    for first, last, row in ((57, 71, 9), (89, 103, 10)):
        if first <= number <= last:
            return number - first + 3, row
    noble = (0, 2, 10, 18, 36, 54, 86, 118)
    row = next(period for period, end in enumerate(noble) if number <= end)
    since, length = number - noble[row - 1], noble[row] - noble[row - 1]
    left = 1 if row == 1 else 2
    return (since if since <= left else 18 - (length - since)), row


def _matplotlib(means: Mapping[str, float], counts: Mapping[str, int], text: str, title: str | None) -> Figure:
    from matplotlib import colormaps

    figure = style.new_figure(10.0, 5.8)
    axes = figure.add_subplot()
    limits = _limits(means)
    scale, colours = Normalize(*limits, clip=True), colormaps[style.SEQUENTIAL]
    last = max(_LAST, *(atomic_numbers[symbol] for symbol in means))
    for number in range(1, last + 1):
        symbol, (x, y) = chemical_symbols[number], place(number)
        mean = means.get(symbol)
        face = "#f2f2f2" if mean is None else colours(scale(mean))
        axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, facecolor=face, edgecolor="none"))
        ink = "#999999" if mean is None else "black" if scale(mean) > 0.55 else "white"
        axes.text(x, y - 0.2, symbol, ha="center", va="center", color=ink, fontsize=10, weight="bold")
        if mean is not None:
            axes.text(x, y + 0.11, _short(mean), ha="center", va="center", color=ink, fontsize=7.5)
            axes.text(x, y + 0.33, f"{counts[symbol]:,}", ha="center", va="center", color=ink, fontsize=5.5)
    axes.set(xlim=(0.4, 18.6), ylim=(10.6, 0.4), aspect="equal")
    axes.axis("off")
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(
        ScalarMappable(Normalize(*limits), colours), ax=axes, location="bottom", shrink=0.5, pad=0.02, aspect=40,
        extend="max" if max(means.values()) > limits[1] else "neither",
    )  # fmt: skip
    bar.set_label(f"{text}; small: number of rows")
    if title:
        axes.set_title(title)
    return figure


def _short(value: float) -> str:
    return f"{value:.3f}" if 0.0005 <= value < 10.0 else f"{value:.2g}"

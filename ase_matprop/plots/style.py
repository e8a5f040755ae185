"""What all plots have in common: colours, axes, the choice of the drawing package; private part of the plots."""

from __future__ import annotations

from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ase_matprop.errors import MatPropError, missing_dependency, unknown_name
from ase_matprop.properties import PROPERTIES

Backend = Literal["matplotlib", "plotly"]

#: colours that people with any colour vision can tell apart; M. Okabe and K. Ito, https://jfly.uni-koeln.de/color/
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
DASHES = ("-", "--", ":", "-.")  # for more than seven lines
PLOTLY_DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = "osD^vP"
PLOTLY_MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
SEQUENTIAL = "viridis"  # light is much; the same to colour-blind eyes, and in grey
NEUTRAL = "#7f7f7f"  # diagonals and marks, visible on white and on black


def is_plotly(backend: str) -> bool:
    """Return whether Plotly draws.

    Raises:
        UnknownNameError: for a name that is none of the two.
    """
    if backend not in ("matplotlib", "plotly"):
        raise unknown_name("backend of plots", backend, ("matplotlib", "plotly"))
    return backend == "plotly"


def plotly_objects() -> Any:
    """Return the module ``plotly.graph_objects``.

    Raises:
        MissingDependencyError: without Plotly.
    """
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise missing_dependency("plotly", "an interactive plot", extra="plots") from None
    return go


def with_unit(text: str, unit: str) -> str:
    """Return a text with a unit in brackets behind it, where there is one."""
    return f"{text} ({unit})" if unit else text


def quantity(property_name: str | None) -> str:
    """Return how a property is called on an axis; its name, or words of the caller's own, may be given."""
    if property_name is None:
        return "value"
    return PROPERTIES[property_name].long_name if property_name in PROPERTIES else property_name.replace("_", " ")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches; no pyplot: nothing global, no display."""
    return Figure(figsize=(width, height), layout="constrained")


def lay_out(figure: Any, title: str | None, x: str, y: str, height: int = 480) -> None:
    """Give a Plotly figure axis titles, and a layout that can become as narrow as a telephone."""
    figure.update_layout(
        title=title_of(title),
        template="plotly_white",
        autosize=True,
        height=height,
        font={"size": 13},
        margin={"l": 10, "r": 10, "t": 50 if title else 30, "b": 10},
        legend={"orientation": "h", "yanchor": "top", "y": -0.2, "xanchor": "left", "x": 0.0},
        xaxis={"title": {"text": x}, "automargin": True},
        yaxis={"title": {"text": y}, "automargin": True},
    )


def title_of(title: str | None) -> dict[str, Any] | None:
    """Return a title as Plotly wants it."""
    place = {"x": 0.02, "y": 0.98, "yref": "container", "yanchor": "top"}
    return {"text": title, "font": {"size": 15}, **place} if title else None


def corner_text(figure: Any, text: str, *, left: bool = True) -> None:
    """Write lines into the upper left, or lower right, corner of a Plotly figure."""
    place = {"x": 0.02, "y": 0.98, "xanchor": "left", "yanchor": "top"}
    if not left:
        place = {"x": 0.98, "y": 0.02, "xanchor": "right", "yanchor": "bottom"}
    figure.add_annotation(
        text=text.replace("\n", "<br>"), xref="x domain", yref="y domain", showarrow=False, align="left", **place
    )


def label_logarithmic(axes: Axes) -> None:
    """Write the numbers of a logarithmic y axis plainly; those between powers of ten only where there is room."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}" if high < 20.0 * low else NullFormatter())


def nothing_to_draw(what: str) -> MatPropError:
    """Return the error for a plot without a single number."""
    return MatPropError(f"there is nothing to draw: {what}")

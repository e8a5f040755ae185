"""Phase diagrams drawn by matplotlib; private part of :mod:`ase_matprop.plots`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from ase_matprop.plots.phase_diagram_parts import (
    AGREED_COLOUR,
    PREDICTED_COLOUR,
    REFERENCE_COLOUR,
    HullDiagrams,
    formula_of,
    plotter,
)

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram

#: in points; where a label may be, relative to its compound
_PLACES = [
    (radius * np.cos(angle), radius * np.sin(angle))
    for radius in (13, 20, 28, 38, 50, 64)
    for angle in np.radians(range(0, 360, 15))
]


#: coordinates of a compound, its formula and its colour
_Label = tuple[Any, str, str]


@dataclass(frozen=True, eq=False)
class _Panel:
    """Axes, the labels that they shall have, and the tie lines."""

    axes: Axes
    labels: list[_Label]
    lines: list[Any]


def draw(pair: HullDiagrams, show_unstable: float, title: str) -> Figure:
    """Return a figure of both hulls: two elements in one plot, three or four in two panels."""
    n = len(pair.elements)
    figure = Figure(figsize=(7.5, 5.5) if n == 2 else (13.0, 6.4), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    if n == 2:
        panels = [_binary(figure.add_subplot(), pair, show_unstable)]
    else:
        kind: dict[str, Any] = {"projection": "3d", "computed_zorder": False} if n == 4 else {}
        panels = [
            _simplex(figure.add_subplot(1, 2, number + 1, **kind), diagram, pair, show_unstable)
            for number, diagram in enumerate((pair.reference, pair.predicted))
        ]
        figure.legend(handles=_legend(show_unstable), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # places of labels are those of the axes as they are now
    for panel in panels:
        _place_labels(panel, 9.0 if n < 4 else 7.5)
    return figure


def _binary(axes: Axes, pair: HullDiagrams, show_unstable: float) -> _Panel:
    known, found = pair.stable()
    labels: list[_Label] = []
    tie_lines: list[Any] = []
    lowest = 0.0
    for diagram, colour, name in (
        (pair.reference, REFERENCE_COLOUR, "references"),
        (pair.predicted, PREDICTED_COLOUR, "predicted"),
    ):
        lines, stable, unstable = plotter(diagram, show_unstable).pd_plot_data
        tie_lines += lines
        for x, y in lines:
            axes.plot(x, y, color=colour, lw=1.4, zorder=2)
        points = np.array(list(stable), dtype=float)
        axes.plot(points[:, 0], points[:, 1], "o", color=colour, ms=6, ls="", label=f"{name}: stable", zorder=4)
        above = _near(diagram, unstable, show_unstable)
        if len(above):
            label = f"{name}: up to {show_unstable:g} eV/atom above"
            axes.plot(above[:, 0], above[:, 1], "D", color=colour, ms=3, alpha=0.4, ls="", label=label, zorder=3)
        lowest = min(lowest, float(points[:, 1].min()))
        for point, entry in stable.items():
            formula = formula_of(entry)
            if not entry.composition.is_element and (diagram is pair.predicted or formula not in found):
                labels.append((point, formula, AGREED_COLOUR if formula in known & found else colour))
    axes.axhline(0.0, color="grey", lw=0.6, zorder=1)
    margin = 0.18 * max(-lowest, 0.05)
    axes.set(xlim=(-0.05, 1.05), ylim=(lowest - margin, margin))
    axes.set(xlabel=f"atom fraction of {chemical_symbols[pair.elements[1]]}", ylabel="formation energy (eV/atom)")
    axes.plot([], [], color=AGREED_COLOUR, marker="$A$", ls="", label="label: stable in both")
    axes.legend(fontsize=8, loc="lower left" if _lean(labels) > 0.5 else "lower right")
    return _Panel(axes, labels, tie_lines)


def _simplex(axes: Any, diagram: PhaseDiagram, pair: HullDiagrams, show_unstable: float) -> _Panel:
    """Draw a Gibbs triangle or tetrahedron."""
    known, found = pair.stable()
    predicted = diagram is pair.predicted
    flat = len(pair.elements) == 3
    lines, stable, unstable = plotter(diagram, show_unstable).pd_plot_data
    for line in lines:
        axes.plot(*line, color="#777777" if flat else "#bbbbbb", lw=1.0 if flat else 0.5, zorder=2)
    above = _near(diagram, unstable, show_unstable)
    if len(above):
        axes.plot(*above.T, "D", color="#777777", ms=3, alpha=0.5, ls="", zorder=3)
    labels: list[_Label] = []
    for point, entry in stable.items():
        formula = formula_of(entry)
        own = PREDICTED_COLOUR if predicted else REFERENCE_COLOUR
        element = entry.composition.is_element
        colour = "black" if element else AGREED_COLOUR if formula in known & found else own
        size = 9.0 if element else 6.5 if flat else 5.0
        axes.plot(*([value] for value in point), "o", color=colour, ms=size, ls="", zorder=4)
        labels.append((point, formula, colour))
    count = len(found if predicted else known)
    axes.set_title(f"{'predicted' if predicted else 'references'}: {count} stable compounds", fontsize=11)
    axes.set_axis_off()
    if flat:
        axes.set_aspect("equal")
        axes.set(xlim=(-0.14, 1.14), ylim=(-0.12, 0.98))
    else:
        axes.set(xlim=(0.0, 1.0), ylim=(0.0, 0.87), zlim=(0.0, 0.82))
        axes.set_box_aspect((1.0, 0.87, 0.82), zoom=1.15)
        axes.view_init(elev=12, azim=-75)
    return _Panel(axes, labels, lines)


def _place_labels(panel: _Panel, size: float) -> None:
    """Write formulas beside their points, each at the place that covers least of points, lines and other labels."""
    if not panel.labels:
        return
    axes: Any = panel.axes
    renderer = axes.figure.canvas.get_renderer()

    def flat(points: Any) -> NDArray[np.float64]:
        """Return points as coordinates of the plane of the picture, shape (n, 2)."""
        coordinates = np.asarray(points, dtype=float)
        if coordinates.shape[1] == 3:
            from mpl_toolkits.mplot3d import proj3d

            coordinates = np.array(proj3d.proj_transform(*coordinates.T, axes.get_proj())[:2]).T
        return coordinates

    anchors = flat([point for point, *_ in panel.labels])
    points = axes.transData.transform(anchors)
    along = np.linspace(0.05, 0.95, 40)[:, None]
    ends = [np.asarray(line, dtype=float).T for line in panel.lines]
    clutter = axes.transData.transform(flat(np.concatenate([a + along * (b - a) for a, b in ends])))
    legend = axes.get_legend()
    taken = [legend.get_window_extent(renderer)] if legend else []
    inside = axes.get_window_extent(renderer)
    order = sorted(range(len(anchors)), key=lambda number: (anchors[number, 1], anchors[number, 0]))
    for number in order:
        _, formula, colour = panel.labels[number]
        text = axes.annotate(
            _mathtext(formula), tuple(anchors[number]), (0, 0), textcoords="offset points", ha="center", va="center",
            color=colour, fontsize=size, zorder=6, path_effects=[withStroke(linewidth=2.0, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkB": 3},
        )  # fmt: skip
        costs = []
        for place in _PLACES:
            box = _box(text, place, renderer)
            costs.append(
                20.0 * sum(box.overlaps(other) for other in taken)
                + 10.0 * _covered(box, points, 6.0)
                + 0.3 * _covered(box, clutter, 0.0)
                + 100.0 * (box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1)
                + 0.06 * np.hypot(*place)
            )
        taken.append(_box(text, _PLACES[int(np.argmin(costs))], renderer))


def _box(text: Annotation, place: tuple[float, float], renderer: Any) -> Bbox:
    """Move a label, and return the box of its text, without the line to its point."""
    text.set_position(place)
    text.update_positions(renderer)
    return Text.get_window_extent(text, renderer).padded(2.0)


def _covered(box: Bbox, points: NDArray[np.float64], margin: float) -> int:
    """Return how many points a box covers."""
    low, high = np.array([box.x0, box.y0]) - margin, np.array([box.x1, box.y1]) + margin
    return int(((points > low) & (points < high)).all(axis=1).sum())


def _near(diagram: PhaseDiagram, unstable: dict[Any, Any], show_unstable: float) -> NDArray[np.float64]:
    """Return the coordinates of compounds that are not far above the hull, the lowest of each composition."""
    lowest: dict[str, tuple[float, Any]] = {}
    for entry, point in unstable.items():
        distance = diagram.get_e_above_hull(entry, on_error="ignore")
        formula = formula_of(entry)
        if entry.composition.is_element or distance is None or distance > show_unstable:
            continue
        if formula not in lowest or distance < lowest[formula][0]:
            lowest[formula] = (distance, point)
    return np.array([point for _, point in lowest.values()], dtype=float)


def _lean(labels: list[_Label]) -> float:
    """Return where on the axis of a binary system most of the depth of the hulls is."""
    if not labels:
        return 0.5
    points = np.array([point for point, *_ in labels], dtype=float)
    return float(np.average(points[:, 0], weights=1e-9 - points[:, 1]))


def _legend(show_unstable: float) -> list[Line2D]:
    marks = [
        (AGREED_COLOUR, "o", "stable in both"),
        (REFERENCE_COLOUR, "o", "stable in the references only"),
        (PREDICTED_COLOUR, "o", "stable among the predictions only"),
        ("#777777", "D", f"up to {show_unstable:g} eV/atom above the hull"),
    ]
    return [Line2D([], [], color=colour, marker=mark, ls="", label=label) for colour, mark, label in marks]


def _mathtext(formula: str) -> str:
    return re.sub(r"([0-9.]+)", r"$_{\1}$", formula)

"""Phase diagrams of two to four elements: the hull of the references and that of predictions, together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.plots import style
from ase_matprop.plots.phase_diagram_parts import (
    AGREED_COLOUR,
    PREDICTED_COLOUR,
    REFERENCE_COLOUR,
    HullDiagrams,
    formula_of,
    plotter,
)

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

_SUBPLOTS = {2: "xy", 3: "ternary", 4: "scene"}
_MARKER = {2: 12, 3: 12, 4: 4}  # by number of elements, pixels
_FONT = 13  # pixels
#: where a label may be, the best first: Plotly's name, and the direction from its point
_PLACES = {
    "top center": (0, 1),
    "bottom center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top right": (1, 1),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "bottom left": (-1, -1),
}


def hull(
    diagrams: HullDiagrams,
    *,
    show_unstable: float = 0.1,
    title: str | None = None,
    backend: style.Backend = "matplotlib",
) -> Any:
    """Return a phase diagram with the hull of the references and that of the predictions.

    Two elements: both hulls in one plot.  Three: two Gibbs triangles, four: two tetrahedra, side by side; a page that
    :func:`ase_matprop.plots.save` wrote has them one below the other where it is narrow.  The places of compounds are
    those of pymatgen's ``PDPlotter``; stable compounds are labelled.

    Args:
        diagrams: of one chemical system, from :meth:`ase_matprop.screening.HullPair.build`.
        show_unstable: compounds up to this distance above their hull, in eV/atom, are shown.
        title: of the figure; by default the system, and how far the two hulls agree.
        backend: ``"matplotlib"`` or ``"plotly"``.

    Returns:
        ``matplotlib.figure.Figure`` or ``plotly.graph_objects.Figure``.

    Raises:
        MissingDependencyError: for ``backend="plotly"`` without Plotly.
    """
    text = f"{diagrams.name}: {diagrams.summary()}" if title is None else title
    if style.is_plotly(backend):
        return _plotly(diagrams, show_unstable, text)
    from ase_matprop.plots.phase_diagram_images import draw

    return draw(diagrams, show_unstable, text)


def _plotly(pair: HullDiagrams, show_unstable: float, title: str) -> Any:
    style.plotly_objects()
    from plotly.subplots import make_subplots

    n = len(pair.elements)
    titles = [
        f"{name}, {len(found)} stable" for name, found in zip(("references", "predicted"), pair.stable(), strict=True)
    ]
    panels = 1 if n == 2 else 2
    figure = make_subplots(
        1, panels, specs=[[{"type": _SUBPLOTS[n]}] * panels], subplot_titles=titles if panels == 2 else None
    )
    for number, (diagram, colour) in enumerate(
        ((pair.reference, REFERENCE_COLOUR), (pair.predicted, PREDICTED_COLOUR))
    ):
        _add_panel(figure, diagram, pair, colour, min(number, panels - 1) + 1, titles[number], show_unstable)
    figure.update_layout(
        title=style.title_of(title.replace(": ", "<br>", 1)),
        template="plotly_white",
        autosize=True,
        height=680,
        margin={"l": 30, "r": 30, "t": 110 if panels == 2 else 60, "b": 20},
        legend={"orientation": "h", "yanchor": "top", "y": -0.12, "x": 0.5, "xanchor": "center"},
    )
    if panels == 2:
        _describe_narrow(figure, "ternary" if n == 3 else "scene")
    return figure


def _describe_narrow(figure: Any, kind: str) -> None:
    """Note in the figure how its panels are one below the other, for pages that are narrow."""
    second = f"{kind}2"
    wide: dict[str, Any] = {"height": figure.layout.height, "legend.y": -0.12}
    narrow: dict[str, Any] = {"height": 1150, "legend.y": -0.04}
    for name, low, high in ((kind, 0.57, 0.97), (second, 0.03, 0.43)):
        domain = figure.layout[name].domain
        wide |= {f"{name}.domain.x": list(domain.x), f"{name}.domain.y": list(domain.y)}
        narrow |= {f"{name}.domain.x": [0.0, 1.0], f"{name}.domain.y": [low, high]}
    for number, height in enumerate((1.02, 0.47)):
        note = figure.layout.annotations[number]
        wide |= {f"annotations[{number}].x": note.x, f"annotations[{number}].y": note.y}
        narrow |= {f"annotations[{number}].x": 0.5, f"annotations[{number}].y": height}
    figure.update_layout(meta={"wide": wide, "narrow": narrow})


def _add_panel(
    figure: Any,
    diagram: PhaseDiagram,
    pair: HullDiagrams,
    colour: str,
    column: int,
    name: str,
    show_unstable: float,
) -> None:
    drawn = plotter(diagram, show_unstable).get_plot(fill=False, label_stable=False)
    known, found = pair.stable()
    n = len(pair.elements)
    short = name.partition(",")[0]
    for trace in drawn.data:
        label = trace.name or ""
        if "Labels" in label:
            continue
        trace.update(legendgroup=name)
        if trace.mode == "lines":
            width = 2.5 if n == 2 else 1.2
            trace.update(line={"color": colour, "width": width}, name=name, showlegend=True)
        elif label == "Stable":
            trace.update(name=f"{short}: stable", marker={"color": colour, "size": _MARKER[n]}, showlegend=True)
        else:
            marker = {
                "size": 5,
                "colorbar": None,
                "showscale": False,
                "colorscale": None,
                "color": colour,
                "opacity": 0.4,
            }
            trace.update(
                name=f"{short}: up to {show_unstable:g} eV/atom above the hull", marker=marker,
                showlegend=True, visible=True,
            )  # fmt: skip
        figure.add_trace(trace, row=1, col=column)
    entries = [entry for entry in diagram.stable_entries if not entry.composition.is_element]
    predicted = diagram is pair.predicted
    shown = [entry for entry in entries if predicted or n > 2 or formula_of(entry) not in found]
    agreed = [AGREED_COLOUR if formula_of(entry) in known & found else colour for entry in shown]
    _add_labels(figure, diagram, pair, shown, agreed, column)


def _add_labels(
    figure: Any, diagram: PhaseDiagram, pair: HullDiagrams, shown: list[PDEntry], colours: list[str], column: int
) -> None:
    """Write formulas beside their compounds; those that are stable in both diagrams have a colour of their own."""
    import plotly.graph_objects as go

    n = len(pair.elements)
    formulas = [formula_of(entry) for entry in shown]
    ends = [f"<b>{chemical_symbols[number]}</b>" for number in pair.elements] if n > 2 else []
    drawn: dict[str, Any] = {
        # the markers are not seen: Plotly holds text at a distance from the markers of its own trace only
        "mode": "markers+text", "marker": {"size": _MARKER[n], "opacity": 0.0}, "name": "labels",
        "text": [*map(_subscripts, formulas), *ends], "showlegend": False, "hoverinfo": "skip",
        "textfont": {"color": [*colours, *["black"] * len(ends)], "size": _FONT},
    }  # fmt: skip
    shares = np.array([_fractions(entry, pair.elements) for entry in shown]).reshape(-1, n)
    if n == 2:
        (a, b), places = shares.T, _binary_places(diagram, pair, shown)
        heights = [diagram.get_form_energy_per_atom(entry) for entry in shown]
        figure.add_trace(go.Scatter(x=b, y=heights, textposition=places, **drawn), row=1, col=column)
        figure.update_xaxes(title=f"atom fraction of {chemical_symbols[pair.elements[1]]}", range=[-0.05, 1.05])
        figure.update_yaxes(title="formation energy (eV/atom)")
    elif n == 3:
        marks = np.concatenate([_triangle(shares), _triangle(np.eye(3))])
        places = _places(_triangle(shares), marks, _lines(diagram, pair.elements), formulas)
        places += ["top center", "bottom center", "bottom center"]
        a, b, c = np.concatenate([shares, np.eye(3)]).T
        labels = go.Scatterternary(a=a, b=b, c=c, textposition=places, cliponaxis=False, **drawn)
        figure.add_trace(labels, row=1, col=column)
        bare = {"title": {"text": ""}, "showticklabels": False, "showgrid": False}
        figure.update_ternaries({"sum": 1.0, "aaxis": bare, "baxis": bare, "caxis": bare}, row=1, col=column)
    else:
        from pymatgen.analysis.phase_diagram import tet_coord

        x, y, z = np.array([tet_coord(row[1:]) for row in np.vstack([shares, np.eye(4)])]).T
        figure.add_trace(go.Scatter3d(x=x, y=y, z=z, textposition="top center", **drawn), row=1, col=column)
        hidden = {"visible": False}
        camera = {"eye": {"x": 0.45, "y": -1.75, "z": 0.4}, "center": {"x": -0.06, "z": -0.05}}
        figure.update_scenes({"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "camera": camera}, row=1, col=column)


def _binary_places(diagram: PhaseDiagram, pair: HullDiagrams, shown: list[PDEntry]) -> list[str]:
    """Return where the labels of a binary system are to be: off the marks and lines of both diagrams."""
    both = (pair.reference, pair.predicted)
    corners = []
    for each in both:
        found = [(_fractions(e, pair.elements)[1], each.get_form_energy_per_atom(e)) for e in each.stable_entries]
        corners.append(np.array(sorted(found)))
    depth = max(0.05, -float(min(each[:, 1].min() for each in corners)))
    scale = np.array([850.0, 420.0 / depth])  # pixels
    along = np.linspace(0.0, 1.0, 400)
    lines = [np.stack([along, np.interp(along, *each.T)], axis=1) for each in corners]
    points = [(_fractions(entry, pair.elements)[1], diagram.get_form_energy_per_atom(entry)) for entry in shown]
    return _places(
        np.array(points).reshape(-1, 2) * scale,
        np.concatenate(corners) * scale,
        np.concatenate(lines) * scale,
        [formula_of(entry) for entry in shown],
    )


def _triangle(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where points of a Gibbs triangle are, in pixels of a panel of usual size, shape (n, 2)."""
    side = 480.0
    return side * np.stack([shares[:, 2] + 0.5 * shares[:, 0], np.sqrt(0.75) * shares[:, 0]], axis=1)


def _lines(diagram: PhaseDiagram, elements: tuple[int, ...]) -> NDArray[np.float64]:
    """Return points along the tie lines of a Gibbs triangle, shape (n, 2)."""
    along = np.linspace(0.0, 1.0, 40)[:, None]
    points = []
    for facet in diagram.facets:
        corners = _triangle(np.array([_fractions(diagram.qhull_entries[i], elements) for i in facet]))
        points += [first + along * (corners[k - 1] - first) for k, first in enumerate(corners)]
    return np.concatenate(points)


def _places(
    points: NDArray[np.float64], marks: NDArray[np.float64], clutter: NDArray[np.float64], texts: list[str]
) -> list[str]:
    """Return for each label the place that covers least of markers, lines and other labels.

    Args:
        points: of the labelled compounds, pixels, shape (n, 2).
        marks: all points with a marker, shape (k, 2).
        clutter: points along lines, shape (m, 2).
        texts: the labels.
    """
    chosen: list[str] = []
    boxes: list[tuple[float, float, float, float]] = []
    for point, text in zip(points, texts, strict=True):
        half = np.array([0.3 * _FONT * len(text), 0.6 * _FONT])
        costs = []
        for number, direction in enumerate(_PLACES.values()):
            centre = point + np.array(direction) * (half + 0.5 * _MARKER[3])
            low, high = centre - half, centre + half
            covered = ((clutter > low) & (clutter < high)).all(axis=1).sum()
            hidden = ((marks > low - 6.0) & (marks < high + 6.0)).all(axis=1).sum()
            others = sum(low[0] < x1 and high[0] > x0 and low[1] < y1 and high[1] > y0 for x0, y0, x1, y1 in boxes)
            costs.append((30.0 * others + 10.0 * hidden + 0.3 * covered + 0.01 * number, number, (*low, *high)))
        _, best, box = min(costs)
        chosen.append(list(_PLACES)[best])
        boxes.append(box)
    return chosen


def _fractions(entry: PDEntry, elements: tuple[int, ...]) -> list[float]:
    shares = {element.Z: share for element, share in entry.composition.fractional_composition.items()}
    return [shares.get(number, 0.0) for number in elements]


def _subscripts(formula: str) -> str:
    return re.sub(r"([0-9.]+)", r"<sub>\1</sub>", formula)

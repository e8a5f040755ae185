"""One structure in three dimensions, as a figure of Plotly, which the page has anyway."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

if TYPE_CHECKING:
    import plotly.graph_objects as go

Floats = NDArray[np.float64]

_RADIUS = 0.45  # of the balls, in covalent radii
_BOND = 1.15  # atoms are joined up to this multiple of the sum of their covalent radii
_IMAGE = 1e-3  # fractional coordinate up to which an atom counts as one on a face of the cell
_MOST_BALLS = 150  # beyond, atoms are drawn with fewer triangles
_MOST_DRAWN = 800  # beyond, no copies on the faces and no bonds


def structure_figure(atoms: Atoms, *, dark: bool = False) -> go.Figure:
    """Return the unit cell with its atoms and bonds.

    Atoms on a face of the cell are drawn on the opposite one, too.  Balls have the colours of Jmol and
    sizes in the ratio of the covalent radii.

    Args:
        atoms: a checked structure, lengths in Angstrom.
        dark: whether the page is dark.
    """
    import plotly.graph_objects as go

    drawn = len(atoms) <= _MOST_DRAWN
    positions, numbers = _with_images(atoms) if drawn else (atoms.positions, atoms.numbers)
    figure = go.Figure()
    line = "#9aa4b2" if dark else "#5b6472"
    figure.add_trace(_lines(_cell_edges(atoms.cell.array), line, 3, "cell"))
    if drawn and (segments := _bonds(positions, numbers)):
        figure.add_trace(_lines(segments, "#8a8f98", 7, "bonds"))
    ball = _ball(2 if len(numbers) <= _MOST_BALLS else 1)
    for number in sorted(set(numbers.tolist())):
        figure.add_trace(_balls(positions[numbers == number], number, ball))
    hidden = {"visible": False}
    figure.update_layout(
        scene={
            "xaxis": hidden,
            "yaxis": hidden,
            "zaxis": hidden,
            "aspectmode": "data",
            "camera": {"eye": camera(), "projection": {"type": "perspective"}},  # orthographic: no light
        },
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        font={"color": "#e6e9ee" if dark else "#1c2430", "size": 14},
        legend={"orientation": "h", "y": 0, "x": 0.5, "xanchor": "center", "itemclick": False,
                "itemdoubleclick": False},
        uirevision="structure",
        hovermode="closest",
    )  # fmt: skip
    return figure


def camera(turn: float = 25.0, tilt: float = 15.0, distance: float = 2.1) -> dict[str, float]:
    """Return where the eye is, for angles in degrees."""
    around, up = np.radians([turn, tilt])
    direction = [np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)]
    return {axis: float(distance * part) for axis, part in zip("xyz", direction, strict=True)}


def facts(atoms: Atoms) -> list[tuple[str, str]]:
    """Return what there is to say of a structure in words, for those who do not see the picture."""
    import spglib

    lengths = atoms.cell.lengths()
    angles = atoms.cell.angles()
    found = [
        ("atoms in the cell", str(len(atoms))),
        ("a, b, c", ", ".join(f"{length:.3f}" for length in lengths) + " Å"),
        ("α, β, γ", ", ".join(f"{angle:.2f}" for angle in angles) + "°"),  # noqa: RUF001  Greek letters
        ("volume", f"{atoms.cell.volume / len(atoms):.2f} Å³ per atom"),
    ]
    try:
        group = spglib.get_spacegroup((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=0.01)
    except Exception:  # spglib has several errors for structures that it does not like
        group = None
    if group:
        found.append(("space group", str(group)))
    return found


def _with_images(atoms: Atoms) -> tuple[Floats, NDArray[np.int64]]:
    """Return positions (n, 3) and numbers (n,) with the copies of the atoms on faces, edges and corners."""
    scaled = atoms.get_scaled_positions(wrap=True)
    scaled[np.abs(scaled - 1.0) < _IMAGE] = 0.0
    points, numbers = [], []
    for place, number in zip(scaled, atoms.numbers.tolist(), strict=True):
        shifts = [(0, 1) if part < _IMAGE else (0,) for part in place]
        for shift in itertools.product(*shifts):
            points.append(place + shift)
            numbers.append(number)
    return np.array(points) @ atoms.cell.array, np.array(numbers, dtype=np.int64)


def _bonds(positions: Floats, numbers: NDArray[np.int64]) -> list[Floats]:
    """Return the ends of bonds among the atoms that are drawn, each of shape (2, 3)."""
    shown = Atoms(numbers=numbers, positions=positions)
    first, second = neighbor_list("ij", shown, (covalent_radii[numbers] * _BOND).tolist())
    return [positions[[i, j]] for i, j in zip(first.tolist(), second.tolist(), strict=True) if i < j]


def _cell_edges(cell: Floats) -> list[Floats]:
    corners = [np.array(corner) for corner in itertools.product((0, 1), repeat=3)]
    return [
        np.array([first, second]) @ cell
        for first, second in itertools.combinations(corners, 2)
        if np.abs(first - second).sum() == 1
    ]


def _lines(segments: list[Floats], colour: str, width: int, name: str) -> go.Scatter3d:
    import plotly.graph_objects as go

    points = [row for segment in segments for row in (*segment.tolist(), [None] * 3)]
    x, y, z = zip(*points, strict=True)
    return go.Scatter3d(
        x=x, y=y, z=z, mode="lines", line={"color": colour, "width": width}, name=name, showlegend=False,
        hoverinfo="skip",
    )  # fmt: skip


def _balls(centres: Floats, number: int, ball: tuple[Floats, NDArray[np.int64]]) -> go.Mesh3d:
    import plotly.graph_objects as go

    vertices, faces = ball
    radius = _RADIUS * max(float(covalent_radii[number]), 0.4)
    points = (centres[:, None, :] + radius * vertices).reshape(-1, 3)
    corners = (faces + len(vertices) * np.arange(len(centres))[:, None, None]).reshape(-1, 3)
    red, green, blue = (round(255 * part) for part in jmol_colors[number])
    return go.Mesh3d(
        **dict(zip("xyz", np.round(points.T, 3), strict=True)),
        **dict(zip("ijk", corners.T, strict=True)),
        color=f"rgb({red},{green},{blue})",
        name=chemical_symbols[number],
        showlegend=True,
        hovertemplate=f"{chemical_symbols[number]}<extra></extra>",
        flatshading=False,
        lighting={"ambient": 0.55, "diffuse": 0.7, "specular": 0.25, "roughness": 0.5, "fresnel": 0.1},
        lightposition={"x": 1000, "y": -2000, "z": 3000},
    )


@functools.cache
def _ball(rounds: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return vertices (n, 3) and triangles (m, 3) of a unit ball: an icosahedron whose faces are divided."""
    golden = (1 + 5**0.5) / 2
    signs = list(itertools.product((-1.0, 1.0), repeat=2))
    vertices: list[Any] = [np.roll([0.0, a, b * golden], turn) for turn in range(3) for a, b in signs]
    faces = [
        corners
        for corners in itertools.combinations(range(12), 3)
        if all(
            abs(np.linalg.norm(vertices[i] - vertices[j]) - 2.0) < 1e-6 for i, j in itertools.combinations(corners, 2)
        )
    ]
    for _ in range(rounds):
        middles: dict[tuple[int, int], int] = {}
        divided = []
        for i, j, k in faces:
            edges = []
            for first, second in ((i, j), (j, k), (i, k)):
                edge = (min(first, second), max(first, second))
                if edge not in middles:
                    middles[edge] = len(vertices)
                    vertices.append((vertices[edge[0]] + vertices[edge[1]]) / 2)
                edges.append(middles[edge])
            a, b, c = edges
            divided += [(i, a, c), (j, a, b), (k, b, c), (a, b, c)]
        faces = divided
    points = np.array(vertices)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    triangles = np.array(faces, dtype=np.int64)
    first, second, third = points[triangles.T]
    inwards = np.einsum("ij,ij->i", np.cross(second - first, third - first), first) < 0
    triangles[inwards] = triangles[inwards][:, ::-1]  # light falls on the side from which corners go counter-clockwise
    return points, triangles

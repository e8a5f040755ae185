"""Phase diagrams of two to four elements: the hull of the references and that of predictions, together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from ase_matprop.compositions import composition_entries
from ase_matprop.errors import MatPropError
from ase_matprop.screening.arguments import element_number
from ase_matprop.screening.hull.references import References, reduced_formula
from ase_matprop.screening.hull.stability import phase_diagram
from ase_matprop.screening.spaces.base import FormulaBlock

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from pymatgen.analysis.phase_diagram import PDEntry, PDPlotter, PhaseDiagram

MOST_ELEMENTS = 4
REFERENCE_COLOUR = "#333333"
PREDICTED_COLOUR = "#c2410c"
AGREED_COLOUR = "#15803d"

_SUBPLOTS = {2: "xy", 3: "ternary", 4: "scene"}


@dataclass(frozen=True, eq=False)
class HullPair:
    """The phase diagrams of one chemical system from references and from predictions.

    Attributes:
        elements: two to four atomic numbers, in the order of the system's name.
        reference: phase diagram of the references.
        predicted: phase diagram of the candidates with their predicted energies, and of the references' elements.
    """

    elements: tuple[int, ...]
    reference: PhaseDiagram
    predicted: PhaseDiagram

    @classmethod
    def build(
        cls, references: References, formulas: Iterable[Any], energies: ArrayLike, system: str | Iterable[str | int]
    ) -> HullPair:
        """Return both phase diagrams.

        Left out are candidates with other elements than those of the system, and those without a usable formula or a
        finite energy.

        Args:
            references: reference compounds.
            formulas: n candidates.
            energies: their predicted formation energies in eV/atom, shape (n,).
            system: ``"Li-Fe-O"``, or symbols or atomic numbers; two to four elements.

        Raises:
            MatPropError: for fewer or more elements, or if no candidate belongs to the system.
            ReferenceEnergyError: if an element has no end member.
        """
        given = system.split("-") if isinstance(system, str) else system
        elements = tuple(dict.fromkeys(map(element_number, given)))
        name = "-".join(chemical_symbols[number] for number in elements)
        if not 2 <= len(elements) <= MOST_ELEMENTS:
            raise MatPropError(f"a phase diagram has two to {MOST_ELEMENTS} elements; got {name}")
        references.check_covers(elements)
        entries = list(composition_entries(formulas))
        values = np.asarray(energies, dtype=np.float64)
        if values.shape != (len(entries),):
            raise MatPropError(f"each formula needs one energy; got {len(entries)} formulas and {values.size} energies")
        amounts = [entry.amounts or {} for entry in entries]
        inside = [
            row
            for row, composition in enumerate(amounts)
            if len(composition) > 1 and composition.keys() <= set(elements) and np.isfinite(values[row])
        ]
        if not inside:
            reason = next((f"; {entry.name}: {entry.error}" for entry in entries if entry.error is not None), "")
            raise MatPropError(f"no candidate with an energy belongs to the chemical system {name}{reason}")
        block = FormulaBlock.of([amounts[row] for row in inside])
        ids = [f"candidate {row}" for row in inside]
        candidates = References(block.numbers, block.amounts, values[inside], ids, "predictions")
        return cls(
            elements,
            phase_diagram(references, elements),
            phase_diagram(_with_ends(candidates, references), elements),
        )

    @property
    def name(self) -> str:
        """The chemical system, as it was given: ``"Li-Fe-O"``."""
        return "-".join(chemical_symbols[number] for number in self.elements)

    def stable(self) -> tuple[set[str], set[str]]:
        """Return the reduced formulas of compounds (not elements) on the hull of the references, and of predictions."""
        return _stable_formulas(self.reference), _stable_formulas(self.predicted)

    def summary(self) -> str:
        """Return in one line how many stable compounds of the references are stable among the predictions."""
        known, found = self.stable()
        return f"{len(known & found)} of {len(known)} stable compounds predicted, {len(found - known)} others"


def phase_diagram_figure(
    references: References,
    formulas: Iterable[Any],
    energies: ArrayLike,
    system: str | Iterable[str | int],
    show_unstable: float = 0.1,
) -> go.Figure:
    """Return an interactive phase diagram with the hull of the references and that of the predictions.

    Two elements: both hulls in one plot.  Three: two Gibbs triangles, four: two tetrahedra, side by side.  The marks of
    compounds are those of pymatgen's ``PDPlotter``; predicted stable compounds are labelled.

    Args:
        references: reference compounds.
        formulas: n candidates.
        energies: their predicted formation energies in eV/atom, shape (n,).
        system: ``"Li-Fe-O"``, or symbols or atomic numbers.
        show_unstable: compounds up to this distance above their hull, in eV/atom, are shown.

    Raises:
        MatPropError: as :meth:`HullPair.build`.
    """
    from plotly.subplots import make_subplots

    pair = HullPair.build(references, formulas, energies, system)
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
        title={"text": f"{pair.name}: {pair.summary()}", "x": 0.5, "y": 0.98},
        template="plotly_white",
        width=1200 if panels == 2 else 900,
        height=680,
        margin={"t": 110},
        legend={"orientation": "h", "y": -0.12, "x": 0.5, "xanchor": "center"},
    )
    return figure


def write_phase_diagram(
    path: str | Path,
    references: References,
    formulas: Iterable[Any],
    energies: ArrayLike,
    system: str | Iterable[str | int],
    show_unstable: float = 0.1,
) -> Path:
    """Write a phase diagram as ``.html``, complete in one file, or as ``.png``.

    Raises:
        MatPropError: for another ending, a place where nothing can be written, and as :meth:`HullPair.build`.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".png"):
        raise MatPropError(f"the phase diagram {path} must end in .html or .png")
    if not path.parent.is_dir():
        raise MatPropError(f"the folder of the phase diagram {path} does not exist; make it first")
    partial = path.with_name(path.name + ".partial")
    if path.suffix.lower() == ".html":
        figure = phase_diagram_figure(references, formulas, energies, system, show_unstable)
        partial.write_text(figure.to_html(include_plotlyjs=True, full_html=True), encoding="utf-8")
    else:
        from ase_matprop.screening.hull.diagram_images import draw

        with partial.open("wb") as stream:
            draw(HullPair.build(references, formulas, energies, system), stream, show_unstable)
    partial.replace(path)
    return path


def plotter(diagram: PhaseDiagram, show_unstable: float) -> PDPlotter:
    """Return pymatgen's plotter of a phase diagram."""
    from pymatgen.analysis.phase_diagram import PDPlotter

    return PDPlotter(diagram, show_unstable=show_unstable, backend="plotly", ternary_style="2d")


def formula_of(entry: PDEntry) -> str:
    """Return the reduced formula of an entry of pymatgen."""
    return reduced_formula({element.Z: amount for element, amount in entry.composition.items()})


def _add_panel(
    figure: go.Figure,
    diagram: PhaseDiagram,
    pair: HullPair,
    colour: str,
    column: int,
    name: str,
    show_unstable: float,
) -> None:
    import plotly.graph_objects as go

    drawn = plotter(diagram, show_unstable).get_plot(fill=False, label_stable=False)
    known, _ = pair.stable()
    for trace in drawn.data:
        label = trace.name or ""
        if "Labels" in label:
            continue
        trace.update(legendgroup=name)
        if trace.mode == "lines":
            trace.update(line={"color": colour, "width": 2.5}, name=name, showlegend=True)
        elif label == "Stable":
            size = 7 if len(pair.elements) == 4 else 12
            trace.update(
                name=f"{name.partition(',')[0]}: stable", marker={"color": colour, "size": size}, showlegend=True
            )
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
                name=f"{name.partition(',')[0]}: up to {show_unstable:g} eV/atom above the hull", marker=marker,
                showlegend=True, visible=True,
            )  # fmt: skip
        figure.add_trace(trace, row=1, col=column)
    entries = [entry for entry in diagram.stable_entries if not entry.composition.is_element]
    predicted = diagram is pair.predicted
    shown = [entry for entry in entries if predicted or len(pair.elements) > 2 or formula_of(entry) in known]
    if len(pair.elements) == 2 and not predicted:
        shown = [entry for entry in shown if formula_of(entry) not in pair.stable()[1]]
    text = [_subscripts(formula_of(entry)) for entry in shown]
    style: dict[str, Any] = {
        "mode": "text", "text": text, "showlegend": False, "hoverinfo": "skip", "legendgroup": name,
        "textfont": {"color": colour, "size": 13}, "textposition": "bottom center" if predicted else "top center",
    }  # fmt: skip
    shares = np.array([_fractions(entry, pair.elements) for entry in shown]).reshape(-1, len(pair.elements))
    if len(pair.elements) == 2:
        heights = [diagram.get_form_energy_per_atom(entry) for entry in shown]
        figure.add_trace(go.Scatter(x=shares[:, 1], y=heights, **style), row=1, col=column)
        figure.update_xaxes(title=f"atom fraction of {chemical_symbols[pair.elements[1]]}", range=[-0.03, 1.03])
        figure.update_yaxes(title="formation energy (eV/atom)")
    elif len(pair.elements) == 3:
        figure.add_trace(go.Scatterternary(a=shares[:, 0], b=shares[:, 1], c=shares[:, 2], **style), row=1, col=column)
        axes = {
            f"{letter}axis": {"title": {"text": chemical_symbols[number]}, "showticklabels": False, "showgrid": False}
            for letter, number in zip("abc", pair.elements, strict=True)
        }
        figure.update_ternaries({"sum": 1.0, **axes}, row=1, col=column)
    else:
        from pymatgen.analysis.phase_diagram import tet_coord

        ends = np.eye(4)
        style["text"] = [*text, *(f"<b>{chemical_symbols[number]}</b>" for number in pair.elements)]
        x, y, z = np.array([tet_coord(row[1:]) for row in np.vstack([shares, ends])]).T
        figure.add_trace(go.Scatter3d(x=x, y=y, z=z, **style), row=1, col=column)
        hidden = {"visible": False}
        figure.update_scenes({"xaxis": hidden, "yaxis": hidden, "zaxis": hidden}, row=1, col=column)


def _with_ends(candidates: References, references: References) -> References:
    """Return candidates with the end members of the references, in place of their own elements."""
    ends = references.end_members()
    numbers = sorted(candidates.elements | ends.keys())
    block = FormulaBlock.of([{number: 1.0} for number in numbers if number in ends])
    width = max(candidates.numbers.shape[1], 1)
    padding = ((0, 0), (0, width - 1))
    energies = references.energies[[ends[number] for number in numbers if number in ends]]
    return References(
        np.concatenate([candidates.numbers, np.pad(block.numbers, padding)]),
        np.concatenate([candidates.amounts, np.pad(block.amounts, padding)]),
        np.concatenate([candidates.energies, energies]),
        [*candidates.ids, *(f"end member {chemical_symbols[number]}" for number in numbers if number in ends)],
        candidates.source,
    )


def _stable_formulas(diagram: PhaseDiagram) -> set[str]:
    return {formula_of(entry) for entry in diagram.stable_entries if not entry.composition.is_element}


def _fractions(entry: PDEntry, elements: tuple[int, ...]) -> list[float]:
    shares = {element.Z: share for element, share in entry.composition.fractional_composition.items()}
    return [shares.get(number, 0.0) for number in elements]


def _subscripts(formula: str) -> str:
    return re.sub(r"([0-9.]+)", r"<sub>\1</sub>", formula)

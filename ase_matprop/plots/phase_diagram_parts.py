"""What a phase diagram is drawn of; private part of :mod:`ase_matprop.plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ase_matprop.compositions import reduced_formula

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry, PDPlotter, PhaseDiagram

REFERENCE_COLOUR = "#333333"
PREDICTED_COLOUR = "#D55E00"
AGREED_COLOUR = "#0072B2"  # apart from that of predictions to colour-blind eyes


class HullDiagrams(Protocol):
    """Phase diagrams of one chemical system, such as :class:`ase_matprop.screening.HullPair` makes them."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Two to four atomic numbers, in the order of the system's name."""

    @property
    def name(self) -> str:
        """The chemical system, such as ``"Li-Fe-O"``."""

    @property
    def reference(self) -> PhaseDiagram:
        """Phase diagram of the references."""

    @property
    def predicted(self) -> PhaseDiagram:
        """Phase diagram of the predictions."""

    def stable(self) -> tuple[set[str], set[str]]:
        """Return the reduced formulas of stable compounds of the references, and of the predictions."""

    def summary(self) -> str:
        """Return in one line how far they agree."""


def plotter(diagram: PhaseDiagram, show_unstable: float) -> PDPlotter:
    """Return pymatgen's plotter of a phase diagram."""
    from pymatgen.analysis.phase_diagram import PDPlotter

    return PDPlotter(diagram, show_unstable=show_unstable, backend="plotly", ternary_style="2d")


def formula_of(entry: PDEntry) -> str:
    """Return the reduced formula of an entry of pymatgen."""
    return reduced_formula({element.Z: amount for element, amount in entry.composition.items()})

"""Phase diagrams of two to four elements: the hull of the references and that of predictions, together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike

from ase_matprop.compositions import composition_entries
from ase_matprop.errors import MatPropError
from ase_matprop.plots.phase_diagram_parts import formula_of
from ase_matprop.screening.arguments import element_number
from ase_matprop.screening.hull.references import References
from ase_matprop.screening.hull.stability import phase_diagram
from ase_matprop.screening.spaces.base import FormulaBlock

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram

MOST_ELEMENTS = 4


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
    *,
    backend: Literal["matplotlib", "plotly"] = "plotly",
) -> Any:
    """Return a phase diagram with the hull of the references and that of the predictions.

    It is :func:`ase_matprop.plots.hull` of a :class:`HullPair`.

    Args:
        references: reference compounds.
        formulas: n candidates.
        energies: their predicted formation energies in eV/atom, shape (n,).
        system: ``"Li-Fe-O"``, or symbols or atomic numbers.
        show_unstable: compounds up to this distance above their hull, in eV/atom, are shown.
        backend: ``"plotly"`` or ``"matplotlib"``.

    Raises:
        MatPropError: as :meth:`HullPair.build`.
    """
    from ase_matprop.plots import hull

    pair = HullPair.build(references, formulas, energies, system)
    return hull(pair, show_unstable=show_unstable, backend=backend)


def write_phase_diagram(
    path: str | Path,
    references: References,
    formulas: Iterable[Any],
    energies: ArrayLike,
    system: str | Iterable[str | int],
    show_unstable: float = 0.1,
) -> Path:
    """Write a phase diagram as ``.html``, complete in one file, or as ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        MatPropError: for another ending, a place where nothing can be written, and as :meth:`HullPair.build`.
    """
    from ase_matprop.plots import save
    from ase_matprop.plots.files import backend_of, check_path

    check_path(path)
    backend = backend_of(path)
    return save(phase_diagram_figure(references, formulas, energies, system, show_unstable, backend=backend), path)


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

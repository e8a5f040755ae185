"""Phase diagrams of what is on the page: the hull of predicted formation energies, beside that of reference values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ase.data import atomic_numbers, chemical_symbols

from ase_matprop.app.comparison import Series
from ase_matprop.compositions import Amounts, parse_formula
from ase_matprop.errors import MatPropError
from ase_matprop.models.predictor import Entry
from ase_matprop.plots import hull
from ase_matprop.plots.phase_diagram_parts import plotter
from ase_matprop.screening.hull.diagrams import MOST_ELEMENTS, HullPair
from ase_matprop.screening.hull.references import References
from ase_matprop.screening.hull.stability import phase_diagram, stability_table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PROPERTY = "formation_energy_per_atom"
_UNSTABLE = 0.2  # eV/atom above the hull up to which compounds are drawn


@dataclass(frozen=True)
class ChemicalSystem:
    """Two to four elements with entries.

    Attributes:
        name: ``"Fe-Li-O"``.
        numbers: of the entries that are compounds of these elements.
    """

    name: str
    numbers: tuple[int, ...]


def systems(entries: list[Entry], energies: Series) -> list[ChemicalSystem]:
    """Return the chemical systems of two to four elements that some entry has, those with the most entries first."""
    elements = {
        number: frozenset(entry.elements)
        for number, entry in enumerate(entries)
        if math.isfinite(energies.values[number]) and len(entry.elements) > 1
    }
    found = []
    for system in {each for each in elements.values() if len(each) <= MOST_ELEMENTS}:
        inside = tuple(number for number, each in elements.items() if each <= system)
        found.append(ChemicalSystem("-".join(sorted(chemical_symbols[z] for z in system)), inside))
    return sorted(found, key=lambda system: (-len(system.numbers), system.name))


def diagram(
    entries: list[Entry], energies: Series, system: ChemicalSystem, reference: Series | None = None
) -> tuple[go.Figure, pd.DataFrame]:
    """Return the phase diagram of a system and the table of its entries.

    The elements are at 0 eV/atom, as formation energies have it, whatever a model predicts for them.

    Args:
        entries: of the session.
        energies: formation energies of the entries in eV/atom.
        system: of them.
        reference: values to compare with, formation energies in eV/atom too.

    Returns:
        The figure; and a table with name, formula, formation energy, energy above the hull of the predictions (both
        in eV/atom), and what a compound decomposes into.

    Raises:
        MatPropError: if there is no diagram.
    """
    elements = system.name.split("-")
    formulas = [_amounts(entries[number]) for number in system.numbers]
    values = [float(energies.values[number]) for number in system.numbers]
    predicted = References.from_formulas(formulas, values, source="the predictions").with_elements_at_zero(elements)
    table = stability_table(formulas, values, predicted)
    table.insert(0, "name", [entries[number].name for number in system.numbers])
    table["formula"] = [entries[number].formula for number in system.numbers]
    known = None if reference is None else _references(entries, reference, system)
    if known is not None:
        known = known.with_elements_at_zero(elements)
        pair = HullPair.build(known, formulas, values, system.name)
        return hull(pair, show_unstable=_UNSTABLE, backend="plotly"), table
    drawn = plotter(phase_diagram(predicted, [atomic_numbers[symbol] for symbol in elements]), _UNSTABLE).get_plot(
        fill=False
    )
    drawn.update_layout(title=None, autosize=True, width=None, height=560)
    return drawn, table


def _references(entries: list[Entry], reference: Series, system: ChemicalSystem) -> References | None:
    inside = [number for number in system.numbers if math.isfinite(reference.values[number])]
    if not inside:
        return None
    try:
        return References.from_formulas(
            [_amounts(entries[number]) for number in inside],
            [float(reference.values[number]) for number in inside],
            source="the reference values",
        )
    except MatPropError as error:
        raise MatPropError(f"the reference values cannot be used for a phase diagram: {error}") from None


def _amounts(entry: Entry) -> Amounts:
    return parse_formula(entry.formula)

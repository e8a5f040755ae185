"""Stability of a list of candidates as a table."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from ase_matprop.compositions import Amounts, CompositionEntry, composition_entries, reduced_formula
from ase_matprop.errors import MatPropError, unknown_name
from ase_matprop.screening.hull.facets import SMALLEST_SHARE, ReferenceHull, written
from ase_matprop.screening.hull.references import References
from ase_matprop.screening.spaces.base import FormulaBlock

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

METHODS = ("facets", "pymatgen")

#: in eV/atom; what is no more above the hull is on it
ON_HULL = 1e-6


def stability_table(
    formulas: Iterable[Any],
    energies: ArrayLike,
    references: References | ReferenceHull,
    method: Literal["facets", "pymatgen"] = "facets",
    below_hull: float | None = None,
) -> pd.DataFrame:
    """Return a table of distances to the convex hull of reference compounds.

    Args:
        formulas: n formulas, or whatever else has a composition.
        energies: their formation energies in eV/atom, shape (n,).
        references: the references, or their hull if it is used several times.
        method: ``"facets"``, vectorised, or ``"pymatgen"``, a ``PhaseDiagram`` for each chemical system; they agree to
            1e-6 eV/atom.
        below_hull: a distance in eV/atom; the column ``below_hull`` says which candidates are at least as far below the
            hull (0.2 for the candidates of D. Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y).

    Returns:
        n rows with the columns ``formula``, ``formation_energy_per_atom``, ``e_above_hull`` (eV/atom, negative below
        the hull), ``decomposition`` (see :meth:`ReferenceHull.decomposition`), ``stable`` (on or below the hull), and,
        where there is one, ``error``: why a row has no distance.

    Raises:
        MatPropError: if there are not as many energies as formulas, or the method is unknown.
    """
    import pandas as pd

    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if below_hull is not None and not below_hull >= 0.0:
        raise MatPropError(f"below_hull must be a distance in eV/atom, zero or positive; got {below_hull}")
    hull = references if isinstance(references, ReferenceHull) else ReferenceHull(references)
    rows = list(composition_entries(formulas))
    values = np.asarray(energies, dtype=np.float64)
    if values.shape != (len(rows),):
        raise MatPropError(
            f"each formula needs one energy; got {len(rows)} formulas and energies of shape {values.shape}"
        )
    errors = [_fault(row, float(value), hull) for row, value in zip(rows, values, strict=True)]
    good = np.array([number for number, error in enumerate(errors) if error is None], dtype=np.int64)
    amounts = [rows[number].amounts or {} for number in good.tolist()]
    distances = np.full(len(rows), np.nan)
    decompositions: list[str | None] = [None] * len(rows)
    if len(good):
        found, texts = (_by_facets if method == "facets" else _by_pymatgen)(amounts, values[good], hull)
        distances[good] = found
        for number, text in zip(good.tolist(), texts, strict=True):
            decompositions[number] = text
            if text is None:
                errors[number] = "pymatgen finds no facet for it; use the method 'facets'"
    table: dict[str, Any] = {
        "formula": pd.Series([row.formula or row.name for row in rows], dtype=object),
        "formation_energy_per_atom": values,
        "e_above_hull": distances,
        "decomposition": pd.Series(decompositions, dtype=object),
        "stable": distances <= ON_HULL,
    }
    if below_hull is not None:
        table["below_hull"] = distances <= -below_hull
    if any(errors):
        table["error"] = pd.Series(errors, dtype=object)
    return pd.DataFrame(table, index=pd.RangeIndex(len(rows)))


def phase_diagram(references: References, elements: Iterable[int]) -> PhaseDiagram:
    """Return the phase diagram of pymatgen for a chemical system, whose elements are in the order that is given.

    Raises:
        ReferenceEnergyError: if an element has no end member.
    """
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Element

    numbers = list(elements)
    references.check_covers(numbers)
    return PhaseDiagram(entries(references.restrict(numbers)), [Element.from_Z(number) for number in numbers])


def entries(references: References) -> list[PDEntry]:
    """Return references as entries of pymatgen, whose energies are formation energies in eV per formula unit."""
    return [
        entry(amounts, energy, name)
        for amounts, energy, name in zip(
            references.block.compositions(), references.energies.tolist(), references.ids, strict=True
        )
    ]


def entry(amounts: Amounts, energy: float, name: str | None = None) -> PDEntry:
    """Return one entry of pymatgen for a formation energy in eV/atom."""
    from pymatgen.analysis.phase_diagram import PDEntry
    from pymatgen.core import Composition

    composition = Composition({chemical_symbols[number]: amount for number, amount in amounts.items()})
    found = PDEntry(composition, energy * composition.num_atoms)
    found.entry_id = name
    return found


def _fault(row: CompositionEntry, energy: float, hull: ReferenceHull) -> str | None:
    if row.error is not None:
        return row.error
    if not math.isfinite(energy):
        return f"its formation energy is {energy}; give a number"
    try:
        hull.check_covers(row.elements)
    except MatPropError as error:
        return str(error)
    return None


def _by_facets(
    amounts: list[Amounts], energies: NDArray[np.float64], hull: ReferenceHull
) -> tuple[NDArray[np.float64], list[str | None]]:
    block = FormulaBlock.of(amounts)
    return hull.e_above_hull(block, energies), list(hull.decomposition(block))


def _by_pymatgen(
    amounts: list[Amounts], energies: NDArray[np.float64], hull: ReferenceHull
) -> tuple[NDArray[np.float64], list[str | None]]:
    systems: dict[frozenset[int], list[int]] = defaultdict(list)
    for number, composition in enumerate(amounts):
        systems[frozenset(composition)].append(number)
    distances = np.full(len(amounts), np.nan)
    texts: list[str | None] = [None] * len(amounts)
    for system, numbers in systems.items():
        diagram = phase_diagram(hull.references, system)
        for number in numbers:
            candidate = entry(amounts[number], float(energies[number]))
            products, distance = diagram.get_decomp_and_e_above_hull(
                candidate, allow_negative=True, check_stable=False, on_error="ignore"
            )
            if products is not None:
                distances[number], texts[number] = distance, _text(products)
    return distances, texts


def _text(products: dict[PDEntry, float]) -> str:
    return written(
        (share, reduced_formula({element.Z: amount for element, amount in product.composition.items()}))
        for product, share in products.items()
        if share > SMALLEST_SHARE
    )

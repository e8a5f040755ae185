"""Elemental properties of the Magpie project, with a documented imputation of missing values.

Source of the data: Ward et al., npj Comput. Mater. 2, 16028 (2016), doi:10.1038/npjcompumats.2016.28, in the version
that matminer carries (see ``data/README.md``).

Imputation: where Magpie has no value of a property for an element (the electronegativity of He, Ne and Ar, say), the
mean of that property over the elements that have one stands in, as in matminer with ``impute_nan=True``; noble gases
have no oxidation states, and get the rounded mean of all.  An element for which that happens is reported once through
:mod:`logging`.  Elements without any entry (Z > 112) are refused.
"""

from __future__ import annotations

import csv
import functools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from ase_matprop.errors import UnknownElementError

logger = logging.getLogger(__name__)

#: the 22 properties of the Ward-2017 features in the order of Table 1 of Krajewski et al. (2022): the column of
#: Magpie's table, and the name that Table 1 gives it
MAGPIE_PROPERTIES: dict[str, str] = {
    "Number": "Atomic Number",
    "MendeleevNumber": "Mendeleev Number",
    "AtomicWeight": "Atomic Weight",
    "MeltingT": "Melting Temperature",
    "Column": "Column",
    "Row": "Row",
    "CovalentRadius": "Covalent Radius",
    "Electronegativity": "Electronegativity",
    "NsValence": "s Valence Electron Count",
    "NpValence": "p Valence Electron Count",
    "NdValence": "d Valence Electron Count",
    "NfValence": "f Valence Electron Count",
    "NValence": "total Valence Electron Count",
    "NsUnfilled": "s Unfilled Count",
    "NpUnfilled": "p Unfilled Count",
    "NdUnfilled": "d Unfilled Count",
    "NfUnfilled": "f Unfilled Count",
    "NUnfilled": "total Unfilled Count",
    "GSvolume_pa": "Ground State Volume",
    "GSbandgap": "Ground State Band Gap",
    "GSmagmom": "Ground State Magnetic Moment",
    "SpaceGroupNumber": "Space Group Number",
}


@dataclass(frozen=True, eq=False)
class ElementTable:
    """Magpie's table as arrays; the row is the atomic number (row 0 is empty).

    Attributes:
        symbols: element symbols, ``symbols[26] == "Fe"``.
        properties: the 22 properties of :data:`MAGPIE_PROPERTIES`, missing values imputed, shape (113, 22).
        imputed: where ``properties`` holds an imputed value, shape (113, 22).
        oxidation_states: known oxidation states of each element; the rounded mean of all known states of all elements
            where there is none.
        imputed_states: elements whose entry of ``oxidation_states`` is imputed, shape (113,).
    """

    symbols: tuple[str, ...]
    properties: NDArray[np.float64]
    imputed: NDArray[np.bool_]
    oxidation_states: tuple[tuple[int, ...], ...]
    imputed_states: NDArray[np.bool_]

    @property
    def max_number(self) -> int:
        """The largest atomic number that the table has."""
        return len(self.symbols) - 1

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one property by Magpie's name for all elements, shape (113,)."""
        return self.properties[:, list(MAGPIE_PROPERTIES).index(name)]


@functools.cache
def load_element_table() -> ElementTable:
    """Read Magpie's elemental data, once per process; the arrays are read-only."""
    text = files("ase_matprop.descriptors").joinpath("data/magpie_elements.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    values = np.full((len(rows) + 1, len(MAGPIE_PROPERTIES)), np.nan)
    values[1:] = [[float(row[name]) if row[name] else np.nan for name in MAGPIE_PROPERTIES] for row in rows]
    imputed = np.isnan(values)
    properties = np.where(imputed, np.nanmean(values, axis=0), values)
    properties.flags.writeable = imputed.flags.writeable = False

    states = [tuple(int(state) for state in row["OxidationStates"].split()) for row in rows]
    mean_state = round(float(np.mean([state for known in states for state in known])))
    return ElementTable(
        symbols=("X", *(row["symbol"] for row in rows)),
        properties=properties,
        imputed=imputed,
        oxidation_states=((), *(known or (mean_state,) for known in states)),
        imputed_states=np.array([False, *(not known for known in states)]),
    )


def check_elements(numbers: Iterable[int]) -> None:
    """Raise :class:`UnknownElementError` if Magpie has no data for one of the atomic ``numbers``.

    Elements for which single values are imputed pass, and are logged at the first occurrence in the process.
    """
    table = load_element_table()
    for number in numbers:
        if not 1 <= number <= table.max_number:
            raise UnknownElementError(
                f"Magpie has no elemental data for atomic number {number}; the features need elements 1 (H) to "
                f"{table.max_number} ({table.symbols[-1]})"
            )
        if table.imputed[number].any() or table.imputed_states[number]:
            _log_imputation(number)


@functools.cache
def _log_imputation(number: int) -> None:
    table = load_element_table()
    names = [name for name, missing in zip(MAGPIE_PROPERTIES, table.imputed[number], strict=True) if missing]
    if table.imputed_states[number]:
        names.append("oxidation states")
    logger.warning(
        "Magpie has no value of %s for %s: the mean over all elements is used instead",
        ", ".join(names),
        table.symbols[number],
    )


def ground_state_volumes() -> dict[str, float]:
    """Return the volumes per atom of the elements in their ground states (Magpie, from DFT), in Angstrom^3, by symbol.

    Elements for which Magpie has none are left out.  Made for
    :meth:`ase_matprop.structures.prototypes.Prototype.decorate`.
    """
    table = load_element_table()
    column = list(MAGPIE_PROPERTIES).index("GSvolume_pa")
    return {
        symbol: float(table.properties[number, column])
        for number, symbol in enumerate(table.symbols)
        if number and not table.imputed[number, column]
    }

r"""The 256 features of KS2022 from the quantities of single sites and from the composition.

Features 1 to 118 describe the structure: those of :mod:`~ase_matprop.descriptors.ward2017` without the order of the
Warren-Cowley kind and without differences in the space group number.  Features 119 to 256 describe the composition:
those of :mod:`~ase_matprop.descriptors.composition` without the space group number and "Can Form Ionic Compound", and
with the definitions of pySIPFENN 0.18 in four places:

* a property that Magpie does not have for an element counts as zero (the mean over all elements in Ward-2017);
* of several elements that are equally frequent, the mean of their properties is the mode (the smallest in Ward-2017);
* electronegativities of the ionic character are pymatgen's, which differ from Magpie's for six elements;
* the mean ionic character :math:`\sum_{ij} x_i x_j (1 - \exp(-(\chi_i - \chi_j)^2 / 4))` counts each pair of elements
  twice (once in Ward-2017).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from itertools import combinations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors import composition, ward2017
from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.elements import MAGPIE_PROPERTIES, load_element_table
from ase_matprop.descriptors.sites import SiteGeometry, SiteStatistics, sphere_volume, structure_columns
from ase_matprop.errors import UnknownElementError

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

N_FEATURES = 256
N_STRUCTURE = 118

#: the 21 elemental properties, those of Ward-2017 without the space group number: Magpie's name -> our name
PROPERTIES = {name: label for name, label in MAGPIE_PROPERTIES.items() if name != "SpaceGroupNumber"}

#: Pauling electronegativities of pymatgen where Magpie has another value or none
_ELECTRONEGATIVITIES = {61: 1.13, 63: 1.2, 65: 1.1, 70: 1.1, 86: 2.2, 103: 1.3}


def feature_labels() -> list[str]:
    """Return the names of the 256 features, a fresh list; those that Ward-2017 has too are called as there."""
    other = ("WC Magnitude", "in Space Group Number")
    labels = [label for label in ward2017.structure_labels() if not any(text in label for text in other)]
    labels += composition.feature_labels()[:6]
    statistics = ("mean", "range", "mean absolute deviation", "maximum", "minimum", "mean over modes of")
    labels += [f"{statistic} {name}" for name in PROPERTIES.values() for statistic in statistics]
    labels += [f"Fraction of Valence Electrons in {orbital} orbitals" for orbital in "spdf"]
    return [*labels, "maximum Ionic Character (Pauling)", "mean Ionic Character (Pauling) over ordered pairs"]


def pysipfenn_labels() -> list[str]:
    """Return the column names that pySIPFENN uses for the same 256 features, in the same order, a fresh list."""
    names = [{"NValence": "NValance"}.get(name, name) for name in PROPERTIES]
    labels = [f"{s}_EffectiveCoordination" for s in ("mean", "var", "min", "max")]
    labels += [f"{s}_MeanBondLength" for s in ("var", "min", "max")]
    labels += [f"{s}_BondLengthVariation" for s in ("mean", "var", "min", "max")]
    labels += ["var_CellVolume", "MaxPackingEfficiency"]
    labels += [f"{s}_NeighDiff_shell1_{n}" for n in names for s in ("mean", "var", "min", "max", "range")]
    labels += ["NComp", *(f"Comp_L{p}Norm" for p in composition.NORMS)]
    labels += [f"{s}_{n}" for n in names for s in ("mean", "maxdiff", "dev", "max", "min", "most")]
    return [*labels, *(f"frac_{orbital}Valence" for orbital in "spdf"), "MaxIonicChar", "MeanIonicChar"]


@functools.cache
def properties() -> FloatArray:
    """Return the 21 elemental properties, zero where Magpie has none; read-only, shape (113, 21)."""
    table = load_element_table()
    values = np.where(table.imputed, 0.0, table.properties)[:, : len(PROPERTIES)]
    values.flags.writeable = False
    return values


@functools.cache
def _electronegativities() -> FloatArray:
    table = load_element_table()
    column = list(MAGPIE_PROPERTIES).index("Electronegativity")
    values = np.where(table.imputed[:, column], np.nan, table.properties[:, column])
    for number, value in _ELECTRONEGATIVITIES.items():
        values[number] = value
    return values


def element_error(numbers: Iterable[int]) -> str | None:
    """Return None, or the reason why the elements with these atomic numbers rule out the features."""
    try:
        for number in sorted(set(numbers)):
            _check_element(number)
    except UnknownElementError as error:
        return str(error)
    return None


@functools.cache
def _check_element(number: int) -> None:
    table = load_element_table()
    if not 1 <= number <= table.max_number:
        raise UnknownElementError(
            f"Magpie has no elemental data for atomic number {number}; KS2022 needs elements from H"
        )
    symbol = table.symbols[number]
    if np.isnan(_electronegativities()[number]):
        raise UnknownElementError(
            f"{symbol} has no Pauling electronegativity, which the ionic character needs; leave this entry out, or "
            "take Ward-2017 features, which put the mean of all elements in its place"
        )
    missing = [name for name, absent in zip(PROPERTIES, table.imputed[number], strict=False) if absent]
    if missing:
        logger.warning("Magpie has no %s of %s: it counts as zero in KS2022", ", ".join(missing), symbol)


def atoms_error(atoms: Atoms) -> str | None:
    """Return None, or the reason why the elements of a structure rule out its features."""
    return element_error(np.unique(atoms.numbers).tolist())


def structure_features(
    over_sites: SiteStatistics,
    geometry: SiteGeometry,
    volume: FloatArray,
    cell_volumes: FloatArray,
    difference: FloatArray,
) -> FloatArray:
    """Return the features 1 to 118, shape (n_structures, 118).

    Args:
        over_sites: statistics over the sites of each structure.
        geometry: of the sites.
        volume: volumes of the Voronoi cells in Angstrom^3, shape (n_sites_total,).
        cell_volumes: volumes that the sites fill together in Angstrom^3, shape (n_structures,).
        difference: differences to the neighbours in the 21 elemental properties, shape (n_sites_total, 21).
    """
    packing = over_sites.total(sphere_volume(geometry.radius)) / cell_volumes
    columns = structure_columns(over_sites, geometry, volume)
    return np.column_stack([*columns, packing, over_sites.five(difference).reshape(len(packing), -1)])


def composition_features(slots: ElementSlots) -> FloatArray:
    """Return the features 119 to 256, shape (n, 138)."""
    n = len(slots.numbers)
    statistics = composition.property_statistics(slots, properties())
    frequent = np.isclose(slots.fractions, slots.fractions.max(axis=1, keepdims=True), atol=0.0)[..., None]
    statistics[:, :, 5] = (frequent * properties()[slots.numbers]).sum(axis=1) / frequent.sum(axis=1)

    first = list(PROPERTIES).index("NsValence")
    electrons = (slots.fractions[..., None] * properties()[slots.numbers][..., first : first + 4]).sum(axis=1)
    valence = electrons / electrons.sum(axis=1, keepdims=True)

    chi = _electronegativities()[slots.numbers]
    largest, mean = np.zeros(n), np.zeros(n)
    for i, j in combinations(range(chi.shape[1]), 2):
        both = slots.used[:, i] & slots.used[:, j]
        character = np.where(both, 1.0 - np.exp(-0.25 * (chi[:, i] - chi[:, j]) ** 2), 0.0)
        largest = np.maximum(largest, character)
        mean += 2.0 * slots.fractions[:, i] * slots.fractions[:, j] * character
    return np.column_stack([composition.stoichiometry(slots), statistics.reshape(n, -1), valence, largest, mean])

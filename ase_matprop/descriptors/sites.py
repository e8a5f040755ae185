"""Quantities of single sites from the faces of their Voronoi cells, and statistics of them over structures.

What the Voronoi-based descriptors (:mod:`~ase_matprop.descriptors.ward2017`, :mod:`~ase_matprop.descriptors.ks2022`)
have in common.  Sites and faces are flat arrays through a batch, as in :mod:`~ase_matprop.descriptors.voronoi`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.tessellation import Tessellation

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SITES_PER_CHUNK = 4096  # bounds the memory for triangles of faces, about 100 a site


def chunks_of_structures(structures: Sequence[Atoms], errors: Sequence[str | None]) -> Iterator[list[int]]:
    """Group the rows without an error so that a group has a bounded number of sites."""
    chunk: list[int] = []
    n_sites = 0
    for row, atoms in enumerate(structures):
        if errors[row] is not None:
            continue
        if chunk and n_sites + len(atoms) > _SITES_PER_CHUNK:
            yield chunk
            chunk, n_sites = [], 0
        chunk.append(row)
        n_sites += len(atoms)
    if chunk:
        yield chunk


def element_slots(tessellation: Tessellation, numbers: IntArray) -> tuple[ElementSlots, IntArray]:
    """Return the compositions of the structures, and for each site the slot of its element.

    Args:
        tessellation: of the structures.
        numbers: atomic numbers of all sites, shape (n_sites_total,).
    """
    size = int(numbers.max()) + 1
    pair = tessellation.structure * size + numbers
    present, of_site, count = np.unique(pair, return_inverse=True, return_counts=True)
    owner = present // size
    slot = np.arange(len(present)) - np.searchsorted(owner, owner)
    n_slots = int(slot.max()) + 1
    slots = np.zeros((len(tessellation.n_sites), n_slots), dtype=np.int64)
    amounts = np.zeros((len(tessellation.n_sites), n_slots))
    slots[owner, slot] = present % size
    amounts[owner, slot] = count
    return ElementSlots(slots, amounts / amounts.sum(axis=1, keepdims=True), amounts), slot[of_site]


@dataclass(frozen=True, eq=False)
class SiteGeometry:
    r"""What the faces of a Voronoi cell say about its shape, arrays of shape (n_sites,).

    With :math:`A_j` the area of a face and :math:`d_j` the distance of the two sites that share it:

    Attributes:
        area: :math:`\sum_j A_j`, Angstrom^2.
        coordination: effective coordination number :math:`(\sum_j A_j)^2 / \sum_j A_j^2`.
        bond_length: :math:`\bar d = \sum_j A_j d_j / \sum_j A_j`, Angstrom.
        variation: :math:`\sum_j A_j |d_j - \bar d| / (\bar d \sum_j A_j)`.
        radius: of the largest sphere around the site that fits into its cell, Angstrom.
    """

    area: FloatArray
    coordination: FloatArray
    bond_length: FloatArray
    variation: FloatArray
    radius: FloatArray


_COLUMNS = tuple(SiteGeometry.__dataclass_fields__)


def site_geometry(site: IntArray, area: FloatArray, distance: FloatArray, n_sites: int) -> SiteGeometry:
    """Return the geometry of ``n_sites`` sites from their faces.

    Args:
        site: site of each face, ascending, each of the sites at least once, shape (n_faces,).
        area: face areas in Angstrom^2, shape (n_faces,).
        distance: distances of the two sites of a face in Angstrom, shape (n_faces,).
        n_sites: number of sites.
    """
    total = sum_faces(site, area, n_sites)
    bond_length = sum_faces(site, area * distance, n_sites) / total
    return SiteGeometry(
        area=total,
        coordination=total**2 / sum_faces(site, area**2, n_sites),
        bond_length=bond_length,
        variation=sum_faces(site, area * np.abs(distance - bond_length[site]), n_sites) / total / bond_length,
        radius=0.5 * np.minimum.reduceat(distance, np.searchsorted(site, np.arange(n_sites))),
    )


def geometry_of(tessellation: Tessellation) -> SiteGeometry:
    """Return the geometry of all sites of a tessellation, computed once for structures that share it."""

    def columns(part: Tessellation) -> FloatArray:
        geometry = site_geometry(part.site, part.area, part.distance, len(part.structure))
        return np.column_stack([getattr(geometry, name) for name in _COLUMNS])

    return SiteGeometry(*np.ascontiguousarray(tessellation.once_per_geometry("site geometry", columns).T))


def sum_faces(site: IntArray, values: FloatArray, n_sites: int) -> FloatArray:
    """Sum the face values of each site, shape (n_sites,)."""
    return np.bincount(site, values, minlength=n_sites).astype(np.float64)


def sum_by_slot(
    site: IntArray, values: FloatArray, slot_of_neighbor: IntArray, n_sites: int, n_slots: int
) -> FloatArray:
    """Sum the face values for each site and slot of the neighbour's element, shape (n_sites, n_slots)."""
    index = site * n_slots + slot_of_neighbor
    return np.bincount(index, values, minlength=n_sites * n_slots).astype(np.float64).reshape(-1, n_slots)


def neighbor_differences(
    share: FloatArray, slot_numbers: IntArray, numbers: IntArray, properties: FloatArray
) -> FloatArray:
    """Return the mean absolute differences of elemental properties to the neighbours, shape (n_sites, n_properties).

    Args:
        share: share of the surface of each cell that is shared with each element, shape (n_sites, n_slots).
        slot_numbers: atomic number of each slot, shape (n_sites, n_slots).
        numbers: atomic number of each site, shape (n_sites,).
        properties: elemental properties; the row is the atomic number.
    """
    difference = np.zeros((len(numbers), properties.shape[1]))
    for slot in range(share.shape[1]):
        other = properties[slot_numbers[:, slot]]
        difference += share[:, slot, None] * np.abs(properties[numbers] - other)
    return difference


class SiteStatistics:
    """Statistics over the sites of each structure, for site values of shape (n_sites_total, ...).

    Args:
        n_sites: number of sites of each structure, which follow one another, shape (n_structures,).
        multiplicity: how many sites each one stands for, shape (n_sites_total,); None for one.
    """

    def __init__(self, n_sites: IntArray, multiplicity: FloatArray | None = None) -> None:
        self.first = np.concatenate([[0], np.cumsum(n_sites)[:-1]]).astype(np.int64)
        self.structure = np.repeat(np.arange(len(n_sites)), n_sites)
        self.multiplicity = multiplicity
        self.count = n_sites if multiplicity is None else np.add.reduceat(multiplicity, self.first)

    def total(self, values: FloatArray) -> FloatArray:
        """Sum over the sites, shape (n_structures, ...)."""
        if self.multiplicity is not None:
            values = (values.T * self.multiplicity).T
        return np.add.reduceat(values, self.first)

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean over the sites, shape (n_structures, ...)."""
        return (self.total(values).T / self.count).T

    def deviation(self, values: FloatArray) -> FloatArray:
        """Mean absolute deviation from the mean, shape (n_structures, ...)."""
        return self.mean(np.abs(values - self.mean(values)[self.structure]))

    def minimum(self, values: FloatArray) -> FloatArray:
        """Smallest value, shape (n_structures, ...)."""
        return np.minimum.reduceat(values, self.first)

    def maximum(self, values: FloatArray) -> FloatArray:
        """Largest value, shape (n_structures, ...)."""
        return np.maximum.reduceat(values, self.first)

    def five(self, values: FloatArray) -> FloatArray:
        """Mean, mean absolute deviation, minimum, maximum and range, shape (n_structures, ..., 5)."""
        smallest, largest = self.minimum(values), self.maximum(values)
        columns = [self.mean(values), self.deviation(values), smallest, largest, largest - smallest]
        return np.stack(columns, axis=-1)


def structure_columns(over_sites: SiteStatistics, geometry: SiteGeometry, volume: FloatArray) -> list[FloatArray]:
    """Return the twelve features that coordination numbers, bond lengths and cell volumes have, in Ward's order.

    Args:
        over_sites: statistics over the sites of each structure.
        geometry: of the sites.
        volume: volume of each Voronoi cell in Angstrom^3, shape (n_sites_total,).

    Returns:
        Twelve arrays of shape (n_structures,), see :func:`ase_matprop.descriptors.ward2017.structure_labels`.
    """
    relative_length = geometry.bond_length / over_sites.mean(geometry.bond_length)[over_sites.structure]
    relative_volume = volume / over_sites.mean(volume)[over_sites.structure]
    return [
        over_sites.mean(geometry.coordination),
        over_sites.deviation(geometry.coordination),
        over_sites.minimum(geometry.coordination),
        over_sites.maximum(geometry.coordination),
        over_sites.deviation(relative_length),
        over_sites.minimum(relative_length),
        over_sites.maximum(relative_length),
        over_sites.mean(geometry.variation),
        over_sites.deviation(geometry.variation),
        over_sites.minimum(geometry.variation),
        over_sites.maximum(geometry.variation),
        over_sites.deviation(relative_volume),
    ]


def sphere_volume(radius: FloatArray) -> FloatArray:
    """Volume of spheres, Angstrom^3."""
    return 4.0 / 3.0 * np.pi * radius**3

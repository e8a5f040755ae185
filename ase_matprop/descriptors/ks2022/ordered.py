"""KS2022 of ordered structures, a batch at a time."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors.ks2022 import features as ks
from ase_matprop.descriptors.ks2022.inputs import list_of_atoms
from ase_matprop.descriptors.sites import (
    SiteStatistics,
    chunks_of_structures,
    element_slots,
    geometry_of,
    neighbor_differences,
    site_geometry,
    sum_by_slot,
)
from ase_matprop.descriptors.tessellation import Tessellation
from ase_matprop.descriptors.voronoi import tessellate

logger = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: tolerances of pySIPFENN for equivalent sites: distance in Angstrom, angle in degrees
SYMMETRY_PRECISION = 1e-3
ANGLE_TOLERANCE = 0.1


def compute(structures: Sequence[Any], *, symmetry: bool = False) -> tuple[FloatArray, list[str | None]]:
    """Compute the KS2022 features of a batch of structures.

    Args:
        structures: valid periodic Atoms, which are not checked again, or what else
            :func:`ase_matprop.structures.as_atoms` takes.
        symmetry: compute the features of sites that spglib finds equivalent once, and weigh them with their
            multiplicity.  The result is the same to the symmetry tolerance.  Off by default: the tessellation gives all
            cells of a structure in one call, and the symmetry analysis takes longer than all the rest.

    Returns:
        Features of shape (n, 256) in the order of :func:`feature_labels`, NaN in the rows that have none, and n entries
        of None or the reason why there are none.

    Raises:
        DescriptorError: if ``structures`` is no list.
        StructureError: for what is no structure; the message has its number.
    """
    structures = list_of_atoms(structures)
    result = np.full((len(structures), ks.N_FEATURES), np.nan)
    errors = [ks.atoms_error(atoms) for atoms in structures]
    for chunk in chunks_of_structures(structures, errors):
        members = [structures[row] for row in chunk]
        tessellation, failures = tessellate(members)
        for row, failure in zip(chunk, failures, strict=True):
            errors[row] = failure
        if tessellation is None:
            continue
        good = [position for position, failure in enumerate(failures) if failure is None]
        members = [members[position] for position in good]
        result[[chunk[position] for position in good]] = features_of(tessellation, members, symmetry=symmetry)
    return result, errors


def features_of(
    tessellation: Tessellation, structures: Sequence[Atoms], *, symmetry: bool = False, pooled: bool = False
) -> FloatArray:
    """Return the features of structures whose tessellation is known, shape (n_structures, 256).

    Args:
        tessellation: of the structures.
        structures: in the order of the tessellation.
        symmetry: compute equivalent sites once.
        pooled: take the sites of all structures together; the result has one row.
    """
    t = tessellation if not pooled else joined(tessellation)
    numbers = np.concatenate([atoms.numbers for atoms in structures]).astype(np.int64)[t.order]
    slots, slot_of_site = element_slots(t, numbers)
    site, area, slot = t.site, t.area, slot_of_site[t.neighbor]
    structure, volume, n_sites = t.structure, t.site_volumes, t.n_sites
    multiplicity: FloatArray | None = None
    if symmetry:
        # the representatives take the place of the sites, and only their faces are kept
        first_atom = tessellation.first_site
        equivalent = np.concatenate(
            [first + equivalent_sites(atoms) for first, atoms in zip(first_atom, structures, strict=True)]
        )
        equivalent = np.argsort(t.order)[equivalent[t.order]]  # of sites in place of atoms
        kept, count = np.unique(equivalent, return_counts=True)
        multiplicity = count.astype(np.float64)
        index = np.full(len(numbers), -1)
        index[kept] = np.arange(len(kept))
        faces = index[site] >= 0
        site, area, slot = index[site[faces]], area[faces], slot[faces]
        structure, volume, numbers = structure[kept], volume[kept], numbers[kept]
        n_sites = np.bincount(structure, minlength=len(n_sites))
        geometry = site_geometry(site, area, t.distance[faces], len(numbers))
    else:
        geometry = geometry_of(t)
    share = sum_by_slot(site, area, slot, len(numbers), slots.numbers.shape[1]) / geometry.area[:, None]
    difference = neighbor_differences(share, slots.numbers[structure], numbers, ks.properties())
    over_sites = SiteStatistics(n_sites, multiplicity)
    structural = ks.structure_features(over_sites, geometry, volume, t.cell_volumes, difference)
    return np.column_stack([structural, ks.composition_features(slots)])


def joined(tessellation: Tessellation) -> Tessellation:
    """Return the tessellation with the sites of all structures counted as those of one."""
    return dataclasses.replace(
        tessellation,
        n_sites=tessellation.n_sites.sum(keepdims=True),
        structure=np.zeros_like(tessellation.structure),
        cell_volumes=tessellation.cell_volumes.sum(keepdims=True),
    )


def equivalent_sites(
    atoms: Atoms, *, precision: float = SYMMETRY_PRECISION, angle_tolerance: float = ANGLE_TOLERANCE
) -> IntArray:
    """Return for each site the first one that a symmetry operation takes to it, shape (n_sites,).

    Where spglib finds no symmetry at these tolerances, each site stands for itself.

    Args:
        atoms: a periodic structure.
        precision: tolerance of positions in Angstrom.
        angle_tolerance: tolerance of angles in degrees.
    """
    import spglib

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        dataset = spglib.get_symmetry_dataset(cell, symprec=precision, angle_tolerance=angle_tolerance)
    except Exception as error:  # SpglibError, in new versions
        logger.debug("no symmetry: %s", error)
        dataset = None
    if dataset is None:
        return np.arange(len(atoms))
    return np.asarray(dataset.equivalent_atoms, dtype=np.int64)

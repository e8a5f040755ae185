r"""KS2022 in the dilute limit: one foreign atom in a host crystal.

Only the foreign atom and the neighbours that share a face with it have other differences to their neighbours than in
the host; all shapes of cells are those of the host.  With :math:`s` the site that the foreign atom X takes from the
host's atom H, a neighbour j goes from :math:`\Delta_j` to
:math:`\Delta_j + \frac{A_{js}}{\sum_k A_{jk}} (|q_j - q_X| - |q_j - q_H|)`.  So one tessellation of the host serves
every element in every supercell of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.ks2022 import features as ks
from ase_matprop.descriptors.ks2022.inputs import atoms_of, list_of_atoms, numbers_of
from ase_matprop.descriptors.sites import (
    SiteGeometry,
    SiteStatistics,
    chunks_of_structures,
    neighbor_differences,
    site_geometry,
    sum_by_slot,
)
from ase_matprop.descriptors.tessellation import Tessellation
from ase_matprop.descriptors.voronoi import tessellate
from ase_matprop.errors import DescriptorError, UnknownElementError
from ase_matprop.structures.objects import is_single

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def compute_dilute(
    structures: Sequence[Any], hosts: Any | Sequence[Any] | None = None
) -> tuple[FloatArray, list[str | None]]:
    """Compute the KS2022 features of structures with one foreign atom.

    They are those that :func:`ase_matprop.descriptors.ks2022.compute` gives.  Structures that differ in nothing but the
    foreign atom share one tessellation.

    Args:
        structures: valid periodic Atoms, which are not checked again, or what else
            :func:`ase_matprop.structures.as_atoms` takes.
        hosts: the structures without the foreign atom: the same cell and sites, in the same order, with another element
            on one of them.  One for all or one for each; None for a host of a single element, which then is the other
            element of the structure.

    Returns:
        Features of shape (n, 256), NaN in the rows that have none, and n entries of None or the reason why there are
        none.

    Raises:
        DescriptorError: if ``structures`` is no list, or there is neither one host nor one for each structure.
        StructureError: for what is no structure; the message has its number.
    """
    structures = list_of_atoms(structures)
    each = _hosts_of(hosts, len(structures))
    result = np.full((len(structures), ks.N_FEATURES), np.nan)
    errors: list[str | None] = [None] * len(structures)
    groups: dict[tuple[bytes, ...], list[tuple[int, int]]] = {}
    parents: list[Atoms] = []
    for row, (atoms, host) in enumerate(zip(structures, each, strict=True)):
        try:
            site, numbers = _foreign_atom(atoms, host)
        except DescriptorError as error:
            errors[row] = str(error)
            continue
        errors[row] = ks.atoms_error(atoms) or ks.element_error(numbers.tolist())
        if errors[row] is None:
            key = (atoms.cell.array.tobytes(), atoms.positions.tobytes(), numbers.tobytes())
            if key not in groups:
                groups[key] = []
                parents.append(Atoms(numbers, atoms.positions, cell=atoms.cell, pbc=True))
            groups[key].append((row, site))
    members = list(groups.values())
    for chunk in chunks_of_structures(parents, [None] * len(parents)):
        chosen = [parents[position] for position in chunk]
        tessellation, failures = tessellate(chosen)
        good = 0
        for position, failure in zip(chunk, failures, strict=True):
            if failure is not None or tessellation is None:
                for row, _ in members[position]:
                    errors[row] = failure
                continue
            host = _Host(tessellation, good, parents[position].numbers.astype(np.int64))
            good += 1
            for site in sorted({site for _, site in members[position]}):
                rows = [row for row, at in members[position] if at == site]
                result[rows] = host.features(site, np.array([structures[row].numbers[site] for row in rows]), 1)
    return result, errors


def dilute_limit(host: Any, elements: Sequence[str], *, n_atoms: int, site: int = 0) -> FloatArray:
    """Compute the KS2022 features of foreign atoms in a supercell of a host, without building the supercell.

    The supercell is taken to be large enough that the foreign atom and its images share no neighbour; its shape does
    not matter then.  The features are those of :func:`ase_matprop.descriptors.ks2022.compute` for such a supercell.

    Args:
        host: a valid cell of the host, best the primitive one: Atoms, or what else
            :func:`ase_matprop.structures.as_atoms` takes.
        elements: symbols of the foreign elements; one row for each.
        n_atoms: number of atoms of the supercell, a multiple of those of ``host``.
        site: site of ``host`` that the foreign atom takes.

    Returns:
        Features of shape (len(elements), 256).

    Raises:
        DescriptorError: if there is no such site or supercell, the host has no tessellation, or ``elements`` is no
            list or an empty one.
        StructureError: if the host is no structure.
        UnknownElementError: if one of the elements is none, or has no data.
    """
    host = atoms_of(host, "host")
    foreign = numbers_of(elements)
    for name, value in (("site", site), ("n_atoms", n_atoms)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise DescriptorError(f"{name} must be a whole number. Got {value!r}.")
    if not 0 <= site < len(host):
        raise DescriptorError(f"the host has the sites 0 to {len(host) - 1}. Got site {site}.")
    if n_atoms % len(host) or n_atoms < 2 * len(host):
        raise DescriptorError(
            f"n_atoms must be a multiple of the host's {len(host)}, and at least twice it. Got {n_atoms}."
        )
    problem = ks.element_error([*host.numbers.tolist(), *foreign.tolist()])
    if problem is not None:
        raise UnknownElementError(problem)
    tessellation, (failure,) = tessellate([host])
    if tessellation is None:
        raise DescriptorError(f"the host: {failure}")
    single = _Host(tessellation, 0, host.numbers.astype(np.int64))
    n_neighbors = len(single.neighbors(int(single.site_of_atom[site]), n_atoms // len(host))[0])
    if n_atoms <= n_neighbors:
        raise DescriptorError(
            f"the foreign atom has {n_neighbors} neighbours, more than a supercell of {n_atoms} atoms; raise n_atoms"
        )
    return single.features(site, foreign, n_atoms // len(host))


def _hosts_of(hosts: Any, n_structures: int) -> list[Atoms | None]:
    """Return the host of each structure, None where there is none to give."""
    if hosts is None or is_single(hosts):
        return [None if hosts is None else atoms_of(hosts, "host")] * n_structures
    if not isinstance(hosts, Sequence | np.ndarray) or len(hosts) != n_structures:
        got = len(hosts) if isinstance(hosts, Sequence | np.ndarray) else type(hosts).__name__
        raise DescriptorError(f"hosts must be one structure, or one for each of {n_structures}. Got {got}.")
    return [None if host is None else atoms_of(host, f"host {index}") for index, host in enumerate(hosts)]


def _foreign_atom(atoms: Atoms, host: Atoms | None) -> tuple[int, IntArray]:
    """Return the site of the foreign atom, and the atomic numbers of the host."""
    numbers = atoms.numbers.astype(np.int64)
    if host is None:
        elements, count = np.unique(numbers, return_counts=True)
        if len(elements) != 2 or count.min() != 1 or count.max() == 1:
            raise DescriptorError(
                f"{atoms.get_chemical_formula(mode='metal')} is not one foreign atom in a host of a single element; "
                "for another host give it as well, for other structures take KS2022"
            )
        foreign = elements[count.argmin()]
        return int(np.flatnonzero(numbers == foreign)[0]), np.full(len(numbers), elements[count.argmax()])
    if len(host) != len(atoms) or not np.allclose(host.cell.array, atoms.cell.array, atol=1e-6):
        raise DescriptorError("the host has another cell or number of atoms; give the supercell before the exchange")
    shift = (host.positions - atoms.positions) @ np.linalg.inv(atoms.cell.array)
    if np.abs((shift - np.rint(shift)) @ atoms.cell.array).max() > 1e-4:
        raise DescriptorError(
            "the host's atoms are at other positions, or in another order; give them as in the structure"
        )
    other = np.flatnonzero(host.numbers != numbers)
    if len(other) != 1:
        raise DescriptorError(f"the host must differ in one atom. It differs in {len(other)}; for others take KS2022.")
    return int(other[0]), host.numbers.astype(np.int64)


class _Host:
    """One structure of a tessellation, and its features with an atom exchanged.

    Atoms are numbered as in the structure, sites as in the tessellation.
    """

    def __init__(self, tessellation: Tessellation, position: int, numbers: IntArray) -> None:
        t = tessellation
        n_sites = len(numbers)
        first = int(t.first_site[position])
        order = t.order[first : first + n_sites] - first
        self.site_of_atom = np.argsort(order)
        numbers = numbers[order]
        faces = slice(*np.searchsorted(t.site, [first, first + n_sites]))
        self.site, self.neighbor = t.site[faces] - first, t.neighbor[faces] - first
        self.area, self.image = t.area[faces], t.image[faces]
        self.numbers = numbers
        self.geometry = site_geometry(self.site, self.area, t.distance[faces], n_sites)
        self.volumes = t.site_volumes[first : first + n_sites]
        self.volume = float(t.cell_volumes[position])
        if (numbers == numbers[0]).all():
            self.difference = np.zeros((n_sites, ks.properties().shape[1]))
        else:
            present, slot = np.unique(numbers, return_inverse=True)
            share = sum_by_slot(self.site, self.area, slot[self.neighbor], n_sites, len(present))
            everywhere = np.broadcast_to(present, share.shape)
            share /= self.geometry.area[:, None]
            self.difference = neighbor_differences(share, everywhere, numbers, ks.properties())

    def neighbors(self, site: int, n_cells: int) -> tuple[IntArray, FloatArray]:
        """Return the atoms that share faces with one of the ``site``, and the areas that they share with it.

        The atoms are told apart by their host sites and, in a supercell of more than one cell, by their cells.
        """
        mine = np.flatnonzero(self.site == site)
        if n_cells == 1:
            mine = mine[self.neighbor[mine] != site]  # images of the foreign atom are foreign, too
            atom = self.neighbor[mine][:, None]
        else:
            atom = np.column_stack([self.neighbor[mine], self.image[mine]])
        atom, group = np.unique(atom, axis=0, return_inverse=True)
        return atom[:, 0], np.bincount(group.ravel(), self.area[mine], minlength=len(atom)).astype(np.float64)

    def features(self, atom: int, foreign: IntArray, n_cells: int) -> FloatArray:
        """Return the features with each of the elements ``foreign`` in place of ``atom``, shape (len(foreign), 256)."""
        site = int(self.site_of_atom[atom])
        q = ks.properties()
        around, area = self.neighbors(site, n_cells)
        old = np.abs(q[self.numbers[around]] - q[self.numbers[site]])
        new = np.abs(q[self.numbers[around]] - q[foreign][:, None, :])  # (elements, neighbours, properties)
        share = (area / self.geometry.area[around])[:, None]
        of_neighbors = self.difference[around] + share * (new - old)
        of_foreign = (area[:, None] * new).sum(axis=1, keepdims=True) / self.geometry.area[site]

        remaining = np.full(len(self.numbers), float(n_cells))
        np.subtract.at(remaining, around, 1.0)
        remaining[site] -= 1.0
        others = np.flatnonzero(remaining > 0.5)
        of_others = np.broadcast_to(self.difference[others], (len(foreign), len(others), q.shape[1]))
        difference = np.concatenate([of_others, of_neighbors, of_foreign], axis=1)

        n_elements, n_kinds = difference.shape[:2]
        kind = np.tile(np.concatenate([others, around, [site]]), n_elements)
        multiplicity = np.tile(np.concatenate([remaining[others], np.ones(len(around) + 1)]), n_elements)
        structural = ks.structure_features(
            SiteStatistics(np.full(n_elements, n_kinds), multiplicity),
            SiteGeometry(*(getattr(self.geometry, name)[kind] for name in SiteGeometry.__dataclass_fields__)),
            self.volumes[kind],
            np.full(n_elements, self.volume * n_cells),
            difference.reshape(-1, q.shape[1]),
        )
        return np.column_stack([structural, ks.composition_features(self._composition(site, foreign, n_cells))])

    def _composition(self, site: int, foreign: IntArray, n_cells: int) -> ElementSlots:
        elements, count = np.unique(self.numbers, return_counts=True)
        host = dict(zip(elements.tolist(), (count * n_cells).tolist(), strict=True))
        host[int(self.numbers[site])] -= 1
        amounts = []
        for number in foreign.tolist():
            amounts.append({**host, number: host.get(number, 0) + 1})
        return ElementSlots.from_amounts([{z: n for z, n in entry.items() if n} for entry in amounts])

r"""The 271 features of Ward et al. (2017): 126 from the Voronoi tessellation and 145 from the composition.

L. Ward et al., Phys. Rev. B 96, 024104 (2017), doi:10.1103/PhysRevB.96.024104.  Order and names are those of Table 1 of
Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254, which the published
SIPFENN weights use.  What that table calls variance or standard deviation is a mean absolute deviation in Magpie, and
here.

With :math:`A_{ij}` the area of the Voronoi face between the sites i and j, :math:`d_{ij}` their distance and
:math:`w_{ij} = A_{ij} / \max_k A_{ik}`:

* effective coordination number of a site :math:`(\sum_j A_{ij})^2 / \sum_j A_{ij}^2`;
* mean bond length :math:`\bar d_i = \sum_j A_{ij} d_{ij} / \sum_j A_{ij}`, here relative to its mean over all sites;
* bond length variation :math:`\sum_j A_{ij} |d_{ij} - \bar d_i| / (\bar d_i \sum_j A_{ij})`;
* cell volume: mean absolute deviation of the Voronoi cells' volumes, relative to their mean;
* Warren-Cowley-like order of shell s: the mean over sites and elements of :math:`|1 - p_t / x_t|`, with :math:`p_t` the
  weight of element t, of fraction :math:`x_t`, at the ends of all walks of s steps over faces that visit no site twice,
  a walk weighing the product of its :math:`w_{ij}`;
* packing efficiency: volume of the largest spheres that fit into the Voronoi cells, relative to the unit cell's;
* neighbour differences :math:`\sum_j A_{ij} |q_i - q_j| / \sum_j A_{ij}` for each of the 22 elemental properties q.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors import composition
from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.elements import MAGPIE_PROPERTIES, check_elements, load_element_table
from ase_matprop.descriptors.voronoi import Tessellation, tessellate
from ase_matprop.errors import UnknownElementError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DIFFERENCE_STATISTICS = ("mean", "mean absolute deviation", "minimum", "maximum", "range")
N_STRUCTURE = 126
N_FEATURES = 271

_SITES_PER_CHUNK = 4096  # bounds the memory for triangles of faces, about 100 a site


def structure_labels() -> list[str]:
    """Return the names of the 126 structure features, a fresh list."""
    deviation = "mean absolute deviation"
    labels = [f"{s} Effective Coordination Number" for s in ("mean", deviation, "minimum", "maximum")]
    labels += [f"{s} Mean Bond Length" for s in (deviation, "minimum", "maximum")]
    labels += [f"{s} Bond Length Variation" for s in ("mean", deviation, "minimum", "maximum")]
    labels += [f"{deviation} Cell Volume"]
    labels += [f"Mean WC Magnitude shell {shell}" for shell in (1, 2, 3)]
    labels += ["Packing Efficiency"]
    labels += [f"{s} neighbor difference in {p}" for p in MAGPIE_PROPERTIES.values() for s in DIFFERENCE_STATISTICS]
    return labels


def feature_labels() -> list[str]:
    """Return the names of the 271 features, a fresh list."""
    return structure_labels() + composition.feature_labels()


def compute(structures: Sequence[Atoms]) -> tuple[FloatArray, list[str | None]]:
    """Compute the Ward-2017 features of a batch of structures.

    Args:
        structures: valid periodic structures (see :func:`ase_matprop.structures.as_atoms`).

    Returns:
        Features of shape (n, 271) in the order of :func:`feature_labels`, NaN in the rows that have none, and n entries
        of None or the reason why there are none.
    """
    features = np.full((len(structures), N_FEATURES), np.nan)
    errors: list[str | None] = [element_error(atoms) for atoms in structures]
    for chunk in _chunks(structures, errors):
        members = [structures[row] for row in chunk]
        tessellation, failures = tessellate(members)
        for row, failure in zip(chunk, failures, strict=True):
            errors[row] = failure
        good = [position for position, failure in enumerate(failures) if failure is None]
        if tessellation is None:
            continue
        numbers = np.concatenate([members[position].numbers for position in good]).astype(np.int64)
        slots, slot_of_site = _element_slots(tessellation, numbers)
        rows = [chunk[position] for position in good]
        features[rows, :N_STRUCTURE] = _structure_features(tessellation, numbers, slots, slot_of_site)
        features[rows, N_STRUCTURE:] = composition.compute(slots)
    return features, errors


def element_error(atoms: Atoms) -> str | None:
    """Return None, or the reason why the elements of a structure rule out its features."""
    try:
        check_elements(np.unique(atoms.numbers).tolist())
    except UnknownElementError as error:
        return str(error)
    return None


def _chunks(structures: Sequence[Atoms], errors: Sequence[str | None]) -> Iterator[list[int]]:
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


def _element_slots(tessellation: Tessellation, numbers: IntArray) -> tuple[ElementSlots, IntArray]:
    """Return the compositions of the structures, and for each site the slot of its element."""
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


def _structure_features(
    tessellation: Tessellation, numbers: IntArray, slots: ElementSlots, slot_of_site: IntArray
) -> FloatArray:
    t = tessellation
    over_sites = _SiteStatistics(t)
    area_sum = _sum_faces(t, t.area)
    coordination = area_sum**2 / _sum_faces(t, t.area**2)
    bond_length = _sum_faces(t, t.area * t.distance) / area_sum
    variation = _sum_faces(t, t.area * np.abs(t.distance - bond_length[t.site])) / area_sum / bond_length
    relative_length = bond_length / over_sites.mean(bond_length)[t.structure]
    relative_volume = t.site_volumes / over_sites.mean(t.site_volumes)[t.structure]
    radius = 0.5 * np.minimum.reduceat(t.distance, t.first_face)
    packing = np.add.reduceat(4.0 / 3.0 * np.pi * radius**3, t.first_site) / t.cell_volumes

    n_slots = slots.numbers.shape[1]
    area_to_slot = _sum_by_slot(t, t.area, slot_of_site, n_slots)
    columns = [
        over_sites.mean(coordination),
        over_sites.deviation(coordination),
        over_sites.minimum(coordination),
        over_sites.maximum(coordination),
        over_sites.deviation(relative_length),
        over_sites.minimum(relative_length),
        over_sites.maximum(relative_length),
        over_sites.mean(variation),
        over_sites.deviation(variation),
        over_sites.minimum(variation),
        over_sites.maximum(variation),
        over_sites.deviation(relative_volume),
        *_warren_cowley(t, area_to_slot, slots, slot_of_site).T,
        packing,
    ]
    properties = load_element_table().properties
    share = area_to_slot / area_sum[:, None]
    difference = np.zeros((len(numbers), properties.shape[1]))
    for slot in range(n_slots):
        other = properties[slots.numbers[t.structure, slot]]
        difference += share[:, slot, None] * np.abs(properties[numbers] - other)
    smallest, largest = over_sites.minimum(difference), over_sites.maximum(difference)
    statistics = np.stack(
        [over_sites.mean(difference), over_sites.deviation(difference), smallest, largest, largest - smallest], axis=2
    )
    return np.column_stack([*columns, statistics.reshape(len(t.n_sites), -1)])


def _sum_faces(tessellation: Tessellation, values: FloatArray) -> FloatArray:
    return np.bincount(tessellation.site, values, minlength=len(tessellation.structure)).astype(np.float64)


def _sum_by_slot(tessellation: Tessellation, values: FloatArray, slot_of_site: IntArray, n_slots: int) -> FloatArray:
    """Sum face values for each site and element of the neighbour, shape (n_sites_total, n_slots)."""
    size = len(tessellation.structure) * n_slots
    index = tessellation.site * n_slots + slot_of_site[tessellation.neighbor]
    return np.bincount(index, values, minlength=size).astype(np.float64).reshape(-1, n_slots)


class _SiteStatistics:
    """Statistics over the sites of each structure, for site values of shape (n_sites_total, ...)."""

    def __init__(self, tessellation: Tessellation) -> None:
        self.first = tessellation.first_site
        self.count = tessellation.n_sites
        self.structure = tessellation.structure

    def mean(self, values: FloatArray) -> FloatArray:
        return (np.add.reduceat(values, self.first).T / self.count).T

    def deviation(self, values: FloatArray) -> FloatArray:
        return self.mean(np.abs(values - self.mean(values)[self.structure]))

    def minimum(self, values: FloatArray) -> FloatArray:
        return np.minimum.reduceat(values, self.first)

    def maximum(self, values: FloatArray) -> FloatArray:
        return np.maximum.reduceat(values, self.first)


def _warren_cowley(
    tessellation: Tessellation, area_to_slot: FloatArray, slots: ElementSlots, slot_of_site: IntArray
) -> FloatArray:
    """Return the order parameters of the first three shells, shape (n_structures, 3).

    The walks are not enumerated.  Walks of one step more follow from a product with the matrix of weights; what they
    visit twice is taken off: a return over the same face, and for three steps a closed triangle.
    """
    t = tessellation
    n_sites, n_slots = area_to_slot.shape
    largest = np.maximum.reduceat(t.area, t.first_face)
    weight = t.area / largest[t.site]
    back = weight[t.reverse]
    own = np.zeros((n_sites, n_slots))
    own[np.arange(n_sites), slot_of_site] = 1.0

    def step(values: FloatArray) -> FloatArray:
        return np.column_stack([_sum_faces(t, weight * values[t.neighbor, slot]) for slot in range(n_slots)])

    shell_1 = area_to_slot / largest[:, None]
    returns = _sum_faces(t, weight * back)
    shell_2 = step(shell_1) - returns[:, None] * own
    # two steps and back over the first face: i -> j -> i -> k, of which k = j is already absent from shell_2
    detour = _sum_by_slot(t, weight * back * weight, slot_of_site, n_slots)
    shell_3 = step(shell_2) - returns[:, None] * shell_1 + detour - _triangles(t, largest)[:, None] * own

    present = slots.used[t.structure]
    fraction = np.where(present, slots.fractions[t.structure], 1.0)
    several = slots.used.sum(axis=1) > 1
    result = np.zeros((len(t.n_sites), 3))
    for shell, ends in enumerate((shell_1, shell_2, shell_3)):
        total = ends.sum(axis=1, keepdims=True)
        order = np.where(present, np.abs(1.0 - ends / np.where(total > 0, total, 1.0) / fraction), 0.0)
        per_site = order.sum(axis=1) / present.sum(axis=1)
        result[:, shell] = np.where(several, _SiteStatistics(t).mean(per_site), 0.0)
    return result


def _triangles(tessellation: Tessellation, largest: FloatArray) -> FloatArray:
    """Return for each site the summed weight of all closed walks of three steps, both ways round."""
    t = tessellation
    # all pairs of faces (a before b) of one site: face number p of a site is joined with the p faces before it
    rank = np.arange(len(t.site)) - t.first_face[t.site]
    second = np.repeat(np.arange(len(t.site)), rank)
    first = np.arange(len(second)) - np.repeat(np.cumsum(rank) - rank, rank) + t.first_face[t.site[second]]
    closing, found = t.find_faces(t.neighbor[first], t.neighbor[second], t.image[second] - t.image[first])
    first, second, closing = first[found], second[found], closing[found]
    product = t.area[first] * t.area[second] * t.area[closing]
    product /= largest[t.site[first]] * largest[t.neighbor[first]] * largest[t.neighbor[second]]
    return 2.0 * np.bincount(t.site[first], product, minlength=len(t.structure)).astype(np.float64)

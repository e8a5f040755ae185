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

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors import composition
from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.elements import MAGPIE_PROPERTIES, check_elements, load_element_table
from ase_matprop.descriptors.sites import (
    SiteStatistics,
    chunks_of_structures,
    element_slots,
    neighbor_differences,
    site_geometry,
    sphere_volume,
    structure_columns,
    sum_by_slot,
    sum_faces,
)
from ase_matprop.descriptors.tessellation import Tessellation
from ase_matprop.descriptors.voronoi import tessellate
from ase_matprop.errors import UnknownElementError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DIFFERENCE_STATISTICS = ("mean", "mean absolute deviation", "minimum", "maximum", "range")
N_STRUCTURE = 126
N_FEATURES = 271


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
    for chunk in chunks_of_structures(structures, errors):
        members = [structures[row] for row in chunk]
        tessellation, failures = tessellate(members)
        for row, failure in zip(chunk, failures, strict=True):
            errors[row] = failure
        good = [position for position, failure in enumerate(failures) if failure is None]
        if tessellation is None:
            continue
        numbers = np.concatenate([members[position].numbers for position in good]).astype(np.int64)[tessellation.order]
        slots, slot_of_site = element_slots(tessellation, numbers)
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


def _structure_features(
    tessellation: Tessellation, numbers: IntArray, slots: ElementSlots, slot_of_site: IntArray
) -> FloatArray:
    t = tessellation
    n_sites, n_slots = len(numbers), slots.numbers.shape[1]
    over_sites = SiteStatistics(t.n_sites)
    geometry = site_geometry(t.site, t.area, t.distance, n_sites)
    area_to_slot = sum_by_slot(t.site, t.area, slot_of_site[t.neighbor], n_sites, n_slots)
    columns = [
        *structure_columns(over_sites, geometry, t.site_volumes),
        *_warren_cowley(t, area_to_slot, slots, slot_of_site).T,
        over_sites.total(sphere_volume(geometry.radius)) / t.cell_volumes,
    ]
    difference = neighbor_differences(
        area_to_slot / geometry.area[:, None],
        slots.numbers[t.structure],
        numbers,
        load_element_table().properties,
    )
    return np.column_stack([*columns, over_sites.five(difference).reshape(len(t.n_sites), -1)])


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
        return np.column_stack(
            [sum_faces(t.site, weight * values[t.neighbor, slot], n_sites) for slot in range(n_slots)]
        )

    shell_1 = area_to_slot / largest[:, None]
    returns = sum_faces(t.site, weight * back, n_sites)
    shell_2 = step(shell_1) - returns[:, None] * own
    # two steps and back over the first face: i -> j -> i -> k, of which k = j is already absent from shell_2
    detour = sum_by_slot(t.site, weight * back * weight, slot_of_site[t.neighbor], n_sites, n_slots)
    shell_3 = (
        step(shell_2)
        - returns[:, None] * shell_1
        + detour
        - t.once_per_geometry("triangles", _triangles)[:, None] * own
    )

    present = slots.used[t.structure]
    fraction = np.where(present, slots.fractions[t.structure], 1.0)
    several = slots.used.sum(axis=1) > 1
    result = np.zeros((len(t.n_sites), 3))
    for shell, ends in enumerate((shell_1, shell_2, shell_3)):
        total = ends.sum(axis=1, keepdims=True)
        order = np.where(present, np.abs(1.0 - ends / np.where(total > 0, total, 1.0) / fraction), 0.0)
        per_site = order.sum(axis=1) / present.sum(axis=1)
        result[:, shell] = np.where(several, SiteStatistics(t.n_sites).mean(per_site), 0.0)
    return result


def _triangles(tessellation: Tessellation) -> FloatArray:
    """Return for each site the summed weight of all closed walks of three steps, both ways round."""
    t = tessellation
    largest = np.maximum.reduceat(t.area, t.first_face)
    # all pairs of faces (a before b) of one site: face number p of a site is joined with the p faces before it
    rank = np.arange(len(t.site)) - t.first_face[t.site]
    second = np.repeat(np.arange(len(t.site)), rank)
    first = np.arange(len(second)) - np.repeat(np.cumsum(rank) - rank, rank) + t.first_face[t.site[second]]
    closing, found = t.find_faces(t.neighbor[first], t.neighbor[second], t.image[second] - t.image[first])
    first, second, closing = first[found], second[found], closing[found]
    product = t.area[first] * t.area[second] * t.area[closing]
    product /= largest[t.site[first]] * largest[t.neighbor[first]] * largest[t.neighbor[second]]
    return 2.0 * np.bincount(t.site[first], product, minlength=len(t.structure)).astype(np.float64)

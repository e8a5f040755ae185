"""Neighbour graphs: against ASE's own neighbour list, and what must not change them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.neighborlist import neighbor_list

from ase_matprop.descriptors.neighbors import Graphs, neighbor_graphs, ranges
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import DescriptorError
from tests.conftest import crystals_for_comparison, rattled

CUTOFF = 4.3219  # no distance of an ideal crystal


def outside_the_cell() -> Atoms:
    """Each atom by other lattice vectors away from where it would stand."""
    atoms = rattled(bulk("NaCl", "rocksalt", 5.64) * (2, 1, 1), 4)
    shifts = np.random.default_rng(1).integers(-3, 4, (len(atoms), 3))
    atoms.positions += shifts @ atoms.cell.array
    return atoms


CRYSTALS = crystals_for_comparison() | {
    "one atom": Atoms("Cu", [[0.3, -7.0, 2.0]], cell=[2.3, 2.4, 2.5], pbc=True),
    "one atom, triclinic": Atoms("Fe", cell=[2.4, 2.6, 2.9, 65, 75, 110], pbc=True),
    "flat cell": Atoms("MgO", [[0, 0, 0], [2, 2, 1]], cell=[9.0, 8.0, 2.1], pbc=True),
    "left-handed cell": Atoms("MgO", [[0, 0, 0], [2, 1, 1]], cell=np.diag([4.0, -3.9, 4.1]), pbc=True),
    "outside the cell": outside_the_cell(),
    "isolated": Atoms("He", cell=[9, 9, 9], pbc=True),
}


def pairs(graphs: Graphs) -> list[tuple[int, ...]]:
    """Centre, neighbour and shift of each pair of a single structure, in order."""
    columns = [graphs.centers, graphs.neighbors, *graphs.shifts.T]
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def assert_same(one: Graphs, other: Graphs) -> None:
    assert one.cutoff == other.cutoff
    for name in ("numbers", "positions", "cells", "n_atoms", "n_neighbors", "neighbors", "shifts", "distances"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype, name
        np.testing.assert_array_equal(first, second, err_msg=name)


@pytest.mark.parametrize("name", CRYSTALS)
def test_against_ase(name: str) -> None:
    atoms = CRYSTALS[name]
    before = atoms.copy()
    graphs = neighbor_graphs([atoms], CUTOFF)
    assert atoms == before
    center, neighbor, distance, shift = neighbor_list("ijdS", atoms, CUTOFF)
    assert np.abs(distance - CUTOFF).min(initial=1.0) > 1e-5, "a distance is that of the cutoff; choose another one"
    assert pairs(graphs) == sorted(zip(center.tolist(), neighbor.tolist(), *shift.T.tolist(), strict=True))
    np.testing.assert_allclose(np.sort(graphs.distances), np.sort(distance), atol=1e-6)


@pytest.mark.parametrize("name", CRYSTALS)
def test_what_a_graph_says_is_consistent(name: str) -> None:
    """Pairs are ordered by their centre and there from both ends, and distances follow from positions and shifts."""
    atoms = CRYSTALS[name]
    graphs = neighbor_graphs([atoms], CUTOFF)
    assert graphs.n_atoms.tolist() == [len(atoms)] and graphs.n_pairs.tolist() == [len(graphs.neighbors)]
    np.testing.assert_array_equal(np.bincount(graphs.centers, minlength=len(atoms)), graphs.n_neighbors)
    vectors = graphs.positions[graphs.neighbors] - graphs.positions[graphs.centers] + graphs.shifts @ graphs.cells[0]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), graphs.distances, atol=1e-5)
    assert sorted((j, i, -a, -b, -c) for i, j, a, b, c in pairs(graphs)) == pairs(graphs)


@pytest.mark.parametrize("name", ["Cu fcc", "one atom, triclinic", "rutile", "Ti-Al-V, strained", "outside the cell"])
def test_the_same_crystal_has_the_same_neighbours(name: str) -> None:
    atoms = CRYSTALS[name]
    order = np.random.default_rng(0).permutation(len(atoms))
    translated = atoms.copy()
    translated.positions += (3.3, -20.1, 0.7)
    wrapped = atoms.copy()
    wrapped.wrap()
    rotated = atoms.copy()
    rotated.rotate(37, (1, 2, 3), rotate_cell=True)
    expected = environments(atoms)
    for variant in (translated, wrapped, rotated, make_supercell(atoms, [[1, 0, 0], [-1, 1, 0], [2, 1, 1]])):
        np.testing.assert_allclose(environments(variant), expected, atol=1e-5)
    np.testing.assert_allclose(environments(atoms[order]), expected[order], atol=1e-5)
    np.testing.assert_allclose(environments(atoms * (1, 2, 1)), np.concatenate([expected, expected]), atol=1e-5)


def environments(atoms: Atoms) -> np.ndarray:
    """For each atom and each element of its neighbours: their number, and sums over powers of their distances."""
    graphs = neighbor_graphs([atoms], CUTOFF)
    elements = np.unique(atoms.numbers)
    table = np.zeros((len(atoms), len(elements), 3))
    columns = np.searchsorted(elements, graphs.numbers[graphs.neighbors])
    distances = graphs.distances.astype(float)
    values = np.stack([np.ones_like(distances), distances, np.exp(-distances)], axis=1)
    np.add.at(table, (graphs.centers, columns), values)
    return table.reshape(len(atoms), -1)


@pytest.mark.parametrize(
    "rows",
    [slice(2, 7), slice(None, None, -3), [4, 0, 4], np.arange(20) % 3 == 1, np.array([19]), slice(3, 3), []],
    ids=str,
)
def test_chosen_graphs_are_those_of_the_chosen_structures(rows: Any) -> None:
    structures = list(CRYSTALS.values())[-20:]
    graphs = neighbor_graphs(structures, CUTOFF)
    assert len(graphs) == 20
    chosen = np.arange(20)[rows]
    wanted = neighbor_graphs([structures[row] for row in chosen], CUTOFF)
    found = graphs[rows]
    assert_same(found, wanted)
    assert_same(found[:], wanted)
    atoms = graphs.atoms_of(chosen)
    np.testing.assert_array_equal(graphs.numbers[atoms], wanted.numbers)
    np.testing.assert_array_equal(graphs.structure_of_atom[atoms], chosen[wanted.structure_of_atom])


def test_a_single_graph_needs_a_list() -> None:
    graphs = neighbor_graphs([bulk("Cu"), bulk("Fe")], 3.0)
    for wrong in (0, np.int64(1)):
        with pytest.raises(TypeError, match="a slice, a mask or a list"):
            graphs[wrong]
    with pytest.raises(IndexError):
        graphs[[2]]


def test_no_structures() -> None:
    graphs = neighbor_graphs([], 5.0)
    assert len(graphs) == 0 and len(graphs.centers) == 0 and graphs.positions.shape == (0, 3)
    assert graphs.cells.shape == (0, 3, 3) and graphs.n_pairs.shape == (0,)


def test_cutoffs_are_nested() -> None:
    atoms = CRYSTALS["rutile, rattled"]
    small, large = (set(pairs(neighbor_graphs([atoms], cutoff))) for cutoff in (3.0, 6.0))
    assert small < large


def test_ranges() -> None:
    assert ranges(np.array([5, 0, 9]), np.array([3, 0, 1])).tolist() == [5, 6, 7, 9]
    assert ranges(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []


def test_graphs_are_no_features() -> None:
    with pytest.raises(DescriptorError, match="no feature vectors"):
        get_descriptor("neighbors").compute([bulk("Cu")])
    for name in ("neighbors+fractions", "fractions + neighbors"):
        with pytest.raises(DescriptorError, match="stands alone"):
            get_descriptor(name)

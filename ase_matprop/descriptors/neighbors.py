"""Neighbour graphs: which atoms are closer than a cutoff, periodic images included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.errors import missing_dependency

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NAME = "neighbors"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Graphs:
    """Neighbour graphs of n structures with N atoms and E pairs in all, as flat arrays.

    Pairs are ordered by their centre, and each is there from both of its ends.

    Attributes:
        cutoff: distance below which two atoms are neighbours, in Angstrom.
        numbers: atomic numbers, shape (N,).
        positions: Cartesian positions in Angstrom, shape (N, 3).
        cells: cell vectors in rows, in Angstrom, shape (n, 3, 3).
        n_atoms: number of atoms of each structure, shape (n,).
        n_neighbors: number of neighbours of each atom, shape (N,).
        neighbors: index of the neighbour of each pair, counted within its structure, shape (E,).
        shifts: cell vectors between the neighbour that is meant and the one in the cell, shape (E, 3).
        distances: length of each pair in Angstrom, shape (E,).
    """

    cutoff: float
    numbers: NDArray[np.int16]
    positions: FloatArray
    cells: FloatArray
    n_atoms: IntArray
    n_neighbors: IntArray
    neighbors: NDArray[np.int32]
    shifts: NDArray[np.int16]
    distances: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.n_atoms)

    @property
    def structure_of_atom(self) -> IntArray:
        """Number of the structure of each atom, shape (N,)."""
        return np.repeat(np.arange(len(self)), self.n_atoms)

    @property
    def centers(self) -> IntArray:
        """Index of the central atom of each pair, counted through all structures, shape (E,)."""
        return np.repeat(np.arange(len(self.numbers)), self.n_neighbors)

    @property
    def n_pairs(self) -> IntArray:
        """Number of pairs of each structure, shape (n,)."""
        return _sums(self.n_neighbors, self.n_atoms)

    def __getitem__(self, rows: Any) -> Graphs:
        """Return the graphs of some structures, chosen as numpy chooses rows: slice, mask or indices."""
        chosen = np.arange(len(self))[rows]
        if np.ndim(chosen) == 0:
            raise TypeError("choose graphs by a slice, a mask or a list of indices")
        atoms = self.atoms_of(chosen)
        pairs = ranges(self._first_pairs[chosen], self._first_pairs[chosen + 1] - self._first_pairs[chosen])
        return Graphs(
            cutoff=self.cutoff,
            numbers=self.numbers[atoms],
            positions=self.positions[atoms],
            cells=self.cells[chosen],
            n_atoms=self.n_atoms[chosen],
            n_neighbors=self.n_neighbors[atoms],
            neighbors=self.neighbors[pairs],
            shifts=self.shifts[pairs],
            distances=self.distances[pairs],
        )

    def atoms_of(self, rows: Any) -> IntArray:
        """Return the indices of the atoms of some structures, one structure behind the other."""
        return ranges(self._first_atoms[rows], self.n_atoms[rows])

    @cached_property
    def _first_atoms(self) -> IntArray:
        return _starts(self.n_atoms)

    @cached_property
    def _first_pairs(self) -> IntArray:
        """Index of the first pair of each structure, and the number of all pairs, shape (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.n_pairs)])


def neighbor_graphs(structures: Sequence[Atoms], cutoff: float) -> Graphs:
    """Find the neighbours of all atoms of some structures.

    Cells may be smaller than the cutoff: an atom is then a neighbour of images of itself.

    Args:
        structures: periodic structures that passed :func:`ase_matprop.structures.as_atoms`.
        cutoff: in Angstrom.

    Returns:
        One graph per structure.  Distances come from matscipy (J. Open Source Softw. 9, 5668 (2024),
        doi:10.21105/joss.05668).
    """
    try:
        from matscipy.neighbours import neighbour_list
    except ModuleNotFoundError:
        raise missing_dependency("matscipy", "a SchNet or PaiNN network") from None

    neighbors, shifts, distances, counts = [], [], [], []
    for atoms in structures:
        center, neighbor, distance, shift = neighbour_list("ijdS", atoms, cutoff=float(cutoff))
        if len(center) and (np.diff(center) < 0).any():
            order = np.argsort(center, kind="stable")
            center, neighbor, distance, shift = center[order], neighbor[order], distance[order], shift[order]
        counts.append(np.bincount(center, minlength=len(atoms)))
        neighbors.append(neighbor.astype(np.int32))
        shifts.append(shift.astype(np.int16).reshape(-1, 3))
        distances.append(distance.astype(np.float32))
    return Graphs(
        cutoff=float(cutoff),
        numbers=_join([atoms.numbers for atoms in structures], np.int16),
        positions=_join([atoms.positions for atoms in structures], np.float64).reshape(-1, 3),
        cells=np.array([atoms.cell.array for atoms in structures], dtype=np.float64).reshape(-1, 3, 3),
        n_atoms=np.array([len(atoms) for atoms in structures], dtype=np.int64),
        n_neighbors=_join(counts, np.int64),
        neighbors=_join(neighbors, np.int32),
        shifts=_join(shifts, np.int16).reshape(-1, 3),
        distances=_join(distances, np.float32),
    )


def ranges(starts: IntArray, counts: IntArray) -> IntArray:
    """Return ``start, start + 1, ...`` for each start, ``count`` numbers each, one behind the other."""
    return np.arange(counts.sum()) + np.repeat(starts - _starts(counts), counts)


def _starts(counts: IntArray) -> IntArray:
    return np.cumsum(counts) - counts


def _sums(values: IntArray, counts: IntArray) -> IntArray:
    """Sum consecutive ``values``, ``counts`` of them each; a count may be 0."""
    totals = np.concatenate([[0], np.cumsum(values)])
    ends = np.cumsum(counts)
    return np.asarray(totals[ends] - totals[ends - counts])


def _join(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)

"""Recognising structures that differ in nothing but which element is where."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors.tessellation import Tessellation

IntArray = NDArray[np.int64]

#: faces of the tessellations that are remembered, about 100 bytes each
FACES_KEPT = 200_000
_DECIMALS = 8  # of fractional coordinates and of lattice vectors in Angstrom that are one geometry


@dataclass(frozen=True, eq=False)
class Geometry:
    """Lattice and positions of a structure, regardless of its elements and of the order of its atoms.

    Attributes:
        key: the same for structures of one geometry.
        order: atoms in the order of their fractional coordinates, shape (n_atoms,).
    """

    key: bytes
    order: IntArray

    @classmethod
    def of(cls, atoms: Atoms) -> Geometry:
        """Return the geometry of a periodic structure."""
        lattice = atoms.cell.array
        fractional = np.linalg.solve(lattice.T, atoms.positions.T)
        # 0.0 is added for the sake of minus zero, whose bytes are others
        steps = np.rint((fractional % 1.0) * 10.0**_DECIMALS) % 10.0**_DECIMALS + 0.0
        order = np.lexsort(steps)
        return cls(np.round(lattice, _DECIMALS).tobytes() + steps[:, order].tobytes(), order)


@dataclass(frozen=True, eq=False)
class Known:
    """A tessellation, and the atoms of the structure that it was computed of in the order of their coordinates."""

    tessellation: Tessellation
    order: IntArray

    def order_of(self, order: IntArray) -> IntArray:
        """Return for each site the atom of another structure of this geometry, given that one's order."""
        atoms = np.empty_like(order)
        atoms[self.order] = order
        return atoms


class RecentGeometries:
    """The tessellations of the geometries that were met last, as many as a bounded number of faces allows."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, Known] = OrderedDict()
        self._n_faces = 0
        self._renew_lock()
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=self._renew_lock)  # another thread may have held it

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Known | None:
        """Return what is remembered of a geometry."""
        with self._lock:
            known = self._entries.get(key)
            if known is not None:
                self._entries.move_to_end(key)
            return known

    def put(self, key: bytes, known: Known) -> None:
        """Remember a geometry, and forget others."""
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = known
            self._n_faces += len(known.tessellation.site)
            while self._n_faces > FACES_KEPT:
                _, oldest = self._entries.popitem(last=False)
                self._n_faces -= len(oldest.tessellation.site)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._n_faces = 0

"""What a network on neighbour graphs saw in training: which elements met, how close, and with how many neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.descriptors.neighbors import Graphs

_N_ELEMENTS = 100  # atomic numbers below this one
#: a pair may be this much shorter, and an atom may have this share fewer or more neighbours, than any in training
_TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class Environments:
    """Environments of the training structures, within the cutoff of the network.

    Attributes:
        shortest: shortest distance of each pair of elements in Angstrom, infinite if they never met, shape (100, 100).
        fewest: smallest number of neighbours of an atom of each element, shape (100,).
        most: largest number of neighbours, 0 for an element that never occurred, shape (100,).
    """

    shortest: NDArray[np.float32]
    fewest: NDArray[np.int32]
    most: NDArray[np.int32]

    @classmethod
    def of(cls, graphs: Graphs) -> Environments:
        """Collect the environments of some structures."""
        numbers = graphs.numbers.astype(np.int64)
        shortest = np.full((_N_ELEMENTS, _N_ELEMENTS), np.inf, dtype=np.float32)
        np.minimum.at(shortest, _pairs_of_elements(graphs), graphs.distances)
        fewest = np.full(_N_ELEMENTS, np.iinfo(np.int32).max, dtype=np.int32)
        most = np.zeros(_N_ELEMENTS, dtype=np.int32)
        np.minimum.at(fewest, numbers, graphs.n_neighbors.astype(np.int32))
        np.maximum.at(most, numbers, graphs.n_neighbors.astype(np.int32))
        return cls(shortest, fewest, most)

    def joined(self, other: Environments) -> Environments:
        """Return what was seen in either of two trainings."""
        return Environments(
            np.minimum(self.shortest, other.shortest),
            np.minimum(self.fewest, other.fewest),
            np.maximum(self.most, other.most),
        )

    def warnings(self, graphs: Graphs, together: NDArray[np.bool_] | None = None) -> list[list[str]]:
        """Return per structure what is outside of all that was seen, in words.

        Args:
            graphs: the structures.
            together: which elements occurred in one training structure, by atomic numbers; pairs that did not are left
                out here.
        """
        found: list[list[str]] = [[] for _ in range(len(graphs))]
        numbers = graphs.numbers.astype(np.int64)
        structures = graphs.structure_of_atom
        centers, neighbors = _pairs_of_elements(graphs)
        limits = self.shortest[centers, neighbors]
        pair_structures = np.repeat(np.arange(len(graphs)), graphs.n_pairs)
        new = np.isinf(limits)
        told = new if together is None else new & together[centers, neighbors]
        keys = np.stack([pair_structures, np.minimum(centers, neighbors), np.maximum(centers, neighbors)], axis=1)
        for structure, *pair in np.unique(keys[told], axis=0).tolist():
            found[structure].append(f"{_join(pair)} never met within {graphs.cutoff:g} Angstrom in training")
        close = ~new & (graphs.distances < (1.0 - _TOLERANCE) * limits)
        for structure, *pair in np.unique(keys[close], axis=0).tolist():
            closest = graphs.distances[close & (keys == [structure, *pair]).all(axis=1)].min()
            found[structure].append(
                f"{_join(pair)} are {closest:.2f} Angstrom apart, in training never less than "
                f"{self.shortest[pair[0], pair[1]]:.2f}"
            )
        known = self.most[numbers] > 0
        for word, odd in (
            ("fewer", known & (graphs.n_neighbors < (1.0 - _TOLERANCE) * self.fewest[numbers])),
            ("more", known & (graphs.n_neighbors > (1.0 + _TOLERANCE) * self.most[numbers])),
        ):
            for structure, number in np.unique(np.stack([structures, numbers], axis=1)[odd], axis=0).tolist():
                found[structure].append(f"{chemical_symbols[number]} has {word} neighbours than ever in training")
        return found

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name, all finite: a distance of zero stands for elements that never met."""
        shortest = np.where(np.isinf(self.shortest), np.float32(0.0), self.shortest)
        return {"shortest": shortest, "fewest": self.fewest, "most": self.most}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Environments:
        """Return what :meth:`to_arrays` wrote."""
        shortest = arrays["shortest"]
        return cls(np.where(shortest > 0.0, shortest, np.float32(np.inf)), arrays["fewest"], arrays["most"])


def _pairs_of_elements(graphs: Graphs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the atomic numbers of both ends of each pair."""
    numbers = graphs.numbers.astype(np.int64)
    first_atoms = np.cumsum(graphs.n_atoms) - graphs.n_atoms
    return numbers[graphs.centers], numbers[graphs.neighbors + np.repeat(first_atoms, graphs.n_pairs)]


def _join(pair: list[int]) -> str:
    return " and ".join(chemical_symbols[number] for number in pair)

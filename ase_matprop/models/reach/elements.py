"""Which elements occurred together in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

_N_ELEMENTS = len(chemical_symbols)
_MOST = np.iinfo(np.uint16).max


@dataclass(frozen=True, eq=False)
class ElementPairs:
    """Number of training compounds with both elements of a pair.

    Attributes:
        counts: number of training rows with two elements, by atomic numbers, symmetric; on the diagonal those with one
            element; no more than 65535 are counted; shape (119, 119).
    """

    counts: NDArray[np.uint16]

    @classmethod
    def of(cls, occurrences: NDArray[np.bool_]) -> ElementPairs:
        """Count the pairs of some compounds.

        Args:
            occurrences: whether a compound has an element, shape (n, number of atomic numbers counted from 0).
        """
        counts = np.zeros((_N_ELEMENTS, _N_ELEMENTS))
        width = occurrences.shape[1]
        present = occurrences.astype(np.float32)
        counts[:width, :width] = present.T @ present
        return cls(np.minimum(counts, _MOST).astype(np.uint16))

    def joined(self, other: ElementPairs) -> ElementPairs:
        """Return what was seen in either of two trainings."""
        total = self.counts.astype(np.int64) + other.counts
        return ElementPairs(np.minimum(total, _MOST).astype(np.uint16))

    def unseen(self, elements: Iterable[int]) -> list[tuple[int, int]]:
        """Return the pairs of these atomic numbers that no training compound has, the smaller number first."""
        numbers = np.array(sorted(set(elements)), dtype=np.int64)
        first, second = np.triu_indices(len(numbers), k=1)
        never = self.counts[numbers[first], numbers[second]] == 0
        return [(int(a), int(b)) for a, b in zip(numbers[first[never]], numbers[second[never]], strict=True)]

    def unseen_of_each(self, compounds: Sequence[Iterable[int]]) -> list[list[tuple[int, int]]]:
        """Return :meth:`unseen` of each compound, of many at once."""
        lists = [list(elements) for elements in compounds]
        present = np.zeros((len(lists), _N_ELEMENTS), dtype=np.float32)
        rows = np.repeat(np.arange(len(lists)), [len(numbers) for numbers in lists])
        present[rows, np.array([z for numbers in lists for z in numbers], dtype=np.int64)] = 1.0
        never = (self.counts == 0).astype(np.float32)
        np.fill_diagonal(never, 0.0)
        suspect = np.einsum("ni,ni->n", present @ never, present) > 0.0
        return [self.unseen(numbers) if odd else [] for numbers, odd in zip(lists, suspect, strict=True)]

    def warnings(self, compounds: Sequence[Iterable[int]]) -> list[list[str]]:
        """Return for each compound what was never seen, in words."""
        return [
            [f"{chemical_symbols[a]} and {chemical_symbols[b]} never occurred together in training" for a, b in pairs]
            for pairs in self.unseen_of_each(compounds)
        ]

    def count(self, *symbols: str) -> int:
        """Return the number of training compounds with one element, or with both of two.

        Raises:
            KeyError: if there is no such element.
        """
        numbers = [atomic_numbers[symbol] for symbol in symbols]
        return int(self.counts[numbers[0], numbers[-1]])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name; only elements that occurred."""
        numbers = np.flatnonzero(np.diag(self.counts))
        # safetensors for torch has no unsigned integers of two bytes that all versions read
        return {
            "pair_elements": numbers.astype(np.uint8),
            "pair_counts": self.counts[np.ix_(numbers, numbers)].view(np.int16),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ElementPairs:
        """Return what :meth:`to_arrays` wrote."""
        numbers = arrays["pair_elements"].astype(np.int64)
        counts = np.zeros((_N_ELEMENTS, _N_ELEMENTS), dtype=np.uint16)
        counts[np.ix_(numbers, numbers)] = np.ascontiguousarray(arrays["pair_counts"]).view(np.uint16)
        return cls(counts)

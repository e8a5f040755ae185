"""What every search space has in common: candidates in a fixed order, in numbered shards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.compositions import format_formula
from ase_matprop.errors import MatPropError
from ase_matprop.structures import StructureEntry

#: candidates that are generated, held and evaluated together
FORMULAS_AT_ONCE = 65_536


@dataclass(frozen=True, eq=False)
class FormulaBlock:
    """Formulas as columns; no object per formula.

    Attributes:
        numbers: atomic numbers of the elements of each formula, in ascending order, shape (n, k); where a formula has
            fewer than k elements the last ones are 0.
        amounts: number of atoms of each in the formula unit, shape (n, k), 0 where the number is.
        rows: number of each formula in its shard, shape (n,), where some were passed over; None where they are counted.
    """

    numbers: NDArray[np.uint8]
    amounts: NDArray[Any]
    rows: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, compositions: Sequence[Mapping[int, float]], rows: Sequence[int] | None = None) -> FormulaBlock:
        """Return compositions (atomic number -> amount) as columns; amounts are float64."""
        width = max(map(len, compositions), default=1)
        numbers = np.zeros((len(compositions), width), dtype=np.uint8)
        amounts = np.zeros((len(compositions), width))
        filled = (
            np.arange(width) < np.array([len(composition) for composition in compositions], dtype=np.int64)[:, None]
        )
        pairs = [pair for composition in compositions for pair in sorted(composition.items())]
        if pairs:
            numbers[filled], amounts[filled] = zip(*pairs, strict=True)
        return cls(numbers, amounts, None if rows is None else np.array(rows, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: NDArray[Any]) -> FormulaBlock:
        """Return some of the rows, chosen by their numbers or a mask."""
        own = None if self.rows is None else self.rows[rows]
        return FormulaBlock(self.numbers[rows], self.amounts[rows], own)

    def compositions(self) -> list[dict[int, float]]:
        """Return each formula as atomic number -> amount."""
        rows = zip(self.numbers.tolist(), self.amounts.tolist(), strict=True)
        return [{number: amount for number, amount in zip(*row, strict=True) if number} for row in rows]

    def formulas(self) -> list[str]:
        """Return the formulas as strings, metals first."""
        return [format_formula(amounts) for amounts in self.compositions()]


class Space(ABC):
    """Candidates in a fixed order, cut into numbered shards, each of which is generated on its own.

    Attributes:
        is_list: whether the candidates were given one by one, so that a bad one costs its own row only.
        needs_structure: whether the candidates are structures (:meth:`entries`), or formulas (:meth:`blocks`).
        elements: atomic numbers of all elements that candidates may have.
        n_shards: number of shards.
        n_candidates: number of candidates of all shards, before those are passed over that a filter or an
            impossible decoration takes out.
    """

    is_list = False
    needs_structure: bool
    elements: frozenset[int]
    n_shards: int
    n_candidates: int
    _per_shard: int

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what makes this space what it is, in JSON's types: two spaces of equal description are equal."""

    def blocks(self, shard: int) -> Iterator[FormulaBlock]:
        """Yield the formulas of a shard, at most :data:`FORMULAS_AT_ONCE` at a time."""
        raise NotImplementedError

    def entries(self, shard: int) -> Iterator[StructureEntry]:
        """Yield the structures of a shard; one that cannot be made or read has an error."""
        raise NotImplementedError

    def pick(self, shard: int, rows: Collection[int]) -> dict[int, StructureEntry]:
        """Return some of the structures of a shard by their place among its :meth:`entries`.

        Args:
            shard: number of the shard.
            rows: places of structures; one that the shard does not have is not in the result.
        """
        entries = enumerate(islice(self.entries(shard), max(rows, default=-1) + 1))
        return {row: entry for row, entry in entries if row in rows}

    def failed_formulas(self, shard: int) -> list[tuple[str, str]]:
        """Return name and reason of each candidate of a shard that :meth:`blocks` leaves out as it has no formula."""
        return []

    def row_names(self, shard: int, rows: Sequence[int]) -> list[str] | None:
        """Return the names of formulas by their numbers in a shard, None where they have no other than themselves."""
        return None

    def shard_size(self, shard: int) -> int:
        """Return how many candidates a shard has, before filters: all the same, but for the last one.

        Raises:
            MatPropError: if there is no such shard.
        """
        self.check_shard(shard)
        return min(self._per_shard, self.n_candidates - shard * self._per_shard)

    def check_shard(self, shard: int) -> None:
        """Raise a MatPropError if there is no shard of this number."""
        if not 0 <= shard < self.n_shards:
            raise MatPropError(f"the space has no shard {shard}; its shards are 0 to {self.n_shards - 1}")

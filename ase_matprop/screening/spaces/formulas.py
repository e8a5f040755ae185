"""The space of all formulas A_w B_x C_y D_z over a list of elements, up to a number of atoms.

D. Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y, screen "about 450 million" quaternaries of 86
elements with at most 10 atoms: C(86,4) C(10,4) = 445,946,550 are all tuples of amounts, and 435,328,775 are left when
A2B2C2D2 and the like count as what they reduce to, as they do here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError
from ase_matprop.screening.arguments import element_numbers, positive
from ase_matprop.screening.spaces.base import FORMULAS_AT_ONCE, FormulaBlock, Space
from ase_matprop.screening.spaces.charges import ChargeRules

#: atoms of a formula
_MOST_ATOMS = 1000
#: stoichiometries of one combination of elements, which are held in memory
_MOST_STOICHIOMETRIES = 10_000_000
_MOST_CANDIDATES = 2**62


class FormulaSpace(Space):
    """All formulas with at most so many atoms over a list of elements, reduced (AB and A2B2 are one), each once.

    Order: by number of elements; then by combination of elements, lexicographically in ascending atomic number; then
    by stoichiometry, fewer atoms first, then lexicographically.  No shard is held in memory: one is a range of
    combinations, which are computed from their ranks.

    Args:
        elements: symbols or atomic numbers; their order does not matter.
        n_elements: number of different elements of a formula, one or several of them.
        max_atoms: largest number of atoms in a formula, 1 to 1000.
        charge_balanced: whether only formulas are generated that can be neutral; or the settings of
            :class:`~ase_matprop.screening.spaces.charges.ChargeRules`.
        shard_size: number of candidates of a shard; it has more where one combination of elements has, and fewer as no
            combination is cut.
        required: elements that every formula has, O for oxides; the order of combinations is then that of the others.

    Raises:
        UnknownElementError: for an element that does not exist.
        MatPropError: for elements given twice, numbers that are out of range, a space that is empty or too large.
    """

    needs_structure = False

    def __init__(
        self,
        elements: Iterable[str | int],
        n_elements: int | Sequence[int] = (2, 3, 4),
        max_atoms: int = 10,
        charge_balanced: bool | ChargeRules | Mapping[str, Any] = False,
        shard_size: int = 1_000_000,
        required: Iterable[str | int] = (),
    ) -> None:
        self._numbers = element_numbers(elements)
        self.elements = frozenset(self._numbers)
        self._required, self._free = self._divide(required)
        self._max_atoms = positive("max_atoms", max_atoms)
        self._per_shard = positive("shard_size", shard_size)
        self._arities = _check_arities(n_elements, len(self._numbers), self._max_atoms)
        if self._arities[0] < len(self._required):
            raise MatPropError(
                f"n_elements={self._arities[0]} is less than the {len(self._required)} required elements; give "
                f"n_elements of {len(self._required)} or more"
            )
        self._rules = charge_rules(charge_balanced)
        self.n_candidates = self.count()
        if self.n_candidates > _MOST_CANDIDATES:
            raise MatPropError(
                f"the space has {self.n_candidates:.3g} formulas; choose fewer elements, or smaller n_elements or "
                "max_atoms"
            )
        self._pieces = self._cut()
        self.n_shards = self._pieces[-1].last_shard + 1

    def count(self) -> int:
        """Return the number of formulas in closed form, before the filter of charges."""
        return sum(self._n_combinations(k) * count_stoichiometries(k, self._max_atoms) for k in self._arities)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "formulas",
            "elements": [chemical_symbols[number] for number in self._numbers],
            "n_elements": list(self._arities),
            "required": [chemical_symbols[number] for number in self._required],
            "max_atoms": self._max_atoms,
            "charge_balanced": self._rules.describe(self._numbers) if self._rules else False,
            "shard_size": self._per_shard,
        }

    def shard_size(self, shard: int) -> int:
        return sum((end - begin) * count_stoichiometries(k, self._max_atoms) for k, begin, end in self._ranges(shard))

    def blocks(self, shard: int) -> Iterator[FormulaBlock]:
        for k, begin, end in self._ranges(shard):
            for block in self._blocks_of(k, begin, end):
                balanced = block.take(self._rules.mask(block)) if self._rules else block
                if len(balanced):
                    yield balanced

    def _blocks_of(self, k: int, begin: int, end: int) -> Iterator[FormulaBlock]:
        """Yield all formulas of a range of combinations of ``k`` elements."""
        amounts = stoichiometries(k, self._max_atoms)
        size = len(amounts)
        at_once = max(1, FORMULAS_AT_ONCE // size)
        tiled = np.tile(amounts, (min(at_once, end - begin), 1)) if size <= FORMULAS_AT_ONCE else amounts
        for first in range(begin, end, at_once):
            ranks = np.arange(first, min(first + at_once, end), dtype=np.int64)
            combinations = self._combinations(ranks, k)
            for start in range(0, len(ranks) * size, FORMULAS_AT_ONCE):
                rows = tiled[start : min(start + FORMULAS_AT_ONCE, len(ranks) * size)]
                repeats = size if len(ranks) > 1 else len(rows)
                yield FormulaBlock(np.repeat(combinations, repeats, axis=0), rows.copy())

    def _n_combinations(self, k: int) -> int:
        return math.comb(len(self._free), k - len(self._required))

    def _combinations(self, ranks: NDArray[np.int64], k: int) -> NDArray[np.uint8]:
        """Return the atomic numbers of the combinations of ``k`` elements of these ranks, ascending."""
        required = np.array(self._required, dtype=np.uint8)
        chosen = unrank_combinations(ranks, len(self._free), k - len(required))
        free = np.array(self._free, dtype=np.uint8)[chosen]
        return np.sort(np.hstack([free, np.tile(required, (len(ranks), 1))]), axis=1)

    def _divide(self, required: Iterable[str | int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the elements that every formula has, and the others."""
        given = list([required] if isinstance(required, str) else required)
        numbers = element_numbers(given) if given else ()
        absent = [chemical_symbols[number] for number in numbers if number not in self.elements]
        if absent:
            raise MatPropError(
                f"{', '.join(absent)} cannot be required, as the elements do not have it; add it to them"
            )
        return numbers, tuple(number for number in self._numbers if number not in numbers)

    def _ranges(self, shard: int) -> Iterator[tuple[int, int, int]]:
        """Yield number of elements, and ranks of the first combination and of that after the last, of a shard."""
        self.check_shard(shard)
        for piece in self._pieces:
            if piece.first_shard <= shard <= piece.last_shard:
                begin = piece.begin + (shard - piece.first_shard) * piece.per_shard
                yield piece.n_elements, begin, min(begin + piece.per_shard, piece.end)

    def _cut(self) -> list[_Piece]:
        """Return which combinations are in which shards; shards are filled one after the other."""
        pieces: list[_Piece] = []
        shard, filled = 0, 0
        for k in self._arities:
            begin, end = 0, self._n_combinations(k)
            size = count_stoichiometries(k, self._max_atoms)
            into_open = min(end, (self._per_shard - filled) // size) if filled else 0
            if into_open > 0:
                pieces.append(_Piece(k, begin, into_open, into_open, shard))
                begin, filled = into_open, filled + into_open * size
            if begin < end:
                shard += bool(filled)
                pieces.append(_Piece(k, begin, end, max(1, self._per_shard // size), shard))
                shard = pieces[-1].last_shard
                filled = (end - begin - (shard - pieces[-1].first_shard) * pieces[-1].per_shard) * size
        return pieces


@dataclass(frozen=True)
class _Piece:
    """Combinations of ``n_elements`` elements from rank ``begin`` to before ``end``, so many in each shard."""

    n_elements: int
    begin: int
    end: int
    per_shard: int
    first_shard: int

    @property
    def last_shard(self) -> int:
        return self.first_shard + (self.end - self.begin - 1) // self.per_shard


def _check_arities(n_elements: int | Sequence[int], available: int, max_atoms: int) -> tuple[int, ...]:
    if max_atoms > _MOST_ATOMS:
        raise MatPropError(f"max_atoms must be at most {_MOST_ATOMS}, and not {max_atoms}")
    given = n_elements if isinstance(n_elements, Iterable) and not isinstance(n_elements, str) else [n_elements]
    arities = sorted(positive("n_elements", k) for k in given)
    if not arities or len(set(arities)) < len(arities):
        raise MatPropError(f"n_elements must be different numbers such as (2, 3, 4), and not {n_elements!r}")
    largest = arities[-1]
    possible = tuple(k for k in arities if k <= min(available, max_atoms))
    remedy = f"give n_elements={possible[0] if len(possible) == 1 else possible}" if possible else "choose it smaller"
    if largest > available:
        raise MatPropError(f"n_elements={largest} cannot be had: there are only {available} elements; {remedy}")
    if largest > max_atoms:
        raise MatPropError(
            f"n_elements={largest} cannot be had: max_atoms={max_atoms} is smaller; {remedy}, or a larger max_atoms"
        )
    for k in arities:
        if k > 1 and math.comb(max_atoms, k) > _MOST_STOICHIOMETRIES:
            raise MatPropError(
                f"max_atoms={max_atoms} gives about {math.comb(max_atoms, k):.2g} stoichiometries of {k} elements; "
                "choose it smaller"
            )
    return tuple(arities)


def charge_rules(setting: bool | ChargeRules | Mapping[str, Any]) -> ChargeRules | None:
    if isinstance(setting, ChargeRules):
        return setting
    if isinstance(setting, (bool, np.bool_)):
        return ChargeRules() if setting else None
    if not isinstance(setting, Mapping):
        raise MatPropError(f"charge_balanced must be true, false or a table of settings, and not {setting!r}")
    known = ChargeRules.__dataclass_fields__
    unknown = [str(key) for key in setting if key not in known]
    if unknown:
        raise MatPropError(f"charge_balanced has the unknown setting {unknown[0]!r}; known: {', '.join(known)}")
    return ChargeRules(**setting)


@functools.lru_cache(maxsize=64)
def count_stoichiometries(k: int, max_atoms: int) -> int:
    """Return how many tuples of ``k`` positive integers sum to at most ``max_atoms`` and have no common divisor.

    Those of sum n are C(n-1, k-1) in all; by Moebius' inversion those without a common divisor are
    sum over d | n of mu(d) C(n/d - 1, k-1), and summed over n, sum over d of mu(d) C(floor(max_atoms / d), k).
    """
    return sum(_moebius(d) * math.comb(max_atoms // d, k) for d in range(1, max_atoms // k + 1))


def _moebius(number: int) -> int:
    sign, divisor = 1, 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            number //= divisor
            if number % divisor == 0:
                return 0
            sign = -sign
        divisor += 1
    return -sign if number > 1 else sign


@functools.lru_cache(maxsize=8)
def stoichiometries(k: int, max_atoms: int) -> NDArray[np.integer]:
    """Return the tuples that :func:`count_stoichiometries` counts, by sum, then lexicographically, read-only (m, k)."""
    dtype = np.uint8 if max_atoms < 256 else np.uint16
    if k == 1:
        found = np.ones((1, 1), dtype=dtype)
    else:
        sums = []
        for total in range(k, max_atoms + 1):
            # a tuple of that sum is a choice of k-1 of the total-1 places between units in a row
            ranks = np.arange(math.comb(total - 1, k - 1), dtype=np.int64)
            cuts = unrank_combinations(ranks, total - 1, k - 1) + 1
            parts = np.diff(cuts, axis=1, prepend=0, append=total).astype(dtype)
            sums.append(parts[np.gcd.reduce(parts, axis=1) == 1])
        found = np.concatenate(sums)
    found.flags.writeable = False
    return found


def unrank_combinations(ranks: NDArray[np.int64], n: int, k: int) -> NDArray[np.int64]:
    """Return the combinations of ``k`` of 0 ... n-1 that have these lexicographic ranks, ascending, shape (len, k).

    In the combinatorial number system: D. E. Knuth, The Art of Computer Programming 4A, section 7.2.1.3.
    """
    left = math.comb(n, k) - 1 - ranks  # the rank from the end, and with it n-1-c for each member c
    found = np.empty((len(ranks), k), dtype=np.int64)
    for place in range(k):
        below = np.array([min(math.comb(c, k - place), 2**63 - 1) for c in range(n)], dtype=np.int64)
        chosen = np.searchsorted(below, left, side="right") - 1
        left = left - below[chosen]
        found[:, place] = n - 1 - chosen
    return found

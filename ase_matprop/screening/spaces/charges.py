"""Charge balance of formulas, as a chemist or SMACT would test it, for many formulas at once.

A formula is balanced if its elements have oxidation states whose charges, times the amounts, sum to zero, the
cations being less electronegative than the anions (Pauling's scale).  The test is that of SMACT: D. W. Davies et al.,
Chem 1, 617 (2016), doi:10.1016/j.chempr.2016.09.010, and J. Open Source Softw. 4, 1361 (2019),
doi:10.21105/joss.01361; the oxidation states are pymatgen's.

One oxidation state for each element would refuse Fe3O4.  With ``mixed_valence`` one metal or semimetal of a formula
may have two states that stand next to each other in its list and are both positive (Fe2+ and Fe3+, Pb2+ and Pb4+), in
any ratio.  pymatgen's ``Composition.oxi_state_guesses`` mixes all states of all elements, negative with positive ones,
but in whole numbers for the formula unit as it is written: it refuses XY and lets X2Y2 pass.  Here a formula is a ratio
of elements, and its multiples are one with it.

Of 4,578 oxides and fluorides of the Materials Project (formation energy below -1 eV/atom) 88 % pass, 76 % without mixed
valence, 70 % with the textbook's oxidation states; of all quaternaries of 86 elements with at most 10 atoms 7 % pass.
Peroxides, superoxides and OF2 do not: oxygen has no state but -2.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError, UnknownElementError, unknown_name
from ase_matprop.screening.spaces.base import FormulaBlock

States = Literal["common", "icsd"]

#: charge of a formula unit, per atom, that counts as none: amounts may be decimals such as 0.333
_TOLERANCE = 1e-3
#: assignments of oxidation states to one combination of elements
_MOST_ASSIGNMENTS = 1_000_000
#: charges that are computed at once
_CHARGES_AT_ONCE = 30_000


@dataclass(frozen=True)
class ChargeRules:
    """What makes a formula balanced.

    Attributes:
        states: where oxidation states come from: ``"icsd"``, those that occur at least ten times in the ICSD, and where
            pymatgen has none the common ones; or ``"common"``, the textbook's, without Cu+, Ti3+ or V4+.
        oxidation_states: symbol -> oxidation states, instead of those of that element.
        pauling: whether each cation must be less electronegative than each anion.
        mixed_valence: whether one metal or semimetal may have two neighbouring positive states at once.
        allow_alloys: whether formulas of nothing but metals pass, whatever their charges.
    """

    states: States = "icsd"
    oxidation_states: Mapping[str, Sequence[int]] | None = None
    pauling: bool = True
    mixed_valence: bool = True
    allow_alloys: bool = False

    def __post_init__(self) -> None:
        if self.states not in get_args(States):
            raise unknown_name("source of oxidation states", self.states, get_args(States))
        for name in ("pauling", "mixed_valence", "allow_alloys"):
            if not isinstance(getattr(self, name), bool):
                raise MatPropError(f"{name} must be true or false, and not {getattr(self, name)!r}")
        if self.oxidation_states is None:
            return
        if not isinstance(self.oxidation_states, Mapping):
            raise MatPropError("oxidation_states must be a table of symbol and states such as {'Fe': [2, 3]}")
        clean = {}
        for symbol, given in self.oxidation_states.items():
            if not atomic_numbers.get(symbol):
                raise UnknownElementError(f"oxidation_states has {symbol!r}, which is no element; give its symbol")
            whole = isinstance(given, Iterable) and not isinstance(given, str)
            values = tuple(given) if whole else ()
            if not values or not all(_is_state(value) for value in values):
                raise MatPropError(
                    f"the oxidation states of {symbol} must be whole numbers from -9 to 9 such as [2, 3], and not "
                    f"{given!r}"
                )
            clean[symbol] = tuple(sorted({int(value) for value in values}))
        object.__setattr__(self, "oxidation_states", clean)

    def describe(self, elements: Iterable[int]) -> dict[str, Any]:
        """Return the rules in JSON's types, with a hash of the elements' data, which another pymatgen may change."""
        table = _table(self)
        used = sorted(elements)
        data = {
            chemical_symbols[number]: [list(table.states[number]), repr(float(table.electronegativities[number]))]
            for number in used
        }
        own = {symbol: list(states) for symbol, states in (self.oxidation_states or {}).items()}
        return {
            "states": self.states,
            "oxidation_states": dict(sorted(own.items())),
            "pauling": self.pauling,
            "mixed_valence": self.mixed_valence,
            "allow_alloys": self.allow_alloys,
            "data": hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16],
        }

    def mask(self, block: FormulaBlock) -> NDArray[np.bool_]:
        """Return which formulas are balanced, shape (n,).

        A formula of one element is.

        Raises:
            MatPropError: if a combination of elements has more than a million assignments of oxidation states.
        """
        table = _table(self)
        if not len(block):
            return np.zeros(0, dtype=bool)
        combinations, owner = _combinations(block.numbers)
        balanced: NDArray[np.bool_] = np.count_nonzero(block.numbers, axis=1) == 1
        if self.allow_alloys:
            balanced |= table.metals[block.numbers].all(axis=1)
        charges, gaps, counts = _assignments(combinations, table, self)
        firsts = np.cumsum(counts) - counts
        rows = np.flatnonzero((counts[owner] > 0) & ~balanced)
        rows = rows[np.argsort(owner[rows], kind="stable")]
        amounts = block.amounts[rows].astype(np.float64)
        tests = counts[owner[rows]]
        ends = np.cumsum(tests)
        start = 0
        while start < len(rows):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + _CHARGES_AT_ONCE, side="right")))
            number = tests[start:stop]
            row = np.repeat(np.arange(start, stop), number)
            offset = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)
            which = firsts[owner[rows[row]]] + offset
            found = _zero_within(amounts[row], charges[which], gaps[which] if self.mixed_valence else None)
            balanced[rows[row[found]]] = True
            start = stop
        return balanced


def charge_balanced(
    block: FormulaBlock,
    oxidation_states: Mapping[str, Sequence[int]] | None = None,
    *,
    states: States = "icsd",
    pauling: bool = True,
    mixed_valence: bool = True,
    allow_alloys: bool = False,
) -> NDArray[np.bool_]:
    """Return which formulas of a block can be neutral, shape (n,); the arguments are those of :class:`ChargeRules`.

    Raises:
        MatPropError: for arguments that make no sense.
    """
    return ChargeRules(states, oxidation_states, pauling, mixed_valence, allow_alloys).mask(block)


@dataclass(frozen=True, eq=False)
class _Table:
    """Elements' data by atomic number; the 0 that pads a block is neutral, and a metal."""

    states: tuple[tuple[int, ...], ...]
    electronegativities: NDArray[np.float64]
    metals: NDArray[np.bool_]
    mixing: NDArray[np.bool_]


def _is_state(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and -9 <= int(value) <= 9


def _table(rules: ChargeRules) -> _Table:
    own = tuple((symbol, tuple(states)) for symbol, states in sorted((rules.oxidation_states or {}).items()))
    return _read_table(rules.states, own)


@functools.lru_cache(maxsize=16)
def _read_table(source: str, own: tuple[tuple[str, tuple[int, ...]], ...]) -> _Table:
    from pymatgen.core import Element

    states: list[tuple[int, ...]] = [(0,)]
    electronegativities = np.full(len(chemical_symbols), np.nan)
    metals, mixing = np.ones((2, len(chemical_symbols)), dtype=bool)
    for number, symbol in enumerate(chemical_symbols[1:], start=1):
        element = Element(symbol)
        known = element.common_oxidation_states
        if source == "icsd":
            known = element.icsd_oxidation_states or known
        states.append(tuple(sorted(set(known))))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that noble gases have no electronegativity, as NaN says
            electronegativities[number] = element.X
        metals[number] = element.is_metal
        mixing[number] = element.is_metal or element.is_metalloid
    for symbol, given in own:
        states[atomic_numbers[symbol]] = given
    return _Table(tuple(states), electronegativities, metals, mixing)


def _combinations(numbers: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the different combinations of elements, shape (m, k), and which of them each row has, shape (n,)."""
    starts = np.flatnonzero(np.concatenate([[True], (numbers[1:] != numbers[:-1]).any(axis=1)]))
    runs = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(numbers))))
    combinations, which = np.unique(numbers[starts], axis=0, return_inverse=True)
    return combinations, which.reshape(-1)[runs]


def _assignments(
    combinations: NDArray[np.uint8], table: _Table, rules: ChargeRules
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return all assignments of oxidation states that could be balanced, those of the first combination first.

    Returns:
        The charges of each assignment, shape (t, k); by how much each atom's charge can rise by mixed valence, shape
        (t, k); and the number of assignments of each combination, shape (m,).
    """
    charges, counts = [], []
    for combination in combinations.tolist():
        found = _charges_of(tuple(combination), table, rules.pauling)
        charges.append(found)
        counts.append(len(found))
    together = np.concatenate(charges)
    owner = np.repeat(np.arange(len(combinations)), counts)
    rises = np.zeros((len(table.states), 19))  # of an element, by its charge + 9
    for number in np.unique(combinations).tolist():
        if table.mixing[number]:
            for lower, upper in itertools.pairwise(state for state in table.states[number] if state > 0):
                rises[number, lower + 9] = upper - lower
    gaps = rises[combinations[owner], together.astype(np.int64) + 9]
    return together, gaps, np.array(counts, dtype=np.int64)


def _charges_of(combination: tuple[int, ...], table: _Table, pauling: bool) -> NDArray[np.float64]:
    """Return the assignments of one combination that have charges of both signs, or none at all, shape (t, k)."""
    options = [table.states[number] for number in combination]
    total = math.prod(map(len, options))
    if total > _MOST_ASSIGNMENTS:
        raise MatPropError(
            f"the {len(combination)} elements {'-'.join(chemical_symbols[number] for number in combination if number)} "
            f"have {total:.2g} assignments of oxidation states; give fewer elements, or fewer states with "
            "oxidation_states"
        )
    if not total:
        return np.zeros((0, len(combination)))
    grid = np.meshgrid(*(np.array(option, dtype=np.float64) for option in options), indexing="ij")
    charges: NDArray[np.float64] = np.stack(grid, axis=-1).reshape(total, len(combination))
    good: NDArray[np.bool_] = (charges > 0).any(axis=1) == (charges < 0).any(axis=1)
    if pauling:
        scale = table.electronegativities[list(combination)]
        cation = np.where(charges > 0, scale, -np.inf).max(axis=1)  # NaN, which compares false, where it is not known
        anion = np.where(charges < 0, scale, np.inf).min(axis=1)
        good &= cation < anion
    chosen: NDArray[np.float64] = charges[good]
    return chosen


def _zero_within(
    amounts: NDArray[np.float64], charges: NDArray[np.float64], gaps: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """Return where the charge of the formula unit is zero, or can be raised to that by mixed valence of one element."""
    # a loop over the few columns takes a third of the time of reductions along rows of two to four numbers
    tolerance, total, rise = np.zeros((3, len(amounts)))
    for column in range(amounts.shape[1]):
        tolerance += amounts[:, column]
        total += amounts[:, column] * charges[:, column]
        if gaps is not None:
            np.maximum(rise, amounts[:, column] * gaps[:, column], out=rise)
    tolerance *= _TOLERANCE
    return (total <= tolerance) & (total + rise >= -tolerance)

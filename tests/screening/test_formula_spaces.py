"""All formulas over a list of elements, in shards."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Iterable

import numpy as np
import pytest

from ase_matprop import MatPropError
from ase_matprop.descriptors.fractions import ELEMENTS
from ase_matprop.errors import UnknownElementError
from ase_matprop.screening.spaces.base import FORMULAS_AT_ONCE, FormulaBlock
from ase_matprop.screening.spaces.charges import ChargeRules
from ase_matprop.screening.spaces.formulas import (
    FormulaSpace,
    count_stoichiometries,
    stoichiometries,
    unrank_combinations,
)

Formula = tuple[tuple[int, ...], tuple[int, ...]]


def listed(blocks: Iterable[FormulaBlock]) -> list[Formula]:
    return [
        (tuple(numbers), tuple(amounts))
        for block in blocks
        for numbers, amounts in zip(block.numbers.tolist(), block.amounts.tolist(), strict=True)
    ]


def whole(space: FormulaSpace) -> list[Formula]:
    return listed(block for shard in range(space.n_shards) for block in space.blocks(shard))


def brute_force(numbers: list[int], arities: Iterable[int], max_atoms: int) -> list[Formula]:
    found = []
    for k in arities:
        amounts = [
            w for w in itertools.product(range(1, max_atoms + 1), repeat=k) if sum(w) <= max_atoms and math.gcd(*w) == 1
        ]
        amounts.sort(key=lambda w: (sum(w), w))
        found += list(itertools.product(itertools.combinations(sorted(numbers), k), amounts))
    return found


@pytest.mark.parametrize(("arities", "max_atoms"), [((1,), 5), ((2,), 10), ((1, 2, 3), 7), ((2, 3, 4), 8), ((5,), 6)])
@pytest.mark.parametrize("shard_size", [1, 17, 100, 10**6])
def test_is_the_brute_force_in_its_order(arities: tuple[int, ...], max_atoms: int, shard_size: int) -> None:
    numbers = [26, 3, 8, 15, 11, 1]
    space = FormulaSpace(numbers, arities, max_atoms, shard_size=shard_size)
    expected = brute_force(numbers, arities, max_atoms)
    assert whole(space) == expected
    assert space.n_candidates == space.count() == len(expected) == len(set(expected))
    sizes = [space.shard_size(shard) for shard in range(space.n_shards)]
    assert sizes == [sum(len(block) for block in space.blocks(shard)) for shard in range(space.n_shards)]
    largest = max(count_stoichiometries(k, max_atoms) for k in arities)
    assert min(sizes) > 0 and max(sizes) <= max(shard_size, largest)
    assert all(a + b > shard_size or a + largest > shard_size for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("max_atoms", [1, 5, 12, 30])
def test_closed_form_of_the_count(k: int, max_atoms: int) -> None:
    if k > max_atoms:
        assert count_stoichiometries(k, max_atoms) == 0
        return
    found = stoichiometries(k, max_atoms)
    assert len(found) == count_stoichiometries(k, max_atoms) == len(np.unique(found, axis=0))
    assert (found > 0).all() and (np.gcd.reduce(found, axis=1) == 1).all() and found.sum(axis=1).max() <= max_atoms


def test_number_of_the_thesis() -> None:
    # section 3.3.9: "about 450M" quaternaries of 86 elements with at most 10 atoms
    assert math.comb(86, 4) * math.comb(10, 4) == 445_946_550
    space = FormulaSpace(ELEMENTS, 4, 10)
    assert space.n_candidates == 435_328_775 == math.comb(86, 4) * 205
    assert sum(space.shard_size(shard) for shard in range(space.n_shards)) == space.n_candidates


def test_shards_of_a_large_space_are_generated_alone() -> None:
    space = FormulaSpace(range(1, 119), (2, 3, 4, 5, 6), 12, shard_size=100_000)
    assert space.n_candidates > 2**40
    blocks = list(space.blocks(space.n_shards - 1))
    assert blocks[-1].numbers[-1].tolist() == [113, 114, 115, 116, 117, 118]
    assert blocks[-1].amounts[-1].tolist() == [7, 1, 1, 1, 1, 1]
    middle = list(space.blocks(space.n_shards // 2))
    assert sum(map(len, middle)) == space.shard_size(space.n_shards // 2)
    assert all(len(block) <= FORMULAS_AT_ONCE for block in middle)
    assert all(block.numbers.dtype == np.uint8 and (np.diff(block.numbers.astype(int)) > 0).all() for block in middle)


def test_a_combination_with_more_stoichiometries_than_a_block_holds() -> None:
    space = FormulaSpace(["Li", "Fe", "O", "P", "S"], 4, 50, shard_size=10)
    assert space.n_shards == 5 and space.shard_size(2) == count_stoichiometries(4, 50) > 2 * FORMULAS_AT_ONCE
    blocks = list(space.blocks(2))
    assert [len(block) for block in blocks[:-1]] == [FORMULAS_AT_ONCE] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate([block.amounts for block in blocks]), stoichiometries(4, 50))
    assert len(np.unique(np.concatenate([block.numbers for block in blocks]), axis=0)) == 1


def test_blocks_are_the_callers_own() -> None:
    space = FormulaSpace(["Li", "Fe", "O", "P"], 2)
    before = whole(space)
    for block in space.blocks(0):
        block.amounts[:] = 0
        block.numbers[:] = 0
    assert whole(space) == before


@pytest.mark.parametrize(
    "elements", [["O", "Fe", "Li", "P"], [8, 26, 3, 15], np.array([15, 8, 26, 3]), ("P", 8, 26, "Li")]
)
def test_order_and_kind_of_elements_do_not_matter(elements: list[str | int]) -> None:
    space, other = FormulaSpace(["Li", "O", "P", "Fe"]), FormulaSpace(elements)
    assert whole(space) == whole(other) and space.describe() == other.describe() and other.elements == {3, 8, 15, 26}


def test_formulas_and_description() -> None:
    space = FormulaSpace(["Fe", "O"], 2, 4)
    (block,) = space.blocks(0)
    assert block.formulas() == ["FeO", "Fe2O", "FeO2", "Fe3O", "FeO3"]
    assert space.describe() == {
        "kind": "formulas", "elements": ["O", "Fe"], "required": [], "n_elements": [2], "max_atoms": 4,
        "charge_balanced": False,
        "shard_size": 1_000_000,
    }  # fmt: skip
    assert whole(pickle.loads(pickle.dumps(space))) == whole(space)
    others = [
        {}, {"n_elements": (1, 2)}, {"max_atoms": 9}, {"shard_size": 9}, {"charge_balanced": True},
        {"charge_balanced": {"states": "common"}},
    ]  # fmt: skip
    descriptions = [FormulaSpace(["Fe", "O"], **{"n_elements": 2, **other}).describe() for other in others]
    assert len(set(map(str, descriptions))) == len(others)


def test_charge_balanced_takes_candidates_out_of_the_blocks_only() -> None:
    elements = ["Li", "Fe", "O", "P", "Au", "Ar"]
    every, balanced = FormulaSpace(elements), FormulaSpace(elements, charge_balanced=True, shard_size=500)
    assert balanced.n_candidates == every.n_candidates
    assert whole(balanced) == listed(b.take(ChargeRules().mask(b)) for b in every.blocks(0)) != []
    own = FormulaSpace(["Fe", "O"], 2, 4, charge_balanced={"oxidation_states": {"Fe": [6]}})
    assert [block.formulas() for block in own.blocks(0)] == [["FeO3"]]
    assert [len(list(FormulaSpace(["He", "O"], 2, charge_balanced=True).blocks(0)))] == [0]


def test_unranking() -> None:
    found = unrank_combinations(np.arange(math.comb(9, 4)), 9, 4)
    assert list(map(tuple, found.tolist())) == list(itertools.combinations(range(9), 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"elements": ["Fe", "Xx"]}, "'Xx'.*no element"),
        ({"elements": ["Fe", "o"]}, "did you mean 'O'"),
        ({"elements": ["Fe", "X"]}, "'X'.*no element"),
        ({"elements": [26, 119]}, "119.*1 to 118"),
        ({"elements": [26, 0]}, "0.*1 to 118"),
        ({"elements": [26, 8.0]}, "8.0.*no element"),
        ({"elements": [26, True]}, "True.*no element"),
        ({"elements": ["Fe", "O", 26]}, "Fe more than once"),
        ({"elements": []}, "elements is empty"),
        ({"elements": "LiFeO"}, "list of symbols"),
        ({"elements": 26}, "list of symbols"),
        ({"elements": ["Fe", "O"]}, "only 2 elements; give n_elements=2"),
        ({"elements": ["Fe", "O"], "n_elements": 3}, "only 2 elements; choose it smaller"),
        ({"max_atoms": 3}, r"max_atoms=3 is smaller; give n_elements=\(2, 3\)"),
        ({"max_atoms": 0}, "max_atoms must be a positive whole number"),
        ({"max_atoms": 9.5}, "max_atoms must be a positive whole number"),
        ({"max_atoms": 10**9}, "at most 1000"),
        ({"max_atoms": 1000}, "stoichiometries of 3 elements"),
        ({"n_elements": 0}, "n_elements must be a positive whole number"),
        ({"n_elements": ()}, "n_elements must be different numbers"),
        ({"n_elements": (2, 2)}, "n_elements must be different numbers"),
        ({"n_elements": "2"}, "n_elements must be a positive whole number"),
        ({"shard_size": 0}, "shard_size must be a positive whole number"),
        ({"shard_size": True}, "shard_size must be a positive whole number"),
        ({"charge_balanced": "yes"}, "true, false or a table"),
        ({"charge_balanced": {"state": "icsd"}}, "unknown setting 'state'"),
        ({"elements": range(1, 119), "n_elements": 59, "max_atoms": 60}, "choose fewer elements"),
    ],
)
def test_bad_input(arguments: dict[str, object], message: str) -> None:
    settings = {"elements": ["Li", "Fe", "O", "P", "Na"], **arguments}
    with pytest.raises(MatPropError, match=message) as raised:
        FormulaSpace(**settings)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250
    if "no element" in message or "118" in message:
        assert isinstance(raised.value, UnknownElementError)


@pytest.mark.parametrize("shard", [-1, 1])
def test_no_such_shard(shard: int) -> None:
    space = FormulaSpace(["Fe", "O"], 2)
    with pytest.raises(MatPropError, match="no shard"):
        list(space.blocks(shard))
    with pytest.raises(MatPropError, match="no shard"):
        space.shard_size(shard)


def test_required_elements() -> None:
    numbers = [3, 8, 12, 13, 26]
    space = FormulaSpace(["Fe", "O", "Li", "Al", "Mg"], (2, 3), 6, shard_size=7, required=["O"])
    found = whole(space)
    assert sorted(found) == sorted(f for f in brute_force(numbers, (2, 3), 6) if 8 in f[0])
    assert len(found) == space.n_candidates == sum(space.shard_size(shard) for shard in range(space.n_shards))
    both = FormulaSpace(["Fe", "O", "Li"], (2, 3), 6, required=["O", "Fe"])
    assert sorted(whole(both)) == sorted(f for f in brute_force([3, 8, 26], (2, 3), 6) if {8, 26} <= set(f[0]))
    assert both.describe() != FormulaSpace(["Fe", "O", "Li"], (2, 3), 6).describe()


@pytest.mark.parametrize(
    ("required", "message"),
    [
        (["Cl"], "Cl cannot be required, as the elements do not have it"),
        (["O", "Fe", "Li"], "n_elements=2 is less than the 3 required elements"),
        (["O", "O"], "more than once"),
    ],
)
def test_required_elements_that_cannot_be(required: list[str], message: str) -> None:
    with pytest.raises(MatPropError, match=message):
        FormulaSpace(["Fe", "O", "Li"], (2, 3), 6, required=required)

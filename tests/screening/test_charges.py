"""Charge balance, against one formula at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from ase.data import atomic_numbers
from pymatgen.core import Composition, Element

from ase_matprop import MatPropError
from ase_matprop.compositions import parse_formula
from ase_matprop.errors import UnknownElementError, UnknownNameError
from ase_matprop.screening.spaces import charges
from ase_matprop.screening.spaces.base import FormulaBlock
from ase_matprop.screening.spaces.charges import ChargeRules, charge_balanced
from ase_matprop.screening.spaces.formulas import FormulaSpace


def block_of(*formulas: str) -> FormulaBlock:
    return FormulaBlock.of([parse_formula(formula) for formula in formulas])


def balanced(*formulas: str, **options: object) -> list[str]:
    mask = charge_balanced(block_of(*formulas), **options)
    assert mask.shape == (len(formulas),) and mask.dtype == bool
    return [formula for formula, good in zip(formulas, mask, strict=True) if good]


def states_of(symbol: str, source: str) -> list[int]:
    element = Element(symbol)
    return sorted((source == "icsd" and element.icsd_oxidation_states) or element.common_oxidation_states)


def brute_force(amounts: dict[str, int], *, states: str, pauling: bool, mixed_valence: bool) -> bool:
    """One formula, one assignment after the other, written without regard to speed."""
    symbols = list(amounts)
    if len(symbols) == 1:
        return True
    for choice in itertools.product(*(states_of(symbol, states) for symbol in symbols)):
        assigned = dict(zip(symbols, choice, strict=True))
        cations = [symbol for symbol in symbols if assigned[symbol] > 0]
        anions = [symbol for symbol in symbols if assigned[symbol] < 0]
        if bool(cations) != bool(anions):
            continue
        if pauling and any(not Element(c).X < Element(a).X for c in cations for a in anions):
            continue
        total = sum(amounts[symbol] * assigned[symbol] for symbol in symbols)
        if total == 0:
            return True
        for symbol in cations if mixed_valence else ():
            higher = [state for state in states_of(symbol, states) if state > assigned[symbol]]
            mixes = higher and (Element(symbol).is_metal or Element(symbol).is_metalloid)
            if mixes and total < 0 < total + amounts[symbol] * (higher[0] - assigned[symbol]):
                return True
    return False


def sample() -> list[dict[int, float]]:
    elements = ["H", "Li", "C", "N", "O", "F", "P", "S", "Cl", "Ti", "Mn", "Fe", "Cu", "Sb", "Pb", "Au", "Ar", "Ce"]
    space = FormulaSpace(elements, (1, 2, 3, 4), 8)
    formulas = [formula for block in space.blocks(0) for formula in block.compositions()]
    rows = np.random.default_rng(0).choice(len(formulas), 1500, replace=False)
    return [formulas[row] for row in rows]


@pytest.mark.parametrize("states", ["icsd", "common"])
@pytest.mark.parametrize(("pauling", "mixed_valence"), [(True, True), (True, False), (False, True), (False, False)])
def test_agrees_with_one_formula_at_a_time(states: str, pauling: bool, mixed_valence: bool) -> None:
    formulas = sample()
    options = {"states": states, "pauling": pauling, "mixed_valence": mixed_valence}
    expected = [
        brute_force({Element.from_Z(number).symbol: n for number, n in formula.items()}, **options)
        for formula in formulas
    ]
    found = charge_balanced(FormulaBlock.of(formulas), **options)
    assert found.tolist() == expected and 0.02 < found.mean() < 0.6


def test_pymatgen_guesses_the_same_where_each_element_has_one_state() -> None:
    own = {"Li": [1], "Mg": [2], "Al": [3], "Ti": [4], "O": [-2], "F": [-1], "N": [-3], "P": [5]}
    space = FormulaSpace(list(own), (2, 3), 8)
    for block in space.blocks(0):
        found = charge_balanced(block, own, pauling=False)
        expected = [bool(Composition(f).oxi_state_guesses(oxi_states_override=own)) for f in block.formulas()]
        assert found.tolist() == expected and any(expected)


def test_pymatgen_guesses_at_least_what_is_balanced_here() -> None:
    """It mixes the states of all elements, in whole numbers: what mixes here, mixes there in a multiple."""
    own = {"Fe": [2, 3], "Mn": [2, 3, 4], "Li": [1], "O": [-2], "Cl": [-1]}
    more = 0
    for block in FormulaSpace(list(own), (2, 3), 7).blocks(0):
        single = charge_balanced(block, own, mixed_valence=False)
        mixed = charge_balanced(block, own)
        assert (single <= mixed).all() and mixed.sum() > single.sum()
        for formula, alone, both in zip(block.formulas(), single, mixed, strict=True):
            guess = bool(Composition(formula).oxi_state_guesses(oxi_states_override=own))
            assert guess or not alone
            if both and not guess:
                multiple = Composition(formula) * 2
                assert multiple.oxi_state_guesses(oxi_states_override=own), formula
            more += guess and not both  # Fe and Mn both mixed
    assert more < 40


def test_what_a_chemist_expects() -> None:
    good = ("NaCl", "Fe2O3", "FeO", "Fe3O4", "Cu2O", "Ti2O3", "VO2", "Pb3O4", "Sb2O4", "LiFePO4", "BaTiO3", "YBa2Cu3O7",
            "LiMn2O4", "CH4", "NH3", "SiC", "Au2O3", "MgAl2O4", "Ca5P3O13H", "Fe", "O2", "He")  # fmt: skip
    bad = ("NaCl2", "Na2Cl", "FeO4", "Ni3Al", "LiO", "NaK", "HeO", "KO2", "MgO2", "AlO")
    assert balanced(*good, *bad) == list(good)
    assert "Cu2O" not in balanced("Cu2O", "CuO", states="common")


def test_pauling() -> None:
    # chlorine has the states +1 ... +7 and is less electronegative than oxygen
    assert balanced("Cl2O", states="common") == ["Cl2O"]
    own = {"F": [1], "O": [-2]}
    assert balanced("OF2", oxidation_states=own) == []
    assert balanced("OF2", oxidation_states=own, pauling=False) == ["OF2"]
    own = {"Ar": [1], "F": [-1]}  # no electronegativity: not to be tested, so not balanced, as in SMACT
    assert balanced("ArF", oxidation_states=own) == []
    assert balanced("ArF", oxidation_states=own, pauling=False) == ["ArF"]


def test_alloys_only_if_allowed() -> None:
    assert balanced("Ni3Al", "NiAl", "Ni3AlO", "CuSi") == []
    assert balanced("Ni3Al", "NiAl", "Ni3AlO", "CuSi", allow_alloys=True) == ["Ni3Al", "NiAl"]


def test_mixed_valence_is_of_one_metal_with_neighbouring_positive_states() -> None:
    assert balanced("Fe3O4", "Fe5O6", "Fe4O3", "FeO2") == ["Fe3O4", "Fe5O6"]
    assert balanced("Fe3O4", mixed_valence=False) == []
    assert balanced("Mn2O7", "Mn3O10", oxidation_states={"Mn": [2, 4, 7]}) == ["Mn2O7", "Mn3O10"]  # 6.67 of 4 and 7
    assert balanced("H3Na", oxidation_states={"H": [-1, 1]}) == []  # -1 and 1 do not mix
    assert balanced("N5O9", oxidation_states={"N": [3, 5]}) == []  # no metal
    own = {"Fe": [2, 3], "Mn": [2, 3], "O": [-2]}
    assert balanced("FeMnO", "Fe2Mn2O5", oxidation_states=own) == ["Fe2Mn2O5"]


def test_broken_amounts() -> None:
    assert balanced("Li0.5CoO2", "LiCo2O4", "Fe0.947O", "Na0.333Cl0.333", "Na0.5Cl0.6", "La0.7Sr0.3MnO3") == [
        "Li0.5CoO2", "LiCo2O4", "Fe0.947O", "Na0.333Cl0.333", "La0.7Sr0.3MnO3"
    ]  # fmt: skip
    assert balanced("Al0.667O", "Al66.7O100", mixed_valence=False) == ["Al0.667O", "Al66.7O100"]


@pytest.mark.parametrize("options", [{}, {"mixed_valence": False}, {"allow_alloys": True}, {"pauling": False}])
def test_depends_on_neither_order_nor_padding_nor_multiples(options: dict[str, bool]) -> None:
    formulas = sample()
    block = FormulaBlock.of(formulas)
    expected = charge_balanced(block, **options)
    order = np.random.default_rng(1).permutation(len(block))
    assert (charge_balanced(block.take(order), **options) == expected[order]).all()
    wide = FormulaBlock(np.pad(block.numbers, ((0, 0), (0, 2))), np.pad(block.amounts, ((0, 0), (0, 2))) * 3)
    assert (charge_balanced(wide, **options) == expected).all()
    alone = np.concatenate([charge_balanced(block.take([row]), **options) for row in range(200)])
    assert (alone == expected[:200]).all()
    assert charge_balanced(block.take([]), **options).shape == (0,)


def test_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    block = FormulaBlock.of(sample())
    expected = charge_balanced(block)
    for size in (1, 7, 100):
        monkeypatch.setattr(charges, "_CHARGES_AT_ONCE", size)
        assert (charge_balanced(block) == expected).all()


def test_description_changes_with_the_data() -> None:
    iron, oxygen = atomic_numbers["Fe"], atomic_numbers["O"]
    base = ChargeRules().describe([iron, oxygen])
    assert base == ChargeRules().describe([oxygen, iron]) and base["states"] == "icsd"
    own = ChargeRules(oxidation_states={"Fe": (3, 2, np.int64(6))}).describe([iron, oxygen])
    assert own["oxidation_states"] == {"Fe": [2, 3, 6]} and own["data"] != base["data"]
    assert ChargeRules().describe([iron])["data"] != base["data"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"states": "icds"}, UnknownNameError, "Did you mean 'icsd'"),
        ({"oxidation_states": {"Xx": [1]}}, UnknownElementError, "'Xx'"),
        ({"oxidation_states": {"Fe": [2.5]}}, MatPropError, "of Fe must be whole numbers"),
        ({"oxidation_states": {"Fe": []}}, MatPropError, "of Fe must be whole numbers"),
        ({"oxidation_states": {"Fe": 3}}, MatPropError, "of Fe must be whole numbers"),
        ({"oxidation_states": {"Fe": "23"}}, MatPropError, "of Fe must be whole numbers"),
        ({"oxidation_states": {"Fe": [12]}}, MatPropError, "from -9 to 9"),
        ({"oxidation_states": ["Fe"]}, MatPropError, "must be a table"),
        ({"pauling": "no"}, MatPropError, "pauling must be true or false"),
    ],
)
def test_bad_options(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        charge_balanced(block_of("FeO"), **options)


def test_too_many_assignments() -> None:
    symbols = ["C", "N", "P", "S", "Cl", "Mn", "V", "Cr", "Mo", "W", "Re", "Ru"]
    block = FormulaBlock.of([{atomic_numbers[symbol]: 1.0 for symbol in symbols}])
    assert math.prod(len(states_of(symbol, "icsd")) for symbol in symbols) > 1e6
    with pytest.raises(MatPropError, match="assignments of oxidation states; give fewer elements"):
        charge_balanced(block)

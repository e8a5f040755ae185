"""The vectorised hull against pymatgen, and what must hold of any convex hull."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest

from ase_matprop.errors import CompositionError, ReferenceEnergyError
from ase_matprop.screening.hull import facets
from ase_matprop.screening.hull.facets import ReferenceHull, linear_programme, system_name
from ase_matprop.screening.hull.references import References, read_references
from ase_matprop.screening.spaces.base import FormulaBlock
from tests.screening.hull.examples import ELEMENTS, drawn_block, drawn_references, pymatgen_hull, references_of


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pymatgen(d: int, seed: int) -> None:
    references = drawn_references(40, d, seed)
    block = drawn_block(60, d, np.random.default_rng(seed + 100), largest=9)
    np.testing.assert_allclose(
        ReferenceHull(references).energies(block), pymatgen_hull(references, block), atol=1e-9, rtol=0
    )


@pytest.mark.data
def test_agrees_with_pymatgen_on_li_fe_o(data_dir: Path) -> None:
    references = read_references(data_dir / "hull" / "li_fe_o_mp.csv")
    grid = [dict(zip((3, 8, 26), row, strict=True)) for row in itertools.product(range(9), repeat=3) if any(row)]
    block = FormulaBlock.of([{number: float(amount) for number, amount in row.items() if amount} for row in grid])
    hull = ReferenceHull(references)
    np.testing.assert_allclose(hull.energies(block), pymatgen_hull(references, block), atol=1e-9, rtol=0)
    above = hull.e_above_hull(references.block, references.energies)
    np.testing.assert_allclose(above, references.energies - pymatgen_hull(references, references.block), atol=1e-9)
    assert above.min() > -1e-9
    stable = {hull.formula(row) for row in hull.vertices((3, 8, 26)).tolist()}
    assert {"Li", "Fe", "O", "Li2O", "Fe2O3", "LiFeO2", "Li5FeO4"} <= stable


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param({"Li": 0, "O": 0, "Fe": 0}, id="only end members"),
        pytest.param({"Li": 0, "O": 0, "Fe": 0, "Li3O": -0.5, "LiO": -1.0, "LiO3": -0.5}, id="collinear"),
        pytest.param({"Li": 0, "O": 0, "Fe": 0, "LiO": -1.0, "FeO": -1.0, "LiFe": -1.0, "Li2FeO": -1.0}, id="flat"),
        pytest.param(
            {"Li": 0, "O": 0, "Fe": 0, "LiO": -1.0, "LiFeO": -2 / 3, "LiFe2O": -0.5, "LiFe8O": -0.2}, id="on a tie line"
        ),
        pytest.param({"Li": 0, "O": 0, "Fe": 0, "LiFeO": -1e-12, "Li2FeO": 0.0, "FeO": 0.5}, id="at the elements"),
        pytest.param({"Li": 0.1, "O": 0.05, "Fe": -0.1, "LiFeO": -1e-7, "LiO": -1e-8}, id="hardly below"),
        pytest.param(
            [("Li", 0), ("Li", 0.3), ("Li", 0), ("O2", 0), ("O8", 0.1), ("Fe", 0), ("Fe2O3", -1.7), ("Fe4O6", -1.6),
             ("Fe2O3", -1.7), ("Fe6O9", -1.7), ("Fe0.4O0.6", -1.7)], id="duplicates",
        ),
        pytest.param({"Li": 0, "O": 0, "Fe": 0, "Li999O": -0.01, "Li999Fe": -0.01, "LiO": -1.5}, id="near a corner"),
    ],
)  # fmt: skip
def test_degenerate_references(rows: dict[str, float] | list[tuple[str, float]]) -> None:
    references = references_of(rows)
    grid = [row for row in itertools.product(range(6), repeat=3) if any(row)]
    block = FormulaBlock.of([{z: float(n) for z, n in zip((3, 8, 26), row, strict=True) if n} for row in grid])
    hull = ReferenceHull(references)
    expected = []
    for composition in block.compositions():
        part = references.restrict(composition)
        order = sorted(composition)
        fractions = np.zeros((len(part), len(order)))
        for row, amounts in enumerate(part.block.compositions()):
            for number, amount in amounts.items():
                fractions[row, order.index(number)] = amount / sum(amounts.values())
        x = np.array([composition[number] for number in order]) / sum(composition.values())
        expected.append(linear_programme(fractions, part.energies, x)[0])
    found = hull.energies(block)
    np.testing.assert_allclose(found, expected, atol=1e-8, rtol=0)
    np.testing.assert_allclose(found, pymatgen_hull(references, block), atol=1e-8, rtol=0)
    _check_products(hull, block)


@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_products_make_up_the_composition_and_the_energy(d: int) -> None:
    _check_products(ReferenceHull(drawn_references(60, d, seed=d)), drawn_block(80, d, np.random.default_rng(d)))


def _check_products(hull: ReferenceHull, block: FormulaBlock) -> None:
    references = hull.references
    compositions = references.block.compositions()
    for target, pairs, energy in zip(block.compositions(), hull.products(block), hull.energies(block), strict=True):
        assert all(share > 0 for _, share in pairs) and [share for _, share in pairs] == sorted(
            (share for _, share in pairs), reverse=True
        )
        total: dict[int, float] = dict.fromkeys(target, 0.0)
        for row, share in pairs:
            for number, amount in compositions[row].items():
                total[number] += share * amount / sum(compositions[row].values())
        for number, amount in target.items():
            assert total[number] == pytest.approx(amount / sum(target.values()), abs=1e-5)
        assert sum(share * references.energies[row] for row, share in pairs) == pytest.approx(energy, abs=1e-5)


def test_decomposition_is_in_atom_fractions() -> None:
    hull = ReferenceHull(references_of({"Li": 0, "Fe": 0, "O": 0, "Fe2O3": -1.7, "Li4O2": -2.0}))
    block = FormulaBlock.of([{26: 4.0, 3: 2.0, 8: 7.0}, {26: 4.0, 8: 6.0}, {3: 3.0}, {3: 3.0, 26: 1.0}])
    assert hull.decomposition(block) == ["0.769 Fe2O3 + 0.231 Li2O", "Fe2O3", "Li", "0.75 Li + 0.25 Fe"]


@pytest.mark.parametrize("d", [2, 3, 4])
def test_hull_is_convex_and_below_every_reference(d: int) -> None:
    references = drawn_references(50, d, seed=7)
    hull = ReferenceHull(references)
    assert (hull.energies(references.block) <= references.energies + 1e-10).all()
    rng = np.random.default_rng(0)
    first, second = (rng.dirichlet(np.ones(d), 200) for _ in range(2))
    share = rng.random((200, 1))
    numbers = np.tile(np.array(ELEMENTS[:d], dtype=np.uint8), (200, 1))
    mixed, one, two = (
        hull.energies(FormulaBlock(numbers, x)) for x in (share * first + (1 - share) * second, first, second)
    )
    assert (mixed <= share[:, 0] * one + (1 - share[:, 0]) * two + 1e-10).all()


def test_hull_is_not_above_zero_with_elements_at_zero() -> None:
    references = references_of({"LiO": 0.4, "FeO": -1.0, "LiFe2O4": -1.2}).with_elements_at_zero()
    assert ReferenceHull(references).energies(drawn_block(100, 2, np.random.default_rng(0))).max() <= 0.0


def test_another_reference_never_raises_the_hull_and_lowers_it_at_its_own_composition() -> None:
    references = drawn_references(40, 4, seed=3)
    block = drawn_block(100, 4, np.random.default_rng(3), every=True)
    before = ReferenceHull(references).energies(block)
    extra = FormulaBlock.of([block.compositions()[0]])
    more = References(
        np.concatenate([references.numbers, extra.numbers]),
        np.concatenate([references.amounts, extra.amounts]),
        np.append(references.energies, before[0] - 0.2),
        [*references.ids, "new"],
        "more",
    )
    after = ReferenceHull(more).energies(block)
    assert (after <= before + 1e-10).all() and after[0] == pytest.approx(before[0] - 0.2)


def test_order_of_the_references_does_not_matter() -> None:
    references = drawn_references(60, 4, seed=5)
    block = drawn_block(100, 4, np.random.default_rng(5))
    shuffled = references.take(np.random.default_rng(1).permutation(len(references)))
    np.testing.assert_allclose(
        ReferenceHull(shuffled).energies(block), ReferenceHull(references).energies(block), atol=1e-12
    )


def test_shift_of_an_element_shifts_everything() -> None:
    references = drawn_references(60, 4, seed=5)
    shift = np.zeros(256)
    shift[list(ELEMENTS)] = [0.5, -1.0, 2.0, 0.1, 0.0]
    moved = References(
        references.numbers, references.amounts,
        references.energies + (references.fractions() * shift[references.numbers]).sum(axis=1), references.ids, "moved",
    )  # fmt: skip
    block = drawn_block(100, 4, np.random.default_rng(5))
    fractions = block.amounts / block.amounts.sum(axis=1, keepdims=True)
    expected = ReferenceHull(references).energies(block) + (fractions * shift[block.numbers]).sum(axis=1)
    np.testing.assert_allclose(ReferenceHull(moved).energies(block), expected, atol=1e-12)


def test_many_at_once_is_one_by_one_in_any_order_and_with_a_small_cache() -> None:
    references = drawn_references(60, 5, seed=9)
    hull = ReferenceHull(references)
    block = drawn_block(100, 5, np.random.default_rng(9))
    expected = hull.energies(block)
    single = [ReferenceHull(references).energies(block.take(np.array([row])))[0] for row in range(20)]
    np.testing.assert_allclose(single, expected[:20], atol=1e-12)
    order = np.random.default_rng(2).permutation(100)
    small = ReferenceHull(references, systems_kept=2)
    np.testing.assert_allclose(small.energies(block.take(order)), expected[order], atol=1e-12)
    assert len(small._systems) == 2
    np.testing.assert_allclose(pickle.loads(pickle.dumps(hull)).energies(block), expected, atol=1e-12)


def test_whole_number_columns_and_padding() -> None:
    hull = ReferenceHull(references_of({"Li": 0, "O": 0, "Li2O": -2.0}))
    block = FormulaBlock(np.array([[3, 8, 0, 0]], dtype=np.uint8), np.array([[200, 100, 0, 0]], dtype=np.uint8))
    assert hull.energies(block).tolist() == pytest.approx([-2.0])
    assert hull.e_above_hull(block, np.array([-2.25])).tolist() == pytest.approx([-0.25])
    assert np.isnan(hull.e_above_hull(block, np.array([np.nan]))).all()
    empty = block.take(np.array([], dtype=int))
    assert hull.energies(empty).shape == (0,) and hull.decomposition(empty) == []


def test_without_facets_linear_programmes_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    references = drawn_references(40, 4, seed=1)
    block = drawn_block(60, 4, np.random.default_rng(1))
    expected = ReferenceHull(references).energies(block)
    monkeypatch.setattr(facets, "_MOST_ELEMENTS", 1)
    hull = ReferenceHull(references)
    np.testing.assert_allclose(hull.energies(block), expected, atol=1e-7)
    assert all(system.facets is None for elements, system in hull._systems.items() if len(system.rows) > len(elements))
    _check_products(hull, block)

    def fails(*_: object, **__: object) -> None:
        raise facets.QhullError("broken")

    monkeypatch.undo()
    monkeypatch.setattr(facets, "ConvexHull", fails)
    np.testing.assert_allclose(ReferenceHull(references).energies(block), expected, atol=1e-7)


def test_alloys_of_many_elements() -> None:
    numbers = np.arange(21, 31)
    rows: list[dict[int, float]] = [{int(z): 1.0} for z in numbers]
    rows += [{int(a): 1.0, int(b): 1.0} for a, b in itertools.pairwise(numbers)]
    block = FormulaBlock.of(rows)
    energies = np.array([0.0] * 10 + [-0.1] * 9)
    hull = ReferenceHull(References(block.numbers, block.amounts, energies, [str(n) for n in range(19)], "alloys"))
    mixture = FormulaBlock.of([{int(z): 1.0 for z in numbers}])
    assert hull.energies(mixture)[0] == pytest.approx(-0.1, abs=1e-7)


def test_errors_name_what_is_missing() -> None:
    hull = ReferenceHull(references_of({"Li": 0, "Li2O": -2.0, "O": 0}))
    with pytest.raises(ReferenceEnergyError, match="no entry of the element Fe in the references"):
        hull.energies(FormulaBlock.of([{3: 1.0, 8: 1.0}, {26: 1.0, 8: 1.0}]))
    with pytest.raises(CompositionError, match="formula 1 of the block has no element"):
        hull.energies(FormulaBlock(np.array([[3], [0]], dtype=np.uint8), np.array([[1.0], [0.0]])))
    with pytest.raises(ReferenceEnergyError, match="Fe"):
        hull.vertices([3, 26])
    assert system_name([8, 3, 26]) == "Fe-Li-O"


def test_elements_in_another_order_are_refused() -> None:
    hull = ReferenceHull(references_of({"Li": 0.0, "O2": 0.0, "Fe": 0.0, "Li2O": -2.0}))
    good = FormulaBlock.of([{3: 2.0, 8: 1.0}, {3: 1.0, 8: 1.0, 26: 1.0}])
    assert hull.energies(good)[0] == pytest.approx(-2.0)
    for numbers in ([[8, 3, 0]], [[3, 0, 8]], [[3, 3, 8]]):
        wrong = FormulaBlock(np.array([[3, 8, 26], *numbers], dtype=np.uint8), np.ones((2, 3)))
        for ask in (hull.energies, hull.products, hull.decomposition):
            with pytest.raises(
                CompositionError, match="formula 1 of the block does not have its elements in ascending"
            ):
                ask(wrong)

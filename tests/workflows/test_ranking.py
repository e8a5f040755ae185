"""The best of many, orderings of a disordered cell, and generators that are not held."""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.transformations.standard_transformations import OrderDisorderedStructureTransformation

from ase_matprop import MatPropError, load_model
from ase_matprop.errors import StructureError, UnknownNameError
from ase_matprop.workflows import iter_prediction_batches, iter_predictions, orderings, rank, rank_orderings
from tests.conftest import untrained_model

MOLECULE = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def test_best_are_those_of_all_predictions(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    expected = load_model(alloy_model).predict(ni_al_cells).values
    order = np.argsort(expected)
    best = rank(ni_al_cells, alloy_model, keep=5)
    assert best.indices.tolist() == order[:5].tolist()
    np.testing.assert_allclose(best.values, expected[order[:5]], atol=1e-6)
    assert all(found is ni_al_cells[n] for found, n in zip(best.structures, best.indices, strict=True))
    assert best.best is ni_al_cells[order[0]] and (best.n_seen, best.n_failed, len(best)) == (12, 0, 5)
    assert rank(ni_al_cells, alloy_model, keep=None, highest_first=True).indices.tolist() == order[::-1].tolist()
    frame = best.to_frame()
    assert list(frame.columns) == [
        "rank", "index", "name", "formula", "formation_energy_per_atom", "unit", "spread", "distance", "model"
    ]  # fmt: skip
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5] and frame["unit"].unique().tolist() == ["eV/atom"]


@pytest.mark.parametrize(("batch_size", "n_jobs"), [(1, 1), (5, 1), (12, 2)])
def test_ranking_depends_on_neither_batches_nor_processes(
    alloy_model: Path, ni_al_cells: list[Atoms], batch_size: int, n_jobs: int
) -> None:
    expected = rank(ni_al_cells, alloy_model, keep=7)
    found = rank(iter(ni_al_cells), alloy_model, keep=7, batch_size=batch_size, n_jobs=n_jobs)
    assert found.indices.tolist() == expected.indices.tolist()
    np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


def test_ranking_does_not_depend_on_the_order(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    expected = rank(ni_al_cells, alloy_model, keep=7)
    shuffled = [ni_al_cells[n] for n in np.random.default_rng(0).permutation(12)]
    found = rank(shuffled, alloy_model, keep=7, batch_size=5)
    assert [id(atoms) for atoms in found.structures] == [id(atoms) for atoms in expected.structures]


def test_equal_structures_keep_their_order(alloy_model: Path) -> None:
    """Values of one structure differ in the last digits from batch to batch; the first one is the best all the same."""
    cells = [bulk("NiAl", "cesiumchloride", 2.9) for _ in range(9)]
    for batch_size in (1, 2, 4, 9):
        assert rank(cells, alloy_model, keep=4, batch_size=batch_size).indices.tolist() == [0, 1, 2, 3]


def test_bad_structures_cost_their_own_rows(alloy_model: Path, ni_al_cells: list[Atoms], disordered: Structure) -> None:
    bad = [None, MOLECULE, disordered, "Ni3Al", Composition("NiAl"), bulk("U", "fcc", a=4.5), 7]
    mixed = [ni_al_cells[0], *bad, ni_al_cells[1]]
    found = rank(mixed, alloy_model, batch_size=4)
    assert sorted(found.indices) == [0, 8] and (found.n_seen, found.n_failed) == (9, 7)
    reasons = {index: reason for index, _, reason in found.failures}
    expected = (
        "is a NoneType", "has no cell", "disordered site", "is a formula, and the model alloy needs the structure",
        "is a Composition, not a structure", "never saw U", "is a int",
    )  # fmt: skip
    for index, words in enumerate(expected, start=1):
        assert words in reasons[index]
    with pytest.raises(MatPropError, match=r"none of the 2 structures has a predicted.*structure 0: is a NoneType"):
        _ = rank([None, None], alloy_model).best


def test_per_composition() -> None:
    cells = [bulk("Ni", a=3.4), bulk("Ni", a=3.5), bulk("NiAl", "cesiumchloride", 2.9), bulk("Ni", a=3.5) * (2, 1, 1)]
    cells += [bulk("NiAl", "cesiumchloride", 2.8) * (1, 1, 2), bulk("Al", a=4.05)]
    found = rank(cells, "schnet-mp", keep=1, per_composition=True)
    values = load_model("schnet-mp").predict(cells).values
    groups = ((0, 1, 3), (2, 4), (5,))  # Ni and Ni2, AlNi and Al2Ni2, Al
    assert set(found.indices) == {min(group, key=lambda n: round(values[n], 5)) for group in groups}
    assert np.all(np.diff(found.values) >= 0) and found.indices[0] in groups[1]


def test_best_of_structures_that_are_offered_from_the_worst_on(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    """Each one displaces another; equal ones displace none."""
    values = load_model(alloy_model).predict(ni_al_cells).values
    falling = [ni_al_cells[n] for n in np.argsort(values)[::-1]]
    assert rank(falling, alloy_model, keep=4).indices.tolist() == [11, 10, 9, 8]
    doubled = [atoms for atoms in falling for _ in range(2)]
    for batch_size in (1, 5, 24):
        found = rank(doubled, alloy_model, keep=5, batch_size=batch_size)
        assert found.indices.tolist() == [22, 23, 20, 21, 18]


def test_formulas_are_ranked_by_models_of_compositions() -> None:
    found = rank(["NaCl", "Fe2O3", "not a formula", "NaFe"], "elemnet-mp", keep=2)
    assert found.n_failed == 1 and found.values[0] <= found.values[1]
    expected = load_model("elemnet-mp").predict(["NaCl", "Fe2O3", "NaFe"])
    assert found.formulas[0] == expected.formulas[int(np.argmin(expected.values))]


def test_generator_is_taken_batch_by_batch(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    taken = 0

    def generate() -> Iterator[Atoms]:
        nonlocal taken
        for atoms in itertools.cycle(ni_al_cells):  # has no end
            taken += 1
            yield atoms.copy()

    batches = iter_prediction_batches(generate(), alloy_model, batch_size=4)
    assert taken == 0
    for number in (1, 2, 3):
        batch = next(batches)
        assert taken == 4 * number and batch.start == 4 * (number - 1) and len(batch) == 4
    assert [row.index for row in itertools.islice(iter_predictions(generate(), alloy_model, batch_size=3), 4)] == [
        0, 1, 2, 3
    ]  # fmt: skip


def test_no_more_than_a_batch_and_the_best_are_held(alloy_model: Path) -> None:
    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0

    class Counted(Atoms):
        def __hash__(self) -> int:
            return id(self)

        __eq__ = object.__eq__

    def generate() -> Iterator[Atoms]:
        nonlocal most
        for step in range(60):
            atoms = Counted(bulk("NiAl", "cesiumchloride", 2.9))
            atoms.rattle(0.2, seed=step)
            alive.add(atoms)
            if step % 20 == 19:
                gc.collect()
                most = max(most, len(alive))
            yield atoms

    best = rank(generate(), alloy_model, keep=3, batch_size=5)
    assert best.n_seen == 60 and len(best) == 3
    assert 0 < most <= 3 + 2 * 5  # the best, the batch that was, and the one in the making


def test_structures_come_with_their_predictions(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    copies = [atoms.copy() for atoms in ni_al_cells]
    expected = load_model(alloy_model).predict(ni_al_cells)
    rows = list(iter_predictions(ni_al_cells, alloy_model, batch_size=5))
    assert [row.structure for row in rows] == ni_al_cells == copies
    assert all(row.structure is atoms for row, atoms in zip(rows, ni_al_cells, strict=True))
    np.testing.assert_allclose([row.value for row in rows], expected.values, atol=1e-5)
    assert [(row.name, row.formula, row.n_atoms, row.unit) for row in rows] == list(
        zip(expected.names, expected.formulas, expected.n_atoms, itertools.repeat("eV/atom"), strict=False)
    )


def test_single_structures_and_iterables_of_structures(disordered: Structure, alloy_model: Path) -> None:
    """A pymatgen structure is iterable, and yet one."""
    ordered = next(orderings(disordered))
    assert rank(ordered, alloy_model).n_seen == 1 and rank([ordered, ordered], alloy_model).n_seen == 2
    with pytest.raises(MatPropError, match=r"a DataFrame is not a list.*df\['structure'\]"):
        rank(pd.DataFrame({"structure": [ordered]}), alloy_model)
    with pytest.raises(MatPropError, match="is a int"):
        rank(5, alloy_model)
    assert rank(pd.Series([ordered, None]), alloy_model).n_failed == 1


def test_one_object_that_is_changed_meanwhile_is_found_out(alloy_model: Path) -> None:
    def monte_carlo() -> Iterator[Atoms]:
        atoms = bulk("NiAl", "cesiumchloride", 2.9)
        for _ in range(4):
            atoms.rattle(0.1, rng=np.random.default_rng(1))
            yield atoms

    with pytest.raises(MatPropError, match=r"structure 1 \(AlNi\) is the object that came before.*give copies"):
        rank(monte_carlo(), alloy_model)


def test_progress(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    seen: list[int] = []
    rank(ni_al_cells, alloy_model, batch_size=5, progress=seen.append)
    assert seen == [5, 10, 12]


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"keep": 0}, MatPropError, "keep must be a positive integer, or None"),
        ({"batch_size": 0}, MatPropError, "batch_size must be a positive integer"),
        ({"property": "band_gap"}, UnknownNameError, "unknown predicted property 'band_gap'"),
        ({"n_jobs": 0}, MatPropError, "number of processes must be positive"),
    ],
)
def test_bad_settings(settings: dict, kind: type[Exception], message: str, alloy_model: Path) -> None:
    with pytest.raises(kind, match=message):
        rank([bulk("Ni")], alloy_model, **settings)


def test_any_number_can_be_ranked_by(tmp_path: Path, ni_al_cells: list[Atoms]) -> None:
    folder = untrained_model(
        tmp_path / "two", descriptor="ward2017", elements=("Ni", "Al"),
        properties=("formation_energy_per_atom", "band_gap"),
    )  # fmt: skip
    gaps = load_model(folder).predict(ni_al_cells)["band_gap"]
    found = rank(ni_al_cells, folder, property="band_gap", highest_first=True)
    np.testing.assert_allclose(found.values, np.sort(gaps.values)[::-1], atol=1e-5)
    assert found.unit == "eV" and found.property == "band_gap"
    assert [row.unit for row in iter_predictions(ni_al_cells[:1], folder, property="band_gap")] == ["eV"]
    with pytest.raises(UnknownNameError, match="unknown predicted property 'gap'"):
        iter_predictions(ni_al_cells, folder, property="gap")


def n_orbits(parent: Structure, counts: dict[str, int]) -> int:
    """Number of orderings that no symmetry operation maps onto each other, by Burnside's lemma.

    The average over the operations of how many orderings each leaves as they are: an ordering stays if every cycle of
    the permutation of sites has one element only.  Independent of how the package finds the orderings.
    """
    sites = parent.frac_coords
    permutations = set()
    for operation in SpacegroupAnalyzer(parent).get_symmetry_operations():
        difference = operation.operate_multi(sites)[:, None] - sites[None]
        permutations.add(tuple(np.abs(difference - np.rint(difference)).sum(axis=-1).argmin(axis=1).tolist()))
    total = 0
    for permutation in permutations:
        lengths, left = [], set(range(len(permutation)))
        while left:
            start = site = left.pop()
            lengths.append(1)
            while (site := permutation[site]) != start:
                left.discard(site)
                lengths[-1] += 1
        of = list(counts.values())
        total += sum(
            all(sum(n for n, kind in zip(lengths, kinds, strict=True) if kind == k) == of[k] for k in range(len(of)))
            for kinds in itertools.product(range(len(of)), repeat=len(lengths))
        )
    assert total % len(permutations) == 0
    return total // len(permutations)


@pytest.mark.parametrize(
    ("occupancies", "supercell", "counts"),
    [
        ({"Ni": 0.5, "Al": 0.5}, (1, 1, 1), {"Ni": 2, "Al": 2}),
        ({"Ni": 0.75, "Al": 0.25}, (2, 1, 1), {"Ni": 6, "Al": 2}),
        ({"Ni": 0.5, "Al": 0.25, "Cu": 0.25}, (2, 1, 1), {"Ni": 4, "Al": 2, "Cu": 2}),
    ],
)
def test_number_of_orderings(occupancies: dict, supercell: tuple, counts: dict, disordered: Structure) -> None:
    parent = Structure(disordered.lattice, [occupancies] * 4, disordered.frac_coords) * supercell
    every = list(orderings(parent, symmetry=False))
    n_sites = sum(counts.values())
    assert len(every) == math.factorial(n_sites) // math.prod(math.factorial(n) for n in counts.values())
    assert len({tuple(map(str, one.species)) for one in every}) == len(every)
    assert all(one.composition.as_dict() == counts for one in every)
    assert len(list(orderings(parent))) == n_orbits(parent, counts)


def test_orderings_with_vacancies_and_ordered_sites() -> None:
    """Half the lithium of rock salt: two of four sites of a cube, which are all alike; and a site property."""
    parent = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.2), [{"Li": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]], site_properties={"tag": [1, 2]}
    )
    before = parent.as_dict()
    found = list(orderings(parent))
    assert len(found) == 1 and parent.as_dict() == before
    (only,) = found
    assert only.composition.formula == "Li2 O4" and sorted(only.site_properties["tag"]) == [1, 1, 2, 2, 2, 2]
    assert len(list(orderings(parent, symmetry=False))) == 6


def test_orderings_that_cannot_be(disordered: Structure) -> None:
    with pytest.raises(StructureError, match="Ni4 has no disordered site"):
        orderings(Structure(disordered.lattice, ["Ni"] * 4, disordered.frac_coords))
    thirds = Structure(disordered.lattice, [{"Ni": 0.3, "Al": 0.7}] * 4, disordered.frac_coords)
    with pytest.raises(StructureError, match=r"has 1.2 Ni on 4 equivalent sites; make a supercell"):
        orderings(thirds)
    with pytest.raises(MatPropError, match="has 601,080,390 orderings in this cell, more than 1,000,000"):
        orderings(disordered * (2, 2, 2))


def test_orderings_of_a_disordered_structure_are_ranked(disordered: Structure, alloy_model: Path) -> None:
    parent = disordered * (2, 1, 1)
    rows = rank_orderings(parent, alloy_model, batch_size=3)
    values = load_model(alloy_model).predict([row["structure"] for row in rows]).values
    assert len(rows) == 8 and np.all(np.diff(values) > -1e-5)
    np.testing.assert_allclose([row["energy"] for row in rows], values * 8, atol=1e-4)
    np.testing.assert_allclose([row["energy_above_minimum"] for row in rows], values - values.min(), atol=1e-5)
    # the energies are those of all 70 orderings, and no more
    every = load_model(alloy_model).predict(list(orderings(parent, symmetry=False))).values
    assert set(np.round(every, 4)) == set(np.round(values, 4))


def test_ranked_list_of_pymatgen(disordered: Structure, alloy_model: Path) -> None:
    parent = (disordered * (2, 1, 1)).add_oxidation_state_by_element({"Ni": 2, "Al": 3})
    given = OrderDisorderedStructureTransformation().apply_transformation(parent, return_ranked_list=20)
    ewald = [row["energy"] for row in given]
    rows = rank_orderings(given, alloy_model)
    assert [row["energy"] for row in given] == ewald  # the list itself stays as it is
    assert len(rows) == len(given) and set(np.round([row["previous_energy"] for row in rows], 6)) == set(
        np.round(ewald, 6)
    )
    assert [row["energy"] for row in rows] == sorted(row["energy"] for row in rows)
    by_structure = {id(row["structure"]): row["energy"] for row in given}
    assert all(by_structure[id(row["structure"])] == row["previous_energy"] for row in rows)


def test_ordering_without_a_value_is_not_left_out(disordered: Structure, alloy_model: Path) -> None:
    good = [{"structure": next(orderings(disordered)), "energy": 0.0}]
    with pytest.raises(StructureError, match="1 of 2 orderings have no value; number 1, structure 1: .*disordered"):
        rank_orderings([*good, {"structure": disordered, "energy": 0.0}], alloy_model)
    with pytest.raises(MatPropError, match="sees nothing but the composition"):
        rank_orderings(good, "elemnet-mp")

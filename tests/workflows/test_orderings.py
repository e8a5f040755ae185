"""Orderings of a disordered cell, and ranked lists of pymatgen."""

from __future__ import annotations

import itertools
import math
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.transformations.standard_transformations import OrderDisorderedStructureTransformation

from ase_matprop import MatPropError, load_model
from ase_matprop.errors import StructureError
from ase_matprop.workflows import orderings, rank_orderings


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


def test_first_ordering_comes_before_the_others_are_made() -> None:
    """155,117,520 ways to fill thirty sites: none is made before its turn."""
    cell = Structure(Lattice.cubic(9), [{"Ni": 0.5, "Al": 0.5}] * 30, [[n / 30, 0, 0] for n in range(30)])
    cell.append({"Cu": 0.5, "Au": 0.5}, [0, 0.5, 0])
    cell.append({"Cu": 0.5, "Au": 0.5}, [0.5, 0.5, 0])
    tracemalloc.start()
    first, second = itertools.islice(orderings(cell, symmetry=False, most=10**9), 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.composition == second.composition and first != second
    assert peak < 20e6


def test_extras_of_rows_that_are_not_kept_go(disordered: Structure, alloy_model: Path) -> None:
    class Extra:
        pass

    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0

    def generate() -> Iterator[dict]:
        nonlocal most
        every = list(orderings(disordered * (2, 1, 1), symmetry=False))
        for number, structure in enumerate(every):
            extra = Extra()
            alive.add(extra)
            most = max(most, len(alive))
            yield {"structure": structure, "extra": extra, "number": number}

    rows = rank_orderings(generate(), alloy_model, keep=3, batch_size=5)
    assert len(rows) == 3 and all(isinstance(row["extra"], Extra) for row in rows)
    assert most <= 3 + 2 * 5 + 2
    every = list(orderings(disordered * (2, 1, 1), symmetry=False))
    assert all(every[row["number"]] == row["structure"] for row in rows)


def test_ordering_without_a_value_is_not_left_out(disordered: Structure, alloy_model: Path) -> None:
    good = [{"structure": next(orderings(disordered)), "energy": 0.0}]
    with pytest.raises(StructureError, match="1 of 2 orderings have no value; number 1, structure 1: .*disordered"):
        rank_orderings([*good, {"structure": disordered, "energy": 0.0}], alloy_model)
    with pytest.raises(MatPropError, match="sees nothing but the composition"):
        rank_orderings(good, "elemnet-mp")

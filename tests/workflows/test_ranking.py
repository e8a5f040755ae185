"""The best of many, and generators that are not held."""

from __future__ import annotations

import gc
import itertools
import logging
import re
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from ase.db import connect
from pymatgen.core import Composition, Structure

from ase_matprop import MatPropError, load_model
from ase_matprop.errors import UnknownNameError
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
        "None", "has no cell", "disordered site", "is a formula, and the model alloy needs the structure",
        "is a Composition, not a structure", "never saw U", "is a int",
    )  # fmt: skip
    for index, words in enumerate(expected, start=1):
        assert words in reasons[index]
    with pytest.raises(MatPropError, match=r"none of the 2 structures has a predicted.*structure 0: .*None"):
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

    with pytest.raises(MatPropError, match=r"structure 0 \(AlNi\) was changed after.*give copies"):
        rank(monte_carlo(), alloy_model)


def taking_turns(n_objects: int, *, change_after: bool = False) -> Iterator[Atoms]:
    """The same few objects again and again, each time another structure."""
    objects = [bulk("NiAl", "cesiumchloride", 2.9) for _ in range(n_objects)]
    for step in range(8):
        atoms = objects[step % n_objects]
        if not change_after:
            atoms.rattle(0.2, seed=step)
        yield atoms
        if change_after:
            atoms.rattle(0.2, seed=step)


@pytest.mark.parametrize("change_after", [False, True])
def test_objects_that_take_turns_are_found_out(alloy_model: Path, change_after: bool) -> None:
    for batch_size in (3, 8):
        with pytest.raises(MatPropError, match=r"structure 0 \(AlNi\) was changed after.*give copies"):
            list(iter_predictions(taking_turns(2, change_after=change_after), alloy_model, batch_size=batch_size))
    # no false alarm where an object is changed after its batch was used only
    expected = load_model(alloy_model).predict([atoms.copy() for atoms in taking_turns(2)]).values
    for batch_size in (1, 2):
        rows = iter_predictions(taking_turns(2), alloy_model, batch_size=batch_size)
        found = [(row.value, load_model(alloy_model).predict(row.structure).values[0]) for row in rows]
        np.testing.assert_allclose(found, np.array([expected, expected]).T, atol=1e-5)
    assert len(list(iter_predictions(taking_turns(1), alloy_model, batch_size=1))) == 8


@pytest.mark.parametrize(("n_objects", "batch_size"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_best_that_was_changed_later_is_found_out(alloy_model: Path, n_objects: int, batch_size: int) -> None:
    taken = 0

    def counted() -> Iterator[Atoms]:
        nonlocal taken
        for atoms in taking_turns(n_objects):
            taken += 1
            yield atoms

    with pytest.raises(MatPropError, match=r"\(AlNi\) was changed after.*give copies"):
        rank(counted(), alloy_model, keep=8, batch_size=batch_size)
    assert taken < 8 or n_objects == 3  # not only at the end
    assert rank((atoms.copy() for atoms in taking_turns(n_objects)), alloy_model, batch_size=batch_size).n_seen == 8


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


def test_disagreement_is_carried(
    disordered: Structure, alloy_model: Path, ni_al_cells: list[Atoms], tmp_path: Path
) -> None:
    other = untrained_model(tmp_path / "other", descriptor="ward2017", elements=("Ni", "Al"), n_members=1)
    compared = load_model(alloy_model, compare_with=other)
    expected = compared.predict(ni_al_cells).disagreement
    assert np.all(expected > 0)
    for model, settings in ((compared, {}), (alloy_model, {"compare_with": [other]})):
        rows = list(iter_predictions(ni_al_cells, model, **settings))
        np.testing.assert_allclose([row.disagreement for row in rows], expected, atol=1e-5)
        (batch,) = iter_prediction_batches(ni_al_cells, model, **settings)
        np.testing.assert_allclose(batch.predictions.disagreement, expected, atol=1e-5)
        found = rank(ni_al_cells, model, keep=4, **settings)
        np.testing.assert_allclose(found.disagreement, expected[found.indices], atol=1e-5)
        assert found.compared_with == ("other",)
        assert found.to_frame()["disagreement"].tolist() == found.disagreement.tolist()
        assert all(row["disagreement"] >= 0 for row in rank_orderings(disordered, model, **settings))
    # the same model without a comparison is another one
    plain = rank(ni_al_cells, alloy_model)
    assert np.isnan(plain.disagreement).all() and plain.compared_with == () and "disagreement" not in plain.to_frame()
    with pytest.raises(MatPropError, match="loaded already; give compare_with to load_model"):
        rank(ni_al_cells, compared, compare_with=[other])


def test_path_of_several_structures_is_no_empty_ranking(
    alloy_model: Path, ni_al_cells: list[Atoms], tmp_path: Path
) -> None:
    for name in ("a.db", "a.json"):
        for atoms in ni_al_cells[:2]:
            connect(tmp_path / name).write(atoms)
    (tmp_path / "empty.db").touch()
    for name in ("", "a.db", "a.json", "empty.db"):
        path = tmp_path / name
        for given in (path, str(path)):
            with pytest.raises(MatPropError, match=f"{path.name}: .*; rank takes one file with one structure, or an"):
                rank(given, alloy_model)
    with pytest.raises(MatPropError, match=r"postgresql://.*rank takes"):
        rank("postgresql://host/db", alloy_model)
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_ranking_without_any_value_warns(
    alloy_model: Path, disordered: Structure, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(rank([], alloy_model)) == 0 and not caplog.records
        assert len(rank([MOLECULE, bulk("Ni", a=3.5)], alloy_model)) == 1 and not caplog.records
    for given, words in (
        ([MOLECULE, bulk("U", "fcc", a=4.5)], "none of the 2 structures has a predicted.*structure 0: has no cell"),
        (MOLECULE, "^structure 0: has no cell"),
        (tmp_path / "missing.cif", r"missing\.cif: does not exist"),
        (disordered, "disordered site.*; .*rank_orderings ranks its ordered"),
        ([disordered], "disordered site.*; .*rank_orderings ranks its ordered"),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = rank(given, alloy_model)
        assert len(found) == 0 and found.n_failed == found.n_seen
        assert len(caplog.records) == 1 and re.search(words, caplog.records[0].getMessage())


def test_none_is_named(alloy_model: Path) -> None:
    for function in (rank, rank_orderings, lambda *given: list(iter_predictions(*given))):
        with pytest.raises(MatPropError, match="structures must be .*; None was given"):
            function(None, alloy_model)

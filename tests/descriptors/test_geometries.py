"""Structures that differ in nothing but which element is where: one tessellation, and the same features as alone."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ase_matprop.descriptors import geometries, voronoi, ward2017
from ase_matprop.descriptors.geometries import Geometry
from ase_matprop.descriptors.voronoi import tessellate


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> geometries.RecentGeometries:
    recent = geometries.RecentGeometries()
    monkeypatch.setattr(voronoi, "_recent", recent)
    return recent


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of atoms of the structures for which freud was called."""
    calls: list[int] = []
    original = voronoi._FreudCells.__init__

    def counted(self, atoms, stderr):
        calls.append(len(atoms))
        original(self, atoms, stderr)

    monkeypatch.setattr(voronoi._FreudCells, "__init__", counted)
    return calls


def parent() -> Atoms:
    atoms = bulk("Ni", cubic=True) * (2, 1, 1)
    atoms.positions += np.random.default_rng(0).normal(0.0, 0.05, atoms.positions.shape)  # no two sites are alike
    return atoms


def orderings(n: int = 12, shuffled: bool = True) -> list[Atoms]:
    generator = np.random.default_rng(1)
    found = []
    for _ in range(n):
        atoms = parent()
        atoms.numbers[:] = generator.choice([13, 28, 25], size=len(atoms))
        if shuffled:
            atoms = atoms[generator.permutation(len(atoms))]
        found.append(atoms)
    return found


def test_one_tessellation_for_all_orderings(computed: list[int]) -> None:
    structures = [*orderings(), bulk("Cu"), *orderings(5)]
    _, errors = ward2017.compute(structures)
    assert errors == [None] * 18 and sorted(computed) == [1, 8]
    ward2017.compute(orderings(3))
    assert len(computed) == 2  # remembered from call to call


def test_features_are_those_of_each_structure_alone(forgotten: geometries.RecentGeometries) -> None:
    structures = [*orderings(), bulk("Cu"), *orderings(5)]
    together, _ = ward2017.compute(structures)
    for row, atoms in enumerate(structures):
        forgotten.clear()
        alone, _ = ward2017.compute([atoms])
        # freud's coordinates are in single precision, so that the order of the atoms shows in the sixth digit
        np.testing.assert_allclose(together[row], alone[0], rtol=1e-4, atol=1e-5)
    assert len(np.unique(together[:, :126].round(4), axis=0)) > 10  # the orderings do differ


def test_sites_are_those_of_the_atoms() -> None:
    """What a site's faces lead to are the neighbours of its own atom."""
    structures = orderings(6)
    tessellation, _ = tessellate(structures)
    assert tessellation is not None
    positions = np.concatenate([atoms.positions for atoms in structures])[tessellation.order]
    lattice = parent().cell.array
    separation = positions[tessellation.neighbor] - positions[tessellation.site]
    images = np.array([[i, j, k] for i in range(-3, 4) for j in range(-3, 4) for k in range(-3, 4)]) @ lattice
    lengths = np.linalg.norm(separation[:, None, :] + images, axis=2)
    assert np.abs(lengths - tessellation.distance[:, None]).min(axis=1).max() < 1e-5
    # all that is looked up is found in a joined tessellation, too
    index, found = tessellation.find_faces(tessellation.site, tessellation.neighbor, tessellation.image)
    assert found.all() and (index == np.arange(len(index))).all()
    np.testing.assert_array_equal(tessellation.site[tessellation.reverse], tessellation.neighbor)
    np.testing.assert_array_equal(tessellation.reverse[tessellation.reverse], np.arange(len(index)))


@pytest.mark.parametrize("change", ["position", "cell"])
def test_a_small_change_is_another_geometry(change: str, computed: list[int]) -> None:
    first, second = parent(), parent()
    if change == "position":
        second.positions[3, 1] += 1e-6
    else:
        second.set_cell(second.cell * (1.0 + 1e-7), scale_atoms=True)
    tessellate([first, second])
    assert len(computed) == 2


def test_lattice_translations_and_round_off_are_the_same_geometry(computed: list[int]) -> None:
    first, second = parent(), parent()
    first.positions[0] = 0.0
    second.positions[0] = -1e-16
    second.positions[1] += second.cell[0] - 2 * second.cell[2]
    tessellate([first, second])
    assert len(computed) == 1
    assert Geometry.of(first).key == Geometry.of(second).key


def test_a_geometry_that_fails_costs_its_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    original = voronoi._FreudCells.__init__

    def fails_for_single_atoms(self, atoms, stderr):
        if len(atoms) == 1:
            raise RuntimeError("no cells")
        original(self, atoms, stderr)

    monkeypatch.setattr(voronoi._FreudCells, "__init__", fails_for_single_atoms)
    tessellation, errors = tessellate([bulk("Cu"), parent(), bulk("Cu")])
    assert errors == ["the Voronoi tessellation failed: no cells", None, "the Voronoi tessellation failed: no cells"]
    assert tessellation is not None and tessellation.n_sites.tolist() == [8]
    assert tessellate([bulk("Cu")]) == (None, errors[:1])


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, forgotten: geometries.RecentGeometries) -> None:
    monkeypatch.setattr(geometries, "FACES_KEPT", 300)
    structures = []
    for seed in range(20):
        atoms = parent()
        atoms.positions += np.random.default_rng(seed).normal(0.0, 0.01, atoms.positions.shape)
        structures.append(atoms)
    ward2017.compute(structures)
    kept = [entry.tessellation for entry in forgotten._entries.values()]
    assert 1 <= len(kept) < 5 and forgotten._n_faces == sum(len(part.site) for part in kept) <= 300


def test_threads_share_what_is_remembered() -> None:
    expected, _ = ward2017.compute(orderings())
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(ward2017.compute(orderings())[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for features in results:
        np.testing.assert_array_equal(features, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_waits_for_the_end_of_a_tessellation(capfd: pytest.CaptureFixture[str]) -> None:
    """A child would inherit a lock that nobody opens, and a standard error that leads nowhere."""
    held, release = threading.Event(), threading.Event()

    def tessellate_for_long() -> None:
        with voronoi._NativeStderr() as stderr, stderr.captured():
            held.set()
            release.wait(10)

    thread = threading.Thread(target=tessellate_for_long)
    thread.start()
    held.wait(10)
    threading.Timer(0.3, release.set).start()
    child = os.fork()
    if child == 0:
        os.write(2, b"from the child")
        tessellation, _ = tessellate([bulk("Cu")])
        os._exit(0 if tessellation is not None else 1)
    thread.join()
    deadline = time.monotonic() + 20.0
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.05)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended and status == 0
    assert "from the child" in capfd.readouterr().err

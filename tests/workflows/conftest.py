"""Disordered parents, orderings of them, and a count of how often weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from ase_matprop.models import artefact, sharing
from tests.conftest import rattled, untrained_model

FCC = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


@pytest.fixture
def disordered() -> Structure:
    """Ni-Al at random on the four sites of the fcc cube."""
    return Structure(Lattice.cubic(3.6), [{"Ni": 0.5, "Al": 0.5}] * 4, FCC)


@pytest.fixture(scope="session")
def alloy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network on structures of Ni and Al."""
    folder = tmp_path_factory.mktemp("models") / "alloy"
    return untrained_model(folder, descriptor="ward2017", elements=("Al", "Ni"), n_members=2)


@pytest.fixture
def ni_al_cells() -> list[Atoms]:
    """NiAl in the B2 structure with atoms moved at random: twelve different energies."""
    return [rattled(bulk("NiAl", "cesiumchloride", 2.9), seed, amplitude=0.3) for seed in range(12)]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders whose weights were read, one entry for each time; nothing is loaded at the start."""
    folders: list[Path] = []
    read = artefact.read_weights

    def counting(folder: Path, card: object) -> object:
        folders.append(folder)
        return read(folder, card)

    monkeypatch.setattr(artefact, "read_weights", counting)
    sharing._loaded.clear()
    return folders

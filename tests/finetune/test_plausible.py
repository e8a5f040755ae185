"""Energies and forces that no calculation can mean cost their own row, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from ase_matprop.errors import FinetuneError
from ase_matprop.finetune import finetune
from ase_matprop.finetune.data import read_data
from ase_matprop.finetune.plausible import implausible

KEY = "formation_energy_per_atom"


def test_formation_energies(labelled: list[Atoms], tmp_path: Path, metal_schnet: Path) -> None:
    data = [atoms.copy() for atoms in labelled]
    for row, value in ((3, -1e6), (4, np.inf), (5, np.nan), (6, 49.0), (7, 50.1)):
        data[row].info[KEY] = value
    found = read_data(data)
    assert set(found.rejected) == {f"structure {row}" for row in (3, 4, 5, 7)}
    assert "an energy of -1e+06 eV/atom above the elements is beyond" in found.rejected["structure 3"]
    assert len(found) == len(found.items) == len(found.targets) == len(data) - 4
    for atoms in data:  # kJ/mol, for example
        atoms.info[KEY] = -300.0
    write(tmp_path / "lab.extxyz", data)
    with pytest.raises(FinetuneError, match=r"0 rows can be used.*30 rows such as lab.extxyz#0: an energy of -300"):
        finetune(metal_schnet, tmp_path / "lab.extxyz", output=tmp_path / "out")


@pytest.mark.parametrize("references", ["none", "fitted"])
@pytest.mark.parametrize("level", [0.0, -5000.0])  # of pseudopotentials, and of all electrons of some elements
def test_total_energies(calculated: list[Atoms], references: str, level: float) -> None:
    data = [atoms.copy() for atoms in calculated]
    wrong = {2: 1e9, 9: -1e9, 11: 4.0 * (level + 60.0), 12: 4.0 * (level - 2e3)}
    for row, (atoms, original) in enumerate(zip(data, calculated, strict=True)):
        energy = wrong.get(row, original.get_potential_energy() + 4.0 * level)
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    found = read_data(data, references=references)
    assert set(found.rejected) == {f"structure {row}" for row in wrong}
    assert "more than all electrons" in found.rejected["structure 2"]
    assert "eV/atom away from what other rows say" in found.rejected["structure 12"]


def test_levels_of_elements_are_no_outliers() -> None:
    """Elements whose energies are thousands of eV apart, and one wrong row among them."""
    rng = np.random.default_rng(0)
    levels = {26: -34_000.0, 27: -38_000.0, 8: -2_040.0, 79: -520_000.0}
    items = [{int(z): int(rng.integers(1, 4)) for z in rng.choice(list(levels), 2, replace=False)} for _ in range(40)]
    values = np.array([sum(levels[z] * n for z, n in item.items()) / sum(item.values()) for item in items])
    values += rng.normal(0.0, 1.0, 40)
    assert implausible(values, items, total=True) == {}
    values[7] += 100.0
    assert list(implausible(values, items, total=True)) == [7]


def test_forces(calculated: list[Atoms]) -> None:
    data = [atoms.copy() for atoms in calculated]
    for row, (atoms, original) in enumerate(zip(data, calculated, strict=True)):
        forces = original.get_forces().copy()
        forces[0, 1] = {1: np.nan, 2: 1e5}.get(row, forces[0, 1])
        atoms.calc = SinglePointCalculator(atoms, energy=original.get_potential_energy(), forces=forces)
    found = read_data(data, references="none", forces=True)
    assert set(found.rejected) == {"structure 1", "structure 2"} and len(found.forces) == len(found) == 28
    assert "no numbers" in found.rejected["structure 1"] and "1000" in found.rejected["structure 2"]

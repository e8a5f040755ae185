"""Checks that every calculator of this package passes, and that users may run on their own models."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.calculators.calculator import BaseCalculator


def check_calculator(calculator: BaseCalculator, structures: Sequence[Atoms], *, tolerance: float = 1e-3) -> None:
    """Check that a calculator leaves its inputs alone and gives what symmetry asks for.

    For each structure: inputs are not changed, nor what is written on them; the same input gives the same energy;
    ``free_energy`` equals ``energy``; the energy is a finite Python float, and the same after a translation, a
    permutation of the atoms, a shift of an atom by a lattice vector and a change of lattice vectors; the energy of a
    supercell is that of the cell times its multiplicity.

    Args:
        calculator: a calculator that can evaluate the structures.
        structures: periodic structures; one with a single atom should be among them.
        tolerance: largest allowed deviation in eV per atom (descriptors of single precision need about 1e-3).

    Raises:
        AssertionError: naming the structure and the check that failed.
    """
    assert "energy" in calculator.implemented_properties, f"{calculator} has no energy"
    for structure in structures:
        atoms = structure.copy()
        atoms.calc = calculator
        before, info, arrays = atoms.copy(), copy.deepcopy(atoms.info), set(atoms.arrays)
        energy = atoms.get_potential_energy()
        name = atoms.get_chemical_formula()
        assert atoms == before and atoms.info == info and set(atoms.arrays) == arrays, (
            f"{name}: the calculator changed its input"
        )
        assert type(energy) is float and np.isfinite(energy), f"{name}: the energy is {energy!r}, not a finite float"
        assert calculator.get_property("free_energy", atoms) == energy, f"{name}: free_energy differs from energy"
        calculator.reset()  # type: ignore[attr-defined]
        assert atoms.get_potential_energy() == energy, f"{name}: the same input gives another energy"

        moved = atoms.copy()
        moved.positions[-1] += moved.cell[0] - 2 * moved.cell[2]
        translated = atoms.copy()
        translated.positions += (0.37, -11.1, 2.2)
        variants = {
            "a shift by a lattice vector": moved,
            "a translation": translated,
            "a permutation of atoms": atoms[::-1],
            "other lattice vectors": make_supercell(atoms, [[1, 0, 0], [-1, 1, 0], [2, 1, 1]]),
            "a supercell": atoms * (2, 1, 1),
        }
        for what, variant in variants.items():
            variant.calc = calculator
            per_atom = variant.get_potential_energy() / len(variant)
            assert abs(per_atom - energy / len(atoms)) < tolerance, f"{name}: {what} changes the energy per atom"

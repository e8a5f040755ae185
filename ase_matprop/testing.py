"""Checks that every calculator of this package passes, and that users may run on their own models."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.calculators.calculator import BaseCalculator
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

_STEP = 1e-3  # of finite differences: in Angstrom for atoms, a strain for cells


def check_calculator(
    calculator: BaseCalculator,
    structures: Sequence[Atoms],
    *,
    tolerance: float = 1e-3,
    force_tolerance: float = 1e-3,
) -> None:
    """Check that a calculator leaves its inputs alone and gives what symmetry asks for.

    For each structure: inputs are not changed, nor what is written on them; the same input gives the same energy;
    ``free_energy`` equals ``energy``; the energy is a finite Python float, and the same after a translation, a
    permutation of the atoms, a shift of an atom by a lattice vector and a change of lattice vectors; the energy of a
    supercell is that of the cell times its multiplicity.

    What a calculator declares besides is checked on a distorted and strained copy of each structure: ``forces`` and
    ``stress`` are slopes of the energy, in ASE's sign and order, and no net force acts on the cell; ``energies`` of the
    atoms sum to the energy; all of them belong to the same atoms after a shift of an atom by a lattice vector and a
    permutation, and are repeated in a supercell.

    Args:
        calculator: a calculator that can evaluate the structures.
        structures: periodic structures; one with a single atom should be among them.
        tolerance: largest allowed deviation in eV per atom (descriptors of single precision need about 1e-3).
        force_tolerance: largest allowed deviation of a force in eV/Angstrom, and of the stress times the volume per
            atom in eV.

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

        declared = {"forces", "stress", "energies"}.intersection(calculator.implemented_properties)
        if declared:
            _check_derivatives(calculator, structure, declared, tolerance, force_tolerance)


def _check_derivatives(
    calculator: BaseCalculator, structure: Atoms, declared: set[str], tolerance: float, force_tolerance: float
) -> None:
    atoms = _distorted(structure)
    atoms.calc = calculator
    name, n_atoms = atoms.get_chemical_formula(), len(atoms)
    energy = atoms.get_potential_energy()
    found = {what: np.array(calculator.get_property(what, atoms)) for what in sorted(declared)}
    for what, values in found.items():
        shape = {"forces": (n_atoms, 3), "stress": (6,), "energies": (n_atoms,)}[what]
        assert values.shape == shape and np.isfinite(values).all(), f"{name}: {what} are not finite, of shape {shape}"

    if "energies" in found:
        difference = abs(found["energies"].sum() - energy)
        assert difference < tolerance * n_atoms, f"{name}: the energies of the atoms do not sum to the energy"
    if "forces" in found:
        net = np.abs(found["forces"].sum(axis=0)).max()
        assert net < force_tolerance * n_atoms, f"{name}: a net force of {net:.3g} eV/Angstrom acts on the cell"
        chosen = sorted({0, n_atoms // 2, n_atoms - 1})
        numerical = calculate_numerical_forces(atoms, eps=_STEP, iatoms=chosen)
        difference = np.abs(found["forces"][chosen] - numerical).max()
        assert difference < force_tolerance, (
            f"{name}: a force differs from the slope of the energy by {difference:.3g} eV/Angstrom"
        )
    if "stress" in found:
        numerical = calculate_numerical_stress(atoms, eps=_STEP)
        difference = np.abs(found["stress"] - numerical).max() * atoms.get_volume() / n_atoms
        assert difference < force_tolerance, (
            f"{name}: the stress differs from the slope of the energy by {difference:.3g} eV per atom"
        )

    moved = atoms.copy()
    moved.positions[-1] += moved.cell[0] - 2 * moved.cell[2]
    for what, variant, same in (
        ("a shift by a lattice vector", moved, slice(None)),
        ("a permutation of atoms", atoms[::-1], slice(None, None, -1)),
        ("a supercell", atoms * (2, 1, 1), slice(n_atoms)),
    ):
        for quantity, values in found.items():
            other = np.array(calculator.get_property(quantity, variant))
            difference = np.abs((other if quantity == "stress" else other[same]) - values).max()
            assert difference < max(tolerance, force_tolerance), f"{name}: {what} changes the {quantity}"


def _distorted(structure: Atoms) -> Atoms:
    """Return a copy in which symmetry makes no force and no stress vanish."""
    atoms = structure.copy()
    strain = np.array([[0.01, 0.004, -0.006], [0.004, -0.008, 0.003], [-0.006, 0.003, 0.005]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += np.random.default_rng(0).uniform(-0.05, 0.05, atoms.positions.shape)
    return atoms

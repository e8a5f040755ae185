"""The calculator of SchNet and PaiNN: forces and stress, and the places in ASE where they are used."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, make_supercell
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones
from ase.db import connect
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS, FIRE
from ase.phonons import Phonons

from ase_matprop import MatProp, SchNet, load_model
from ase_matprop.errors import MatPropError, StructureError, UnknownElementError
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.testing import check_calculator
from tests.conftest import rattled, untrained_model

ALL = {"energy", "free_energy", "forces", "stress", "energies"}


@pytest.fixture
def calculator(atomistic_model: Path) -> SchNet:
    return SchNet(atomistic_model)


def distorted(n: int = 1) -> Atoms:
    """MgO without symmetry, 8 atoms times n; its cell is smaller than the cutoff."""
    atoms = bulk("MgO", "rocksalt", 4.21, cubic=True)
    strain = np.array([[0.02, 0.01, -0.02], [0.01, -0.015, 0.005], [-0.02, 0.005, 0.01]])
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return rattled(atoms * (n, 1, 1), 5, 0.1)


def test_passes_the_common_checks(calculator: SchNet) -> None:
    one_atom = Atoms("Fe", [[0.3, 9.0, -4.0]], cell=[2.4, 2.6, 2.9, 65, 75, 110], pbc=True)
    check_calculator(
        calculator, [bulk("NaCl", "rocksalt", 5.64), bulk("Fe"), distorted(), one_atom], tolerance=1e-6
    )  # in float64


def test_properties(calculator: SchNet, small_model: Path) -> None:
    atoms = distorted()
    atoms.calc = calculator
    assert set(calculator.implemented_properties) == ALL
    energy = atoms.get_potential_energy()
    assert type(energy) is float and set(calculator.results) == ALL
    assert atoms.get_forces().shape == (8, 3) and atoms.get_stress().shape == (6,)
    assert atoms.get_stress(voigt=False).shape == (3, 3)
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, abs=1e-9)
    assert atoms.get_potential_energy(force_consistent=True) == energy
    with pytest.raises(MatPropError, match="takes painn, schnet; use MatProp"):
        SchNet(small_model)
    assert set(MatProp(calculator.parameters["model"]).implemented_properties) == ALL


def test_predict_equals_the_calculator(calculator: SchNet, atomistic_model: Path) -> None:
    structures = [distorted(), bulk("Fe"), bulk("NaCl", "rocksalt", 5.64) * (2, 1, 1)]
    values = load_model(atomistic_model).predict(structures).values
    np.testing.assert_allclose(calculator.predict(structures).values, values, atol=1e-7)
    for atoms, value in zip(structures, values, strict=True):
        atoms.calc = calculator
        assert atoms.get_potential_energy() / len(atoms) == pytest.approx(value, abs=1e-5)
        assert calculator.predictions.values[0] == pytest.approx(value, abs=1e-5)
        assert calculator.predictions.unit == "eV/atom" and calculator.predictions.spread[0] > 0.0


def test_forces_against_finite_differences(calculator: SchNet) -> None:
    atoms = distorted()
    atoms.calc = calculator
    forces = atoms.get_forces()
    assert 0.01 < np.abs(forces).max() < 20.0
    np.testing.assert_allclose(calculate_numerical_forces(atoms, eps=1e-4), forces, atol=1e-5)


def test_stress_against_finite_differences(calculator: SchNet) -> None:
    """In ASE's sign and order: the slope of the energy with the strain, by the volume."""
    atoms = distorted()
    atoms.calc = calculator
    stress = atoms.get_stress()
    assert np.abs(stress).min() > 1e-5
    np.testing.assert_allclose(calculate_numerical_stress(atoms, eps=1e-4), stress, atol=1e-6)


@pytest.mark.parametrize("factor", [0.93, 1.07])
def test_sign_of_the_stress(calculator: SchNet, factor: float) -> None:
    """By the energy of a larger cell alone: it is lower where the trace of the stress is negative."""
    atoms = bulk("MgO", "rocksalt", 4.21)
    atoms.set_cell(factor * atoms.cell, scale_atoms=True)
    atoms.calc = calculator
    energy, stress = atoms.get_potential_energy(), atoms.get_stress()
    volume = atoms.get_volume()
    atoms.set_cell(1.0001 * atoms.cell, scale_atoms=True)
    change = atoms.get_potential_energy() - energy
    assert change == pytest.approx(stress[:3].sum() * 0.0001 * volume, rel=0.02)
    np.testing.assert_allclose(stress[:3], stress[0], atol=1e-6)
    np.testing.assert_allclose(stress[3:], 0.0, atol=1e-6)


def test_500_atoms(schnet_model: Path) -> None:
    atoms = rattled(bulk("MgO", "rocksalt", 4.21, cubic=True) * (4, 4, 4), 2, 0.1)[:500]
    atoms.calc = SchNet(schnet_model)
    forces = atoms.get_forces()
    assert forces.shape == (500, 3)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-8)
    numerical = calculate_numerical_forces(atoms, eps=1e-3, iatoms=[0, 250, 499])
    np.testing.assert_allclose(numerical, forces[[0, 250, 499]], atol=1e-3)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-7)


def test_cells_smaller_than_the_cutoff(calculator: SchNet) -> None:
    """A cell of one atom is one of 64 atoms, also in forces and stress."""
    small = Atoms("Fe", [[0.2, 0.1, 0.7]], cell=[2.2, 2.5, 2.9, 70, 85, 100], pbc=True)
    large = small * (4, 4, 4)
    small.calc = large.calc = calculator
    assert large.get_potential_energy() == pytest.approx(64 * small.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(small.get_forces(), 0.0, atol=1e-9)
    np.testing.assert_allclose(large.get_forces(), 0.0, atol=1e-9)
    np.testing.assert_allclose(large.get_stress(), small.get_stress(), atol=1e-9)


def test_rotation_turns_forces_and_stress(calculator: SchNet) -> None:
    atoms = distorted()
    turned = atoms.copy()
    turned.rotate(50, (1, 2, -0.5), rotate_cell=True)
    rotation = np.linalg.solve(atoms.cell.array, turned.cell.array)
    atoms.calc = turned.calc = calculator
    assert turned.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(turned.get_forces(), atoms.get_forces() @ rotation, atol=1e-8)
    expected = rotation.T @ atoms.get_stress(voigt=False) @ rotation
    np.testing.assert_allclose(turned.get_stress(voigt=False), expected, atol=1e-9)


def test_the_input_is_left_alone(calculator: SchNet) -> None:
    atoms = distorted()
    atoms.info["note"] = ["mine"]
    atoms.set_array("mine", np.arange(8))
    atoms.set_momenta(np.ones((8, 3)))
    before = {name: values.copy() for name, values in atoms.arrays.items()}
    cell = atoms.cell.array.copy()
    atoms.calc = calculator
    atoms.get_stress()
    assert atoms.arrays.keys() == before.keys() and atoms.info == {"note": ["mine"]}
    for name, values in before.items():
        np.testing.assert_array_equal(atoms.arrays[name], values)
    np.testing.assert_array_equal(atoms.cell.array, cell)


def test_results_belong_to_the_caller(calculator: SchNet) -> None:
    atoms = distorted()
    atoms.calc = calculator
    forces = atoms.get_forces()
    forces += 100.0
    assert np.abs(atoms.get_forces()).max() < 50.0


def test_all_results_from_one_evaluation(calculator: SchNet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original = AtomisticPredictor.calculate
    monkeypatch.setattr(AtomisticPredictor, "calculate", lambda self, atoms: calls.append(1) or original(self, atoms))
    atoms = distorted()
    atoms.calc = calculator
    for ask in ("get_potential_energy", "get_forces", "get_stress", "get_potential_energies"):
        getattr(atoms, ask)()
    atoms.set_initial_magnetic_moments([1.0] * 8)  # the network does not see them
    atoms.get_forces()
    assert len(calls) == 1
    atoms.positions[0] += 0.01
    atoms.get_forces()
    assert len(calls) == 2


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_relaxation(calculator: SchNet, optimizer: type) -> None:
    atoms = rattled(bulk("MgO", "rocksalt", 4.21, cubic=True), 5, 0.03)
    atoms.calc = calculator
    before = atoms.get_potential_energy()
    assert np.abs(atoms.get_forces()).max() > 0.02
    assert optimizer(atoms, logfile=None).run(fmax=0.02, steps=200)
    assert atoms.get_potential_energy() < before and np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.02


def test_cell_filter(schnet_model: Path) -> None:
    atoms = rattled(bulk("MgO", "rocksalt", 4.21, cubic=True), 5, 0.02)
    atoms.calc = SchNet(schnet_model)
    before, volume = atoms.get_potential_energy(), atoms.get_volume()
    optimizer = FIRE(FrechetCellFilter(atoms, mask=[1, 1, 1, 1, 1, 1]), logfile=None)
    optimizer.run(fmax=0.02, steps=25)
    assert atoms.get_potential_energy() < before - 1e-3 and atoms.get_volume() != pytest.approx(volume, rel=1e-4)


def test_phonons(schnet_model: Path, tmp_path: Path) -> None:
    """Force constants of finite displacements are symmetric, as second derivatives are, and depend on no step."""
    constants = []
    for delta in (0.01, 0.02):
        phonons = Phonons(
            bulk("MgO", "rocksalt", 4.21), SchNet(schnet_model), supercell=(2, 2, 2), delta=delta,
            name=str(tmp_path / f"phonons-{delta}"),
        )  # fmt: skip
        phonons.run()
        phonons.read(symmetrize=0, acoustic=False)
        constants.append(phonons.get_force_constant())
    first, second = constants
    size = np.abs(first).max()
    assert size > 0.01
    np.testing.assert_allclose(first, second, atol=0.01 * size)
    # the force on one atom by the other is that of the other by the one: D(R) = D(-R)^T, by the Fourier transform
    dynamical = np.fft.fftn(first.reshape(2, 2, 2, 6, 6), axes=(0, 1, 2))
    np.testing.assert_allclose(dynamical, dynamical.conj().swapaxes(-1, -2), atol=0.01 * size)
    # moving all atoms together moves none of them
    sums = first.sum(axis=0).reshape(2, 3, 2, 3).sum(axis=2)
    np.testing.assert_allclose(sums, 0.0, atol=0.01 * size)


def test_molecular_dynamics_conserves_the_energy(calculator: SchNet) -> None:
    """From relaxed atoms at 100 K: 150 steps of 1 fs; the temperature changes, the total energy does not."""
    atoms = rattled(bulk("MgO", "rocksalt", 4.21, cubic=True), 5, 0.03)
    atoms.calc = calculator
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=200)
    MaxwellBoltzmannDistribution(atoms, temperature_K=100, rng=np.random.default_rng(0))
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, timestep=1.0 * units.fs)
    totals, kinetic = [], []
    for _ in range(150):
        dynamics.run(1)
        totals.append(atoms.get_total_energy() / len(atoms))
        kinetic.append(atoms.get_kinetic_energy() / len(atoms))
    assert np.ptp(kinetic) > 2e-3
    assert np.ptp(totals) < 2e-4
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-6)


def test_one_atom(calculator: SchNet) -> None:
    atoms = Atoms("Fe", cell=[[0.0, 1.43, 1.43], [1.43, 0.0, 1.43], [1.43, 1.43, 0.0]], pbc=True)
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_forces(), 0.0, atol=1e-9)
    assert atoms.get_potential_energies().tolist() == [pytest.approx(atoms.get_potential_energy())]
    np.testing.assert_allclose(calculate_numerical_stress(atoms, eps=1e-4), atoms.get_stress(), atol=1e-6)


def test_an_isolated_atom(calculator: SchNet) -> None:
    atoms = Atoms("Fe", cell=[12, 12, 12], pbc=True)
    atoms.calc = calculator
    assert np.isfinite(atoms.get_potential_energy())
    assert not atoms.get_forces().any() and not atoms.get_stress().any()


def test_other_lattice_vectors(calculator: SchNet) -> None:
    atoms = distorted()
    skewed = make_supercell(atoms, [[1, 0, 0], [-1, 1, 0], [2, 1, 1]])
    atoms.calc = skewed.calc = calculator
    energies, stress = np.sort(atoms.get_potential_energies()), atoms.get_stress()
    np.testing.assert_allclose(np.sort(skewed.get_potential_energies()), energies, atol=1e-9)
    np.testing.assert_allclose(skewed.get_stress(), stress, atol=1e-9)


def test_copies_and_pickles(calculator: SchNet) -> None:
    atoms = distorted()
    atoms.calc = calculator
    forces = atoms.get_forces()
    for duplicate in (copy.copy(calculator), copy.deepcopy(calculator), pickle.loads(pickle.dumps(calculator))):
        other = distorted()
        other.calc = duplicate
        duplicate.reset()
        np.testing.assert_allclose(other.get_forces(), forces, atol=1e-12)
    whole = pickle.loads(pickle.dumps(atoms))
    np.testing.assert_array_equal(whole.get_forces(), forces)
    np.testing.assert_array_equal(copy.deepcopy(atoms).get_forces(), forces)
    assert len(pickle.dumps(calculator)) < 20_000  # without the weights


def test_reference_energies(calculator: SchNet, atomistic_model: Path) -> None:
    """They move energies, and nothing else."""
    atoms = distorted()
    atoms.calc = calculator
    energy, energies, forces, stress = (
        atoms.get_potential_energy(), atoms.get_potential_energies(), atoms.get_forces(), atoms.get_stress(),
    )  # fmt: skip
    atoms.calc = SchNet(atomistic_model, reference_energies={"Mg": -1.5, "O": -4.9})
    assert atoms.get_potential_energy() == pytest.approx(energy + 4 * (-1.5) + 4 * (-4.9))
    expected = energies + np.where(atoms.numbers == 12, -1.5, -4.9)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected, atol=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-12)
    atoms.calc = SchNet(atomistic_model, reference_energies={"Mg": -1.5})
    with pytest.raises(UnknownElementError, match="no entry for O"):
        atoms.get_forces()


def test_bad_input(calculator: SchNet) -> None:
    molecule = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]])
    overlapping = bulk("NaCl", "rocksalt", 5.64)
    overlapping.positions[1] = overlapping.positions[0] + 0.01
    for wrong, error, message in (
        (bulk("Cu"), UnknownElementError, "never saw Cu in training"),
        (molecule, StructureError, "no cell|not periodic"),
        (overlapping, StructureError, "apart|same|close"),
        (Atoms(), StructureError, "no atoms"),
    ):
        wrong.calc = calculator
        with pytest.raises(error, match=message):
            wrong.get_forces()
        assert calculator.results == {} and calculator.predictions is None
    sound = bulk("NaCl", "rocksalt", 5.64)
    sound.calc = calculator
    assert np.isfinite(sound.get_forces()).all()


def test_warnings(calculator: SchNet, caplog: pytest.LogCaptureFixture) -> None:
    """In the predictions of each calculation, and in the log once for each formula."""
    mixed = bulk("NaCl", "rocksalt", 5.64, cubic=True)
    mixed.numbers[0] = 8
    stretched = bulk("Fe")
    stretched.set_cell(1.6 * stretched.cell, scale_atoms=True)
    sound = distorted()
    with caplog.at_level(logging.WARNING, logger="ase_matprop"):
        for atoms in (mixed, stretched, sound):
            atoms.calc = calculator
            for step in range(3):
                atoms.positions[0] += 0.01 * step
                atoms.get_forces()
                warning = calculator.predictions.warnings[0]
                assert (warning is None) == (atoms is sound)
                assert calculator.predictions.to_frame()["warning"][0] == warning
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "NaCl" not in messages[0].split(":")[0] and "O and Na never occurred together in training" in messages[0]
    assert "Fe: Fe has fewer neighbours than ever in training" in messages[1]


def test_close_atoms_are_a_warning(calculator: SchNet) -> None:
    atoms = distorted()
    atoms.positions[1] = atoms.positions[0] + (1.0, 0.0, 0.0)
    atoms.calc = calculator
    atoms.get_potential_energy()
    assert "O and Mg are 1.00 Angstrom apart, in training never less than" in calculator.predictions.warnings[0]


def test_database_and_files(calculator: SchNet, tmp_path: Path) -> None:
    atoms = distorted()
    atoms.calc = calculator
    forces, stress = atoms.get_forces(), atoms.get_stress()
    database = connect(tmp_path / "x.db")
    database.write(atoms)
    row = database.get(1)
    np.testing.assert_allclose(row.forces, forces)
    np.testing.assert_allclose(row.stress, stress)
    assert row.calculator == "schnet"
    atoms.write(tmp_path / "x.extxyz")
    again = read(tmp_path / "x.extxyz")
    np.testing.assert_allclose(again.get_forces(), forces, atol=1e-7)
    np.testing.assert_allclose(again.get_stress(), stress, atol=1e-7)


def test_a_model_that_predicts_no_energy(tmp_path: Path) -> None:
    calculator = SchNet(untrained_model(tmp_path / "gap", network="schnet", properties=("band_gap",)))
    assert calculator.implemented_properties == []
    atoms = distorted()
    calculator.calculate(atoms)
    assert calculator.results == {} and calculator.predictions.values[0] >= 0.0


class Broken(LennardJones):
    """ASE's Lennard-Jones potential, with one of its results altered."""

    def __init__(self, what: str = "", factor: float = 1.0) -> None:
        super().__init__(sigma=2.0, epsilon=0.3, rc=4.0, smooth=True)
        self.what, self.factor = what, factor

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        super().calculate(*args, **kwargs)
        self.results["energy"] = self.results["free_energy"] = float(self.results["energy"])
        if self.what == "net force":
            self.results["forces"] = self.results["forces"] + self.factor
        elif self.what:
            self.results[self.what] = self.factor * self.results[self.what]


def test_checks_accept_a_calculator_of_ase() -> None:
    check_calculator(Broken(), [bulk("Fe"), distorted()])


@pytest.mark.parametrize(
    ("what", "factor", "message"),
    [
        ("forces", -1.0, "a force differs from the slope of the energy"),
        ("forces", np.nan, "forces are not finite"),
        ("net force", 0.1, "a net force"),
        ("stress", -1.0, "the stress differs from the slope of the energy"),
        ("stress", 1.0 / units.GPa, "the stress differs from the slope of the energy"),
        ("energies", 1.1, "do not sum to the energy"),
    ],
)
def test_checks_find_what_is_wrong(what: str, factor: float, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_calculator(Broken(what, factor), [distorted()])

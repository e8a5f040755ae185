"""ASE calculators: ASE's conventions, and the places where calculators are used."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.db import connect
from ase.io import Trajectory, read
from pymatgen.core import Composition

from ase_matprop import SIPFENN, ElemNet, IRNet, MatProp, SchNet, list_models, load_model
from ase_matprop.errors import ArtefactError, MatPropError, StructureError, UnknownElementError, UnknownNameError
from ase_matprop.networks import NETWORKS
from ase_matprop.testing import check_calculator
from tests.conftest import untrained_model


@pytest.fixture
def calculator(small_model: Path) -> MatProp:
    return MatProp(small_model)


@pytest.fixture
def atoms(calculator: MatProp) -> Atoms:
    nacl = bulk("NaCl", "rocksalt", 5.64) * (1, 1, 2)
    nacl.calc = calculator
    return nacl


def test_energy_is_that_of_the_cell(atoms: Atoms, small_model: Path) -> None:
    per_atom = load_model(small_model).predict([atoms]).values[0]
    energy = atoms.get_potential_energy()
    assert type(energy) is float
    assert energy == pytest.approx(4 * per_atom)
    assert atoms.get_potential_energy(force_consistent=True) == energy
    assert atoms.calc.get_property("free_energy", atoms) == energy
    assert set(atoms.calc.results) == {"energy", "free_energy"}
    assert atoms.calc.predictions.unit == "eV/atom"


def test_calculator_passes_the_common_checks(calculator: MatProp) -> None:
    check_calculator(
        calculator, [bulk("NaCl", "rocksalt", 5.64), bulk("Fe"), bulk("MgO", "rocksalt", 4.21, cubic=True)]
    )


@pytest.mark.parametrize("ask", ["get_forces", "get_stress", "get_potential_energies", "get_magnetic_moments"])
def test_what_a_descriptor_network_has_not(atoms: Atoms, ask: str) -> None:
    with pytest.raises(PropertyNotImplementedError):
        getattr(atoms, ask)()


def test_evaluated_once_per_structure(atoms: Atoms, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    predictor = atoms.calc.predictor
    monkeypatch.setattr(type(predictor), "_predict_batch", _counting(type(predictor)._predict_batch, calls))
    atoms.get_potential_energy()
    atoms.calc.get_property("free_energy", atoms)
    atoms.set_initial_magnetic_moments([1.0] * 4)  # the network does not see them
    atoms.get_potential_energy()
    assert len(calls) == 1
    atoms.positions[0] += 0.01
    atoms.get_potential_energy()
    assert len(calls) == 2


def _counting(function, calls):
    def wrapper(*args, **kwargs):
        calls.append(1)
        return function(*args, **kwargs)

    return wrapper


def test_properties_are_a_fresh_list(small_model: Path) -> None:
    first, second = MatProp(small_model), MatProp(small_model)
    first.implemented_properties.append("forces")
    assert second.implemented_properties == ["energy", "free_energy"]


def test_parameters_are_json(small_model: Path) -> None:
    calculator = MatProp(small_model, reference_energies={"Na": -1.3, "Cl": -1.8})
    parameters = json.loads(json.dumps(calculator.todict()))
    assert parameters["reference_energies"] == {"Na": -1.3, "Cl": -1.8}
    assert parameters["model"] == str(small_model)


def test_reference_energies_are_added(atoms: Atoms, small_model: Path) -> None:
    formation = atoms.get_potential_energy()
    atoms.calc = MatProp(small_model, reference_energies={"Na": -1.3, "Cl": -1.8})
    assert atoms.get_potential_energy() == pytest.approx(formation + 2 * (-1.3) + 2 * (-1.8))
    atoms.calc = MatProp(small_model, reference_energies={"Na": -1.3})
    with pytest.raises(UnknownElementError, match="no entry for Cl"):
        atoms.get_potential_energy()
    with pytest.raises(MatPropError, match="Got 'Xx'"):
        MatProp(small_model, reference_energies={"Xx": 1.0})


@pytest.mark.parametrize("fixture", ["small_model", "structure_model"])
def test_bad_input_raises(fixture: str, request: pytest.FixtureRequest) -> None:
    calculator = MatProp(request.getfixturevalue(fixture))
    for wrong, error, message in (
        (Atoms(), StructureError, "no atoms|no element"),
        (bulk("Cu"), UnknownElementError, "never saw Cu"),
        (Atoms("X", cell=[3, 3, 3], pbc=True), UnknownElementError, "placeholder|no element"),
    ):
        wrong.calc = calculator
        with pytest.raises(error, match=message):
            wrong.get_potential_energy()
    sound = bulk("NaCl", "rocksalt", 5.64)
    sound.calc = calculator
    assert isinstance(sound.get_potential_energy(), float)


def test_only_a_model_of_structures_needs_a_crystal(structure_model: Path, small_model: Path) -> None:
    for pair in (Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]]), Atoms("NaCl", [[0, 0, 0], [0, 0, 2.4]], cell=[9, 9, 9])):
        pair.calc = MatProp(structure_model)
        with pytest.raises(StructureError, match="no cell|not periodic"):
            pair.get_potential_energy()
        crystal = bulk("NaCl", "rocksalt", 5.64)
        crystal.calc = pair.calc = MatProp(small_model)
        assert pair.get_potential_energy() == crystal.get_potential_energy()


def test_a_failure_leaves_no_result_of_another_structure(atoms: Atoms) -> None:
    atoms.get_potential_energy()
    copper = bulk("Cu")
    copper.calc = atoms.calc
    for _ in range(2):
        with pytest.raises(UnknownElementError):
            copper.get_potential_energy()
    assert atoms.calc.results == {} and atoms.calc.predictions is None


def test_set_is_checked_and_changes_nothing_if_wrong(small_model: Path) -> None:
    calculator = MatProp(small_model)
    before = dict(calculator.parameters)
    for wrong in (
        {"reference_energies": {"Na": float("nan")}},
        {"reference_energies": {"Na": True}},
        {"model": "nope"},
    ):
        with pytest.raises(MatPropError):
            calculator.set(**wrong)
        assert dict(calculator.parameters) == before
    calculator.set(model=small_model)
    json.dumps(calculator.todict())


def test_bad_arguments(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean"):
        MatProp("irnet17")
    with pytest.raises(ArtefactError, match="no card"):
        MatProp(tmp_path)
    with pytest.raises(TypeError, match="no parameter 'modle'"):
        MatProp(small_model, modle="x")


FAMILIES = {
    IRNet: {"irnet": {"stacks": [[4, 1]]}, "srnet": {"stacks": [[4, 1]]}, "plain": {"stacks": [[4, 1]]}},
    SIPFENN: {name: {"width_factor": 0.002} for name in ("nn9", "nn20", "nn24")},
    ElemNet: {"elemnet": {}},
    SchNet: {"schnet": {}, "painn": {}},
}


@pytest.mark.parametrize(("network", "settings"), [item for each in FAMILIES.values() for item in each.items()])
def test_families_take_their_networks_only(network: str, settings: dict[str, Any], tmp_path: Path) -> None:
    folder = untrained_model(tmp_path / network, network=network, settings=settings, n_members=1)
    for family, networks in FAMILIES.items():
        if network in networks:
            calculator = family(folder)
            of_atoms = ["energies", "forces", "stress"] if family is SchNet else []
            assert calculator.implemented_properties == ["energy", "free_energy", *of_atoms]
            assert calculator.todict()["model"] == str(folder)
            check_calculator(calculator, [bulk("NaCl", "rocksalt", 5.64), bulk("Fe")], tolerance=1e-5)
        else:
            with pytest.raises(MatPropError, match=f"network of the kind '{network}'.*use MatProp"):
                family(folder)


def test_every_network_has_a_family() -> None:
    assert {name for family in FAMILIES for name in family.networks} == set(NETWORKS)


@pytest.mark.parametrize("family", [MatProp, *FAMILIES])
def test_default_models(family: type[MatProp]) -> None:
    if family.default_model not in list_models():
        pytest.skip(f"{family.default_model} is not shipped yet")
    calculator = family()
    assert calculator.parameters["model"] == family.default_model
    check_calculator(
        calculator, [bulk("NaCl", "rocksalt", 5.64), bulk("Fe"), bulk("MgO", "rocksalt", 4.21, cubic=True)],
        tolerance=2e-3,
    )  # fmt: skip


def test_predict_takes_formulas(atoms: Atoms) -> None:
    energy = atoms.get_potential_energy()
    before = atoms.calc.predictions
    result = atoms.calc.predict(["NaCl", Composition("Fe2O3"), atoms, "Xx2"])
    assert result.formulas == ["NaCl", "Fe2O3", "Na2Cl2", ""] and result.n_failed == 1
    assert result.values[0] == pytest.approx(energy / 4, abs=1e-6) == pytest.approx(result.values[2], abs=1e-6)
    assert result.n_atoms.tolist() == [0, 0, 4, 0]
    assert atoms.calc.predictions is before and atoms.calc.results["energy"] == energy


def test_energy_of_a_model_of_several_properties(two_property_model: Path) -> None:
    nacl = bulk("NaCl", "rocksalt", 5.64)
    nacl.calc = MatProp(two_property_model)
    predictions = load_model(two_property_model).predict([nacl])
    assert nacl.get_potential_energy() == pytest.approx(2 * predictions.values[0])
    assert set(nacl.calc.results) == {"energy", "free_energy"}
    assert nacl.calc.predictions["band_gap"].values == pytest.approx(predictions["band_gap"].values)


def test_a_class_is_no_property_of_ase(classifier_model: Path) -> None:
    nacl = bulk("NaCl", "rocksalt", 5.64)
    nacl.calc = MatProp(classifier_model)
    assert nacl.calc.implemented_properties == []
    with pytest.raises(PropertyNotImplementedError):
        nacl.get_potential_energy()
    nacl.calc.calculate(nacl)
    assert nacl.calc.results == {} and nacl.calc.predictions.labels[0] in {"metal", "non-metal"}


def test_copies_and_pickles(atoms: Atoms) -> None:
    energy = atoms.get_potential_energy()
    for duplicate in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        other = atoms.copy()
        other.calc = duplicate
        assert other.get_potential_energy() == pytest.approx(energy)
    assert len(pickle.dumps(atoms.calc)) < 20_000  # without the weights


def test_change_of_parameters_resets(atoms: Atoms) -> None:
    energy = atoms.get_potential_energy()
    atoms.calc.set(reference_energies={"Na": 1.0, "Cl": 1.0})
    assert atoms.get_potential_energy() == pytest.approx(energy + 4.0)


def _energy(atoms: Atoms) -> float:
    return atoms.get_potential_energy()


def test_multiprocessing(atoms: Atoms) -> None:
    expected = atoms.get_potential_energy()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_energy, [atoms]) == [pytest.approx(expected)]


def test_database_trajectory_and_files(atoms: Atoms, tmp_path: Path) -> None:
    energy = atoms.get_potential_energy()
    database = connect(tmp_path / "x.db")
    database.write(atoms)
    row = database.get(1)
    assert row.energy == pytest.approx(energy) and row.calculator == "matprop"
    with Trajectory(tmp_path / "x.traj", "w") as trajectory:
        trajectory.write(atoms)
    atoms.write(tmp_path / "x.extxyz")
    for file in ("x.traj", "x.extxyz"):
        assert read(tmp_path / file).get_potential_energy() == pytest.approx(energy)


def test_ase_knows_the_plugin() -> None:
    from importlib.metadata import entry_points

    (entry,) = [e for e in entry_points(group="ase.plugins") if e.name == "ase_matprop"]
    module = entry.load()
    found = {plugin.name: plugin.implementation for plugin in module.__ase_plugins__}
    assert found == {family.name: family for family in (MatProp, *FAMILIES)}
    assert all("doi" in plugin.citation for plugin in module.__ase_plugins__)


def test_references_for_a_model_that_predicts_no_energy(small_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_model, tmp_path / "gap"))
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"property": "band_gap", "unit": "eV", "per_atom": False}))
    calculator = MatProp(folder)
    assert calculator.implemented_properties == []
    nacl = bulk("NaCl", "rocksalt", 5.64)
    calculator.calculate(nacl)
    assert calculator.results == {} and calculator.predictions.unit == "eV"
    for refused in (
        lambda: MatProp(folder, reference_energies={"Na": 1}),
        lambda: calculator.set(reference_energies={"Na": 1}),
    ):
        with pytest.raises(MatPropError, match="predicts no energy"):
            refused()

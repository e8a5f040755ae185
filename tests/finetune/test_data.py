"""A laboratory's data in every form they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from ase_matprop.errors import FinetuneError, MatPropError, ReferenceEnergyError, UnknownNameError
from ase_matprop.finetune import read_vasp
from ase_matprop.finetune.data import LabData, read_data
from tests.finetune.alloys import alloys

KEY = "formation_energy_per_atom"


def values(structures: list[Atoms]) -> list[float]:
    return [atoms.info[KEY] for atoms in structures]


def test_list_with_info(labelled: list[Atoms]) -> None:
    data = read_data(labelled)
    assert len(data) == 30 and data.property == KEY and data.unit == "eV/atom"
    assert data.targets.tolist() == values(labelled)
    assert data.names[:2] == ["structure 0", "structure 1"] and data.references is None and data.rejected == {}


def test_other_column(labelled: list[Atoms]) -> None:
    renamed = [atoms.copy() for atoms in labelled]
    for atoms in renamed:
        atoms.info["e_form"] = atoms.info.pop(KEY)
    assert read_data(renamed, column="e_form").targets.tolist() == values(labelled)
    with pytest.raises(FinetuneError, match="no row has a number 'gap'; the first one has 'e_form'"):
        read_data(renamed, column="gap")
    with pytest.raises(FinetuneError, match=f"neither '{KEY}' nor energies; name the column"):
        read_data(renamed)


def test_energies_need_references(calculated: list[Atoms]) -> None:
    with pytest.raises(FinetuneError, match="references='fitted' .--references fitted., or references='none'"):
        read_data(calculated)


def test_energies_with_a_table(calculated: list[Atoms], tmp_path: Path) -> None:
    table = {"Al": -0.1, "Ni": -0.2, "Cu": -0.3, "Pd": -0.4, "Ag": -0.5, "Pt": -0.6, "Au": -0.7}
    data = read_data(calculated, references=table)
    expected = [
        (atoms.get_potential_energy() - sum(table[symbol] for symbol in atoms.symbols)) / len(atoms)
        for atoms in calculated
    ]
    assert data.property == KEY and data.references.kind == "table"
    np.testing.assert_allclose(data.targets, expected, atol=1e-12)
    path = tmp_path / "references.csv"
    path.write_text("element,energy_per_atom\n" + "".join(f"{element},{e}\n" for element, e in table.items()))
    np.testing.assert_allclose(read_data(calculated, references=path).targets, expected, atol=1e-12)
    with pytest.raises(ReferenceEnergyError, match="no reference energy of Ag, Pt. Three remedies"):
        read_data(calculated, references={"Cu": -1.0})


def test_fitted_references_are_no_formation_energies(calculated: list[Atoms]) -> None:
    data = read_data(calculated, references="fitted")
    assert data.property == "energy_above_fitted_references_per_atom"
    # they are fitted once it is known which rows are for training
    assert data.fit_references and data.references is None
    np.testing.assert_allclose(data.targets, [atoms.get_potential_energy() / 4 for atoms in calculated])


def test_total_energies(calculated: list[Atoms]) -> None:
    data = read_data(calculated, references="none")
    assert data.property == "energy_per_atom" and data.references is None
    np.testing.assert_allclose(data.targets, [atoms.get_potential_energy() / 4 for atoms in calculated])


def test_forces(calculated: list[Atoms], labelled: list[Atoms]) -> None:
    data = read_data(calculated, references="none", forces=True)
    np.testing.assert_allclose(data.forces[3], calculated[3].get_forces())
    assert read_data(calculated, references="none").forces is None
    without = calculated[0].copy()
    without.calc = SinglePointCalculator(without, energy=1.0)
    data = read_data([without, *calculated[1:]], references="none", forces=True)
    assert data.rejected == {"structure 0": "has no forces"} and len(data.forces) == len(data) == 29
    with pytest.raises(FinetuneError, match="forces are learnt with total energies"):
        read_data(labelled, forces=True)


def test_free_energy_goes_with_forces() -> None:
    atoms = bulk("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-1.5, forces=np.zeros((1, 3)))
    assert read_data([atoms], references="none", forces=True).targets.tolist() == [-1.5]


def test_ase_database(labelled: list[Atoms], calculated: list[Atoms], tmp_path: Path) -> None:
    path = tmp_path / "lab.db"
    with connect(path) as database:
        for number, atoms in enumerate(labelled):
            pairs = {"name": f"run {number}", KEY: atoms.info[KEY]}
            database.write(Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True), **pairs)
    before = path.read_bytes()
    data = read_data(path)
    np.testing.assert_allclose(data.targets, values(labelled))
    assert data.names[4] == "run 4" and data.source == "lab.db"
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["lab.db"]
    energies = tmp_path / "energies.db"
    with connect(energies) as database:
        for atoms in calculated:
            database.write(atoms)
    data = read_data(str(energies), references="none", forces=True)
    np.testing.assert_allclose(data.targets, [atoms.get_potential_energy() / 4 for atoms in calculated])
    np.testing.assert_allclose(data.forces[5], calculated[5].get_forces())
    (tmp_path / "broken.db").write_text("no database")
    with pytest.raises(FinetuneError, match="broken.db cannot be read as an ASE database"):
        read_data(tmp_path / "broken.db")


def test_extended_xyz(labelled: list[Atoms], calculated: list[Atoms], tmp_path: Path) -> None:
    write(tmp_path / "labelled.extxyz", labelled)
    np.testing.assert_allclose(read_data(tmp_path / "labelled.extxyz").targets, values(labelled), atol=1e-6)
    write(tmp_path / "calculated.xyz", calculated, format="extxyz")
    data = read_data([tmp_path / "calculated.xyz"], references="none", forces=True)
    np.testing.assert_allclose(data.targets, [a.get_potential_energy() / 4 for a in calculated], atol=1e-6)
    np.testing.assert_allclose(data.forces[2], calculated[2].get_forces(), atol=1e-6)
    both = read_data([tmp_path / "labelled.extxyz", tmp_path / "labelled.extxyz"])
    assert len(both) == 60 and len(set(both.names)) == 60


def test_tables(labelled: list[Atoms], tmp_path: Path) -> None:
    frame = pd.DataFrame({"structure": labelled, "material_id": [f"m{i}" for i in range(30)], KEY: values(labelled)})
    data = read_data(frame)
    assert data.names[29] == "m29" and data.targets.tolist() == values(labelled)
    formulas = pd.DataFrame({"formula": ["Fe2O3", "MgO", "NaCl"], "band_gap": [2.0, 7.0, 8.5]})
    data = read_data(formulas, property="band_gap", needs_structure=False)
    assert data.items[0] == {26: 2.0, 8: 3.0} and data.unit == "eV" and data.targets.tolist() == [2.0, 7.0, 8.5]
    formulas.to_csv(tmp_path / "gaps.csv", index=False)
    assert read_data(tmp_path / "gaps.csv", property="band_gap", needs_structure=False).names == [
        "row 0",
        "row 1",
        "row 2",
    ]
    with pytest.raises(FinetuneError, match="needs a column named 'structure'.*it has 'x'"):
        read_data(pd.DataFrame({"x": [1.0]}))


def test_formula_is_no_structure() -> None:
    frame = pd.DataFrame({"formula": ["MgO", "NaCl"], KEY: [-3.0, -2.1]})
    data = read_data(frame)
    assert len(data) == 0 and len(data.rejected) == 2


def test_vasp_runs(synthetic, project: Path) -> None:
    data = read_data(project)
    assert data.property == KEY and data.references.kind == "runs" and data.source == "VASP runs"
    assert len(data) == 1  # the two elements are references
    assert sum("is a run of an element" in reason for reason in data.rejected.values()) == 2
    runs = read_vasp(project)
    np.testing.assert_allclose(read_data(runs).targets, data.targets)
    total = read_data(project, references="none")
    assert len(total) == 3
    every = read_data(project, references="none", forces=True)
    assert len(every) > 3 and every.forces is not None


def test_what_was_read_is_passed_on(labelled: list[Atoms]) -> None:
    data = read_data(labelled)
    assert isinstance(data, LabData) and read_data(data) is data


@pytest.mark.parametrize("data", [3, None, [1, 2], {"a": 1}])
def test_wrong_types(data: object) -> None:
    with pytest.raises(FinetuneError, match="the data must be a folder of VASP runs.*Got"):
        read_data(data)


def test_nothing(tmp_path: Path) -> None:
    with pytest.raises(FinetuneError, match="no row in it; give a folder"):
        read_data([])
    with pytest.raises(FinetuneError, match=r"lab\.db does not exist"):
        read_data(tmp_path / "lab.db")
    with pytest.raises(MatPropError, match="without VASP runs; give a folder"):
        read_data(tmp_path)


def test_unknown_property(labelled: list[Atoms]) -> None:
    for atoms in (data := [atoms.copy() for atoms in labelled]):
        atoms.info["band_gapp"] = 1.0
    with pytest.raises(UnknownNameError, match="Did you mean 'band_gap'"):
        read_data(data, property="band_gapp")


def test_names_become_unique(labelled: list[Atoms]) -> None:
    named = [atoms.copy() for atoms in labelled[:3]]
    for atoms in named:
        atoms.info["name"] = "slab"
    assert read_data(named).names == ["slab", "slab (1)", "slab (2)"]


def test_one_bad_row_costs_its_own_row() -> None:
    data = alloys(6, label=KEY)
    data[1].positions[0, 0] = np.nan
    data[3].info[KEY] = np.inf
    del data[4].info[KEY]
    read = read_data(data)
    assert read.names == ["structure 0", "structure 2", "structure 5"]
    assert set(read.rejected) == {"structure 1", "structure 3", "structure 4"}
    assert read.rejected["structure 4"] == f"no number '{KEY}'"
    assert read.targets.tolist() == [data[row].info[KEY] for row in (0, 2, 5)]


def test_input_is_not_changed(labelled: list[Atoms]) -> None:
    before = [(atoms.copy(), dict(atoms.info)) for atoms in labelled]
    read_data(labelled)
    assert all(atoms == copy and atoms.info == info for atoms, (copy, info) in zip(labelled, before, strict=True))


def test_energies_are_extrapolated_and_free_ones_go_with_forces() -> None:
    """Invariant: which of the two energies counts is decided by whether forces are learnt, and by nothing else."""
    atoms = bulk("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-2.0, forces=np.zeros((1, 3)))
    assert read_data([atoms], references="none").targets.tolist() == [-1.0]
    assert read_data([atoms], references="none", forces=True).targets.tolist() == [-2.0]

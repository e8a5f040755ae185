"""What is learnt from a row: the property that was asked for, from references that go with the row, or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from ase_matprop.errors import FinetuneError, IncompatibleRunsError, ReferenceEnergyError, UnknownNameError
from ase_matprop.finetune import VaspRuns, finetune, learning_curve, read_vasp
from ase_matprop.finetune.data import read_data
from tests.conftest import untrained_model
from tests.finetune.alloys import METALS
from tests.finetune.runs import made_run

KEY = "formation_energy_per_atom"


def alloy(symbols: str) -> Atoms:
    """Four atoms on a face-centred lattice."""
    atoms = bulk("Cu", cubic=True)
    atoms.symbols = symbols
    return atoms


# ---- runs with different settings


def two_functionals() -> list:
    """Copper, gold and alloys of them with formation energies of -0.05 (PBE) and -0.1 eV/atom (HSE06)."""
    pbe = [made_run(f"p/{name}", alloy(name), -4.0) for name in ("Cu4", "Au4")]
    hse = [made_run(f"h/{name}", alloy(name), -12.0, "HSE06") for name in ("Cu4", "Au4")]
    pbe += [made_run(f"p/{name}", alloy(name), -4.2) for name in ("Cu2Au2", "Cu3Au")]
    return [*pbe, *hse, made_run("h/Cu2Au2", alloy("Cu2Au2"), -12.4, "HSE06")]


def test_each_run_has_references_of_its_own_settings() -> None:
    runs = VaspRuns(two_functionals(), energy="sigma0")
    with pytest.raises(IncompatibleRunsError):
        read_data(runs)
    data = read_data(runs, allow_mixed=True)
    assert data.names == ["p/Cu2Au2", "p/Cu3Au", "h/Cu2Au2"]
    np.testing.assert_allclose(data.targets, [-0.05, -0.05, -0.1], atol=1e-12)
    # as the table of `matprop vasp` has them
    table = runs.to_frame().set_index("path")[KEY]
    np.testing.assert_allclose(table[data.names], data.targets, atol=1e-12)
    assert "2 sets of settings are mixed" in data.notes[0] and data.references.energies == {"Cu": -1.0, "Au": -1.0}


def test_an_odd_run_costs_itself_only() -> None:
    odd = made_run("h/Cu2Ni2", alloy("Cu2Ni2"), -12.0, "r2SCAN")
    lonely = made_run("p/Cu2Ni2", alloy("Cu2Ni2"), -4.0)
    data = read_data(VaspRuns([*two_functionals(), odd, lonely], energy="sigma0"), allow_mixed=True)
    assert len(data) == 3
    assert "no reference energy of Cu, Ni" in data.rejected["h/Cu2Ni2"]
    assert "no reference energy of Ni." in data.rejected["p/Cu2Ni2"]
    with pytest.raises(ReferenceEnergyError, match="no reference energy of Cu, Ni"):
        read_data(VaspRuns([odd], energy="sigma0"))


# ---- energies and forces


def test_forces_need_free_energies_throughout() -> None:
    runs = [made_run(name, alloy(name), -4.0, free_energy=-4.4) for name in ("Cu4", "Au4", "Cu2Au2")]
    with pytest.raises(FinetuneError, match=r"energy\(sigma->0\).*read_vasp\(\.\.\., forces=True\)"):
        read_data(VaspRuns(runs, energy="sigma0"), forces=True)
    for run in runs:
        run.energy = -4.4
    np.testing.assert_allclose(read_data(VaspRuns(runs, energy="free"), forces=True).targets, [0.0], atol=1e-12)


def test_forces_of_springs_are_refused_whoever_read_the_runs(synthetic, relaxed, tmp_path: Path) -> None:
    settings = synthetic.Settings(ibrion=3, nsw=100, tags={"IMAGES": 3})
    synthetic.write_vasprun(tmp_path / "neb" / "vasprun.xml", relaxed["CuAu"], settings)
    synthetic.write_vasprun(tmp_path / "run" / "vasprun.xml", relaxed["CuAu"][:1])
    runs = read_vasp(tmp_path, energy="free")
    assert len(runs.used) == 2
    data = read_data(runs, references="none", forces=True)
    assert len(data) == 1 and "springs" in next(iter(data.rejected.values()))
    assert len(read_data(runs, references="none")) == 2


@pytest.mark.parametrize("steps", ["lsat", "ALL", ""])
def test_unknown_steps(project: Path, labelled: list[Atoms], metal_schnet: Path, tmp_path: Path, steps: str) -> None:
    for data in (project, labelled):
        with pytest.raises(UnknownNameError, match="unknown steps setting"):
            read_data(data, steps=steps)
    for command in (finetune, learning_curve):
        with pytest.raises(UnknownNameError, match="unknown steps setting"):
            command(metal_schnet, project, output=tmp_path / "out", steps=steps)
    with pytest.raises(FinetuneError, match="read already"):
        read_data(read_vasp(project), steps="all")


# ---- what was asked for


def test_energies_do_not_stand_for_other_properties(calculated: list[Atoms], project: Path, tmp_path: Path) -> None:
    for references in (None, "none", "fitted"):
        for data in (calculated, project):
            with pytest.raises(FinetuneError, match="no 'band_gap'.*property='formation_energy_per_atom'"):
                read_data(data, property="band_gap", references=references)
    with pytest.raises(UnknownNameError, match="Did you mean 'band_gap'"):
        read_data(calculated, property="bnad_gap", references="none")
    gaps = untrained_model(tmp_path / "gaps", network="schnet", n_members=1, elements=METALS, properties=("band_gap",))
    with pytest.raises(FinetuneError, match="no 'band_gap'"):
        finetune(gaps, calculated, output=tmp_path / "out", references="none")
    frame = pd.DataFrame({"formula": ["MgO"], "band_gap": [7.0]})
    with pytest.raises(FinetuneError, match="references and forces go with energies"):
        read_data(frame, property="band_gap", references="fitted", needs_structure=False)


def test_total_energies_are_no_formation_energies(project: Path) -> None:
    data = read_data(project, property="energy_per_atom")
    assert data.property == "energy_per_atom" and len(data) == 3 and data.references is None
    with pytest.raises(FinetuneError, match="energies above fitted references need these references"):
        read_data(project, property="energy_above_fitted_references_per_atom")


# ---- names and kinds of data


def test_rows_of_one_name_have_reasons_of_their_own() -> None:
    rows = []
    for symbol in ("Cu", "Ag", "Cu", "Pt"):
        atoms = bulk(symbol)
        atoms.info["name"] = "slab"
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
        rows.append(atoms)
    data = read_data(rows, references={"Cu": -1.0})
    assert data.names == ["slab", "slab (2)"]
    assert data.rejected.keys() == {"slab (1)", "slab (3)"}
    assert "of Ag" in data.rejected["slab (1)"] and "of Pt" in data.rejected["slab (3)"]


def test_folder_and_file_together(project: Path, labelled: list[Atoms], tmp_path: Path) -> None:
    write(tmp_path / "lab.extxyz", labelled)
    for data in ([project, tmp_path / "lab.extxyz"], [str(tmp_path / "lab.extxyz"), str(project)]):
        with pytest.raises(FinetuneError, match="cannot be read together; give one kind") as caught:
            read_data(data)
        assert str(project) in str(caught.value) and "does not exist" not in str(caught.value)

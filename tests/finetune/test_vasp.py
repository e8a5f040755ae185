"""Reading VASP runs: which numbers are taken.

Files are synthetic (examples/finetune_vasp/synthetic_runs.py) unless a test says otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from ase.units import GPa

from ase_matprop.finetune import read_vasp
from ase_matprop.finetune.vasp.outcar import read_outcar
from ase_matprop.finetune.vasp.vasprun import read_vasprun
from tests.finetune.runs import by_name, only


@pytest.mark.data
def test_la_zr_o_of_the_data(data_dir: Path) -> None:
    """Formation energies of the README of the data, which are those of the project's own CSV file (doped)."""
    folder = data_dir / "vasp" / "la_zr_o_hse06"
    runs = read_vasp(folder)
    assert len(runs.used) == 11 and not runs.rejected and not runs.missing_elements()
    frame = runs.to_frame()
    lowest = frame.groupby("formula")["formation_energy_per_atom"].min()
    assert lowest["ZrO2"] == pytest.approx(-3.658476, abs=1e-6)
    assert lowest["La2O3"] == pytest.approx(-3.603442, abs=1e-6)
    assert lowest["La2Zr2O7"] == pytest.approx(-3.716076, abs=1e-6)
    table = pd.read_csv(folder / "zro2_la_competing_phase_energies.csv")
    ours = sorted(zip(frame["energy_per_atom"], frame["formation_energy_per_atom"], strict=True))
    theirs = sorted(zip(table["DFT Energy (eV/atom)"], table["Formation Energy (eV/atom)"], strict=True))
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    assert set(frame["functional"]) == {"HSE06"} and set(frame["encut"]) == {620.0}
    assert set(frame["settings_set"]) == {1}


@pytest.mark.data
def test_faulty_runs_of_the_data(data_dir: Path) -> None:
    folder = data_dir / "vasp" / "faulty"
    runs = by_name(read_vasp(folder), folder)
    assert "did not converge in 5 ionic steps (NSW = 5)" in runs["ionic_unconverged/vasprun.xml.gz"].reason
    assert "is cut off after 0 complete ionic steps" in runs["not_a_run/vasprun.xml"].reason
    assert {run.status for run in runs.values()} == {"rejected"}
    steps = by_name(read_vasp(folder, steps="all"), folder)
    assert len(steps["ionic_unconverged/vasprun.xml.gz"].frames) == 5


def test_pressure_is_taken_off(ase_data: Path) -> None:
    """A real file; the energies are those of ASE's own test of it (ase/test/fio/vasp/test_read_vasp_xml.py)."""
    run = only(read_vasp(ase_data / "vasprun_pstress.xml"))
    assert run.energy == pytest.approx(-20.24720095, abs=1e-7)
    assert run.atoms.calc.results["free_energy"] == pytest.approx(-20.24695937, abs=1e-7)
    assert run.settings.functional == "LDA"  # PAW without _PBE; pymatgen calls it GGA
    assert "PSTRESS" in run.notes[0]


def test_linear_response(ase_data: Path) -> None:
    """A real file whose last electronic steps are those of a response, not of the ground state."""
    if not (ase_data / "vasprun_dfpt.xml").exists():
        pytest.skip("this version of ASE has no such file")
    run = only(read_vasp(ase_data / "vasprun_dfpt.xml"))
    assert run.formula == "NaCl" and run.calculation == "response"
    assert run.energy == pytest.approx(-6.74587304, abs=1e-8)  # the file's block of the ionic step


def test_old_outcar(ase_data: Path) -> None:
    """A real OUTCAR of VASP 5.3.3; energy and formula as ASE's reader has them."""
    from ase.io import read

    atoms = read(ase_data / "OUTCAR_example_1", format="vasp-out")
    run = only(read_vasp(ase_data / "OUTCAR_example_1"))
    assert run.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    assert run.settings.functional == "PBE" and run.settings.encut == 300.0 and run.settings.spin == "collinear"
    assert run.formula == "Ni" and run.n_atoms == 18


def test_numbers_and_signs(synthetic, relaxed, project: Path) -> None:
    """What was written comes back, in ASE's units and signs."""
    run = by_name(read_vasp(project, steps="all"), project)["alloys/ordered/CuAu/vasprun.xml"]
    written, _ = synthetic.grouped(relaxed["CuAu"])
    assert run.n_steps == len(run.frames) == len(written) > 2
    for frame, original in zip(run.frames, written, strict=True):
        assert frame.get_potential_energy() == pytest.approx(original.get_potential_energy(), abs=1e-7)
        free = original.get_potential_energy() - synthetic.ENTROPY * len(original)
        assert frame.get_potential_energy(force_consistent=True) == pytest.approx(free, abs=1e-7)
        np.testing.assert_allclose(frame.get_forces(), original.get_forces(), atol=1e-7)
        np.testing.assert_allclose(frame.get_stress(), original.get_stress(), atol=1e-8)
        np.testing.assert_allclose(frame.cell.array, original.cell.array, atol=1e-7)
        assert frame.info["group"] == "CuAu" and frame.info["run"] == run.path
    assert [frame.info["step"] for frame in run.frames] == list(range(len(written)))


def test_compressed_cell_has_negative_stress(synthetic, tmp_path: Path) -> None:
    """VASP's positive pressure is ASE's negative stress: a bulk modulus' worth for a strained cell."""
    atoms = bulk("Cu", a=3.50)
    frame = synthetic.snapshot(atoms)
    synthetic.write_vasprun(tmp_path / "vasprun.xml", [frame])
    kbar = float((tmp_path / "vasprun.xml").read_text().partition('name="stress">')[2].split()[1])
    stress = only(read_vasp(tmp_path)).atoms.get_stress()
    assert kbar > 0 and stress[0] == pytest.approx(-kbar / 10 * GPa, rel=1e-6)
    # against finite differences of the energy: sigma_xx = dE/d(strain_xx) / V
    energies = []
    for strain in (-1e-4, 1e-4):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ np.diag([1 + strain, 1, 1]), scale_atoms=True)
        energies.append(synthetic.snapshot(strained).get_potential_energy())
    assert stress[0] == pytest.approx((energies[1] - energies[0]) / 2e-4 / atoms.get_volume(), rel=1e-3)


def test_energy_convention(synthetic, project: Path) -> None:
    sigma0, free, forces = (read_vasp(project, **options) for options in ({}, {"energy": "free"}, {"forces": True}))
    assert (sigma0.energy, free.energy, forces.energy) == ("sigma0", "free", "free")
    for first, second, third in zip(sigma0, free, forces, strict=True):
        assert second.energy_per_atom == pytest.approx(first.energy_per_atom - synthetic.ENTROPY)
        assert third.energy == second.energy == third.atoms.get_potential_energy()


def test_block_of_old_versions_is_not_trusted(synthetic, relaxed, tmp_path: Path) -> None:
    """Up to 5.4.4 the block of an ionic step has E0 - F or another number as e_0_energy."""
    for name, version in (("new", "6.4.2"), ("old", "5.4.4")):
        settings = synthetic.Settings(nsw=60, ibrion=2, version=version)
        synthetic.write_vasprun(tmp_path / name / "vasprun.xml", relaxed["CuAu"], settings)
    new, old = (only(read_vasp(tmp_path / name)) for name in ("new", "old"))
    assert old.energy == pytest.approx(new.energy, abs=1e-7) == relaxed["CuAu"][-1].get_potential_energy()


def test_outcar_equals_vasprun(synthetic, relaxed, tmp_path: Path) -> None:
    settings = synthetic.Settings(nsw=60, ibrion=2, hubbard_u={"Cu": 4.0}, ispin=2)
    first = read_vasprun(synthetic.write_vasprun(tmp_path / "vasprun.xml", relaxed["CuAu"], settings))
    second = read_outcar(synthetic.write_outcar(tmp_path / "OUTCAR", relaxed["CuAu"], settings))
    assert len(first.steps) == len(second.steps)
    for step, other in zip(first.steps, second.steps, strict=True):
        assert other.sigma0 == pytest.approx(step.sigma0, abs=1e-7)
        assert other.free_energy == pytest.approx(step.free_energy, abs=1e-7)
        assert other.n_electronic == step.n_electronic and other.converged == step.converged
        np.testing.assert_allclose(other.forces, step.forces, atol=1e-6)
        np.testing.assert_allclose(other.stress, step.stress, atol=1e-7)
    for name in ("label", "hubbard_u", "potcars", "encut", "kpoints", "spin", "charge", "version"):
        assert getattr(first.settings, name) == getattr(second.settings, name), name
    assert first.tags == second.tags


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_compressed_equals_plain(synthetic, relaxed, tmp_path: Path, ending: str) -> None:
    for writer, name in ((synthetic.write_vasprun, "vasprun.xml"), (synthetic.write_outcar, "OUTCAR")):
        plain = writer(tmp_path / "plain" / name, relaxed["Cu"])
        packed = writer(tmp_path / "packed" / f"{name}{ending}", relaxed["Cu"])
        first, second = only(read_vasp(plain)), only(read_vasp(packed))
        assert first.energy == second.energy and first.formula == second.formula == "Cu"


def test_formation_energy_of_a_larger_cell(synthetic, project: Path) -> None:
    """An invariant: per atom, a supercell has the energies of its cell; it is noted as the same structure."""
    before = read_vasp(project)
    cell = by_name(before, project)["alloys/ordered/CuAu/vasprun.xml"].atoms
    synthetic.write_vasprun(project / "z_super" / "vasprun.xml", [synthetic.snapshot((cell * (2, 1, 1)).copy())])
    frame = read_vasp(project).to_frame().set_index("formula").loc["CuAu"]
    assert list(frame["n_atoms"]) == [4, 8]
    values = frame["formation_energy_per_atom"]
    assert values.iloc[0] == pytest.approx(values.iloc[1], abs=1e-6)
    assert "nearly the structure of" in frame["notes"].iloc[1]


def test_order_of_the_files_does_not_matter(project: Path) -> None:
    paths = sorted(project.rglob("vasprun.xml"))
    forwards, backwards = (read_vasp(order).to_frame().set_index("path") for order in (paths, paths[::-1]))
    pd.testing.assert_frame_equal(forwards.sort_index(), backwards.sort_index())
    assert list(backwards.index) == [str(path) for path in paths[::-1]]


def test_processes_give_the_same(project: Path) -> None:
    pd.testing.assert_frame_equal(read_vasp(project).to_frame(), read_vasp(project, n_jobs=2).to_frame())

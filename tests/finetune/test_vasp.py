"""Reading and judging VASP runs: which numbers are taken, what is refused.

Files are synthetic (examples/finetune_vasp/synthetic_runs.py) unless a test says otherwise.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk, molecule
from ase.units import GPa

from ase_matprop.errors import CalculationError, IncompatibleRunsError, MatPropError, UnknownNameError
from ase_matprop.finetune import VaspRun, VaspRuns, read_vasp
from ase_matprop.finetune.vasp.outcar import read_outcar
from ase_matprop.finetune.vasp.vasprun import read_vasprun


def by_name(runs: VaspRuns, folder: Path) -> dict[str, VaspRun]:
    return {str(Path(run.path).relative_to(folder)): run for run in runs}


def only(runs: VaspRuns) -> VaspRun:
    (run,) = runs
    return run


# ---- real runs


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


# ---- numbers


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


# ---- steps that are not used


def test_unconverged_early_step_is_dropped(synthetic, relaxed, tmp_path: Path) -> None:
    frames = relaxed["CuAu"]
    settings = synthetic.unconverged(synthetic.Settings(nsw=60, ibrion=2), [0], len(frames))
    for writer, name in ((synthetic.write_vasprun, "vasprun.xml"), (synthetic.write_outcar, "OUTCAR")):
        path = writer(tmp_path / name / name, frames, settings)
        last, every = only(read_vasp(path)), only(read_vasp(path, steps="all"))
        assert last.is_used and last.n_dropped == 1 and "ionic step 1 of" in last.notes[0]
        assert len(every.frames) == len(frames) - 1 and every.frames[0].info["step"] == 1


def test_unconverged_last_step(synthetic, relaxed, tmp_path: Path) -> None:
    frames = relaxed["CuAu"]
    settings = synthetic.unconverged(synthetic.Settings(nsw=60, ibrion=2), [len(frames) - 1], len(frames))
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", frames, settings)
    last, every = only(read_vasp(path)), only(read_vasp(path, steps="all"))
    assert not last.is_used and "did not converge electronically (60 electronic steps, NELM = 60)" in last.reason
    assert "steps='all'" in last.reason and np.isnan(last.energy)
    assert every.is_used and len(every.frames) == len(frames) - 1 and not every.is_final


def test_all_steps_unconverged(synthetic, relaxed, tmp_path: Path) -> None:
    frames = relaxed["CuAu"]
    settings = synthetic.unconverged(synthetic.Settings(nsw=60, ibrion=2), range(len(frames)), len(frames))
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", frames, settings)
    runs = read_vasp(path, steps="all")
    assert "larger NELM" in only(runs).reason
    with pytest.raises(CalculationError, match=r"0 of 1 VASP runs can be used.*larger NELM"):
        runs.check_usable()


def test_relaxation_that_ended_early(synthetic, relaxed, tmp_path: Path) -> None:
    """NSW reached; forces above EDIFFG without NSW reached (stopped); forces below it in the last of NSW steps."""
    frames = relaxed["CuAu"]
    loose, n = synthetic.Settings(nsw=60, ibrion=2, isif=2), len(frames)
    strained = bulk("Cu", cubic=True)
    strained.positions[0] += [0.2, 0.1, 0.0]
    cases = {
        "NSW reached": (frames, replace(loose, nsw=n, isif=3), False),
        "below EDIFFG in the last step": (frames, replace(loose, nsw=n, ediffg=-0.1), True),
        "stopped": ([synthetic.snapshot(strained)] * 2, loose, False),
        "criterion of energy": ([synthetic.snapshot(strained)] * 2, replace(loose, ediffg=1e-4), True),
    }
    for name, (steps, settings, expected) in cases.items():
        run = only(read_vasp(synthetic.write_vasprun(tmp_path / name / "vasprun.xml", steps, settings)))
        assert run.is_used is expected, name
        assert expected or "relaxation did not converge" in run.reason
        every = only(read_vasp(Path(run.path), steps="all"))
        assert every.is_used and every.is_final is expected, name


def test_outcar_knows_whether_a_relaxation_is_done(synthetic, relaxed, tmp_path: Path) -> None:
    """VASP's own word counts more than the number of steps; that of another run does not."""
    frames = relaxed["CuAu"]
    settings = synthetic.Settings(nsw=len(frames), ibrion=2)
    for name, other in (("same", frames), ("another", relaxed["Cu"])):
        synthetic.write_vasprun(tmp_path / name / "vasprun.xml", frames, settings)
        synthetic.write_outcar(tmp_path / name / "OUTCAR", other, replace(settings, nsw=60))
    same, another = (only(read_vasp(tmp_path / name)) for name in ("same", "another"))
    assert same.is_used
    assert not another.is_used and "of another run" in another.notes[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"icharg": 11}, "ICHARG = 11 keeps the charge density fixed"),
        ({"tags": {"ALGO": "GW0"}}, "ALGO = GW0 gives no self-consistent total energy"),
        ({"tags": {"ALGO": "Chi"}}, "ALGO = CHI"),
        ({"tags": {"ALGO": "Exact"}, "nelm": 1, "electronic_steps": [1]}, "NELM = 1"),
        ({"electrons": -1.0}, "charge +1"),
    ],
)
def test_runs_without_a_ground_state_energy(synthetic, relaxed, tmp_path: Path, changes, words: str) -> None:
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", relaxed["Cu"][-1:], synthetic.Settings(**changes))
    for steps in ("last", "all"):
        run = only(read_vasp(path, steps=steps))
        assert run.status == "rejected" and np.isnan(run.energy) and run.formula == "Cu"
        assert words in run.reason


def test_kinds_of_calculations(synthetic, relaxed, tmp_path: Path) -> None:
    frames = relaxed["CuAu"]
    cases = {
        "md": (synthetic.Settings(ibrion=0, nsw=100), "molecular dynamics", frames[-1], "snapshot"),
        "phonons": (synthetic.Settings(ibrion=6, nsw=1), "displacements", frames[0], "not displaced"),
        "neb": (synthetic.Settings(ibrion=3, nsw=100, tags={"IMAGES": 3}), "relaxation", frames[-1], "nudged"),
    }
    for name, (settings, calculation, main, word) in cases.items():
        path = synthetic.write_vasprun(tmp_path / name / "vasprun.xml", frames, settings)
        run = only(read_vasp(path))
        assert run.is_used and run.calculation == calculation and word in run.notes[0], name
        assert run.energy == pytest.approx(main.get_potential_energy(), abs=1e-7)
        assert len(only(read_vasp(path, steps="all")).frames) == len(frames)
    assert "springs" in only(read_vasp(tmp_path / "neb", forces=True)).reason


def test_response_does_not_count_as_electronic_steps(synthetic, relaxed, tmp_path: Path) -> None:
    """The electronic steps of the response go beyond NELM; the last one of the ground state has more entries."""
    path = synthetic.write_vasprun(
        tmp_path / "vasprun.xml", relaxed["Cu"][-1:], synthetic.Settings(nelm=8, tags={"LEPSILON": True})
    )
    head, _, tail = path.read_text().rpartition("</energy></scstep>")
    names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    response = "".join(f'<i name="{name}">-0.2</i>' for name in names)
    contribution = '<i name="alphaZ">1.0</i></energy></scstep>'
    path.write_text(head + contribution + 10 * f"<scstep><energy>{response}</energy></scstep>" + tail)
    run = only(read_vasp(path))
    assert run.is_used and run.energy == pytest.approx(relaxed["Cu"][-1].get_potential_energy(), abs=1e-7)


def test_missing_forces(synthetic, relaxed, tmp_path: Path) -> None:
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", relaxed["Cu"][-1:])
    head, _, tail = path.read_text().partition('<varray name="forces">')
    path.write_text(head + tail.partition("</varray>")[2])
    assert only(read_vasp(path)).is_used
    assert "has no forces; use forces=False" in only(read_vasp(path, forces=True)).reason


# ---- files


def test_broken_files_are_listed(synthetic, relaxed, tmp_path: Path) -> None:
    frames = relaxed["CuAu"]
    settings = synthetic.Settings(nsw=60, ibrion=2)
    synthetic.write_vasprun(tmp_path / "a_cut" / "vasprun.xml", frames, settings, keep=0.7)
    whole = synthetic.write_vasprun(tmp_path / "b_gz" / "vasprun.xml.gz", frames, settings)
    whole.write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "c_empty").mkdir()
    (tmp_path / "c_empty" / "vasprun.xml").touch()
    synthetic.write_outcar(tmp_path / "d_outcar" / "OUTCAR", frames, settings, keep=0.7)
    synthetic.write_outcar(tmp_path / "e_start" / "OUTCAR", frames, settings, keep=0.02)
    (tmp_path / "f_html").mkdir()
    (tmp_path / "f_html" / "vasprun.xml").write_text("<html><body>quota exceeded")
    (tmp_path / "g_link").mkdir()
    (tmp_path / "g_link" / "OUTCAR").symlink_to(tmp_path / "nowhere")
    overflow = synthetic.write_vasprun(tmp_path / "h_overflow" / "vasprun.xml", frames[-1:])
    head, tag, tail = overflow.read_text().rpartition('<i name="e_fr_energy">')
    overflow.write_text(head + tag + "**********" + tail[tail.index("<") :])
    binary = synthetic.write_vasprun(tmp_path / "i_zeros" / "vasprun.xml", frames, settings)
    binary.write_bytes(binary.read_bytes()[:4000] + bytes(500) + binary.read_bytes()[4500:])
    good = synthetic.write_vasprun(tmp_path / "z_good" / "vasprun.xml", frames, settings)
    runs = read_vasp(tmp_path)
    found = {Path(run.path).parent.name: run for run in runs}
    assert list(found) == sorted(found) and len(found) == 10
    expected = {
        "a_cut": "is cut off after", "b_gz": "cannot be decompressed", "c_empty": "is an empty file",
        "d_outcar": "without VASP's closing lines", "e_start": "is no OUTCAR", "f_html": "is no vasprun.xml",
        "g_link": "cannot be opened (No such file or directory)", "h_overflow": "energy that is no number",
        "i_zeros": "is cut off after",
    }  # fmt: skip
    for name, words in expected.items():
        assert found[name].status == "rejected" and words in found[name].reason, (name, found[name].reason)
        assert "\n" not in found[name].reason
    assert found["a_cut"].formula == "CuAu"
    assert [run.path for run in runs.used][-1] == str(good)


def test_names_of_files(synthetic, relaxed, tmp_path: Path) -> None:
    """Suffixes of custodian, prefixes of flat folders, pairs of files, and names that are none."""
    cu, au = relaxed["Cu"][-1:], relaxed["Au"][-1:]
    names = ["vasprun.xml.relax1", "vasprun.xml.relax2.gz", "Cu_vasprun.xml", "vasprun_3.xml", "OUTCAR.static"]
    for number, name in enumerate(names):
        frame = synthetic.snapshot(bulk("Cu", a=3.5 + 0.05 * number))
        writer = synthetic.write_outcar if "OUTCAR" in name else synthetic.write_vasprun
        writer(tmp_path / name, [frame])
    synthetic.write_outcar(tmp_path / "OUTCAR.relax1", cu)
    (tmp_path / "vasprun.xml.json").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    synthetic.write_vasprun(tmp_path / ".hidden" / "vasprun.xml", au)
    (tmp_path / "circle").symlink_to(tmp_path)
    runs = read_vasp(tmp_path)
    assert sorted(Path(run.path).name for run in runs) == sorted(names)
    # a file that is named outright may have any name
    other = shutil.copy(tmp_path / "vasprun_3.xml", tmp_path / "result")
    assert only(read_vasp(other)).is_used
    assert len(read_vasp(str(tmp_path / "vasprun.xml.relax*"))) == 2


def test_vasprun_counts_before_outcar(synthetic, relaxed, tmp_path: Path) -> None:
    frames = relaxed["CuAu"]
    settings = synthetic.Settings(nsw=60, ibrion=2, ispin=2, moments=[1.0, 1.0, -0.5, -0.5])
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", frames, settings)
    synthetic.write_outcar(tmp_path / "OUTCAR.gz", frames, settings)
    run = only(read_vasp(tmp_path))
    assert run.path == str(path) and run.magnetization == pytest.approx(1.0)
    np.testing.assert_allclose(run.moments, [1.0, 1.0, -0.5, -0.5])
    synthetic.write_vasprun(path, frames, settings, keep=0.6)
    fallback = only(read_vasp(tmp_path))
    assert fallback.path.endswith("OUTCAR.gz") and fallback.energy == pytest.approx(run.energy, abs=1e-7)
    assert fallback.notes[0].startswith("vasprun.xml is cut off") and "OUTCAR.gz was read instead" in fallback.notes[0]
    synthetic.write_outcar(tmp_path / "OUTCAR.gz", frames, settings, keep=0.6)
    neither = only(read_vasp(tmp_path))
    assert neither.path == str(path) and "OUTCAR.gz is of no use either" in neither.reason


def test_nothing_is_written(project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def state() -> dict[str, tuple[str, float]]:
        files = [path for path in project.rglob("*") if path.is_file()]
        return {str(path): (hashlib.md5(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}

    workplace = tmp_path / "workplace"
    workplace.mkdir()
    monkeypatch.chdir(workplace)
    before = state()
    for path in [project, *project.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    read_vasp(project, steps="all").to_frame()
    assert state() == before and not list(workplace.iterdir())
    for path in [project, *project.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ("nowhere", "nowhere does not exist"),
        ("", "instead of a path"),
        ([], "no folder and no file"),
        (7, "got 7"),
        ("*/vasprun.xml", "matches no VASP run"),
        (".", "is a folder without VASP runs; give a folder that has files vasprun.xml or OUTCAR"),
    ],
)
def test_no_runs(paths, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "POSCAR").write_text("")
    with pytest.raises(CalculationError, match=words.replace("*", r"\*")):
        read_vasp(paths)


def test_wrong_options(project: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'last'"):
        read_vasp(project, steps="lst")
    with pytest.raises(UnknownNameError, match="energy convention 'sigma'"):
        read_vasp(project, energy="sigma")


def test_too_few_runs(project: Path) -> None:
    runs = read_vasp(project)
    runs.check_usable(3)
    with pytest.raises(CalculationError, match="3 of 3 VASP runs can be used, and 10 are needed: add runs"):
        runs.check_usable(10)


# ---- runs that do not go together, and runs that are one


def test_mixing_is_refused(synthetic, relaxed, project: Path) -> None:
    synthetic.write_vasprun(
        project / "other" / "vasprun.xml", relaxed["CuAu"][-1:], synthetic.Settings(gga="PS", encut=520.0)
    )
    with pytest.raises(IncompatibleRunsError) as caught:
        read_vasp(project)
    message = str(caught.value)
    for words in ("differ in ENCUT, functional", "set 1: 3 runs with PBE, ENCUT 400 eV", "set 2: 1 run with PBEsol"):
        assert words in message
    assert "allow_mixed=True (--allow-mixed)" in message and "other/vasprun.xml" in message
    mixed, unchecked = read_vasp(project, allow_mixed=True), read_vasp(project, check=False)
    assert len(mixed) == len(unchecked) == 4
    frame = mixed.to_frame().set_index("functional")
    assert list(frame.loc["PBE", "settings_set"]) == [1, 1, 1] and frame.loc["PBEsol", "settings_set"] == 2
    # the elements were calculated with the other functional
    assert np.isnan(frame.loc["PBEsol", "formation_energy_per_atom"])
    assert frame.loc["PBE", "formation_energy_per_atom"].notna().all()
    assert mixed.missing_elements() == ["Au", "Cu"]
    with pytest.raises(IncompatibleRunsError):
        unchecked.check_compatible()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"potcars": {"Cu": "PAW_PBE Cu_pv 01Jan2000"}}, "POTCAR of Cu"),
        ({"hubbard_u": {"Cu": 4.0}}, "U of Cu"),
        ({"encut": 401.0}, "ENCUT"),
        ({"tags": {"LHFCALC": True, "HFSCREEN": 0.2, "AEXX": 0.25}}, "functional"),
        ({"tags": {"LSORBIT": True}}, "functional"),
        ({"tags": {"IVDW": 12}}, "functional"),
    ],
)
def test_what_keeps_runs_apart(synthetic, relaxed, project: Path, changes, word: str) -> None:
    synthetic.write_vasprun(project / "o" / "vasprun.xml", relaxed["CuAu"][:1], synthetic.Settings(**changes))
    with pytest.raises(IncompatibleRunsError, match=rf"differ in {word} \("):
        read_vasp(project)


def test_what_may_differ(synthetic, project: Path) -> None:
    """K-points and spin, U of an element that the others do not have, and the way in which PBE was asked for."""
    for name, changes in {
        "kpoints": {"mesh": (2, 2, 2), "ispin": 2, "magmom": [2.0]},
        "u": {"hubbard_u": {"Ni": 6.2}},
        "from POTCAR": {"gga": "--"},
    }.items():
        frame = synthetic.snapshot(bulk("Ni", a=3.52 + 0.1 * len(name)))
        synthetic.write_vasprun(project / name / "vasprun.xml", [frame], synthetic.Settings(**changes))
    with pytest.raises(IncompatibleRunsError, match="U of Ni"):  # of the three among themselves
        read_vasp(project)
    shutil.rmtree(project / "u")
    assert set(read_vasp(project).to_frame()["settings_set"]) == {1}


@pytest.mark.parametrize(
    ("gga", "tags", "titles", "functional"),
    [
        ("PE", {}, "PAW_PBE", "PBE"),
        ("--", {}, "PAW_PBE", "PBE"),
        ("--", {}, "PAW", "LDA"),
        ("PS", {}, "PAW_PBE", "PBEsol"),
        ("PE", {"LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.2}, "PAW_PBE", "HSE06"),
        ("PE", {"LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.2079}, "PAW_PBE", "HSE06"),
        ("PE", {"LHFCALC": True, "AEXX": 0.32, "HFSCREEN": 0.2}, "PAW_PBE", "HSE06 (AEXX 0.32)"),
        ("PE", {"LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.3}, "PAW_PBE", "HSE03"),
        ("PE", {"LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.0}, "PAW_PBE", "PBE0"),
        ("PE", {"LHFCALC": True, "AEXX": 1.0, "HFSCREEN": 0.0}, "PAW_PBE", "HF"),
        ("B3", {"LHFCALC": True, "AEXX": 0.2, "HFSCREEN": 0.0}, "PAW_PBE", "B3LYP"),
        ("--", {"METAGGA": "SCAN"}, "PAW_PBE", "SCAN"),
        ("PE", {"METAGGA": "R2SCA"}, "PAW_PBE", "r2SCAN"),
        ("--", {"METAGGA": "Scan", "LUSE_VDW": True}, "PAW_PBE", "SCAN+rVV10"),
        ("BO", {"LUSE_VDW": True}, "PAW_PBE", "optB88-vdW"),
        ("PE", {"IVDW": 12}, "PAW_PBE", "PBE+D3(BJ)"),
        ("PE", {"LSORBIT": True}, "PAW_PBE", "PBE+SOC"),
    ],
)
def test_names_of_functionals(synthetic, relaxed, tmp_path: Path, gga, tags, titles: str, functional: str) -> None:
    settings = synthetic.Settings(gga=gga, tags=tags, potcars={"Cu": f"{titles} Cu 22Jun2005"})
    for writer, name in ((synthetic.write_vasprun, "vasprun.xml"), (synthetic.write_outcar, "OUTCAR")):
        run = only(read_vasp(writer(tmp_path / name, relaxed["Cu"][-1:], settings)))
        assert run.settings.label == functional


def test_hubbard_u(synthetic, relaxed, tmp_path: Path) -> None:
    run = only(
        read_vasp(
            synthetic.write_vasprun(
                tmp_path / "vasprun.xml", relaxed["CuAu"][-1:], synthetic.Settings(hubbard_u={"Cu": 4.0})
            )
        )
    )
    assert run.settings.label == "PBE+U" and run.settings.hubbard_u == {"Cu": 4.0}
    assert read_vasp(run.path).to_frame()["hubbard_u"][0] == "Cu 4"


def test_duplicates(synthetic, project: Path) -> None:
    source = project / "elements" / "Cu" / "vasprun.xml"
    (project / "z_copy").mkdir()
    (project / "z_copy" / "vasprun.xml.gz").write_bytes(gzip.compress(source.read_bytes()))
    runs = by_name(read_vasp(project), project)
    copy = runs["z_copy/vasprun.xml.gz"]
    assert copy.status == "rejected" and f"duplicate of {source}" in copy.reason and not copy.frames
    # with other settings the same energy is a coincidence
    text = gzip.decompress((project / "z_copy" / "vasprun.xml.gz").read_bytes())
    assert b">400.0<" in text
    (project / "z_copy" / "vasprun.xml.gz").write_bytes(gzip.compress(text.replace(b">400.0<", b">520.0<")))
    assert len(read_vasp(project, check=False).used) == 4
    # both files in one folder are one run
    shutil.copy(project / "z_copy" / "vasprun.xml.gz", source.parent)
    shutil.rmtree(project / "z_copy")
    assert len(read_vasp(project)) == 3
    # as is a folder that is named twice
    assert len(read_vasp([project, project / "elements"])) == 3


def test_near_duplicate_is_noted(synthetic, project: Path) -> None:
    original = by_name(read_vasp(project), project)["alloys/ordered/CuAu/vasprun.xml"]
    moved = original.atoms.copy()
    moved.positions[0] += [0.01, 0.0, 0.0]
    synthetic.write_vasprun(project / "moved" / "vasprun.xml", [synthetic.snapshot(moved)])
    far = bulk("Cu", "hcp", a=2.7, c=4.4) * (2, 1, 1)
    far.symbols[[0, 1]] = "Au"
    synthetic.write_vasprun(project / "other" / "vasprun.xml", [synthetic.snapshot(far)])
    runs = by_name(read_vasp(project), project)
    assert runs["moved/vasprun.xml"].is_used
    assert runs["moved/vasprun.xml"].notes == [
        f"nearly the structure of {original.path}: the two belong on one side of a split"
    ]
    assert not any("nearly" in note for note in runs["other/vasprun.xml"].notes)
    assert {run.atoms.info["group"] for run in runs.values()} == {"Cu", "Au", "CuAu"}


@pytest.mark.parametrize("source", ["MAGMOM", "OUTCAR"])
def test_magnetic_orderings_are_noted(synthetic, tmp_path: Path, source: str) -> None:
    """Ferromagnetic, and two antiferromagnetic orderings of one cell; the last is the second with all spins turned."""
    base = bulk("Ni", cubic=True)
    orderings = {"a": [1, 1, 1, 1], "b": [1, 1, -1, -1], "c": [1, -1, 1, -1], "d": [-1, 1, -1, 1]}
    for number, (name, moments) in enumerate(orderings.items()):
        frame = synthetic.snapshot(base)
        frame.calc.results["energy"] += 0.05 * min(number, 2) + 1e-5 * number
        settings = synthetic.Settings(
            ispin=2, magmom=moments if source == "MAGMOM" else [1.0] * 4, moments=moments if source == "OUTCAR" else ()
        )
        synthetic.write_vasprun(tmp_path / name / "vasprun.xml", [frame], settings)
        synthetic.write_outcar(tmp_path / name / "OUTCAR", [frame], settings)
    runs = by_name(read_vasp(tmp_path), tmp_path)
    assert all(run.is_used for run in runs.values())
    assert runs["a/vasprun.xml"].notes == []
    for name in "bc":
        assert "another magnetic ordering" in runs[f"{name}/vasprun.xml"].notes[0]
        assert "cannot tell the two apart" in runs[f"{name}/vasprun.xml"].notes[0]


def test_molecule_slab_and_atom(synthetic, project: Path) -> None:
    dimer = molecule("N2", vacuum=6.0, pbc=True)
    synthetic.write_vasprun(project / "n2" / "vasprun.xml", [synthetic.snapshot(dimer)])
    atom = dimer[:1]
    synthetic.write_vasprun(project / "n" / "vasprun.xml", [synthetic.snapshot(atom)])
    slab = bulk("Cu", cubic=True) * (1, 1, 2)
    slab.center(vacuum=6.0, axis=2)
    synthetic.write_vasprun(project / "slab" / "vasprun.xml", [synthetic.snapshot(slab)])
    runs = by_name(read_vasp(project), project)
    assert runs["n2/vasprun.xml"].formula == "N2" and "a molecule in a box" in runs["n2/vasprun.xml"].notes[0]
    assert "no reference of its element" in runs["n/vasprun.xml"].notes[0]
    assert "vacuum along c" in runs["slab/vasprun.xml"].notes[0]
    assert not runs["elements/Cu/vasprun.xml"].notes
    # the molecule is the reference of nitrogen, though the file of the atom came first
    energies = read_vasp(project).to_frame().set_index("path")["formation_energy_per_atom"]
    assert energies[runs["n2/vasprun.xml"].path] == 0.0
    assert energies[runs["n/vasprun.xml"].path] > 1.0


def test_symbols_of_old_files(synthetic, tmp_path: Path) -> None:
    """'r' stands for Zr and 'X' for Xe; a parameter that overflowed its format is passed over."""
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", [synthetic.snapshot(bulk("Cu"))])
    text = path.read_text().replace("<c>Cu</c>", "<c>r </c>")
    text = text.replace("<parameters>", '<parameters><i type="int" name="KINTER">******</i>')
    path.write_text(text)
    run = only(read_vasp(path))
    assert run.is_used and run.formula == "Zr" and set(run.settings.potcars) == {"Zr"}
    path.write_text(text.replace("<c>r </c>", "<c>Qq</c>"))
    assert "'Qq', which does not exist" in only(read_vasp(path)).reason


def test_file_without_potcars(synthetic, tmp_path: Path) -> None:
    path = synthetic.write_vasprun(tmp_path / "vasprun.xml", [synthetic.snapshot(bulk("Cu"))])
    path.write_text(path.read_text().replace("<c>PAW_PBE Cu 01Jan2000</c>", "<c></c>"))
    run = only(read_vasp(path))
    assert run.is_used and run.settings.potcars == {} and run.settings.functional == "PBE"


def test_table(project: Path) -> None:
    frame = read_vasp(project).to_frame()
    energies = ["energy_per_atom", "formation_energy_per_atom"]
    assert list(frame)[:8] == ["path", "formula", "n_atoms", *energies, "functional", "status", "reason"]
    assert set(frame["status"]) == {"used"} and frame["reason"].isna().all()
    assert list(frame["kpoints"]) == ["4x4x4"] * 3
    # one atom, 64 points; and the definition of KSPACING for the cell that the mesh was made for, fcc with a = 3.65
    row = frame.set_index("formula").loc["Cu"]
    assert row["kpoint_density"] == 64
    assert row["kpoint_spacing"] == pytest.approx(2 * np.pi * np.sqrt(3) / 3.65 / 4, rel=1e-6)


def test_progress(project: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    read_vasp(project, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_errors_are_of_this_package() -> None:
    assert issubclass(IncompatibleRunsError, CalculationError) and issubclass(CalculationError, MatPropError)

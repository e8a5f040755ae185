"""Finding VASP runs: which files are read, and what is said of broken ones.

Files are synthetic (examples/finetune_vasp/synthetic_runs.py) unless a test says otherwise.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from ase_matprop.errors import CalculationError, UnknownNameError
from ase_matprop.finetune import read_vasp
from tests.finetune.runs import only


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

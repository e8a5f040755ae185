"""Judging VASP runs: which steps are used, and why others are not.

Files are synthetic (examples/finetune_vasp/synthetic_runs.py) unless a test says otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from ase_matprop.errors import CalculationError
from ase_matprop.finetune import read_vasp
from tests.finetune.runs import only


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

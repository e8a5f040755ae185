"""``matprop vasp``, as a user types it; the runs are synthetic."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from ase_matprop.cli import app

RUNNER = CliRunner()


def run(*arguments: object):
    return RUNNER.invoke(app, ["vasp", *(str(argument) for argument in arguments)])


def test_csv_in_a_pipe(project: Path) -> None:
    result = run(project)
    assert result.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {row["formula"]: row["status"] for row in rows} == {"Au": "used", "Cu": "used", "CuAu": "used"}
    assert all(row["formation_energy_per_atom"] for row in rows)
    assert result.stderr == "3 runs: 3 used (3 structures), 0 rejected\n"


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_output_file(project: Path, tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"runs.{ending}"
    result = run(project, "--output", output, "--steps", "all", "--energy", "free", "--jobs", 1)
    assert result.exit_code == 0 and result.stdout == "" and f"3 runs in {output}: 3 used" in result.stderr
    frame = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[ending](output)
    needed = [
        "path",
        "formula",
        "n_atoms",
        "energy_per_atom",
        "functional",
        "status",
        "reason",
        "formation_energy_per_atom",
    ]
    assert set(needed) <= set(frame) and len(frame) == 3 and frame["n_used"].sum() > 3


def test_reasons_and_warnings_come_after_the_table(synthetic, relaxed, project: Path) -> None:
    synthetic.write_vasprun(project / "cut" / "vasprun.xml", relaxed["Cu"], keep=0.8)
    synthetic.write_vasprun(project / "other" / "vasprun.xml", relaxed["CuAu"][:1], synthetic.Settings(encut=520.0))
    nickel = bulk("Ni", cubic=True)
    nickel.symbols[0] = "Cu"
    synthetic.write_vasprun(project / "nickel" / "vasprun.xml", [synthetic.snapshot(nickel)])
    result = run(project)
    assert result.exit_code == 0 and len(list(csv.DictReader(io.StringIO(result.stdout)))) == 6
    lines = result.stderr.splitlines()
    assert lines[0].endswith("5 used (5 structures), 1 rejected") and "is cut off" in lines[1]
    assert lines[2].startswith("warning: the runs do not go together, they differ in ENCUT")
    assert lines[3].startswith("formation energies need runs") and "none of Au, Cu, Ni" in lines[3]
    assert "warning:" not in run(project, "--allow-mixed").stderr


def test_nothing_usable(synthetic, relaxed, tmp_path: Path) -> None:
    synthetic.write_vasprun(tmp_path / "vasprun.xml", relaxed["Cu"][-1:], synthetic.Settings(icharg=11))
    result = run(tmp_path)
    assert result.exit_code == 1 and "no run can be used" in result.stderr and "ICHARG = 11" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["."], "is a folder without VASP runs"),
        ([".", "--steps", "every"], "unknown steps setting 'every'"),
        ([".", "--energy", "sigma"], "unknown energy convention 'sigma'"),
        ([".", "--jobs", "0"], "Got 0"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_wrong_output_is_found_before_anything_is_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ase_matprop.finetune.vasp.read.find_runs", None)
    result = run(project, "--output", "runs.xlsx")
    assert result.exit_code == 2 and "must end in .csv, .json, .parquet" in result.stderr


def test_table_of_a_terminal(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from ase_matprop.cli.vasp import _show
    from ase_matprop.finetune import read_vasp

    monkeypatch.setenv("COLUMNS", "160")
    _show(read_vasp(project))
    shown = capsys.readouterr().out
    assert "alloys/ordered/CuAu/vasprun.xml" in shown and str(project) not in shown and "PBE" in shown


def test_one_run_is_no_runs(synthetic, relaxed, tmp_path: Path) -> None:
    synthetic.write_vasprun(tmp_path / "a" / "vasprun.xml", relaxed["CuAu"][-1:])
    result = run(tmp_path)
    assert (
        result.stderr.startswith("1 run: 1 used (1 structure), 0 rejected\n") and "--references table" in result.stderr
    )

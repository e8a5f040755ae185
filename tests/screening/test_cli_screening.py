"""``matprop screen | hull | top | report``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from ase_matprop.cli import app
from ase_matprop.screening.results import Results
from ase_matprop.screening.run import screen

from .small_runs import settings_of, write_known, write_toml


def matprop(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def space(tmp_path: Path) -> Path:
    return write_toml(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    result = matprop("screen", write_toml(folder), "--output", folder / "out", "--workers", 0)
    assert result.exit_code == 0, result.stderr
    return folder / "out"


def test_screen(space: Path, tmp_path: Path) -> None:
    result = matprop("screen", space, "-o", tmp_path / "out", "--workers", "0")
    assert result.exit_code == 0
    best = rows(result.stdout)
    assert len(best) == 10 and float(best[0]["e_above_hull"]) <= float(best[-1]["e_above_hull"])
    results = Results(tmp_path / "out")
    assert f"{results.summary().n_candidates} candidates, 0 filtered out" in result.stderr
    assert f"{results.summary().n_kept} kept in" in result.stderr
    assert f"{results.summary().n_candidates} of {results.summary().n_candidates} candidates" in result.stderr
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    again = matprop("screen", space, "-o", tmp_path / "out", "--workers", 0)
    assert again.exit_code == 0 and again.stdout == result.stdout


def test_local_workers_are_quiet(space: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-c", "from ase_matprop.cli import app; app()", "screen", str(space), "-o",
               str(tmp_path / "out")]  # fmt: skip
    found = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, timeout=100, check=True)
    assert rows(found.stdout)
    for line in found.stderr.splitlines():
        assert "candidates" in line
    assert Results(tmp_path / "out").summary().finished


def test_dry_run(space: Path, tmp_path: Path) -> None:
    result = matprop("screen", space, "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    assert "candidates in" in result.stdout and "model elemnet-mp, sieve in float32" in result.stdout
    assert not (tmp_path / "out").exists()


def test_dry_run_of_what_cannot_work(space: Path, tmp_path: Path) -> None:
    space.write_text(space.read_text().replace("'O'", "'He'"))
    result = matprop("screen", space, "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 2 and "never saw He in training" in result.stderr


def test_below_hull_replaces_the_cut(space: Path, tmp_path: Path) -> None:
    assert matprop("screen", space, "-o", tmp_path / "out", "--below-hull", 0.02, "--workers", 0).exit_code == 0
    results = Results(tmp_path / "out")
    assert results.run["cut"] == -0.02 and results.run["keep"] == {"below_hull": 0.02}
    assert results.to_frame()["e_above_hull"].max() <= -0.02
    space.write_text(space.read_text().replace("[keep]\ne_above_hull = 0.3\n", ""))
    assert matprop("screen", space, "-o", tmp_path / "out", "--below-hull", 0.02, "--workers", 0).exit_code == 0
    space.write_text(space.read_text().replace('[hull]\nfile = "known.csv"\n', ""))
    result = matprop("screen", space, "-o", tmp_path / "other", "--below-hull", 0.02)
    assert result.exit_code == 2 and f"{space}: [keep] has a distance to the hull" in result.stderr


def test_another_model(space: Path, tmp_path: Path) -> None:
    result = matprop("screen", space, "-o", tmp_path / "out", "--model", "irnet17-composition-mp", "--workers", 0)
    assert result.exit_code == 0
    assert Results(tmp_path / "out").run["model"]["name"] == "irnet17-composition-mp"
    result = matprop("screen", space, "-o", tmp_path / "out", "--workers", 0)
    assert result.exit_code == 2 and "has the results of another run (model); give another output" in result.stderr


WRONG: dict[str, tuple[list[Any], str]] = {
    "two kinds of workers": (["--workers", 2, "--scheduler", "tcp://a:1"], "give only one of --workers, --scheduler"),
    "threads of nobody": (["--workers", 0, "--threads", 2], "--threads is for workers, and --workers 0 has none"),
    "negative workers": (["--workers", -1], "Invalid value for '--workers'"),
    "unknown model": (["--model", "elemnet-pm"], "Did you mean 'elemnet-mp'"),
    "negative depth": (["--below-hull", -0.2], "greater than or equal to 0"),
    "unknown option": (["--gpu"], "No such option"),
    "device": (["--device", "gpu", "--workers", 0], "the device 'gpu' cannot be used"),
    "slurm without cores": (["--slurm", 2], "the SLURM jobs cannot be described"),
}


@pytest.mark.parametrize(("options", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_options(options: list[Any], reason: str, space: Path, tmp_path: Path) -> None:
    result = matprop("screen", space, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert reason in result.stderr and "Traceback" not in result.stderr


def test_files_that_are_wrong(tmp_path: Path) -> None:
    result = matprop("screen", tmp_path / "nowhere.toml", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("matprop: the space file ") and result.stderr.count("\n") == 1
    (tmp_path / "space.toml").write_text('[space]\nkind = "formula"\n')
    result = matprop("screen", tmp_path / "space.toml", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "it must be one of formulas, prototypes" in result.stderr


def test_slurm_table_of_the_file(space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ase_matprop.errors import MatPropError
    from ase_matprop.screening import run

    seen = []

    def note(job: Any, shards: Any, workers: Any) -> Any:
        seen.append(workers)
        raise MatPropError("enough")
        yield

    monkeypatch.setattr(run, "run_on_workers", note)
    space.write_text(space.read_text() + '[slurm]\ncores = 8\nmemory = "16GB"\n')
    assert "enough" in matprop("screen", space, "-o", tmp_path / "out", "--slurm", 3).stderr
    assert seen[0].slurm == 3 and seen[0].slurm_options == {"cores": 8, "memory": "16GB"}


def test_bare_elements_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    space = write_toml(tmp_path)
    space.write_text(space.read_text().replace("'O'", "'Mg'"))
    result = matprop("screen", space, "-o", tmp_path / "out", "--workers", 0)
    assert result.exit_code == 0 and "no compound of Li, Mg, Fe with" in caplog.text
    assert len(Results(tmp_path / "out").run["warnings"]) == 1


def test_candidates_that_fail(tmp_path: Path) -> None:
    space = write_toml(tmp_path)
    (tmp_path / "list.csv").write_text("formula\nLi2O\nnonsense\nFeO\n")
    space.write_text('[space]\nkind = "formula-list"\nfile = "list.csv"\n[keep]\nmaximum = 9.0\n')
    result = matprop("screen", space, "-o", tmp_path / "out", "--workers", 0)
    assert result.exit_code == 0
    assert "2 scored, 1 failed, 2 kept" in result.stderr and "list.csv#1: " in result.stderr


def test_what_the_report_needs_is_checked_first(space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ase_matprop.cli import screening

    monkeypatch.setattr(screening, "find_spec", lambda name: None if name == "pymatviz" else name)
    result = matprop("screen", space, "-o", tmp_path / "out", "--workers", 0)
    assert result.exit_code == 2 and "pymatviz" in result.stderr and "ase-matprop[screening]" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_sieve_that_changes_too_much_is_said(space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ase_matprop.screening.engine.sieve_margin", lambda *_: 1e-6)
    space.write_text(space.read_text().replace('"float32"', '"bfloat16"'))
    result = matprop("screen", space, "-o", tmp_path / "out", "--workers", 0)
    assert result.exit_code == 0 and "caution: bfloat16 changed values by up to 0.0" in result.stderr
    assert "caution: bfloat16 changed values" in matprop("top", tmp_path / "out").stderr


def test_top(done: Path, tmp_path: Path) -> None:
    best = rows(matprop("top", done, "--n", 5).stdout)
    assert len(best) == 5 and [float(row["e_above_hull"]) for row in best] == sorted(
        float(row["e_above_hull"]) for row in best
    )
    assert {row["system"] for row in rows(matprop("top", done, "--system", "Li-*-O").stdout)} == {"Fe-Li-O"}
    assert all("Fe" not in row["formula"] for row in rows(matprop("top", done, "--without", "Fe").stdout))
    assert {row["n_elements"] for row in rows(matprop("top", done, "--max-elements", 2).stdout)} == {"2"}
    highest = rows(matprop("top", done, "--by", "formation_energy_per_atom", "--highest", "--n", 3).stdout)
    assert float(highest[0]["formation_energy_per_atom"]) >= float(highest[-1]["formation_energy_per_atom"])
    result = matprop("top", done, "--output", tmp_path / "best.json")
    assert "units of the candidates: formation_energy_per_atom in eV/atom, e_above_hull in eV/atom" in result.stderr
    assert result.exit_code == 0 and "rows in" in result.stderr and result.stdout == ""
    assert json.loads((tmp_path / "best.json").read_text())


WRONG_TOP: dict[str, tuple[list[Any], str]] = {
    "column": (["--by", "energy"], "unknown column"),
    "system": (["--system", "Xx-O"], "no element"),
    "number": (["--n", 0], "greater than or equal to 1"),
    "structures of formulas": (["--structures", "cifs"], "are formulas, and have no structures"),
}


@pytest.mark.parametrize(("options", "reason"), WRONG_TOP.values(), ids=WRONG_TOP)
def test_wrong_options_of_top(
    options: list[Any], reason: str, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = matprop("top", done, *options)
    assert result.exit_code == 2 and reason in result.stderr
    assert not list(tmp_path.iterdir())


def test_top_of_an_unfinished_run(tmp_path: Path) -> None:
    screen(settings_of(tmp_path), tmp_path / "out", shards=range(1))
    result = matprop("top", tmp_path / "out")
    assert result.exit_code == 0 and rows(result.stdout)
    assert "note: the run is not finished: " in result.stderr and "shards are missing" in result.stderr
    result = matprop("top", tmp_path)
    assert result.exit_code == 2 and "has no run.json" in result.stderr


def test_report(done: Path, tmp_path: Path) -> None:
    result = matprop("report", done, "--report", tmp_path / "other.html")
    assert result.exit_code == 0 and result.stdout == f"{tmp_path / 'other.html'}\n"
    assert "<html" in (tmp_path / "other.html").read_text()[:1000]
    assert matprop("report", tmp_path / "nowhere").exit_code == 2


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    path = tmp_path / "candidates.csv"
    path.write_text("formula,formation_energy_per_atom\nLi2O2,-1.5\nFeO2,-1.3\nLi4FeO4,-2.1\n")
    return path


def test_hull(candidates: Path, tmp_path: Path) -> None:
    known = write_known(tmp_path)
    result = matprop("hull", candidates, "--references", known)
    assert result.exit_code == 0
    table = rows(result.stdout)
    assert float(table[0]["e_above_hull"]) == pytest.approx(0.15) and table[0]["decomposition"] == "LiO"
    result = matprop("hull", candidates, "-r", known, "--output", tmp_path / "out.csv")
    assert result.exit_code == 0 and rows((tmp_path / "out.csv").read_text()) == table


def test_hull_with_bad_rows(candidates: Path, tmp_path: Path) -> None:
    with candidates.open("a") as stream:
        stream.write("nonsense,-1\nK2O,-1\nLiO,\nFe3O4,-1.66\n")
    result = matprop("hull", candidates, "-r", write_known(tmp_path))
    assert result.exit_code == 1 and "3 of 7 rows failed; see the column error" in result.stderr
    table = rows(result.stdout)
    assert len(table) == 7 and float(table[6]["e_above_hull"]) == pytest.approx(-0.01)
    assert "K" in table[4]["error"] and table[3]["error"] and table[5]["error"] and not table[6]["error"]


def test_hull_with_elements_at_zero(candidates: Path, tmp_path: Path) -> None:
    candidates.write_text("formula,energy\nK2O,-1.0\nLi2O,-2.0\n")
    known = write_known(tmp_path)
    result = matprop("hull", candidates, "-r", known, "--column", "energy", "--elements-at-zero")
    assert result.exit_code == 0
    assert float(rows(result.stdout)[0]["e_above_hull"]) == pytest.approx(-1.0)


def test_hull_options_that_belong_together(candidates: Path, tmp_path: Path) -> None:
    known = write_known(tmp_path)
    result = matprop("hull", candidates, "-r", known, "--plot", tmp_path / "diagram.html")
    assert result.exit_code == 2 and "needs both --plot FILE and --system" in result.stderr
    result = matprop("hull", candidates, "-r", known, "--plot", tmp_path / "diagram.html", "--system", "Li-Fe-O")
    assert result.exit_code == 0 and (tmp_path / "diagram.html").stat().st_size > 1000
    result = matprop("hull", candidates, "-r", tmp_path / "nowhere.csv")
    assert result.exit_code == 2 and "does not exist; check the path" in result.stderr


def test_tables_on_a_terminal(done: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ase_matprop.terminal import show_candidates

    monkeypatch.setenv("COLUMNS", "100")
    table = Results(done).top(3)
    table["warning"] = [None, "far from the training set [0.9]", None]
    show_candidates(table, Results(done).units)
    shown = capsys.readouterr().out
    assert shown.count("(eV/atom)") == 2  # that of the energies, and that of the distances
    assert all(formula in shown for formula in table["formula"])
    assert "far from the training set [0.9]" in shown and "nan" not in shown.lower()
    assert f"{table['e_above_hull'].iloc[0]:.4f}" in shown


def test_hull_keeps_the_columns_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text("formula,e_form\nMg,0\nO,0\nLi,0\nMgO,-3.1\n")
    rows = "name,formula,formation_energy_per_atom,error\na,MgO,-3.0,\nb,Li2O,-2.0,\nc,MgO2,,was too large\nd,Q,-1,\n"
    (tmp_path / "candidates.csv").write_text(rows)
    result = CliRunner().invoke(app, ["hull", str(tmp_path / "candidates.csv"), "-r", str(tmp_path / "known.csv")])
    frame = pd.read_csv(io.StringIO(result.stdout))
    assert frame["name"].tolist() == ["a", "b", "c", "d"] and frame["formula"].tolist()[1] == "Li2O"
    assert frame["e_above_hull"][0] == pytest.approx(0.1) and frame["error"][2] == "was too large"
    assert frame["error"].notna().tolist() == [False, False, True, True] and result.exit_code == 1
    assert "no compound of Li with other elements" in result.stderr and "2 of 4 rows failed" in result.stderr

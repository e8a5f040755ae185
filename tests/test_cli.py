"""The command line, as a user types it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from ase_matprop import __version__
from ase_matprop.cli import app

RUNNER = CliRunner()


def run(*arguments: object):
    return RUNNER.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    """A folder with two good files, and three that fail: an unknown element, no cell, and no structure."""
    folder = tmp_path / "structures"
    folder.mkdir()
    write(folder / "POSCAR_NaCl", bulk("NaCl", "rocksalt", 5.64), format="vasp")
    write(folder / "b_MgO.cif", bulk("MgO", "rocksalt", 4.21))
    write(folder / "c_Cu.vasp", bulk("Cu"), format="vasp")
    (folder / "d.xyz").write_text("1\nno cell\nFe 0 0 0\n")
    (folder / "e.cif").write_text("data_broken\n_cell_length_a ?\n")
    return folder


def test_predict_in_a_pipe_is_csv(structures: Path, small_model: Path) -> None:
    result = run("predict", structures, "--model", small_model)
    assert result.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 5
    assert [bool(row["error"]) for row in rows] == [False, False, True, True, True]
    assert float(rows[0]["formation_energy_per_atom"]) < 0 and rows[0]["unit"] == "eV/atom"
    # the failures come last, on standard error, each with its file
    failures = result.stderr.strip().splitlines()
    assert failures[0] == "3 inputs failed:"
    assert len(failures) == 4 and "c_Cu.vasp" in failures[1] and "never saw Cu" in failures[1]


def test_predict_exit_code_zero(structures: Path, small_model: Path) -> None:
    result = run("predict", structures / "POSCAR_NaCl", structures / "b_MgO.cif", "-m", small_model)
    assert result.exit_code == 0 and result.stderr == ""


def test_predict_beside_known_values(structures: Path, small_model: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("# measured\nid,formation_energy_per_atom\nPOSCAR_NaCl,-2.1\nb_MgO,-3.0\nother,1\n")
    plot = tmp_path / "parity.html"
    inputs = ["predict", structures / "POSCAR_NaCl", structures / "b_MgO.cif", "-m", small_model]
    result = run(*inputs, "--reference-values", known, "--plot", plot)
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [float(row["reference"]) for row in rows] == [-2.1, -3.0]
    errors = [abs(float(row["formation_energy_per_atom"]) - float(row["reference"])) for row in rows]
    assert f"mean absolute error {sum(errors) / 2:.4f} eV/atom on the 2 of 2 inputs" in result.stderr
    assert "b_MgO.cif" in plot.read_text(encoding="utf-8") and f"plot in {plot}" in result.stderr
    # by formula, with a column of another name; POSCAR_NaCl has two values, and so none
    known.write_text("formula,e\nMgO,-3\nNaCl,-2\nClNa,-1\n")
    result = run(*inputs, "--reference-values", known, "--reference-column", "e", "--unit", "meV/atom")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["reference"] for row in rows] == ["", "-3"]
    assert "meV/atom on the 1 of 2 inputs" in result.stderr


def test_known_values_of_formulas_are_row_by_row(tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("formula,formation_energy_per_atom\nSiO2,-3.2\nMgO,-3\nSiO2,-3.1\nFe2O3,\n")
    result = run("predict", known, "-m", "elemnet-mp", "--reference-values", known, "--plot", tmp_path / "a.png")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["reference"] for row in rows] == ["-3.2", "-3", "-3.1", ""]
    assert "on the 3 of 4 inputs" in result.stderr and (tmp_path / "a.png").stat().st_size > 10_000


def test_known_values_that_are_ambiguous_are_left_out(tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("formula,formation_energy_per_atom\nFe2O3,-1.0\nFe2O3,-1.5\nMgO,-3\nMgO,-3\n")
    result = run("predict", "Fe2O3", "MgO", "-m", "elemnet-mp", "--reference-values", known)
    assert [row["reference"] for row in csv.DictReader(io.StringIO(result.stdout))] == ["", "-3"]
    assert "1 input was left out as ambiguous" in result.stderr
    (tmp_path / "sub").mkdir()
    same = tmp_path / "sub" / ".." / "known.csv"
    result = run("predict", same, "-m", "elemnet-mp", "--reference-values", known)
    assert [row["reference"] for row in csv.DictReader(io.StringIO(result.stdout))] == ["-1", "-1.5", "-3", "-3"]


def test_known_values_by_names_with_dots_and_folders(tmp_path: Path, small_model: Path) -> None:
    salt = bulk("NaCl", "rocksalt", 5.64)
    for name in ("a/1.cif", "b/1.cif", "b/salt_1.0.cif", "b/salt_1.5.cif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, salt)
    write(tmp_path / "t.extxyz", [salt, salt])
    known = tmp_path / "known.csv"
    rows = "salt_1.0,-2.1\nsalt_1.5,-2.2\nsalt_1,-9\nb/1,-2.3\n1,-9\nt,-9\n"
    known.write_text(f"name,formation_energy_per_atom\n{rows}")
    inputs = [tmp_path / name for name in ("a", "b", "t.extxyz")]
    result = run("predict", *inputs, "-m", small_model, "--reference-values", known)
    found = {row["name"]: row["reference"] for row in csv.DictReader(io.StringIO(result.stdout))}
    assert list(found.values()) == ["", "-2.3", "-2.1", "-2.2", "", ""]
    assert "3 inputs were left out as ambiguous" in result.stderr


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        ("formula,formation_energy_per_atom\nNaCl,low\n", [], "'low' in"),
        ("formula,e\nNaCl,1\n", [], "need the column 'formation_energy_per_atom'; they have formula, e"),
        ("mineral,formation_energy_per_atom\nhalite,1\n", [], "need one of the columns name, file"),
        ("", [], "they have no rows"),
        ("formula,formation_energy_per_atom\nMgO,1\n", [], "no prediction has a value in"),
        ("formula,formation_energy_per_atom\nNaCl,1\n", ["--plot", "a.txt"], "must end in .png"),
        ("formula,formation_energy_per_atom\nNaCl,1\n", ["--plot", "none/a.png"], "make it first"),
        ("formula,formation_energy_per_atom\nNaCl,1\n", ["-m", "metal-classifier-mp"], "predicts the class"),
        (None, [], "the file does not exist"),
    ],
)
def test_known_values_that_cannot_be_used(
    content: str | None, options: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("known.csv").write_text(content)
    result = run("predict", "NaCl", "-m", "elemnet-mp", "--reference-values", "known.csv", *options)
    assert result.exit_code == 2 and reason in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.glob("a.*"))


def test_a_plot_needs_known_values() -> None:
    result = run("predict", "NaCl", "-m", "elemnet-mp", "--plot", "a.png")
    assert result.exit_code == 2 and "--reference-values FILE" in result.stderr


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_predict_to_a_file(structures: Path, small_model: Path, tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"energies.{ending}"
    result = run("predict", structures, "--model", small_model, "--output", output, "--batch-size", 2, "--jobs", 2)
    assert result.exit_code == 1 and result.stdout == ""
    frame = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[ending](output)
    assert len(frame) == 5
    assert frame["error"].notna().sum() == 3
    assert frame["formation_energy_per_atom"].notna().sum() == 2
    assert f"5 rows in {output}, 3 of them failed" in result.stderr
    assert not list(tmp_path.glob("*.partial"))


def test_units(structures: Path, small_model: Path) -> None:
    values = [
        float(next(csv.DictReader(io.StringIO(result.stdout)))["formation_energy_per_atom"])
        for result in (
            run("predict", structures / "POSCAR_NaCl", "-m", small_model),
            run("predict", structures / "POSCAR_NaCl", "-m", small_model, "--unit", "meV/atom"),
        )
    ]
    assert values[1] == pytest.approx(1000 * values[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "irnet17-pm"], "Did you mean 'irnet17-mp'?"),
        (["--output", "energies.xlsx"], "must end in .csv, .json, .parquet"),
        (["--output", "no/such/folder/x.csv"], "does not exist"),
        (["--unit", "parsec"], "unknown energy unit 'parsec'"),
        (["--jobs", "0"], "Got 0"),
        (["--output", "/proc/x.csv"], "cannot be written"),
    ],
)
def test_wrong_options_are_one_line(structures: Path, arguments: list[str], message: str) -> None:
    result = run("predict", structures / "POSCAR_NaCl", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_output_never_replaces_an_input(small_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "NaCl.json"
    write(path, bulk("NaCl", "rocksalt", 5.64))
    before = path.read_bytes()
    result = run("predict", path, "-m", small_model, "--output", path)
    assert result.exit_code == 2 and "is one of the inputs" in result.stderr
    assert path.read_bytes() == before


def test_file_name_that_is_no_text(structures: Path, small_model: Path, tmp_path: Path) -> None:
    odd = os.fsencode(structures) + b"/caf\xe9.vasp"
    Path(os.fsdecode(odd)).write_bytes((structures / "POSCAR_NaCl").read_bytes())
    result = run("predict", structures, "-m", small_model, "--output", tmp_path / "x.csv")
    assert result.exit_code == 1
    assert any("caf\\xe9" in name for name in pd.read_csv(tmp_path / "x.csv")["name"])


def test_interrupted_job_says_where_its_rows_are(
    structures: Path, small_model: Path, tmp_path: Path, monkeypatch
) -> None:
    from ase_matprop.models import Predictor

    original, calls = Predictor._predict_batch, []

    def second_batch_is_interrupted(self, batch, n_jobs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, batch, n_jobs)

    monkeypatch.setattr(Predictor, "_predict_batch", second_batch_is_interrupted)
    output = tmp_path / "x.csv"
    result = run("predict", structures, "-m", small_model, "--output", output, "--batch-size", 2)
    assert result.exit_code == 130 and not output.exists()
    assert f"2 finished rows are in {output}.partial" in result.stderr
    assert len(pd.read_csv(f"{output}.partial")) == 2


def test_path_that_does_not_exist(small_model: Path, tmp_path: Path) -> None:
    result = run("predict", tmp_path / "POSCAR", "-m", small_model)
    assert result.exit_code == 1 and "does not exist" in result.stderr


def test_featurize(structures: Path, tmp_path: Path) -> None:
    output = tmp_path / "features.csv"
    result = run("featurize", structures / "POSCAR_NaCl", structures / "d.xyz", "--output", output)
    assert result.exit_code == 1
    frame = pd.read_csv(output)
    assert frame.shape == (2, 273)
    assert frame.drop(columns=["name", "error"]).iloc[0].notna().all()
    wrong = run("featurize", structures / "POSCAR_NaCl", "--descriptor", "soap")
    assert wrong.exit_code == 2 and "unknown descriptor 'soap'" in wrong.stderr


def test_models(small_model: Path, tmp_path: Path) -> None:
    listed = run("models", "list")
    assert listed.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(listed.stdout)))
    assert "irnet17-mp" in [row["name"] for row in rows]

    info = run("models", "info", "irnet17-mp")
    assert info.exit_code == 0
    for expected in ("formation_energy_per_atom", "eV/atom", "Materials Project", "test", "10.1038/s41598-021-83193-1"):
        assert expected in info.stdout
    assert json.loads(run("models", "info", small_model, "--json").stdout)["name"] == "small"

    assert "irnet17-mp: ok" in run("models", "verify").stdout
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "card.json").write_bytes((small_model / "card.json").read_bytes())
    verified = run("models", "verify", small_model, broken)
    assert verified.exit_code == 1
    assert "ok" in verified.stdout and "cannot be read" in verified.stderr


def test_train_with_a_bad_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "x.toml"
    recipe.write_text("name = 3\n")
    result = run("train", recipe, "--output", tmp_path / "run")
    assert result.exit_code == 2 and "cannot be used" in result.stderr


@pytest.mark.parametrize("command", [[], ["predict"], ["featurize"], ["train"], ["models"], ["models", "info"]])
def test_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0 and "Usage" in result.stdout
    if command and command[0] in ("predict", "featurize", "train"):
        assert "Example" in result.stdout


def test_version() -> None:
    assert run("--version").stdout.strip() == f"ase_matprop {__version__}"


def test_as_a_program_from_another_folder(structures: Path, tmp_path: Path) -> None:
    """The installed command, with nothing written to the working directory."""
    empty = tmp_path / "empty"
    empty.mkdir()
    command = Path(sys.executable).with_name("matprop")
    result = subprocess.run(
        [command, "predict", structures / "POSCAR_NaCl"],
        cwd=empty, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "formation_energy_per_atom" in result.stdout
    assert list(empty.iterdir()) == []

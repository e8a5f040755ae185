from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ase_matprop.cli import ebsd
from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.run import run_recipe
from ase_matprop.diffraction.ebsd.simulation import Simulator
from tests.diffraction.ebsd.test_files import up_header
from tests.diffraction.ebsd.test_training import small_recipe

app = typer.Typer()
ebsd.register(app)
runner = CliRunner()


@pytest.fixture(scope="module")
def model(toy: MasterPattern, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    run_recipe(small_recipe(), output, master_pattern=toy)
    return output / "toy"


@pytest.fixture
def scan(toy: MasterPattern, tmp_path: Path) -> Path:
    simulator = Simulator(toy, small_recipe().detector)
    patterns = simulator.patterns(convert.random_orientations(6, seed=0), seed=1).numpy().astype(np.uint8)
    path = tmp_path / "scan.up1"
    path.write_bytes(up_header(3, (24, 24)) + patterns.tobytes())
    return path


def test_predict(model: Path, scan: Path, tmp_path: Path) -> None:
    outputs = [tmp_path / name for name in ("scan.ang", "scan.ctf", "map.png", "table.csv")]
    arguments = [argument for path in outputs for argument in ("--output", str(path))]
    result = runner.invoke(app, ["ebsd", "predict", str(scan), "--model", str(model), *arguments])
    assert result.exit_code == 0, result.output
    assert all(path.stat().st_size > 100 for path in outputs)
    assert "no pattern centre: that of the model's detector" in result.output
    rows = outputs[3].read_text().splitlines()
    assert rows[0].startswith("pattern,phi1,Phi,phi2,spread")
    assert len(rows) == 7
    assert "NCOLS_ODD: 3" in outputs[0].read_text()


def test_outputs_are_written_whole_or_not_at_all(model: Path, scan: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.ang"
    kept.write_text("mine")
    (tmp_path / "folder.ctf").mkdir()
    for bad, message in (("scan.CSV", "must end in"), ("folder.ctf", "is a folder")):
        arguments = ["-m", str(model), "-o", str(kept), "-o", str(tmp_path / bad)]
        result = runner.invoke(app, ["ebsd", "predict", str(scan), *arguments])
        assert result.exit_code == 2
        assert message in result.output
        assert kept.read_text() == "mine"
    assert runner.invoke(app, ["ebsd", "predict", str(scan), "-m", str(model), "-o", str(kept)]).exit_code == 0
    assert kept.read_text() != "mine"
    assert not list(tmp_path.glob("*.partial"))


def test_a_scan_of_unknown_shape_is_mentioned(model: Path, scan: Path, tmp_path: Path) -> None:
    patterns = scan.read_bytes()[42:]
    plain = tmp_path / "plain.up1"
    plain.write_bytes(up_header(1, (24, 24)) + patterns)
    arguments = ["ebsd", "predict", str(plain), "-m", str(model), "-o", str(tmp_path / "map.png")]
    assert "does not say how its points lie" in runner.invoke(app, arguments).output
    assert "does not say" not in runner.invoke(app, [*arguments, "--grid", "2x3"]).output


def test_predict_to_standard_output_with_failed_rows(model: Path, scan: Path) -> None:
    content = bytearray(scan.read_bytes())
    content[42 : 42 + 576] = bytes(576)
    scan.write_bytes(bytes(content))
    result = runner.invoke(app, ["ebsd", "predict", str(scan), "-m", str(model)])
    assert result.exit_code == 1
    assert "pattern 0: the pattern is empty" in result.output
    assert result.output.count("\n") > 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "scan.txt"], "must end in"),
        (["--output", "no_such_folder/scan.ang"], "make it first"),
        (["--grid", "4x4"], "needs 16 patterns. Got 6"),
        (["--grid", "four"], "rows x columns"),
        (["--step", "-1"], "must be positive"),
        (["--pattern-center", "0.5,0.5"], "three numbers"),
        (["--pattern-center", "0.5,0.5,0"], "positive distance"),
    ],
)
def test_wrong_arguments(model: Path, scan: Path, arguments: list[str], message: str) -> None:
    result = runner.invoke(app, ["ebsd", "predict", str(scan), "-m", str(model), *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_wrong_files(model: Path, scan: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["ebsd", "predict", str(scan), "-m", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "unknown EBSD model" in result.output
    other = tmp_path / "other.up1"
    other.write_bytes(up_header(1, (5, 7)) + bytes(35))
    result = runner.invoke(app, ["ebsd", "predict", str(other), "-m", str(model)])
    assert result.exit_code == 2
    assert "give --pattern-center" in result.output


def test_info(model: Path) -> None:
    result = runner.invoke(app, ["ebsd", "info", str(model)])
    assert result.exit_code == 0
    assert '"kind": "ebsd"' in result.output


def test_train_without_recipe(tmp_path: Path) -> None:
    result = runner.invoke(app, ["ebsd", "train", str(tmp_path / "no.toml"), "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert "cannot be read" in result.output

"""The model that ships with the package, from a file of patterns to a file of orientations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ase_matprop.cli import ebsd
from ase_matprop.diffraction import shipped
from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.pattern_files import open_patterns
from ase_matprop.diffraction.ebsd.predictor import DEFAULT_MODEL, EbsdPredictor

#: six patterns that the Simulator made from kikuchipy 0.13.1's master pattern of nickel, on the detector of the model
#: and with the test disturbances of its recipe, seed 4; their orientations are random_orientations(6, seed=3)
PATTERNS = Path(__file__).parent / "data" / "nickel_simulated.tif"
TRUE = convert.random_orientations(6, seed=3)

app = typer.Typer()
ebsd.register(app)


def read_angles(path: Path) -> np.ndarray:
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    return np.degrees(np.array(rows, dtype=float)[:, :3])


def test_card() -> None:
    assert DEFAULT_MODEL in shipped.names("ebsd")
    card = EbsdPredictor.load().card
    assert card.name == DEFAULT_MODEL
    assert card.errors["test"].n == 1000
    for errors in card.errors_by_seed.values():  # what issue 7 asks for
        assert errors.mean <= 2.0
        assert errors.median <= 1.5
    assert sum(path.stat().st_size for path in shipped.model_path(DEFAULT_MODEL, "ebsd").iterdir()) < 8e6


def test_orientations_of_simulated_patterns() -> None:
    result = EbsdPredictor.load().predict(open_patterns(PATTERNS).read())
    assert result.succeeded.all()
    assert convert.disorientations(result.quaternions, TRUE).max() < 4.0
    assert not any(result.warnings)


def test_from_file_to_file(tmp_path: Path) -> None:
    path = tmp_path / "scan.ang"
    result = CliRunner().invoke(app, ["ebsd", "predict", str(PATTERNS), "--grid", "2x3", "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert convert.disorientations(convert.from_euler(read_angles(path)), TRUE).max() < 4.0
    info = CliRunner().invoke(app, ["ebsd", "info"])
    assert f'"name": "{DEFAULT_MODEL}"' in info.output


def test_orix_reads_the_file(tmp_path: Path) -> None:
    io = pytest.importorskip("orix.io")
    path = tmp_path / "scan.ang"
    arguments = ["ebsd", "predict", str(PATTERNS), "--grid", "2x3", "-o", str(path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    crystal_map = io.load(str(path))
    assert crystal_map.shape == (2, 3)
    assert crystal_map.phases[crystal_map.phases.ids[0]].point_group.laue.name == "m-3m"
    assert convert.disorientations(np.asarray(crystal_map.rotations.data), TRUE).max() < 4.0


def test_real_patterns() -> None:
    """The nine of kikuchipy with its orientations: benchmarks/ebsd.py has 2.9 degrees median, two flagged."""
    kikuchipy = pytest.importorskip("kikuchipy")
    file = open_patterns(Path(kikuchipy.__file__).parent / "data" / "kikuchipy_h5ebsd" / "patterns.h5")
    result = EbsdPredictor.load().predict(
        file.read(), detector=file.detector, centers=file.centers, static_background=file.static_background
    )
    true = np.asarray(kikuchipy.data.nickel_ebsd_small().xmap.rotations.data)
    degrees = convert.disorientations(result.quaternions, true)
    assert np.median(degrees) < 4.0
    assert all(warning is not None for warning, wrong in zip(result.warnings, degrees > 8.0, strict=True) if wrong)

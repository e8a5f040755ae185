"""The networks that come with the package, from images to the table of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from ase_matprop.cli import xrd as command
from ase_matprop.diffraction.shipped import names
from ase_matprop.diffraction.xrd.predictor import PatternPredictor
from ase_matprop.diffraction.xrd.simulation import simulate
from ase_matprop.errors import UnknownNameError

KINDS = ("slac", "nist")


def test_names() -> None:
    assert names("xrd") == ["padnet-nist-sim", "padnet-slac-sim"]
    with pytest.raises(UnknownNameError, match="padnet-slack-sim"):
        PatternPredictor.load("padnet-slack-sim")


@pytest.mark.parametrize("kind", KINDS)
def test_card(kind: str) -> None:
    card = PatternPredictor.load(f"padnet-{kind}-sim").card
    assert card.weights.dtype == "float16" and card.training["flip"] is True
    assert card.accuracies["test"].n == 531 and card.accuracies["cross_validation"].n == 531
    assert "only seen simulated images" in card.notes[0] and "simulated images" in card.headline()


@pytest.mark.parametrize("kind", KINDS)
def test_from_images_to_the_table(kind: str, tmp_path: Path) -> None:
    """Accuracy as in the card on images of one of its test seeds, through files and the command line."""
    data = simulate(kind, seed=300)
    chosen = np.arange(0, 177, 3)
    files, rows = [], []
    for sample in chosen:
        for frame, image in enumerate(data.images[sample]):
            files.append(str(tmp_path / f"{sample:03d}-{frame}.npy"))
            np.save(files[-1], image)
        rows.append((f"{sample:03d}-0.npy", *data.compositions[sample]))
    pd.DataFrame(rows, columns=["name", "Sn", "Ti", "Zn"]).to_csv(tmp_path / "wafer.csv", index=False)
    arguments = ["xrd", "predict", *files, "-m", f"padnet-{kind}-sim", "-c", str(tmp_path / "wafer.csv")]
    for frame, geometry in enumerate(data.geometries):
        geometry.write(tmp_path / f"frame-{frame}.json")
        arguments += ["-g", str(tmp_path / f"frame-{frame}.json")]
    app = typer.Typer()
    command.register(app)
    result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "regions.csv")])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "regions.csv")
    right = table["phase_region"] == [data.classes[label] for label in data.labels[chosen]]
    card = PatternPredictor.load(f"padnet-{kind}-sim").card
    assert right.mean() == pytest.approx(card.accuracies["test"].accuracy, abs=0.12)  # 59 of the card's 531 images
    assert set(table["model"]) == {card.name} and table["error"].isna().all()

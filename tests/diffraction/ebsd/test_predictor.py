from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.errors import DetectorError, PatternError
from ase_matprop.diffraction.ebsd.geometry import Detector
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.predictor import EbsdPredictor, OrientationPredictions
from ase_matprop.diffraction.ebsd.run import run_recipe
from ase_matprop.diffraction.ebsd.simulation import Simulator
from ase_matprop.errors import UnknownNameError
from tests.diffraction.ebsd.test_training import small_recipe


@pytest.fixture(scope="module")
def predictor(toy: MasterPattern, tmp_path_factory: pytest.TempPathFactory) -> EbsdPredictor:
    output = tmp_path_factory.mktemp("run")
    run_recipe(small_recipe(), output, master_pattern=toy)
    return EbsdPredictor.load(output / "toy")


@pytest.fixture(scope="module")
def patterns(toy: MasterPattern, predictor: EbsdPredictor) -> np.ndarray:
    simulator = Simulator(toy, predictor.card.detector)
    return simulator.patterns(convert.random_orientations(12, seed=0), seed=1).numpy().astype(np.uint8)


def test_one_row_per_pattern(predictor: EbsdPredictor, patterns: np.ndarray) -> None:
    before = patterns.copy()
    result = predictor.predict(patterns)
    assert np.array_equal(patterns, before)
    assert len(result) == 12
    assert result.succeeded.all()
    assert np.allclose(np.linalg.norm(result.quaternions, axis=1), 1.0)
    assert np.allclose(convert.from_euler(result.euler), result.quaternions, atol=1e-9)
    assert ((result.confidence > 0.0) & (result.confidence <= 1.0)).all()
    frame = result.to_frame()
    assert list(frame) == ["phi1", "Phi", "phi2", "spread", "residual", "distance", "confidence", "warning", "error"]
    assert len(frame) == 12


def test_a_batch_of_one_is_the_batch_of_many(predictor: EbsdPredictor, patterns: np.ndarray) -> None:
    together = predictor.predict(patterns)
    alone = OrientationPredictions.concatenate([predictor.predict(pattern[None]) for pattern in patterns])
    assert convert.disorientations(together.quaternions, alone.quaternions).max() < 1e-2
    assert np.allclose(together.residual, alone.residual, atol=1e-4)
    deeper = predictor.predict(patterns.astype(np.uint16) * 256)
    assert convert.disorientations(together.quaternions, deeper.quaternions).max() < 1e-2


def test_bad_patterns_cost_their_own_row(predictor: EbsdPredictor, patterns: np.ndarray) -> None:
    spoilt = patterns.copy()
    spoilt[2], spoilt[5] = 0, 255
    result = predictor.predict(spoilt)
    assert [row for row, error in enumerate(result.errors) if error] == [2, 5]
    assert np.isnan(result.quaternions[[2, 5]]).all()
    assert np.isnan(result.euler[[2, 5]]).all()
    assert (result.confidence[[2, 5]] == 0.0).all()
    good = [row for row in range(12) if row not in (2, 5)]
    clean = predictor.predict(patterns)
    assert convert.disorientations(result.quaternions[good], clean.quaternions[good]).max() < 1e-2


def test_nothing_to_predict(predictor: EbsdPredictor) -> None:
    assert len(predictor.predict(np.empty((0, 24, 24), np.uint8))) == 0
    assert not predictor.predict(np.zeros((3, 24, 24), np.uint8)).succeeded.any()


def test_wrong_sizes(predictor: EbsdPredictor, patterns: np.ndarray) -> None:
    result = predictor.predict(np.zeros((2, 60, 60), np.uint8))
    assert all("60 x 60 pixels, 24 x 24 are needed" in str(error) for error in result.errors)
    assert all("detector=" in str(error) for error in result.errors)
    with pytest.raises(PatternError, match=r"shape \(n, rows, columns\)"):
        predictor.predict(patterns[0])
    with pytest.raises(PatternError, match="static background"):
        predictor.predict(patterns, static_background=np.ones((3, 3)))
    with pytest.raises(DetectorError, match="12 patterns need as many"):
        predictor.predict(patterns, centers=np.ones((5, 3)))


def test_other_detectors(toy: MasterPattern, predictor: EbsdPredictor) -> None:
    quaternions = convert.random_orientations(10, seed=3)
    own = predictor.card.detector
    clean = np.stack([Simulator(toy, own).project(_tensor(quaternions)).numpy()])[0]
    other = own.model_copy(update={"shape": (96, 96), "tilt": 2.0})
    there = Simulator(toy, other).project(_tensor(quaternions)).numpy()
    ours, theirs = predictor.predict(clean), predictor.predict(there, detector=other)
    assert theirs.succeeded.all()
    assert np.median(convert.disorientations(ours.quaternions, theirs.quaternions)) < 15.0  # a network of eight steps
    away = own.model_copy(update={"pattern_center": (2.5, 0.2, 0.5)})
    result = predictor.predict(clean, detector=away)
    assert not result.succeeded.any()
    assert "check the pattern centre" in str(result.errors[0])
    assert np.isnan(result.quaternions).all()
    centers = np.repeat([own.pattern_center], 10, axis=0)
    same = predictor.predict(clean, centers=centers)
    assert convert.disorientations(same.quaternions, ours.quaternions).max() < 0.5


def test_a_missing_pattern_center_costs_its_own_row(predictor: EbsdPredictor, patterns: np.ndarray) -> None:
    centers = np.repeat([predictor.card.detector.pattern_center], 12, axis=0)
    centers[3], centers[7, 2] = np.nan, 0.0
    result = predictor.predict(patterns, centers=centers)
    assert [row for row, error in enumerate(result.errors) if error] == [3, 7]
    assert "no pattern centre" in str(result.errors[3])
    assert np.isnan(result.quaternions[[3, 7]]).all()
    with pytest.raises(DetectorError, match="positive distance"):
        predictor.predict(patterns, centers=[0.5, 0.5, 0.0])


def test_what_an_untrained_network_says_is_flagged(predictor: EbsdPredictor, patterns: np.ndarray) -> None:
    assert predictor.card.errors["validation"].median > 15.0
    result = predictor.predict(patterns)
    assert all(warning is not None for warning in result.warnings)
    assert "not sure" in str(result.warnings[0])


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="neither a shipped one nor a model folder"):
        EbsdPredictor.load(tmp_path / "nowhere")


def test_prediction_needs_no_other_package() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from ase_matprop.diffraction.ebsd.predictor import EbsdPredictor; "
        "bad = {'kikuchipy', 'orix', 'h5py', 'lightning', 'matplotlib'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _tensor(quaternions: np.ndarray):
    import torch

    return torch.tensor(quaternions).float()


def test_detector_of_the_card(predictor: EbsdPredictor) -> None:
    assert predictor.card.detector == Detector(shape=(24, 24))

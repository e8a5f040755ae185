"""Model folders, prediction on arrays and files, figures and the command line; bad input above all."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from matplotlib.image import imread
from typer.testing import CliRunner

from ase_matprop.cli import xrd as command
from ase_matprop.diffraction.xrd.card import Accuracy, PatternCard
from ase_matprop.diffraction.xrd.errors import DiffractionImageError
from ase_matprop.diffraction.xrd.figures import background_figure, filter_response_figure
from ase_matprop.diffraction.xrd.files import read_compositions, read_image, write_image
from ase_matprop.diffraction.xrd.images import check_image, to_size
from ase_matprop.diffraction.xrd.model import train_model
from ase_matprop.diffraction.xrd.predictor import PatternPredictor
from ase_matprop.diffraction.xrd.simulation import ImageSet, simulate
from ase_matprop.diffraction.xrd.training import TrainingSettings
from ase_matprop.errors import ArtefactError, MissingDependencyError

app = typer.Typer()
command.register(app)


@pytest.fixture(scope="module")
def data() -> ImageSet:
    data = simulate("nist", 32, seed=0)
    return replace(data, images=np.rint(100.0 * data.images))


@pytest.fixture(scope="module")
def folder(data: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    train_model(
        data,
        folder,
        name="small",
        description="A network for tests.",
        background="minimum_mean",
        network={"filter_size": 2, "strides": (2, 1, 1)},
        training=TrainingSettings(epochs=2),
        cross_validation=Accuracy(n=177, accuracy=0.5, of="made up"),
        test=("the images of the training, for tests of the card alone", data),
        precision="float16",
    )
    return folder


@pytest.fixture(scope="module")
def predictor(folder: Path) -> PatternPredictor:
    return PatternPredictor.load(folder)


def counts(data: ImageSet, n: int = 3) -> np.ndarray:
    return data.images[:n].astype(np.uint16)


def test_card(folder: Path, data: ImageSet) -> None:
    card = PatternCard.read(folder)
    assert card.classes == list(data.classes) and card.inputs.composition == ["Sn", "Ti", "Zn"]
    assert card.inputs.detector_geometries() == data.geometries
    assert card.accuracies["cross_validation"].accuracy == 0.5 and card.weights.dtype == "float16"
    test = card.accuracies["test"]
    assert card.summary().n_test == test.n == 177 and card.summary().accuracy == test.accuracy
    assert card.headline() == f"accuracy {test.accuracy:.3f} on 177 simulated images"
    assert card.model_copy(update={"accuracies": {}}).headline() == ""
    assert sum(card.training_set["images"].values()) == 177 and card.network.n_parameters > 1000


def test_prediction_is_that_of_each_sample_alone(predictor: PatternPredictor, data: ImageSet) -> None:
    images, compositions = counts(data, 40), data.compositions[:40]  # more than a batch
    together = predictor.predict(images, compositions, geometries=data.geometries)
    assert len(together) == 40 and together.n_failed == 0
    alone = predictor.predict(images[35:36], compositions[35:36], geometries=data.geometries)
    assert np.allclose(together.probabilities[35], alone.probabilities[0], atol=1e-5)
    assert together.labels[35] == data.classes[together.probabilities[35].argmax()]
    assert np.allclose(together.probabilities.sum(axis=1), 1.0)
    frame = together.to_frame()
    assert list(frame.columns[:2]) == ["name", "phase_region"] and len(frame) == 40 and frame["error"].isna().all()


def test_larger_images_are_binned(predictor: PatternPredictor, data: ImageSet) -> None:
    large = np.repeat(np.repeat(counts(data), 4, axis=2), 4, axis=3)
    geometries = [replace(each, shape=(128, 128), pixel=each.pixel / 4) for each in data.geometries]
    small = predictor.predict(counts(data), data.compositions[:3], geometries=data.geometries)
    found = predictor.predict(large, data.compositions[:3], geometries=geometries)
    assert np.allclose(found.probabilities, small.probabilities, atol=1e-5)


def test_accuracy_of_the_card_is_that_of_the_stored_weights(predictor: PatternPredictor, data: ImageSet) -> None:
    found = predictor.predict(data.images, data.compositions, geometries=data.geometries)
    right = np.mean([label == data.classes[number] for label, number in zip(found.labels, data.labels, strict=True)])
    assert predictor.card.accuracies["test"].accuracy == pytest.approx(right, abs=1e-4)


def bad(image: np.ndarray, name: str) -> np.ndarray:
    image = image.copy()
    if name == "size":
        return image[:, :20, :20]
    if name == "frames":
        return image[:1]
    if name == "8 bits":
        return image.astype(np.uint8)
    if name == "saturated":
        image[:, :10] = 65535
    elif name == "empty":
        image[:] = 0
    elif name == "not finite":
        image = image.astype(np.float32)
        image[0, 3, 3] = np.nan
    elif name == "negative":
        image = image.astype(np.int32)
        image[0, 3, 3] = -1
    elif name == "complex":
        image = image.astype(complex)
    return image


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("size", "20 x 20 pixels, its geometry 32 x 32; give the geometry of this image"),
        ("frames", r"shape \(1, 32, 32\); the network needs 2 frame"),
        ("8 bits", "8 bits for each pixel, to which counts were scaled"),
        ("saturated", "31.2 % of the pixels are saturated"),
        ("empty", "empty: all pixels are 0"),
        ("not finite", "1 pixels are not finite"),
        ("negative", "1 pixels are below zero"),
        ("complex", "type complex128"),
    ],
)
def test_a_bad_image_costs_its_own_row(name: str, message: str, predictor: PatternPredictor, data: ImageSet) -> None:
    good = counts(data)
    images = [good[0], bad(good[1], name), good[2]]
    found = predictor.predict(images, data.compositions[:3], geometries=data.geometries)
    assert found.errors[0] is None and found.errors[2] is None and found.n_failed == 1
    assert found.errors[1] is not None and found.labels[1] is None and np.isnan(found.probabilities[1]).all()
    assert re.search(message, found.errors[1])


def test_compositions_are_checked(predictor: PatternPredictor, data: ImageSet) -> None:
    compositions = data.compositions[:3].copy()
    compositions[1] = [0.5, 0.5, 0.5]
    found = predictor.predict(counts(data), compositions, geometries=data.geometries)
    assert found.n_failed == 1 and "(0.5, 0.5, 0.5) must be cation fractions of Sn Ti Zn" in str(found.errors[1])
    with pytest.raises(DiffractionImageError, match="needs the composition of each sample: .* of Sn Ti Zn"):
        predictor.predict(counts(data), geometries=data.geometries)
    with pytest.raises(DiffractionImageError, match=r"compositions have the shape \(2, 3\); 3 images need \(3, 3\)"):
        predictor.predict(counts(data), compositions[:2], geometries=data.geometries)
    with pytest.raises(DiffractionImageError, match="2 names were given for 3 images"):
        predictor.predict(counts(data), compositions, geometries=data.geometries, names=["a", "b"])


def test_a_part_of_the_image_is_refused(predictor: PatternPredictor, data: ImageSet) -> None:
    """The lower half of a larger image has the network's size, and other scattering angles."""
    geometries = [replace(each, shape=(64, 64), pixel=each.pixel / 2) for each in data.geometries]
    found = predictor.predict(counts(data), data.compositions[:3], geometries=geometries)
    assert found.n_failed == 3 and "32 x 32 pixels, its geometry 64 x 64" in str(found.errors[0])


def test_geometry_is_checked(predictor: PatternPredictor, data: ImageSet) -> None:
    first, second = data.geometries

    def predict(geometries: list | None) -> None:
        predictor.predict(counts(data), data.compositions[:3], geometries=geometries)

    with pytest.raises(DiffractionImageError, match="have no geometry; give that of each frame"):
        predict(None)
    with pytest.raises(DiffractionImageError, match="1 geometries were given, the network small needs 2"):
        predict([first])
    with pytest.raises(DiffractionImageError, match=r"frame 2 is elsewhere than in training: 2 theta differs by up to"):
        predict([first, first])
    with pytest.raises(DiffractionImageError, match="frame 1 was taken at 0.71 Angstrom, the network was"):
        predict([replace(first, wavelength=0.71), second])
    with pytest.raises(DiffractionImageError, match="geometry of frame 1 is of 48 x 48 pixels"):
        predict([replace(first, shape=(48, 48)), second])


def test_other_counts_than_in_training_are_flagged(predictor: PatternPredictor, data: ImageSet) -> None:
    images = counts(data)
    images[1] = np.minimum(images[1].astype(np.int64) * 100 + 500, 60000)
    found = predictor.predict(images, data.compositions[:3], geometries=data.geometries)
    assert "the mean count is" in str(found.warnings[1]) and "mean count" not in str(found.warnings[0])


def test_altered_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no model folder"):
        PatternPredictor.load(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    weights = (folder / "weights.safetensors").read_bytes()
    for name, content, data, message in (
        ("weights", card, weights[:-1] + b"x", "corrupted or altered"),
        ("kind", card | {"kind": "other"}, weights, "another kind of model"),
        ("version", card | {"format_version": 99}, weights, "format version 99"),
        ("key", card | {"other": 1}, weights, "other: unknown key"),
        (
            "network",
            card | {"network": card["network"] | {"settings": {"size": 64}}},
            weights,
            "do not fit the network",
        ),
        ("classes", card | {"classes": card["classes"][:7]}, weights, "names 7 phase regions, the network has 8"),
        ("geometry", card | {"inputs": card["inputs"] | {"geometries": [{}]}}, weights, "a geometry cannot be read"),
    ):
        target = tmp_path / name
        target.mkdir()
        (target / "card.json").write_text(json.dumps(content))
        (target / "weights.safetensors").write_bytes(data)
        with pytest.raises(ArtefactError, match=message):
            PatternPredictor.load(target)


def write_tif(path: Path, image: np.ndarray) -> None:
    fabio = pytest.importorskip("fabio")
    fabio.tifimage.TifImage(data=image).write(str(path))


def test_files(tmp_path: Path, data: ImageSet) -> None:
    image = counts(data)[0, 0]
    fabio = pytest.importorskip("fabio")
    write_tif(tmp_path / "a.tif", image)
    fabio.bruker100image.Bruker100Image(data=image).write(str(tmp_path / "a.gfrm"))
    np.save(tmp_path / "a.npy", image)
    for name in ("a.tif", "a.gfrm", "a.npy"):
        assert np.array_equal(read_image(tmp_path / name), image)
    write_image(tmp_path / "b.tif", image - 0.5)
    assert np.allclose(read_image(tmp_path / "b.tif"), image - 0.5)


def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tif").write_bytes(b"no image")
    (tmp_path / "a.npy").write_bytes(b"")
    np.save(tmp_path / "b.npy", np.ones((2, 3, 4)))
    for name, message in (
        ("none.tif", "none.tif does not exist"),
        ("a.png", "must end in .tif, .tiff, .gfrm"),
        ("a.npy", "a.npy cannot be read"),
        ("b.npy", r"shape \(2, 3, 4\); it must be one frame"),
    ):
        with pytest.raises(DiffractionImageError, match=message):
            read_image(tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fabio", None)
        with pytest.raises(MissingDependencyError, match=r"reading .tif images needs .* 'ase-matprop\[xrd\]'"):
            read_image(tmp_path / "a.tif")
    pytest.importorskip("fabio")
    with pytest.raises(DiffractionImageError, match="a.tif cannot be read by fabio"):
        read_image(tmp_path / "a.tif")


def test_compositions_from_files(tmp_path: Path) -> None:
    path = tmp_path / "wafer.csv"
    path.write_text("name,Zn,Ti,Sn\nb.tif,0.1,0.2,0.7\na.tif,0.2,0.2,0.6\n")
    found = read_compositions(path, ["Sn", "Ti", "Zn"], ["x/a.tif", "x/b.tif"])
    assert np.allclose(found, [[0.6, 0.2, 0.2], [0.7, 0.2, 0.1]])
    with pytest.raises(DiffractionImageError, match="no row for c.tif"):
        read_compositions(path, ["Sn", "Ti", "Zn"], ["c.tif"])
    with pytest.raises(DiffractionImageError, match="more than one sample has a file named a.tif"):
        read_compositions(path, ["Sn", "Ti", "Zn"], ["x/a.tif", "y/a.tif"])
    with pytest.raises(DiffractionImageError, match="no column Fe"):
        read_compositions(path, ["Fe"], ["a.tif"])
    path.write_text("Sn,Ti,Zn\n0.1,0.2,x\n")
    with pytest.raises(DiffractionImageError, match="1 rows for 2 samples; add a column name"):
        read_compositions(path, ["Sn", "Ti", "Zn"], ["a.tif", "b.tif"])
    with pytest.raises(DiffractionImageError, match="are no numbers"):
        read_compositions(path, ["Sn", "Ti", "Zn"], ["a.tif"])
    with pytest.raises(DiffractionImageError, match="cannot be read"):
        read_compositions(tmp_path / "none.csv", ["Sn"], ["a.tif"])


def test_checks_of_images() -> None:
    image = np.arange(16.0).reshape(4, 4)
    assert np.array_equal(to_size(image, (2, 2)), [[2.5, 4.5], [10.5, 12.5]])
    with pytest.raises(DiffractionImageError, match="50.0 % of the pixels are saturated"):
        check_image(image, saturation=8.0)
    assert check_image(image).dtype == np.float64
    noise = np.random.default_rng(0).poisson(3000.0, (64, 64))
    for kind in (np.int32, np.float64):
        assert check_image(noise.astype(kind)).max() == noise.max()
        with pytest.raises(DiffractionImageError, match=r"% of the pixels are saturated \(3050 counts"):
            check_image(np.minimum(noise, 3050).astype(kind))  # 16 bits in 32, or a detector that ends below its type


def test_figures(tmp_path: Path, data: ImageSet, predictor: PatternPredictor) -> None:
    image = data.images[0, 0].astype(np.float64)
    background_figure(image, tmp_path / "a.png", geometry=data.geometries[0])
    filter_response_figure(image, predictor.network.inputs[0], tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        pixels = imread(tmp_path / name)
        assert pixels.shape[0] > 400 and pixels.shape[1] > 800 and pixels.std() > 0.1


def test_command_background(tmp_path: Path, data: ImageSet) -> None:
    np.save(tmp_path / "a.npy", counts(data)[0, 0])
    arguments = ["xrd", "background", str(tmp_path / "a.npy"), "--output", str(tmp_path / "b.npy")]
    result = CliRunner().invoke(app, [*arguments, "--figure", str(tmp_path / "b.png"), "--size", "6"])
    assert result.exit_code == 0 and "32 x 32 pixels, background" in result.output
    assert np.load(tmp_path / "b.npy").shape == (32, 32) and (tmp_path / "b.png").is_file()
    response = ["--response", str(tmp_path / "c.png")]
    assert CliRunner().invoke(app, [*arguments, *response]).exit_code == 0 and (tmp_path / "c.png").is_file()
    for changed, message in (
        (["--output", str(tmp_path / "a.npy")], "is an input or another output"),
        (["--figure", str(tmp_path / "none" / "b.png")], "its folder does not exist"),
        (["--figure", str(tmp_path / "b.npy")], "is an input or another output"),
        (["--response", str(tmp_path / "c.pdf")], "must end in .png"),
    ):
        result = CliRunner().invoke(app, [*arguments, *changed])
        assert result.exit_code == 2 and message in result.output
    assert np.array_equal(np.load(tmp_path / "a.npy"), counts(data)[0, 0])
    result = CliRunner().invoke(app, [*arguments, "--method", "mean"])
    assert result.exit_code == 2 and "one of none, minimum, minimum_mean. Got 'mean'" in result.output
    result = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "b.png")])
    assert result.exit_code == 2 and "must end in .npy or .tif" in result.output


def test_command_predict(tmp_path: Path, data: ImageSet, folder: Path) -> None:
    rows = ["name,Sn,Ti,Zn"]
    files = []
    for sample in range(2):
        rows.append(f"{sample}-0.npy," + ",".join(f"{value:.6f}" for value in data.compositions[sample]))
        for frame in range(2):
            files.append(str(tmp_path / f"{sample}-{frame}.npy"))
            np.save(files[-1], counts(data)[sample, frame])
    (tmp_path / "wafer.csv").write_text("\n".join(rows) + "\n")
    for frame, geometry in enumerate(data.geometries):
        geometry.write(tmp_path / f"{frame}.json")
    options = ["--model", str(folder), "--compositions", str(tmp_path / "wafer.csv")]
    geometry = ["-g", str(tmp_path / "0.json"), "-g", str(tmp_path / "1.json")]
    output = ["--output", str(tmp_path / "regions.csv")]
    result = CliRunner().invoke(app, ["xrd", "predict", *files, *options, *geometry, *output])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "regions.csv")
    assert len(table) == 2 and set(table["phase_region"]) <= set(data.classes)
    before = (tmp_path / "wafer.csv").read_bytes()
    onto = ["--output", str(tmp_path / "wafer.csv")]
    result = CliRunner().invoke(app, ["xrd", "predict", *files, *options, *geometry, *onto])
    assert result.exit_code == 2 and "is an input or another output" in result.output
    assert (tmp_path / "wafer.csv").read_bytes() == before
    result = CliRunner().invoke(app, ["xrd", "predict", *files, *options])
    assert result.exit_code == 2 and "have no geometry" in result.output
    result = CliRunner().invoke(app, ["xrd", "predict", *files[:3], *options, *geometry])
    assert result.exit_code == 2 and "3 images were given, but each sample has 2 frames" in result.output
    np.save(files[0], np.zeros((32, 32), dtype=np.uint16))
    result = CliRunner().invoke(app, ["xrd", "predict", *files, *options, *geometry])
    assert result.exit_code == 1 and "error: the image is empty" in result.output

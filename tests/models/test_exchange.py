"""Weights from and for other programs, on small files in the layouts of SIPFENN's and ElemNet's authors."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk

from ase_matprop import load_model
from ase_matprop.descriptors.fractions import ELEMENTS
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import ArtefactError, MatPropError, MissingDependencyError, UnknownNameError
from ase_matprop.models import artefact
from ase_matprop.models.card import ModelCard
from ase_matprop.models.exchange import (
    download,
    download_model,
    export_model,
    exporter,
    import_weights,
    importer,
    list_remote_models,
)
from ase_matprop.models.exchange.download import RemoteModel, download_file
from ase_matprop.networks import build_network
from ase_matprop.networks.elemnet import WIDTHS
from tests.conftest import untrained_model

onnx = pytest.importorskip("onnx")
h5py = pytest.importorskip("h5py")
onnxruntime = pytest.importorskip("onnxruntime")

N_FEATURES = 271
IONIC = N_FEATURES - 1  # "mean Ionic Character" is the last feature
CRYSTALS = [bulk("NaCl", "rocksalt", 5.64), bulk("CsCl", "cesiumchloride", 4.12), bulk("Cu")]
#: Krajewski et al. (2022), Figure 3.1, at 1/500 of the widths, at least one unit
NN24 = [(8, "Softsign"), (8, "Sigmoid"), (8, "Elu"), (2, "Elu"), (1, "Elu"), (1, None)]
NN20 = [(20, "Softsign"), (20, "Sigmoid"), (20, "Elu"), (20, "Sigmoid"), (2, "Elu"), (1, "Elu"), (1, None)]
NN9 = [(20, "Softsign"), (20, "Sigmoid"), (20, "Sigmoid"), (20, "Sigmoid"), (2, "Elu"), (1, "Elu"), (1, None)]

Layers = list[tuple[int, str | None]]


class OnnxWriter:
    """Writes a chain of operations as an ONNX file."""

    def __init__(self, dtype: type = np.float32) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.rng = np.random.default_rng(0)
        self.last = "Input"

    def constant(self, array: Any) -> str:
        name = f"array{len(self.initializers)}"
        self.initializers.append(onnx.numpy_helper.from_array(np.asarray(array, dtype=self.dtype), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> None:
        output = f"value{len(self.nodes)}"
        inputs = inputs or (self.last,)
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [output], f"{operator}_{output}", **attributes))
        self.last = output

    def weights(self, n_inputs: int, n_outputs: int) -> tuple[np.ndarray, np.ndarray]:
        scale = 1.0 / np.sqrt(n_inputs)
        return self.rng.normal(scale=scale, size=(n_inputs, n_outputs)), self.rng.normal(size=n_outputs)

    def save(self, path: Path, n_features: int = N_FEATURES, n_outputs: int = 1, further: tuple[Any, ...] = ()) -> Path:
        element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        info = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            self.nodes,
            "net",
            [info("Input", element, ["n", n_features]), *further],
            [info(self.last, element, ["n", n_outputs])],
            self.initializers,
        )
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", 13)], producer_name="Somebody"
        )
        model.ir_version = 8
        onnx.save(model, path)
        return path


def write_gemm(
    path: Path, layers: Layers = NN24, n_features: int = N_FEATURES, *, scaled: bool = True, dtype: type = np.float32
) -> Path:
    """Gemm with transposed weights, features multiplied by 1 / maximum, dropout whose rate is a second input."""
    writer = OnnxWriter(dtype)
    size = n_features
    if scaled:
        factors = 1.0 / np.linspace(1.0, 400.0, size)
        factors[3] = 0.0  # a feature that was always zero
        writer.add("Mul", "Input", writer.constant(factors[None]))
    for width, activation in layers:
        weight, bias = writer.weights(size, width)
        writer.add("Gemm", writer.last, writer.constant(weight.T), writer.constant(bias), transB=1)
        if activation:
            writer.add(activation)
            writer.add("Dropout", writer.last, "Rate")
        size = width
    rate = onnx.helper.make_tensor_value_info("Rate", onnx.TensorProto.FLOAT, [])
    return writer.save(path, n_features, size, (rate,))


def write_matmul(path: Path) -> Path:
    """MatMul and Add in double precision, SoftSign written out, standardised and clipped features, scaled output."""
    writer = OnnxWriter(np.float64)
    size = N_FEATURES
    writer.add("Flatten")
    writer.add("Sub", writer.last, writer.constant(np.linspace(0.0, 9.0, size)))
    writer.add("Div", writer.last, writer.constant(np.linspace(1.0, 400.0, size)))
    writer.add("Clip", writer.last, writer.constant(-3.0), writer.constant(3.0))
    for width, activation in NN24:
        weight, bias = writer.weights(size, width)
        writer.add("MatMul", writer.last, writer.constant(weight))
        writer.add("Add", writer.constant(bias), writer.last)
        if activation == "Softsign":
            argument = writer.last
            writer.add("Abs")
            writer.add("Add", writer.last, writer.constant(1.0))
            writer.add("Div", argument, writer.last)
        elif activation:
            writer.add(activation)
        size = width
    writer.add("Mul", writer.last, writer.constant([2.0]))
    writer.add("Add", writer.last, writer.constant([-0.5]))
    return writer.save(path)


def run(path: Path, features: np.ndarray) -> np.ndarray:
    """What onnxruntime makes of a file, or onnx itself where onnxruntime lacks double precision (ELU)."""
    if onnx.load(path).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.DOUBLE:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(str(path)).run(None, {"Input": features})[0][:, 0]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"Input": features.astype(np.float32), "Rate": np.zeros((), np.float32)})[0][:, 0]


def run_exported(path: Path, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})[0]


def their_features() -> np.ndarray:
    """Features of the crystals as SIPFENN's networks take them."""
    features, errors = get_descriptor("ward2017").compute(CRYSTALS)
    assert errors == [None] * len(CRYSTALS)
    assert get_descriptor("ward2017").labels[IONIC] == "mean Ionic Character" and features[0, IONIC] > 0.1
    features[:, IONIC] *= 2.0
    return features


def write_torch(path: Path) -> Path:
    """What torch makes of a network whose input is one row without a batch, as pySIPFENN exports its networks."""
    network = build_network("nn24", N_FEATURES, 1, {"width_factor": 0.002}).eval()
    torch.onnx.export(network, (torch.zeros(N_FEATURES),), str(path), input_names=["Input"], dynamo=False)
    return path


@pytest.mark.parametrize("write", [write_gemm, write_matmul])
def test_sipfenn(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    file = write(tmp_path / "published.onnx")
    before = file.read_bytes()
    folder = import_weights(file, "nn24", tmp_path / "mine")
    assert file.read_bytes() == before
    model = load_model(folder)
    np.testing.assert_allclose(model.predict(CRYSTALS).values, run(file, their_features()), rtol=1e-5, atol=1e-5)
    card = model.card
    assert (card.name, card.unit, card.errors) == ("mine", "eV/atom", {})
    assert card.network.settings["width_factor"] == pytest.approx(0.002)
    assert card.network.n_parameters == 271 * 8 + 8 + 2 * (8 * 8 + 8) + 8 * 2 + 2 + 2 + 1 + 1 + 1
    assert card.recipe["imported"]["sha256"] == hashlib.sha256(before).hexdigest()
    notes = "; ".join(card.notes)
    for part in ("published.onnx", "no error was measured", "0.002 times as wide", "Somebody", "onnxruntime"):
        assert part in notes
    assert "Fe" in card.elements and "He" not in card.elements and "Am" not in card.elements


def test_one_row_without_a_batch(tmp_path: Path) -> None:
    file = write_torch(tmp_path / "file.onnx")
    model = load_model(import_weights(file, "nn24", tmp_path / "mine"))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    expected = [session.run(None, {"Input": row.astype(np.float32)})[0][0] for row in their_features()]
    np.testing.assert_allclose(model.predict(CRYSTALS).values, expected, rtol=1e-4, atol=1e-5)
    assert "gives what onnxruntime makes of the file" in model.card.notes[-1]


def test_half_precision(tmp_path: Path) -> None:
    whole = import_weights(write_gemm(tmp_path / "whole.onnx"), "nn24", tmp_path / "whole")
    half = import_weights(write_gemm(tmp_path / "half.onnx", dtype=np.float16), "nn24", tmp_path / "half")
    values = [load_model(folder).predict(CRYSTALS).values for folder in (whole, half)]
    np.testing.assert_allclose(values[1], values[0], atol=0.01)
    assert load_model(half).card.weights.dtype == "float32"


@pytest.mark.parametrize(("name", "layers"), [("nn9", NN9), ("nn20", NN20)])
def test_the_other_networks(tmp_path: Path, name: str, layers: Layers) -> None:
    file = write_gemm(tmp_path / "file.onnx", layers, scaled=False)
    loaded = artefact.load(import_weights(file, name, tmp_path / name))
    np.testing.assert_array_equal(loaded.scaler.mean, 0.0)
    np.testing.assert_array_equal(loaded.scaler.scale, [1.0] * IONIC + [0.5])
    other = {"nn9": "nn20", "nn20": "nn9"}[name]
    with pytest.raises(ArtefactError, match=rf"layer 3 .* has {other}|activation .* it fits --as {name}"):
        import_weights(file, other, tmp_path / other)


def changed(layers: Layers, position: int, layer: tuple[int, str | None]) -> Layers:
    return [*layers[:position], layer, *layers[position + 1 :]]


@pytest.mark.parametrize(
    ("layers", "n_features", "message"),
    [
        (NN24[:-1], 271, r"5 fully connected layers, nn24 has 6"),
        (NN24, 145, r"layer 1 \(Gemm_value1\) takes 145 values, but there are 271 features"),
        (changed(NN24, 2, (9, "Elu")), 271, r"layer 3 \(Gemm_value7\) has 9 units, nn24 has 8 there"),
        (changed(NN24, 1, (8, "Elu")), 271, r"layer 2 .* has the activation elu, nn24 has sigmoid there"),
        (changed(NN24, 1, (8, None)), 271, r"layer 2 .* has the activation linear, nn24 has sigmoid there"),
        (changed(NN24, 5, (2, None)), 271, r"layer 6 .* has 2 units, nn24 has 1 there"),
    ],
)
def test_onnx_file_of_another_shape(tmp_path: Path, layers: Layers, n_features: int, message: str) -> None:
    file = write_gemm(tmp_path / "file.onnx", layers, n_features)
    with pytest.raises(ArtefactError, match=f"file.onnx does not fit nn24: .*{message}"):
        import_weights(file, "nn24", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file.onnx"]


def unknown_operation(writer: OnnxWriter) -> None:
    writer.add("Softmax")


def branches(writer: OnnxWriter) -> None:
    writer.add("Add", writer.last, "Input")


def scaling_between(writer: OnnxWriter) -> None:
    writer.add("Elu")
    writer.add("Mul", writer.last, writer.constant(2.0))


def another_elu(writer: OnnxWriter) -> None:
    writer.add("Elu", alpha=0.5)


def another_clip(writer: OnnxWriter) -> None:
    writer.nodes.clear()
    writer.add("Clip", "Input", writer.constant(0.0), writer.constant(1.0))


def division(writer: OnnxWriter) -> None:
    writer.add("Div", writer.constant(1.0), writer.last)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (unknown_operation, r"operation Softmax \(Softmax_value1\) after layer 1"),
        (branches, "no chain of fully connected layers: the operation Add .* has 2 inputs that depend on the features"),
        (scaling_between, "operation Mul .* between the activation of layer 1 and the next layer"),
        (another_elu, "operation Elu .* alpha other than 1"),
        (another_clip, r"operation Clip .* bounds 0.0 and 1.0"),
        (division, "operation Div .* divides by the features"),
    ],
)
def test_what_a_chain_does_not_have(tmp_path: Path, add: Callable[[OnnxWriter], None], message: str) -> None:
    writer = OnnxWriter()
    writer.add("Gemm", "Input", *(writer.constant(array) for array in writer.weights(271, 271)))
    add(writer)
    with pytest.raises(ArtefactError, match=message):
        import_weights(writer.save(tmp_path / "file.onnx"), "nn24", tmp_path / "out")


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = write_gemm(tmp_path / "whole.onnx").read_bytes()
    contents = {
        "cut.onnx": (whole[: len(whole) // 2], "no ONNX file, or an incomplete one|is incomplete|no complete ONNX"),
        "empty.onnx": (b"", "is empty"),
        "page.onnx": (b"<!DOCTYPE html><html>not found</html>", "is a text"),
        "archive.keras": (b"PK\x03\x04" + bytes(50), "zip archive"),
        "bytes.onnx": (bytes(range(1, 200)), "no ONNX file"),
        "cut.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "no HDF5 file of Keras, or an incomplete one"),
    }
    for name, (content, message) in contents.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ArtefactError, match=message) as caught:
            import_weights(file, "nn24", tmp_path / "out")
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ArtefactError, match="cannot be read"):
        import_weights(tmp_path / "nothing.onnx", "nn24", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    file = write_gemm(tmp_path / "file.onnx")
    model = onnx.load(file)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[3]).copy()
    weight[0, 0] = np.nan
    model.graph.initializer[3].CopyFrom(onnx.numpy_helper.from_array(weight, model.graph.initializer[3].name))
    onnx.save(model, file)
    with pytest.raises(ArtefactError, match=r"layer 2 \(Gemm_value4\) has values that are not finite"):
        import_weights(file, "nn24", tmp_path / "out")


def test_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gemm(tmp_path / "file.onnx")
    with pytest.raises(UnknownNameError, match="Did you mean 'nn24'"):
        import_weights(file, "nn25", tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(ArtefactError, match="exists already"):
        import_weights(file, "nn24", tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    file = file.rename("mine.onnx")
    assert import_weights(file, "nn24") == Path("mine") and Path("mine/card.json").is_file()


def test_a_wrong_reading_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gemm(tmp_path / "file.onnx")
    monkeypatch.setattr(importer, "run_onnx", lambda path, features: np.ones((len(features), 1)))
    with pytest.raises(ArtefactError, match="differs by up to .* from what onnxruntime makes of it"):
        import_weights(file, "nn24", tmp_path / "out")

    def missing(*_: object) -> None:
        raise MissingDependencyError("no onnxruntime")

    monkeypatch.setattr(importer, "run_onnx", missing)
    card = ModelCard.read(import_weights(file, "nn24", tmp_path / "out"))
    assert "not checked against the file" in card.notes[-1]


# --- ElemNet ---------------------------------------------------------------------------------------------------------


def write_keras(
    path: Path, widths: tuple[int, ...] = (*WIDTHS, 1), *, whole: bool = True, activation: str = "relu"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write the HDF5 file of Keras' ``model.save`` or ``model.save_weights``; return kernels and biases."""
    rng = np.random.default_rng(0)
    arrays = []
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole else file
        names, config = (
            ["elemental_fractions"],
            [{"class_name": "InputLayer", "config": {"name": "elemental_fractions"}}],
        )
        for number, (n_inputs, n_outputs) in enumerate(zip((len(ELEMENTS), *widths), widths, strict=False), start=1):
            name = f"dense_{number}"
            kernel = rng.normal(scale=np.sqrt(2.0 / n_inputs), size=(n_inputs, n_outputs)).astype(np.float32)
            bias = rng.normal(scale=0.1, size=n_outputs).astype(np.float32)
            arrays.append((kernel, bias))
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            layer[f"{name}/kernel:0"], layer[f"{name}/bias:0"] = kernel, bias
            shown = activation if number < len(widths) else "linear"
            names += [name, f"dropout_{number}"]
            config.append({"class_name": "Dense", "config": {"name": name, "activation": shown, "units": n_outputs}})
            config.append({"class_name": "Dropout", "config": {"name": f"dropout_{number}", "rate": 0.2}})
        for name in names:
            group.require_group(name).attrs.setdefault("weight_names", np.array([], dtype="S1"))
        if whole:
            group.attrs["layer_names"] = [name.encode() for name in names]
            file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": config}})
        else:  # long lists are split over several attributes
            group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:9], names[9:]
    return arrays


@pytest.mark.parametrize("whole", [True, False])
def test_elemnet(tmp_path: Path, whole: bool) -> None:
    arrays = write_keras(tmp_path / "sample.h5", whole=whole)
    model = load_model(import_weights(tmp_path / "sample.h5", "elemnet", tmp_path / "elemnet"))
    values, _ = get_descriptor("fractions").compute(CRYSTALS)
    for number, (kernel, bias) in enumerate(arrays, start=1):
        values = values @ kernel + bias
        if number < len(arrays):
            values = np.maximum(values, 0.0)
    np.testing.assert_allclose(model.predict(CRYSTALS).values, values[:, 0], rtol=1e-4, atol=1e-5)
    assert model.card.elements[:3] == ["H", "Li", "Be"] and len(model.card.elements) == 86
    notes = "; ".join(model.card.notes)
    assert "order of their atomic numbers" in notes and ("weights only" in notes) == (not whole)


def test_keras_files_of_another_shape(tmp_path: Path) -> None:
    def check(message: str) -> None:
        with pytest.raises(ArtefactError, match=message):
            import_weights(tmp_path / "file.h5", "elemnet", tmp_path / "out")

    write_keras(tmp_path / "file.h5", (16, 16, 1))
    check("3 fully connected layers, elemnet has 17")
    write_keras(tmp_path / "file.h5", (*[4] * 16, 1))
    check(r"layer 1 \(dense_1\) has 4 units, elemnet has 1024 there")
    write_keras(tmp_path / "file.h5", activation="tanh")
    check("activation tanh, elemnet has relu there")
    write_keras(tmp_path / "file.h5", (4, 1))
    with h5py.File(tmp_path / "file.h5", "a") as file:
        file["model_weights/dense_2"].attrs["weight_names"] = [b"dense_2/kernel:0", b"dense_2/gamma:0"]
        file["model_weights/dense_2/dense_2/gamma:0"] = np.ones(3)
    check("layer dense_2 is not fully connected: it has kernel of shape .*gamma of shape")
    write_keras(tmp_path / "file.h5", (4, 1))
    with h5py.File(tmp_path / "file.h5", "a") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"].append({"class_name": "Add", "config": {"name": "add_1"}})
        file.attrs["model_config"] = json.dumps(config)
    check("a layer of the kind Add")
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file.create_group("layers/dense/vars")
    check("no Keras layers .* Keras 3 wrote it")
    content = (tmp_path / "file.h5").read_bytes()
    (tmp_path / "file.h5").write_bytes(content[: len(content) // 2])
    check("incomplete one")


# --- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def features(small_model: Path) -> np.ndarray:
    values, _ = get_descriptor("fractions").compute(CRYSTALS[:2])
    return values


def test_export_onnx(small_model: Path, tmp_path: Path, features: np.ndarray) -> None:
    file = export_model(small_model, tmp_path / "small.onnx")
    expected = load_model(small_model).predict(CRYSTALS[:1]).values[0]
    assert run_exported(file, features)[0, 0] == pytest.approx(expected, abs=1e-5)
    assert run_exported(file, features[:1])[0, 0] == pytest.approx(expected, abs=1e-5)
    metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert (metadata["model"], metadata["unit"]) == ("small", "eV/atom")
    assert json.loads(metadata["feature_labels"])[0] == "fraction of H"
    assert json.loads(metadata["outputs"]) == ["formation_energy_per_atom"]
    with pytest.raises(ArtefactError, match="exists already"):
        export_model(small_model, file)


def test_export_torchscript(small_model: Path, tmp_path: Path, features: np.ndarray) -> None:
    file = export_model(small_model, tmp_path / "small.pt", format="torchscript")
    extra = {"metadata.json": ""}
    scripted = torch.jit.load(str(file), _extra_files=extra)
    expected = load_model(small_model).predict(CRYSTALS[:1]).values[0]
    assert float(scripted(torch.from_numpy(features))[0, 0]) == pytest.approx(expected, abs=1e-6)
    assert json.loads(extra["metadata.json"])["property"] == "formation_energy_per_atom"


def test_export_of_a_classification(small_model: Path, tmp_path: Path, features: np.ndarray) -> None:
    loaded = artefact.load(small_model)
    card = loaded.card.model_copy(
        update={
            "property": "metallicity",
            "unit": "",
            "network": loaded.card.network.model_copy(update={"n_outputs": 2, "n_members": 1}),
        }
    )
    network = artefact.build_ensemble(card).eval()
    target = artefact.TargetTransform(np.zeros(2), np.ones(2))
    artefact.save(tmp_path / "classes", card, network, loaded.scaler, target)
    file = export_model(tmp_path / "classes", tmp_path / "classes.onnx")
    probabilities = run_exported(file, features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    np.testing.assert_allclose(probabilities, load_model(tmp_path / "classes").predict_features(features)[0], atol=1e-6)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_exported_band_gaps_are_not_negative_either(tmp_path: Path, features: np.ndarray, format: str) -> None:
    """The untrained model gives about -1.5 eV, if it is let."""
    model = untrained_model(tmp_path / "gaps", properties=["band_gap"])
    assert (load_model(model).predict(CRYSTALS[:1]).values == 0.0).all()
    file = export_model(model, tmp_path / "exported", format=format)
    values = (
        run_exported(file, features)
        if format == "onnx"
        else torch.jit.load(str(file))(torch.from_numpy(features)).numpy()
    )
    assert (values == 0.0).all()


def test_export_and_import_again(tmp_path: Path) -> None:
    first = import_weights(write_matmul(tmp_path / "file.onnx"), "nn24", tmp_path / "first")
    file = export_model(first, tmp_path / "exported.onnx")
    second = import_weights(file, "nn24", tmp_path / "second")
    one, two = (load_model(folder) for folder in (first, second))
    np.testing.assert_allclose(two.predict(CRYSTALS).values, one.predict(CRYSTALS).values, atol=1e-6)
    changed_fields = {"name", "weights"}
    assert two.card.model_dump(exclude=changed_fields) == one.card.model_dump(exclude=changed_fields)
    with pytest.raises(ArtefactError, match="is the exported model first, a network nn24, and no nn20"):
        import_weights(file, "nn20", tmp_path / "third")


def test_export_errors(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="export format 'onx'. Did you mean 'onnx'"):
        export_model(small_model, tmp_path / "x", format="onx")
    wrong = (".onnx", exporter._write_onnx, lambda path, features: np.zeros((len(features), 1)))
    monkeypatch.setitem(exporter.EXPORT_FORMATS, "onnx", wrong)
    with pytest.raises(ArtefactError, match="differs from the model small by up to"):
        export_model(small_model, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_missing_packages(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_gemm(tmp_path / "file.onnx")
    write_keras(tmp_path / "file.h5", (4, 1))
    for name in ("onnx", "h5py", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"'onnx'.*pip install 'ase-matprop\[export\]'"):
        import_weights(file, "nn24", tmp_path / "out")
    with pytest.raises(MissingDependencyError, match="'h5py'"):
        import_weights(tmp_path / "file.h5", "elemnet", tmp_path / "out")
    with pytest.raises(MissingDependencyError, match="'onnx'"):
        export_model(small_model, tmp_path / "x.onnx")


# --- download --------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server on this machine; files whose name begins with "cut" lose their second half on the way."""
    folder = tmp_path_factory.mktemp("server")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / self.path.rpartition("/")[2]
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if path.name.startswith("cut") else content)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()


def test_download_file(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    content = bytes(range(256)) * 5000
    digest = hashlib.sha256(content).hexdigest()
    for name in ("whole", "cut"):
        (folder / name).write_bytes(content)
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "file"
    assert download_file(f"{address}/whole", target, sha256=digest, progress=lambda *a: seen.append(a)) == digest
    assert target.read_bytes() == content and seen[-1] == (len(content), len(content))
    with pytest.raises(ArtefactError, match="exists already"):
        download_file(f"{address}/whole", target)
    target.unlink()
    for name, expected, message in (
        ("cut", "", "came incompletely|cannot be reached"),
        ("whole", "0" * 64, f"its SHA-256 is {digest}, not 000"),
        ("nothing", "", "the server answers 404"),
    ):
        with pytest.raises(MatPropError, match=message) as caught:
            download_file(f"{address}/{name}", target, sha256=expected)
        assert "\n" not in str(caught.value)
    with pytest.raises(MatPropError, match="cannot be reached .*matprop models import FILE"):
        download_file("http://127.0.0.1:9/file", target)
    assert not list(tmp_path.iterdir())


def test_download_model(server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, folder = server
    file = write_gemm(folder / "net.onnx")
    (folder / "other.onnx").write_bytes(write_gemm(folder / "x", NN9).read_bytes())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def remote(name: str, sha256: str) -> RemoteModel:
        return RemoteModel(
            url=f"{address}/{name}.onnx", sha256=sha256, megabytes=1, network="nn24", citation="theirs", licence="none"
        )

    known = {"known": remote("net", digest), "unknown": remote("net", ""), "other": remote("other", "")}
    monkeypatch.setattr(download, "list_remote_models", lambda: known)
    monkeypatch.chdir(tmp_path)
    card = ModelCard.read(download_model("known"))
    assert card.name == "known" and any("its SHA-256 was as expected" in note for note in card.notes)
    card = ModelCard.read(download_model("unknown", "elsewhere"))
    assert any("SHA-256 was not verified" in note for note in card.notes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "known"]
    with pytest.raises(MatPropError, match="is not the file that was published"):
        download_model("unknown", "again", sha256="0" * 64)
    with pytest.raises(ArtefactError, match=r"does not fit nn24.*the downloaded file is kept: other.onnx"):
        download_model("other")
    assert Path("other.onnx").is_file() and not Path("other").exists()
    with pytest.raises(ArtefactError, match="exists already"):
        download_model("known")
    with pytest.raises(UnknownNameError, match="unknown remote model 'knwn'"):
        download_model("knwn")


def test_registry() -> None:
    from ase_matprop.models.exchange import PUBLISHED

    for name, remote in list_remote_models().items():
        assert name and remote.url.startswith("https://zenodo.org/record/7373089/files/")
        assert remote.network in PUBLISHED and remote.citation and len(remote.sha256) in (0, 64)


def test_elements_of_elemnet_are_the_authors() -> None:
    """The order of the input of the published networks: section 5.2.1 of Jha's thesis."""
    listed = (
        "H Li Be B C N O F Na Mg Al Si P S Cl K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc "
        "Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg "
        "Tl Pb Bi Ac Th Pa U Np Pu"
    )
    assert get_descriptor("fractions").labels == tuple(f"fraction of {symbol}" for symbol in listed.split())


def test_commands(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer
    from typer.testing import CliRunner

    from ase_matprop.cli.exchange import register

    app = typer.Typer()
    register(app)
    monkeypatch.chdir(tmp_path)
    write_gemm(tmp_path / "net.onnx")

    def invoke(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, result.output
        return result.output

    assert "Model folder: mine" in invoke("import", "net.onnx", "--as", "nn24", "--output", "mine")
    assert "matprop: net.onnx does not fit nn20" in invoke("import", "net.onnx", "--as", "nn20", code=2)
    assert "small.onnx" in invoke("export", str(small_model))
    assert "small.pt" in invoke("export", str(small_model), "--format", "torchscript")
    assert Path("small.onnx").is_file() and Path("small.pt").is_file()
    assert "sipfenn-nn24,nn24,149,https://" in invoke("download")
    assert "Did you mean 'sipfenn-nn24'" in invoke("download", "sipfenn-nn25", code=2)

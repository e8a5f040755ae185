"""From a model to one file that needs nothing of this package: ONNX or TorchScript.

The file takes the values of the descriptor, as ``matprop featurize`` gives them, and gives the property in its unit:
standardisation, clipping, the mean over an ensemble and the transform of the target are part of it.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ase_matprop.errors import ArtefactError, unknown_name
from ase_matprop.models import artefact
from ase_matprop.models.card import ModelCard
from ase_matprop.models.exchange.common import check_new, new_output, optional_module
from ase_matprop.models.exchange.importer import CARD_KEY
from ase_matprop.models.exchange.onnx_files import add_metadata, run_onnx
from ase_matprop.models.predictor import Predictor
from ase_matprop.models.registry import find_model
from ase_matprop.networks.vector import VectorNetwork

_OPSET = 17
_CHECKED_ROWS = 8


class PropertyModel(nn.Module):
    """A model from the values of its descriptor to its property, with all that the predictor does around the network.

    Shape:
        input (n, n_features) in float64, output (n, n_outputs) in float64: properties in their units, or the
        probabilities of the classes.
    """

    mean: Tensor
    scale: Tensor
    target_offset: Tensor
    target_scale: Tensor
    minima: Tensor

    def __init__(self, loaded: artefact.Artefact) -> None:
        super().__init__()
        assert loaded.scaler is not None  # networks without one are refused
        self.members = loaded.network.members
        self.clip = loaded.scaler.clip
        self.is_classification = bool(loaded.card.material_property.classes)
        self.is_bounded = any(minimum > -math.inf for minimum in loaded.card.minima())
        for name, array in (
            ("mean", loaded.scaler.mean),
            ("scale", loaded.scaler.scale),
            ("target_offset", loaded.target.offset),
            ("target_scale", loaded.target.scale),
            ("minima", loaded.card.minima()),
        ):
            self.register_buffer(name, torch.from_numpy(np.array(array, dtype=np.float64)))

    def forward(self, features: Tensor) -> Tensor:
        scaled = (features - self.mean) / self.scale
        if self.clip is not None:
            scaled = scaled.clamp(-self.clip, self.clip)
        results = [self.finish(member(scaled.float()).double()) for member in self.members]
        return results[0] if len(results) == 1 else torch.stack(results).mean(dim=0)

    def finish(self, output: Tensor) -> Tensor:
        """Return what one member of the ensemble predicts from the output of its network, shape (n, n_outputs)."""
        if self.is_classification:
            return output.softmax(dim=-1)
        values = self.target_offset + self.target_scale * output
        return torch.maximum(values, self.minima) if self.is_bounded else values


def export_model(
    name_or_path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    format: str = "onnx",
) -> Path:
    """Write a model as one file, run the file, and compare it with the model.

    The file has one input ``features``, float64 of shape (n, n_features) for any n, and one output ``prediction``, of
    shape (n, n_outputs).  With it are stored the texts ``model``, ``property``, ``unit``, ``descriptor``, ``citation``,
    ``feature_labels`` and ``outputs`` (lists in JSON), and the whole card: in the ``metadata_props`` of ONNX, in the
    extra file ``metadata.json`` of TorchScript.

    Args:
        name_or_path: name of a shipped model, or path of a model folder.
        output: file to write; by default the name of the model with ``.onnx`` or ``.pt``, in the working directory.
        format: ``"onnx"`` or ``"torchscript"``.

    Raises:
        UnknownNameError: if there is no such model or format.
        ArtefactError: if the model cannot be exported, or the output exists.
        MissingDependencyError: without the packages onnx and onnxruntime, for ONNX.
    """
    if format not in EXPORT_FORMATS:
        raise unknown_name("export format", format, EXPORT_FORMATS)
    suffix, write, run = EXPORT_FORMATS[format]
    loaded = artefact.load(find_model(name_or_path))
    if not all(isinstance(member, VectorNetwork) for member in loaded.network.members):
        raise ArtefactError(f"the model {loaded.card.name} cannot be exported: its network takes no feature vector")
    output = Path(f"{loaded.card.name}{suffix}" if output is None else output)
    check_new(output)
    features = _some_features(loaded)
    with new_output(output) as path:
        try:
            write(PropertyModel(loaded).eval().requires_grad_(False), torch.from_numpy(features), path, loaded.card)
        except RuntimeError as error:
            raise ArtefactError(
                f"the model {loaded.card.name} cannot be exported as {format}: {str(error).splitlines()[0]}"
            ) from None
        expected = Predictor(loaded).predict_features(features).mean(axis=0)
        found = run(path, features)
        if not np.allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(loaded.target.scale).max()):
            raise ArtefactError(
                f"the exported file differs from the model {loaded.card.name} by up to "
                f"{np.abs(found - expected).max():.3g} {loaded.card.unit}; please report this"
            )
    return output


def _some_features(loaded: artefact.Artefact) -> NDArray[np.float64]:
    """Return rows of features about as far from their mean as in training, some of them beyond the clipping."""
    assert loaded.scaler is not None  # networks without one are refused
    drawn = np.random.default_rng(0).normal(scale=3.0, size=(_CHECKED_ROWS, len(loaded.scaler.mean)))
    return np.asarray(loaded.scaler.mean + loaded.scaler.scale * drawn)


def _metadata(card: ModelCard) -> dict[str, str]:
    classes = card.material_property.classes
    return {
        "model": card.name,
        "property": card.property,
        "unit": card.unit,
        "descriptor": card.descriptor.name,
        "citation": "\n".join(card.citation),
        "feature_labels": json.dumps(card.descriptor.labels),
        "outputs": json.dumps([f"probability of {name}" for name in classes] or card.properties),
        CARD_KEY: card.model_dump_json(),
    }


def _write_onnx(model: nn.Module, features: Tensor, path: Path, card: ModelCard) -> None:
    for package in ("onnx", "onnxruntime"):
        optional_module(package, "exporting to ONNX, and checking the file,")
    # the exporter that traces; the newer one would need one more package, onnxscript
    tracing: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces for each export that another exporter is the default
        torch.onnx.export(
            model,
            (features,),
            str(path),
            input_names=["features"],
            output_names=["prediction"],
            dynamic_axes={"features": {0: "n"}, "prediction": {0: "n"}},
            opset_version=_OPSET,
            **tracing,
        )
    add_metadata(path, _metadata(card))


def _write_torchscript(model: nn.Module, features: Tensor, path: Path, card: ModelCard) -> None:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch advises against TorchScript, which is what was asked for
        traced = torch.jit.trace(model, (features,))
        torch.jit.save(traced, str(path), _extra_files={"metadata.json": json.dumps(_metadata(card))})


def _run_torchscript(path: Path, features: NDArray[np.float64]) -> NDArray[np.float64]:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        return np.asarray(torch.jit.load(str(path))(torch.from_numpy(features)).numpy())


_Write = Callable[[nn.Module, Tensor, Path, ModelCard], None]
_Run = Callable[[Path, NDArray[np.float64]], NDArray[np.float64]]
#: name -> suffix, and the functions that write and that run a file
EXPORT_FORMATS: dict[str, tuple[str, _Write, _Run]] = {
    "onnx": (".onnx", _write_onnx, run_onnx),
    "torchscript": (".pt", _write_torchscript, _run_torchscript),
}

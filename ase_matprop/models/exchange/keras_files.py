"""Keras HDF5 files: fully connected layers from what ``model.save`` and ``model.save_weights`` of Keras 1 and 2 write.

A file has the names of its layers in the attribute ``layer_names`` (of the group ``model_weights`` where the whole
model was saved), and each layer a group with the names of its arrays in the attribute ``weight_names``.  Kernels have
the shape (n_inputs, n_outputs): the transpose of torch's.
"""

from __future__ import annotations

import json
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from ase_matprop.errors import ArtefactError
from ase_matprop.models.exchange.chain import LINEAR, DenseChain, DenseLayer
from ase_matprop.models.exchange.common import optional_module

#: layers that leave the values of a chain as they are when a network is evaluated
_SKIPPED = {"InputLayer", "Dropout", "Flatten"}


def read_keras(path: Path) -> DenseChain:
    """Read the fully connected layers of a Keras HDF5 file.

    Raises:
        ArtefactError: if the file cannot be read as HDF5, is incomplete, or holds other than fully connected layers.
        MissingDependencyError: without the package h5py.
    """
    h5py = optional_module("h5py", "reading Keras HDF5 files")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path)
    except ArtefactError:
        raise
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        reason = str(error).strip("'\"").splitlines()[0]
        raise ArtefactError(f"{path} is no HDF5 file of Keras, or an incomplete one: {reason}") from None


def _read(file: Any, path: Path) -> DenseChain:
    group = file.get("model_weights", file)
    names = _texts(group, "layer_names")
    if not names:
        hint = "; Keras 3 wrote it, which does not store the order of the layers: save the model as .h5 instead"
        raise ArtefactError(f"{path} has no Keras layers (attribute layer_names){hint if 'layers' in file else ''}")
    config = file.attrs.get("model_config")
    activations = None if config is None else _activations(json.loads(config), path)
    layers = []
    for name in names:
        stored = _texts(group[name], "weight_names")
        if not stored:  # dropout, input
            continue
        arrays = {entry.rpartition("/")[2].partition(":")[0]: group[name][entry][()] for entry in stored}
        if not arrays.keys() <= {"kernel", "bias"} or "kernel" not in arrays or arrays["kernel"].ndim != 2:
            raise ArtefactError(
                f"{path}: its layer {name} is not fully connected: it has "
                + ", ".join(f"{key} of shape {array.shape}" for key, array in arrays.items())
            )
        weight = arrays["kernel"].T.astype(np.float32)
        bias = np.asarray(arrays.get("bias", np.zeros(len(weight))), dtype=np.float32)
        if bias.shape != (len(weight),):
            raise ArtefactError(f"{path}: its layer {name} has a bias of shape {bias.shape} for {len(weight)} units")
        layers.append(DenseLayer(name, weight, bias, None if activations is None else activations.get(name)))
    remark = "the file has weights only: its activations were taken to be those of the network"
    return DenseChain("Keras HDF5", layers, remarks=[remark] if activations is None else [])


def _texts(group: Any, name: str) -> list[str]:
    """Return a list of names, which Keras splits over several attributes where it is long."""
    if name in group.attrs:
        attributes = [name]
    else:
        attributes = list(takewhile(group.attrs.__contains__, (f"{name}{part}" for part in count())))
    entries = [entry for attribute in attributes for entry in group.attrs[attribute]]
    return [entry.decode() if isinstance(entry, bytes) else str(entry) for entry in entries]


def _activations(config: Any, path: Path) -> dict[str, str]:
    """Return the activations of the fully connected layers by name, from the configuration of a model."""
    content = config["config"]
    found: dict[str, str] = {}
    last = ""
    for layer in content if isinstance(content, list) else content["layers"]:
        kind, settings = layer["class_name"], layer["config"]
        if kind == "Dense":
            last = settings["name"]
            found[last] = str(settings.get("activation", LINEAR))
        elif kind in {"Activation", "ReLU"} and found.get(last) == LINEAR:
            found[last] = "relu" if kind == "ReLU" else str(settings["activation"])
        elif kind not in _SKIPPED:
            raise ArtefactError(
                f"{path}: it has a layer of the kind {kind} ({settings.get('name', 'without a name')}), "
                "which a chain of fully connected layers does not have there"
            )
    return found

"""From a file that others published to a model folder: the layers are matched with one of this package's networks."""

from __future__ import annotations

import datetime
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import ase_matprop
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import ArtefactError, MissingDependencyError, unknown_name
from ase_matprop.models import artefact
from ase_matprop.models.card import DescriptorSpec, ModelCard, NetworkSpec
from ase_matprop.models.exchange.chain import LINEAR, Affine, DenseChain, DenseLayer
from ase_matprop.models.exchange.common import check_new, new_output, sha256_of
from ase_matprop.models.exchange.keras_files import read_keras
from ase_matprop.models.exchange.onnx_files import read_onnx, run_onnx
from ase_matprop.models.exchange.published import PUBLISHED, PublishedNetwork
from ase_matprop.models.folder import WeightsSpec, describe_validation
from ase_matprop.models.predictor import Predictor
from ase_matprop.networks import build_network, resolve_settings
from ase_matprop.networks.ensemble import Ensemble
from ase_matprop.networks.vector import VectorNetwork
from ase_matprop.properties import get_property

logger = logging.getLogger(__name__)

#: under which an exported file carries the card of its model
CARD_KEY = "ase_matprop.card"
_PROPERTY = "formation_energy_per_atom"
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CHECKED_ROWS = 8


def import_weights(
    path: str | os.PathLike[str],
    as_: str,
    output: str | os.PathLike[str] | None = None,
    *,
    notes: Sequence[str] = (),
) -> Path:
    """Turn a file of weights that others published into a model folder.

    The file is an ONNX file (SIPFENN's) or a Keras HDF5 file (ElemNet's), which is told from its content.  Number,
    widths and activations of its layers must be those of the network; hidden layers that are all narrower or wider by
    one factor are accepted for SIPFENN's networks, and the card says so.  An ONNX file is run by onnxruntime, where
    that is installed, on features drawn at random, and must give what the folder gives.  A file that
    :func:`export_model` wrote becomes the model again.

    Args:
        path: the file; it is only read.
        as_: the network, a key of :data:`PUBLISHED`.
        output: model folder to write; by default a folder in the working directory with the name of the file.
        notes: more to say in the card.

    Returns:
        The model folder.  Its card has no errors, since none were measured.

    Raises:
        UnknownNameError: if there is no such network.
        ArtefactError: if the file is no such file, is incomplete, does not fit the network, or the output exists.
        MissingDependencyError: without the package that reads the file.
    """
    if as_ not in PUBLISHED:
        raise unknown_name("network with published weights", as_, PUBLISHED)
    path = Path(path)
    output = Path(path.stem if output is None else output)
    check_new(output)
    chain = _read(path)
    card = _card_of_export(path, as_, chain) or _card_of_published(path, PUBLISHED[as_], chain, notes)
    factors = np.ones(card.network.n_inputs)
    if CARD_KEY not in chain.metadata:
        for label, factor in PUBLISHED[as_].feature_factors.items():
            factors[card.descriptor.labels.index(label)] = factor
    card, loaded = _assemble(path, card, chain, factors)
    if chain.file_format == "ONNX":
        note = _check_against_onnxruntime(path, chain, loaded, factors)
        if CARD_KEY not in chain.metadata:
            card = card.model_copy(update={"notes": [*card.notes, note]})
    with new_output(output) as folder:
        artefact.save(
            folder, card.model_copy(update={"name": output.name}), loaded.network, loaded.scaler, loaded.target
        )
    return output


def _read(path: Path) -> DenseChain:
    """Read a file of weights, of the format that its first bytes tell."""
    try:
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise ArtefactError(f"the file {path} cannot be read: {error.strerror}") from None
    if not start:
        raise ArtefactError(f"the file {path} is empty; get it again")
    if start.startswith(_HDF5_SIGNATURE):
        return read_keras(path)
    if start.startswith(b"PK"):
        raise ArtefactError(f"{path} is a zip archive (.keras or .pt, say); an ONNX or a Keras HDF5 file is needed")
    if start.lstrip()[:1] in (b"<", b"{"):
        raise ArtefactError(f"{path} is a text (a web page, say) and no ONNX or Keras HDF5 file; get it again")
    return read_onnx(path)


def _card_of_export(path: Path, as_: str, chain: DenseChain) -> ModelCard | None:
    """Return the card that a file carries if this package exported it."""
    if CARD_KEY not in chain.metadata:
        return None
    try:
        card = ModelCard.model_validate(json.loads(chain.metadata[CARD_KEY]))
    except (ValidationError, ValueError) as error:
        reason = describe_validation(error) if isinstance(error, ValidationError) else str(error)
        raise ArtefactError(f"{path} carries a card that this version cannot read: {reason}") from None
    if card.network.name != as_:
        raise ArtefactError(f"{path} is the exported model {card.name}, a network {card.network.name}, and no {as_}")
    return card


def _card_of_published(path: Path, published: PublishedNetwork, chain: DenseChain, notes: Sequence[str]) -> ModelCard:
    """Return the card of weights that others published; the number of parameters and the hash are filled in later."""
    descriptor = get_descriptor(published.descriptor)
    entry = get_property(_PROPERTY)
    settings = _fitting_settings(published, chain)
    factor = settings.get("width_factor", 1.0)
    digest = sha256_of(path)
    origin = f"imported from the {chain.file_format} file {path.name}, SHA-256 {digest}"
    error = f"no error was measured by this package; the authors state {published.published_error}"
    narrower = f"the hidden layers of the file are {factor:g} times as wide as the published ones"
    return ModelCard(
        name=path.stem,
        description=published.description,
        property=entry.name,
        unit=entry.unit,
        per_atom=entry.per_atom,
        network=NetworkSpec(name=published.network, settings=settings, n_inputs=len(descriptor.labels), n_parameters=0),
        descriptor=DescriptorSpec(name=descriptor.name, version=descriptor.version, labels=list(descriptor.labels)),
        elements=published.elements,
        training_set=published.training_set,
        errors={},
        notes=[
            origin,
            error if factor == 1.0 else "no error was measured by this package",
            *([narrower] if factor != 1.0 else []),
            *notes,
            *chain.remarks,
            *published.notes,
        ],
        citation=list(published.citation),
        recipe={
            "imported": {"file": path.name, "sha256": digest, "format": chain.file_format, "as": published.network}
        },
        code_version=ase_matprop.__version__,
        created=datetime.date.today().isoformat(),
        weights=WeightsSpec(sha256="", dtype="float32"),
    )


class _NoRandomNumbers(TorchFunctionMode):
    """Initialises no weights: torch would import its compiler, for seconds, to draw numbers that have no memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **(kwargs or {}))


def _empty_network(name: str, n_inputs: int, n_outputs: int, settings: dict[str, Any]) -> VectorNetwork:
    """Return a network without memory for its weights, which for NN9 is more than a gigabyte."""
    with torch.device("meta"), _NoRandomNumbers():
        return cast(VectorNetwork, build_network(name, n_inputs, n_outputs, settings))


def _fitting_settings(published: PublishedNetwork, chain: DenseChain) -> dict[str, Any]:
    """Return the settings of the network, with the factor on its widths that the first layer of the file has."""
    settings = resolve_settings(published.network, {})
    if "width_factor" in settings and chain.layers:
        full = _empty_network(published.network, chain.layers[0].n_inputs, 1, {})
        settings["width_factor"] = max(1, chain.layers[0].n_outputs) / _linear_layers(full)[0].out_features
    return settings


def _linear_layers(network: VectorNetwork) -> list[nn.Linear]:
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def _mismatch(network: VectorNetwork, name: str, chain: DenseChain) -> str | None:
    """Return None, or the first difference between the layers of a file and those of a network."""
    linear = _linear_layers(network)
    activations = [type(block[1]).__name__.lower() for block in network.blocks]  # type: ignore[index]
    if len(chain.layers) != len(linear):
        return f"it has {len(chain.layers)} fully connected layers, {name} has {len(linear)}"
    size = linear[0].in_features
    for number, (layer, expected, activation) in enumerate(
        zip(chain.layers, linear, [*activations, LINEAR], strict=True), start=1
    ):
        where = f"layer {number} ({layer.name})"
        if layer.n_inputs != size:
            origin = "there are" if number == 1 else "the layer before gives"
            return f"{where} takes {layer.n_inputs} values, but {origin} {size}{' features' if number == 1 else ''}"
        if layer.n_outputs != expected.out_features:
            return f"{where} has {layer.n_outputs} units, {name} has {expected.out_features} there"
        if layer.activation not in (activation, None):
            return f"{where} has the activation {layer.activation}, {name} has {activation} there"
        size = layer.n_outputs
    return None


def _fits(chain: DenseChain, name: str) -> bool:
    published = PUBLISHED[name]
    n_inputs = len(get_descriptor(published.descriptor).labels)
    return _mismatch(_empty_network(name, n_inputs, 1, _fitting_settings(published, chain)), name, chain) is None


def _assemble(
    path: Path, card: ModelCard, chain: DenseChain, factors: NDArray[np.float64]
) -> tuple[ModelCard, artefact.Artefact]:
    """Return the network with the weights of the file, its transforms, and the completed card."""
    spec = card.network
    try:
        network = _empty_network(spec.name, spec.n_inputs, spec.n_outputs, spec.settings)
    except ValueError as error:  # only the card that an exported file carries can ask for the impossible
        raise ArtefactError(f"{path} carries a card that this version cannot read: {error}") from None
    if (reason := _mismatch(network, spec.name, chain)) is not None:
        others = [name for name in PUBLISHED if name != spec.name and _fits(chain, name)]
        hint = f"; it fits --as {others[0]}" if others else ""
        raise ArtefactError(f"{path} does not fit {spec.name}: {reason}{hint}")
    for number, layer in enumerate(chain.layers, start=1):
        if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
            raise ArtefactError(f"{path}: layer {number} ({layer.name}) has values that are not finite")
    scaler, first = _scaler(path, chain, factors)
    for linear, layer in zip(_linear_layers(network), [first, *chain.layers[1:]], strict=True):
        linear.weight = nn.Parameter(torch.from_numpy(np.array(layer.weight, order="C")), requires_grad=False)
        linear.bias = nn.Parameter(torch.from_numpy(np.array(layer.bias)), requires_grad=False)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    card = card.model_copy(
        update={
            "network": spec.model_copy(update={"n_parameters": n_parameters, "n_members": 1}),
            "descriptor": card.descriptor.model_copy(update={"clip": chain.clip}),
            "weights": WeightsSpec(sha256="", dtype="float32"),
        }
    )
    target = artefact.TargetTransform(
        *(np.array(np.broadcast_to(array, (spec.n_outputs,))) for array in (chain.after.shift, chain.after.factor))
    )
    return card, artefact.Artefact(card, Ensemble([network]).eval(), scaler, target)


def _scaler(path: Path, chain: DenseChain, factors: NDArray[np.float64]) -> tuple[artefact.Scaler, DenseLayer]:
    """Return the scaler that does what the file does to the features, and the first layer that belongs to it.

    A feature that the file multiplies by zero cannot be described by a scaler: its column of weights becomes zero.
    """
    n = len(factors)
    first = chain.layers[0]
    if not {chain.before.factor.size, chain.before.shift.size} <= {1, n}:
        raise ArtefactError(
            f"{path} scales {max(chain.before.factor.size, chain.before.shift.size)} features, there are {n}"
        )
    whole = Affine(factors).then(chain.before.factor, chain.before.shift)
    factor, shift = np.broadcast_to(whole.factor, (n,)).copy(), np.broadcast_to(whole.shift, (n,)).copy()
    unused = factor == 0.0
    if unused.any():
        constant = np.where(unused, shift if chain.clip is None else np.clip(shift, -chain.clip, chain.clip), 0.0)
        bias = first.bias + (first.weight.astype(np.float64) @ constant).astype(np.float32)
        first = DenseLayer(first.name, np.where(unused, np.float32(0.0), first.weight), bias, first.activation)
        factor[unused], shift[unused] = 1.0, 0.0
    mean = np.where(shift == 0.0, 0.0, -shift / factor)
    return artefact.Scaler(mean, 1.0 / factor, chain.clip), first


def _check_against_onnxruntime(
    path: Path, chain: DenseChain, loaded: artefact.Artefact, factors: NDArray[np.float64]
) -> str:
    """Return what the card is to say of a comparison with what onnxruntime makes of the file.

    Raises:
        ArtefactError: if it differs from what was imported.
    """
    assert loaded.scaler is not None  # it was made from the file
    drawn = np.random.default_rng(0).normal(size=(_CHECKED_ROWS, len(factors)))
    features = loaded.scaler.mean + loaded.scaler.scale * drawn
    ours = Predictor(loaded).predict_features(features).mean(axis=0)
    try:
        theirs = run_onnx(path, features * factors)
    except (ArtefactError, MissingDependencyError) as error:
        logger.warning("the import was not checked: %s", error)
        return "the model was not checked against the file, which onnxruntime did not run here"
    tolerance = 0.02 if chain.half_precision else 1e-4  # onnxruntime computes in the precision of the file
    if theirs.shape != ours.shape or not np.allclose(ours, theirs, rtol=10.0 * tolerance, atol=tolerance):
        difference = f" by up to {np.abs(ours - theirs).max():.3g}" if theirs.shape == ours.shape else ""
        raise ArtefactError(
            f"{path}: what was read from the file differs{difference} from what onnxruntime makes of it; please "
            "report this with the origin of the file"
        )
    return f"the model gives what onnxruntime makes of the file, on {_CHECKED_ROWS} rows of random features"

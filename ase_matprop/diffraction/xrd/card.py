"""The model folder of an XRD network: ``card.json`` and ``weights.safetensors``, nothing pickled."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save as save_tensors

from ase_matprop.diffraction.xrd.geometry import DetectorGeometry
from ase_matprop.diffraction.xrd.networks import PatternNetwork, build_pattern_network
from ase_matprop.errors import ArtefactError, MatPropError
from ase_matprop.models.artefact import read_weights
from ase_matprop.models.card import CARD_FILE, ModelCard, WeightsSpec, describe_validation

FORMAT_VERSION = 1
KIND = "xrd-phase-regions"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PatternNetworkSpec(_Part):
    """The network: its name in :data:`ase_matprop.diffraction.xrd.networks.NETWORKS` and its settings."""

    name: str
    settings: dict[str, Any]
    n_parameters: int


class InputSpec(_Part):
    """What the network is fed with.

    Attributes:
        background: method of background removal before the network.
        background_size: its filter size in pixels of the network's images.
        image_scale: counts are divided by this.
        mean_counts: smallest and largest mean count of a training image.
        composition: metals whose cation fractions the network needs, in their order.
        geometries: detector position of each frame, as :class:`DetectorGeometry` writes it.
    """

    background: str
    background_size: int
    image_scale: float
    mean_counts: tuple[float, float]
    composition: list[str]
    geometries: list[dict[str, Any]]

    def detector_geometries(self) -> tuple[DetectorGeometry, ...]:
        return tuple(
            DetectorGeometry(
                (each["shape"][0], each["shape"][1]),
                each["pixel"],
                each["distance"],
                (each["poni"][0], each["poni"][1]),
                (each["rotations"][0], each["rotations"][1], each["rotations"][2]),
                each["wavelength"],
            )
            for each in self.geometries
        )


class PatternCard(_Part):
    """What an XRD network is, what it was trained on, and how often it is right.

    Attributes:
        kind: ``"xrd-phase-regions"``.
        classes: phase regions in the order of the network's outputs.
        accuracies: measured shares of right answers by what they were measured on.
        training_set: name, number of images and settings of the training data.
        training: settings of the training.
    """

    format_version: int = FORMAT_VERSION
    kind: str = KIND
    name: str
    description: str
    network: PatternNetworkSpec
    inputs: InputSpec
    classes: list[str]
    accuracies: dict[str, float]
    training_set: dict[str, Any]
    training: dict[str, Any]
    notes: list[str]
    citation: list[str]
    code_version: str
    created: str
    weights: WeightsSpec

    @classmethod
    def read(cls, folder: Path) -> PatternCard:
        """Read the card of a model folder.

        Raises:
            ArtefactError: if there is none, or it is no card of an XRD network that this version understands.
        """
        path = folder / CARD_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ArtefactError(f"{folder} is no model folder: {CARD_FILE} cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ArtefactError(f"{path} is no valid JSON: {error}") from None
        found = content.get("kind") if isinstance(content, dict) else None
        if found != KIND:
            raise ArtefactError(
                f"{folder} is no XRD network (kind {found!r}); give a folder with a card of kind {KIND!r}"
            )
        if content.get("format_version", 0) > FORMAT_VERSION:
            raise ArtefactError(
                f"{path} has format version {content['format_version']}, this version of ase_matprop reads up to "
                f"{FORMAT_VERSION}; upgrade with: pip install -U ase-matprop"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ArtefactError(f"{path} is no valid model card: {describe_validation(error)}") from None


def geometry_entries(geometries: tuple[DetectorGeometry, ...]) -> list[dict[str, Any]]:
    """Return geometries as a card stores them."""
    return [asdict(each) for each in geometries]


def save(folder: Path, card: PatternCard, network: PatternNetwork) -> PatternCard:
    """Write a model folder and return its card, completed with the hash of the weights.

    Raises:
        ArtefactError: if weights are not finite.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ArtefactError(f"the tensor {name} has values that are not finite; train with a lower learning rate")
    folder.mkdir(parents=True, exist_ok=True)
    data = save_tensors(tensors)
    (folder / card.weights.file).write_bytes(data)
    spec = WeightsSpec(file=card.weights.file, sha256=hashlib.sha256(data).hexdigest(), dtype="float32")
    card = card.model_copy(update={"weights": spec})
    (folder / CARD_FILE).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return card


def load(folder: Path) -> tuple[PatternCard, PatternNetwork]:
    """Load a model folder; the network is in evaluation mode.

    Raises:
        ArtefactError: if the folder is incomplete, was altered, or its tensors do not fit the network of the card.
    """
    card = PatternCard.read(folder)
    tensors = read_weights(folder, cast(ModelCard, card))  # of which it needs name and hash of the file
    try:
        with torch.random.fork_rng(devices=[]):  # random weights are made, and overwritten
            network = build_pattern_network(card.network.name, card.network.settings)
        missing, unexpected = network.load_state_dict(tensors, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if missing or unexpected:
            raise ValueError(f"missing tensors {missing[:3]}, unexpected tensors {unexpected[:3]}")
        if len(card.inputs.detector_geometries()) != network.n_frames:
            raise ValueError("the card has not one geometry for each frame")
    except (RuntimeError, ValueError, KeyError, LookupError, MatPropError) as error:
        raise ArtefactError(f"the weights in {folder} do not fit the network of their card: {error}") from None
    return card, network.eval()

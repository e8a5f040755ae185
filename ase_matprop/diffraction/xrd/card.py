"""The model folder of an XRD network: ``card.json`` and ``weights.safetensors``, nothing pickled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from ase_matprop.diffraction.xrd.geometry import DetectorGeometry
from ase_matprop.diffraction.xrd.networks import PatternNetwork, build_pattern_network
from ase_matprop.errors import ArtefactError, MatPropError
from ase_matprop.models.folder import (
    CardPart,
    CardSummary,
    FolderCard,
    load_network,
    network_tensors,
    read_weights,
)


class PatternNetworkSpec(CardPart):
    """The network: its name in :data:`ase_matprop.diffraction.xrd.networks.NETWORKS` and its settings."""

    name: str
    settings: dict[str, Any]
    n_parameters: int


class InputSpec(CardPart):
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


class Accuracy(CardPart):
    """How often a network was right.

    Attributes:
        n: number of images.
        accuracy: share of them with the right phase region.
        of: which images, and how they were kept out of the training.
    """

    n: int
    accuracy: float
    of: str


class PatternCard(FolderCard):
    """What an XRD network is, what it was trained on, and how often it is right.

    Attributes:
        kind: ``"xrd-phase-regions"``.
        classes: phase regions in the order of the network's outputs.
        accuracies: ``"test"`` for images that this network was never trained on, ``"cross_validation"`` for networks
            that were trained in the same way on fewer images.
        training_set: name, number of images and settings of the training data.
        training: settings of the training.
    """

    KIND: ClassVar[str | None] = "xrd-phase-regions"

    kind: Literal["xrd-phase-regions"] = "xrd-phase-regions"
    network: PatternNetworkSpec
    inputs: InputSpec
    classes: list[str]
    accuracies: dict[str, Accuracy]
    training_set: dict[str, Any]
    training: dict[str, Any]

    def summary(self) -> CardSummary:
        test = self.accuracies.get("test")
        return CardSummary(
            property="phase_region",
            unit="",
            inputs="XRD image",
            n_test=None if test is None else test.n,
            accuracy=None if test is None else test.accuracy,
        )

    def headline(self) -> str:
        if "test" not in self.accuracies:
            return ""
        return f"accuracy {self.accuracies['test'].accuracy:.3f} on {self.accuracies['test'].n} simulated images"

    def check(self) -> None:
        try:
            self.inputs.detector_geometries()
        except (LookupError, TypeError, ValueError, MatPropError) as error:
            raise LookupError(f"a geometry cannot be read ({type(error).__name__}: {error})") from None


def geometry_entries(geometries: tuple[DetectorGeometry, ...]) -> list[dict[str, Any]]:
    """Return geometries as a card stores them."""
    return [asdict(each) for each in geometries]


def save(folder: Path, card: PatternCard, network: PatternNetwork) -> PatternCard:
    """Write a model folder and return its card, completed with the hash of the weights.

    Weights are stored with the precision ``card.weights.dtype``: ``"float32"`` or ``"float16"``.

    Raises:
        ArtefactError: if weights are not finite, also because they are too large for float16.
    """
    return card.write_with(folder, network_tensors(network, card.weights.dtype))


def load(folder: Path) -> tuple[PatternCard, PatternNetwork]:
    """Load a model folder; the network is in evaluation mode.

    Raises:
        ArtefactError: if the folder is incomplete, was altered, or its tensors do not fit the network of the card.
    """
    card = PatternCard.read(folder)
    tensors = read_weights(folder, card.weights)
    try:
        with torch.random.fork_rng(devices=[]):  # random weights are made, and overwritten
            network = build_pattern_network(card.network.name, card.network.settings)
        load_network(network, tensors)
        if len(card.inputs.detector_geometries()) != network.n_frames:
            raise ValueError("the card has not one geometry for each frame")
        if len(card.classes) != network.n_classes:
            raise ValueError(f"the card names {len(card.classes)} phase regions, the network has {network.n_classes}")
    except (RuntimeError, ValueError, KeyError, LookupError, MatPropError) as error:
        raise ArtefactError(f"the weights in {folder} do not fit the network of their card: {error}") from None
    return card, network

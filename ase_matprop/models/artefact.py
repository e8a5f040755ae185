"""A model on disk: a folder with ``card.json`` and ``weights.safetensors``, nothing pickled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ase_matprop.errors import ArtefactError
from ase_matprop.models.card import ModelCard
from ase_matprop.models.folder import load_network, network_tensors, read_weights
from ase_matprop.models.reach import Reach
from ase_matprop.networks import ATOMISTIC_NETWORKS, build_network
from ase_matprop.networks.ensemble import Ensemble

_NETWORK = "network."
_SCALER_MEAN, _SCALER_SCALE = "scaler.mean", "scaler.scale"
_TARGET_OFFSET, _TARGET_SCALE = "target.offset", "target.scale"
_ELEMENT_OFFSETS = "target.element_offsets"
_REACH = "reach."


@dataclass(frozen=True, eq=False)
class Scaler:
    """Preparation of features, fitted on training rows: ``(x - mean) / scale``, clipped to ``+-clip``.

    A feature that is constant in training (zero, for the scaling by the maximum) has scale 1.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    clip: float | None = None

    @classmethod
    def fit(cls, features: NDArray[np.float64], clip: float | None = None, *, scaling: str = "standardize") -> Scaler:
        """Fit each column of ``features``, shape (n, n_features).

        Args:
            features: training rows.
            clip: bound of the scaled values.
            scaling: ``"standardize"`` by mean and standard deviation, ``"maximum"`` by the largest absolute value, or
                ``"none"``.
        """
        n_features = features.shape[1]
        mean, scale = np.zeros(n_features), np.ones(n_features)
        if scaling == "standardize":
            mean, scale = features.mean(axis=0), features.std(axis=0)
        elif scaling == "maximum":
            scale = np.abs(features).max(axis=0)
        return cls(mean, np.where(scale > 1e-8, scale, 1.0), clip)

    def transform(self, features: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the network's inputs, shape (n, n_features)."""
        scaled = (features - self.mean) / self.scale
        return (scaled if self.clip is None else np.clip(scaled, -self.clip, self.clip)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class TargetTransform:
    """What turns the network's output into the property: ``offset + scale * output``, in float64.

    A network on neighbour graphs has ``element_offsets`` besides, shape (MAX_Z, n_outputs): the mean of those of a
    structure's atoms is added.
    """

    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    element_offsets: NDArray[np.float64] | None = None

    def inverse(self, output: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values in the property's unit from network outputs of shape (..., n_outputs)."""
        return self.offset + self.scale * output

    def remaining(self, values: NDArray[np.float64], fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what a network with element offsets has to give.

        Args:
            values: the property, shape (n, n_outputs).
            fractions: share of each atomic number among the atoms, shape (n, MAX_Z).
        """
        return (values - self.offset - self.of_elements(fractions)) / self.scale

    def of_elements(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean element offset of structures with these fractions, shape (n, n_outputs)."""
        assert self.element_offsets is not None
        return np.asarray(fractions @ self.element_offsets)


@dataclass(frozen=True, eq=False)
class Artefact:
    """A card with the weights that belong to it; a network on neighbour graphs has no scaler."""

    card: ModelCard
    network: Ensemble
    scaler: Scaler | None
    target: TargetTransform
    reach: Reach | None = None


def build_ensemble(card: ModelCard) -> Ensemble:
    """Return the untrained network of a card."""
    spec = card.network
    with torch.random.fork_rng(devices=[]):  # random weights are made, and overwritten
        return Ensemble(
            build_network(spec.name, spec.n_inputs, spec.n_outputs, spec.settings) for _ in range(spec.n_members)
        )


def save(
    folder: Path,
    card: ModelCard,
    network: nn.Module,
    scaler: Scaler | None,
    target: TargetTransform,
    reach: Reach | None = None,
) -> ModelCard:
    """Write a model folder and return its card, completed with the hash of the weights.

    Weights are stored in the precision that ``card.weights.dtype`` names, scaler and target transform in float64.  What
    is no weight (running averages, the centres of SchNet's Gaussians) keeps its own.
    """
    tensors = network_tensors(network, card.weights.dtype, _NETWORK)
    arrays = {_TARGET_OFFSET: target.offset, _TARGET_SCALE: target.scale}
    if scaler is not None:
        arrays |= {_SCALER_MEAN: scaler.mean, _SCALER_SCALE: scaler.scale}
    if target.element_offsets is not None:
        arrays[_ELEMENT_OFFSETS] = target.element_offsets
    for name, array in arrays.items():
        tensors[name] = torch.from_numpy(np.atleast_1d(np.asarray(array, dtype=np.float64)))
    if reach is not None:
        tensors |= {_REACH + name: torch.from_numpy(array) for name, array in reach.to_arrays().items()}
    return card.write_with(folder, tensors)


def load(folder: Path) -> Artefact:
    """Load a model folder: network in evaluation mode and float32, transforms in float64.

    Raises:
        ArtefactError: if the folder is incomplete, was altered, or its tensors do not fit the network of the card.
    """
    card = ModelCard.read(folder)
    tensors = read_weights(folder, card.weights)
    try:
        network = build_ensemble(card)
        load_network(network, tensors, _NETWORK)
        target = TargetTransform(tensors[_TARGET_OFFSET].numpy(), tensors[_TARGET_SCALE].numpy())
        seen = {name.removeprefix(_REACH): t.numpy() for name, t in tensors.items() if name.startswith(_REACH)}
        reach = Reach.from_arrays(seen)
        if card.network.name in ATOMISTIC_NETWORKS:
            offsets = tensors[_ELEMENT_OFFSETS].numpy()
            if offsets.shape != (card.network.n_inputs, card.network.n_outputs):
                raise ValueError(f"the element offsets have the shape {offsets.shape}")
            return Artefact(card, network, None, replace(target, element_offsets=offsets), reach)
        scaler = Scaler(tensors[_SCALER_MEAN].numpy(), tensors[_SCALER_SCALE].numpy(), card.descriptor.clip)
        sizes = {scaler.mean.shape, scaler.scale.shape, (card.network.n_inputs,), (len(card.descriptor.labels),)}
        if len(sizes) != 1:
            raise ValueError(f"scaler, feature labels and network inputs differ in length: {sorted(sizes)}")
    except (RuntimeError, ValueError, KeyError, LookupError) as error:
        raise ArtefactError(f"the weights in {folder} do not fit the network of their card: {error}") from None
    return Artefact(card, network, scaler, target, reach)

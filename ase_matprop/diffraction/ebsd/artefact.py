"""An EBSD model on disk: a folder with ``card.json`` and ``weights.safetensors``, nothing pickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ase_matprop.diffraction.ebsd.card import EbsdCard
from ase_matprop.diffraction.ebsd.estimator import Estimator
from ase_matprop.diffraction.ebsd.networks import build_network
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing
from ase_matprop.errors import ArtefactError, UnknownNameError
from ase_matprop.models.folder import load_network, network_tensors, read_weights


@dataclass(frozen=True, eq=False)
class EbsdArtefact:
    """A card with the networks that belong to it, in evaluation mode."""

    card: EbsdCard
    members: list[Estimator]
    preparation: Preprocessing


def save(folder: Path, card: EbsdCard, members: list[Estimator]) -> EbsdCard:
    """Write a model folder and return its card, completed with the hash of the weights.

    Weights are stored in the precision that ``card.weights.dtype`` names.

    Raises:
        ArtefactError: if a weight is not finite in that precision.
    """
    tensors: dict[str, torch.Tensor] = {}
    for number, member in enumerate(members):
        tensors |= network_tensors(member.network, card.weights.dtype, f"members.{number}.")
    return card.write_with(folder, tensors)


def load(folder: Path) -> EbsdArtefact:
    """Load a model folder: networks in evaluation mode and float32.

    Raises:
        ArtefactError: if the folder is incomplete, was altered, or its tensors do not fit the network of the card.
    """
    folder = Path(folder)
    card = EbsdCard.read(folder)
    tensors = read_weights(folder, card.weights)
    try:
        preparation = card.preparation.build(card.detector)
        members = []
        for number in range(card.network.n_members):
            with torch.random.fork_rng(devices=[]):  # random weights are made, and overwritten
                network = build_network(card.network.name, preparation.output_shape, card.network.settings)
            load_network(network, tensors, f"members.{number}.")
            members.append(Estimator(network, card.network.output, card.phase.symmetry).eval())
    except (RuntimeError, ValueError, UnknownNameError) as error:
        raise ArtefactError(f"the weights in {folder} do not fit the network of their card: {error}") from None
    return EbsdArtefact(card, members, preparation)

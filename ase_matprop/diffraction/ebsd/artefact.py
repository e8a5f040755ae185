"""An EBSD model on disk: a folder with ``card.json`` and ``weights.safetensors``, nothing pickled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ase_matprop.diffraction.ebsd.card import EbsdCard
from ase_matprop.diffraction.ebsd.estimator import Estimator
from ase_matprop.diffraction.ebsd.networks import build_network
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing
from ase_matprop.errors import ArtefactError, UnknownNameError
from ase_matprop.models.card import WeightsSpec

_PRECISIONS = {"float16": torch.float16, "float32": torch.float32}


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
    precision = _PRECISIONS[card.weights.dtype]
    tensors = {}
    for number, member in enumerate(members):
        for name, tensor in member.network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            kept = tensor.detach().cpu().to(precision).contiguous()
            if not torch.isfinite(kept).all():
                raise ArtefactError(
                    f"the tensor {name} has values that are not finite in {card.weights.dtype}; save as float32"
                )
            tensors[f"members.{number}.{name}"] = kept
    folder.mkdir(parents=True, exist_ok=True)
    data = save_tensors(tensors)
    (folder / card.weights.file).write_bytes(data)
    spec = WeightsSpec(file=card.weights.file, sha256=hashlib.sha256(data).hexdigest(), dtype=card.weights.dtype)
    card = card.model_copy(update={"weights": spec})
    card.write(folder)
    return card


def load(folder: Path) -> EbsdArtefact:
    """Load a model folder: networks in evaluation mode and float32.

    Raises:
        ArtefactError: if the folder is incomplete, was altered, or its tensors do not fit the network of the card.
    """
    folder = Path(folder)
    card = EbsdCard.read(folder)
    path = folder / card.weights.file
    if path.parent != folder:
        raise ArtefactError(f"{folder}: the card names weights outside of the model folder ({card.weights.file})")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"the weights {path} cannot be read ({error.strerror}); get the model folder again"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != card.weights.sha256:
        raise ArtefactError(
            f"the weights {path} are corrupted or altered: their SHA-256 is {found[:12]}..., the card says "
            f"{card.weights.sha256[:12]}...; get the model folder again"
        )
    try:
        tensors = load_tensors(data)
        preparation = card.preparation.build(card.detector)
        members = []
        for number in range(card.network.n_members):
            with torch.random.fork_rng(devices=[]):  # random weights are made, and overwritten
                network = build_network(card.network.name, preparation.output_shape, card.network.settings)
            prefix = f"members.{number}."
            own = {name.removeprefix(prefix): t.float() for name, t in tensors.items() if name.startswith(prefix)}
            missing, unexpected = network.load_state_dict(own, strict=False)
            missing = [name for name in missing if not name.endswith("num_batches_tracked")]
            if missing or unexpected:
                raise ValueError(f"missing tensors {missing[:3]}, unexpected tensors {unexpected[:3]}")
            members.append(Estimator(network, card.network.output, card.phase.symmetry).eval())
    except SafetensorError as error:
        raise ArtefactError(f"the weights {path} are no safetensors file: {error}") from None
    except (RuntimeError, ValueError, UnknownNameError) as error:
        raise ArtefactError(f"the weights in {folder} do not fit the network of their card: {error}") from None
    return EbsdArtefact(card, members, preparation)

"""A model folder on disk: ``card.json`` and ``weights.safetensors``, nothing pickled, for all kinds of models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ase_matprop.errors import ArtefactError

if TYPE_CHECKING:
    from torch import Tensor, nn

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
_COUNTER = "num_batches_tracked"  # of batch normalisation; no prediction depends on it


class CardPart(BaseModel):
    """A section of a card: no other fields than it names, and none of them changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightsSpec(CardPart):
    """The weights file: its name, SHA-256 and the precision of the network's tensors in it."""

    file: str = WEIGHTS_FILE
    sha256: str
    dtype: str


@dataclass(frozen=True)
class CardSummary:
    """One line of a list of models.

    Attributes:
        property: what is predicted.
        unit: of ``error`` and of what is predicted; empty for a class.
        inputs: what it is predicted from.
        n_test: rows of the test set, None if there is none.
        error: mean absolute error on it, or mean disorientation; None for a class.
        accuracy: share of right classes on it; None for a number.
    """

    property: str
    unit: str
    inputs: str
    n_test: int | None
    error: float | None = None
    accuracy: float | None = None


class FolderCard(CardPart):
    """What all cards have.

    Attributes:
        KIND: what the field ``kind`` of such a card says, None for predictions from structures and formulas, whose card
            has no such field.
        FORMAT_VERSION: the newest that is understood.
        name: of the model.
        description: one sentence.
        notes: what a user should know besides.
        citation: what to cite.
        code_version: of this package, when the model was made.
        created: day when it was made.
        weights: the weights file.
    """

    KIND: ClassVar[str | None] = None
    FORMAT_VERSION: ClassVar[int] = 1

    format_version: int = 1
    name: str
    description: str
    notes: list[str] = Field(default_factory=list)
    citation: list[str]
    code_version: str
    created: str
    weights: WeightsSpec

    def summary(self) -> CardSummary:
        """Return what a list of models says of it."""
        raise NotImplementedError

    def headline(self) -> str:
        """What the model achieves on its test set, in a few words; empty if it was never measured."""
        raise NotImplementedError

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the card of a model folder.

        Raises:
            ArtefactError: if there is none, or it is not a card of this kind that this version understands.
        """
        path = folder / CARD_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ArtefactError(f"{folder} is no model folder: {CARD_FILE} cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ArtefactError(f"{path} is no valid JSON: {error}") from None
        known = content if isinstance(content, dict) else {}
        if known.get("kind") != cls.KIND:
            raise ArtefactError(
                f"{folder} holds another kind of model ({known.get('kind') or 'of structures or formulas'}); "
                f"{_COMMANDS.get(known.get('kind'), 'give the folder of a model')}"
            )
        version = known.get("format_version")
        if isinstance(version, int) and version > cls.FORMAT_VERSION:
            raise ArtefactError(
                f"{path} has format version {version}, this version of ase_matprop reads up to {cls.FORMAT_VERSION}; "
                "upgrade with: pip install -U ase-matprop"
            )
        try:
            card = cls.model_validate(content)
            card.check()
        except (ValidationError, LookupError) as error:
            reason = describe_validation(error) if isinstance(error, ValidationError) else str(error)
            raise ArtefactError(f"{path} is no valid model card: {reason}") from None
        return card

    def check(self) -> None:
        """Raise a LookupError if the card names what does not exist."""

    def write_with(self, folder: Path, tensors: Mapping[str, Tensor]) -> Self:
        """Write a model folder, the weights first, and return the card, completed with their hash.

        Raises:
            ArtefactError: if a tensor has values that are not finite.
        """
        card = self.model_copy(update={"weights": write_weights(folder, self.weights, tensors)})
        card.write(folder)
        return card

    def write(self, folder: Path) -> None:
        """Write the card into a model folder."""
        _replace(Path(folder) / CARD_FILE, (self.model_dump_json(indent=2) + "\n").encode())


#: kind of model -> what to do with it
_COMMANDS = {
    None: "it is for matprop predict and load_model",
    "ebsd": "it is for matprop ebsd predict",
    "xrd-phase-regions": "it is for matprop xrd predict",
}


def read_weights(folder: Path, spec: WeightsSpec) -> dict[str, Tensor]:
    """Read the tensors of a model folder, after a check of their SHA-256 against the card.

    Raises:
        ArtefactError: if the file is missing, was altered or is incomplete.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / spec.file
    if path.parent != folder:
        raise ArtefactError(f"{folder}: the card names weights outside of the model folder ({spec.file})")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"the weights {path} cannot be read ({error.strerror}); get the model folder again"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != spec.sha256:
        raise ArtefactError(
            f"the weights {path} are corrupted or altered: their SHA-256 is {found[:12]}..., the card says "
            f"{spec.sha256[:12]}...; get the model folder again"
        )
    try:
        return load(data)
    except SafetensorError as error:
        raise ArtefactError(f"the weights {path} are no safetensors file: {error}") from None


def write_weights(folder: Path, spec: WeightsSpec, tensors: Mapping[str, Tensor]) -> WeightsSpec:
    """Write tensors into a model folder as they are, and return the spec with their SHA-256.

    Raises:
        ArtefactError: if a tensor has values that are not finite.
    """
    import torch
    from safetensors.torch import save

    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ArtefactError(
                f"the tensor {name} has values that are not finite in {spec.dtype}; save as float32, or train with a "
                "lower learning rate"
            )
    folder.mkdir(parents=True, exist_ok=True)
    data = save(dict(tensors))
    _replace(folder / spec.file, data)
    return spec.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})


def _replace(path: Path, data: bytes) -> None:
    """Write a file beside the old one, and put it in its place when it is whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def network_tensors(network: nn.Module, dtype: str, prefix: str = "") -> dict[str, Tensor]:
    """Return what is stored of a network, by name: weights in a precision, running averages and the like in their own.

    Args:
        network: on any device.
        dtype: ``"float16"`` or ``"float32"``.
        prefix: put before each name.
    """
    import torch

    precision = {"float16": torch.float16, "float32": torch.float32}[dtype]
    weights = {name for name, _ in network.named_parameters()}
    return {
        prefix + name: tensor.detach().cpu().to(precision if name in weights else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith(_COUNTER)
    }


def load_network(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Load what :func:`network_tensors` gave into a network, and put it into evaluation mode.

    Raises:
        ValueError: if a tensor is missing, or there are others under the prefix.
        RuntimeError: if a tensor has another shape.
    """
    state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    missing, unexpected = network.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith(_COUNTER)]
    if missing or unexpected:
        raise ValueError(f"missing tensors {missing[:3]}, unexpected tensors {unexpected[:3]}")
    network.eval()


def describe_validation(error: ValidationError) -> str:
    """Return pydantic's findings in one line, each with the name of the field."""
    findings = []
    for entry in error.errors():
        where = ".".join(str(part) for part in entry["loc"]) or "document"
        message = "unknown key" if entry["type"] == "extra_forbidden" else entry["msg"][0].lower() + entry["msg"][1:]
        findings.append(f"{where}: {message}")
    return "; ".join(findings)

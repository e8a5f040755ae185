"""The card of an EBSD model.

It is a card of its own, beside :class:`ase_matprop.models.card.ModelCard`: that one describes a number with a unit that
is predicted from features with labels; this one an orientation that is predicted from the pixels of a detector.  Layout
on disk, hash of the weights and error messages are the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ase_matprop.diffraction.ebsd.geometry import Detector
from ase_matprop.diffraction.ebsd.networks import Output
from ase_matprop.diffraction.ebsd.recipe import PreparationSection
from ase_matprop.errors import ArtefactError
from ase_matprop.models.card import CARD_FILE, WeightsSpec, describe_validation

FORMAT_VERSION = 1
KIND = "ebsd"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EbsdNetworkSpec(_Part):
    """The network: its name in :data:`.networks.NETWORKS`, what its numbers mean, and the members of the ensemble."""

    name: str
    output: Output
    settings: dict[str, Any] = Field(default_factory=dict)
    n_members: int = 1
    n_parameters: int


class PhaseSpec(_Part):
    """The crystal; ``lattice`` has a, b, c in Angstrom and alpha, beta, gamma in degrees."""

    name: str
    symmetry: str
    space_group: int
    lattice: tuple[float, float, float, float, float, float]


class OrientationErrors(_Part):
    """Disorientations from the truth on one set of patterns, in degrees; shares between 0 and 1."""

    n: int
    mean: float
    median: float
    percentile_90: float
    maximum: float
    share_below_2: float


class Confidence(_Part):
    """What spread and residual of a result say, measured on the validation patterns.

    Attributes:
        spread_unit: degrees; 90 of 100 results that are right within 5 degrees have a smaller spread.
        residual_unit: the same for the residual.
        limit: of the distance, the larger of both in these units; of the results up to there at most 1 in 100 was wrong
            by more than 5 degrees, those beyond are flagged.
        share_within_limit: of the validation patterns.
    """

    spread_unit: float
    residual_unit: float
    limit: float
    share_within_limit: float

    def distances(self, spread: NDArray[np.float64], residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distances of results, shape (n,); NaN for a network that gives neither spread nor residual."""
        units = ((spread, self.spread_unit), (residual, self.residual_unit))
        known = [values / unit for values, unit in units if unit > 0.0]
        return np.fmax.reduce(known) if known else np.full(len(spread), np.nan)


class EbsdCard(_Part):
    """What a set of weights is, which patterns it was trained on, and how wrong it is.

    Attributes:
        errors: measured by set: ``validation``, ``test`` (simulated, never used in training or for a choice) or others.
        errors_by_seed: of each member of the ensemble alone on the test set, by its seed.
        confidence: units and limit of the distance.
        training_seconds: of each member, on the machine that ``notes`` name.
    """

    kind: Literal["ebsd"] = "ebsd"
    format_version: int = FORMAT_VERSION
    name: str
    description: str
    network: EbsdNetworkSpec
    phase: PhaseSpec
    detector: Detector
    preparation: PreparationSection
    source: str
    errors: dict[str, OrientationErrors]
    errors_by_seed: dict[str, OrientationErrors] = Field(default_factory=dict)
    confidence: Confidence
    training_patterns: int
    training_seconds: list[float] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    citation: list[str]
    recipe: dict[str, Any]
    code_version: str
    created: str
    weights: WeightsSpec

    def headline(self) -> str:
        """What the model achieves on its test set, in a few words."""
        if "test" not in self.errors:
            return ""
        errors = self.errors["test"]
        return f"{errors.mean:.2f} degrees mean, {errors.median:.2f} median on {errors.n} simulated patterns"

    @classmethod
    def read(cls, folder: Path) -> EbsdCard:
        """Read the card of a model folder.

        Raises:
            ArtefactError: if there is none, or it is not an EBSD card that this version understands.
        """
        path = Path(folder) / CARD_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ArtefactError(f"{folder} is no model folder: {CARD_FILE} cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ArtefactError(f"{path} is no valid JSON: {error}") from None
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise ArtefactError(f"{path} is the card of another kind of model; give the folder of an EBSD model")
        version = content.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ArtefactError(
                f"{path} has format version {version}, this version of ase_matprop reads up to {FORMAT_VERSION}; "
                "upgrade with: pip install -U ase-matprop"
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ArtefactError(f"{path} is no valid model card: {describe_validation(error)}") from None

    def write(self, folder: Path) -> None:
        """Write the card into a model folder."""
        (Path(folder) / CARD_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

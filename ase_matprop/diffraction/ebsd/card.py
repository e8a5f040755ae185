"""The card of an EBSD model.

It is a card of its own, beside :class:`ase_matprop.models.card.ModelCard`: that one describes a number with a unit that
is predicted from features with labels; this one an orientation that is predicted from the pixels of a detector.  Layout
on disk, hash of the weights and error messages are the same.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ase_matprop.diffraction.ebsd.geometry import Detector
from ase_matprop.diffraction.ebsd.networks import Output
from ase_matprop.diffraction.ebsd.recipe import PreparationSection
from ase_matprop.models.folder import CardPart, CardSummary, FolderCard


class EbsdNetworkSpec(CardPart):
    """The network: its name in :data:`.networks.NETWORKS`, what its numbers mean, and the members of the ensemble."""

    name: str
    output: Output
    settings: dict[str, Any] = Field(default_factory=dict)
    n_members: int = 1
    n_parameters: int


class PhaseSpec(CardPart):
    """The crystal; ``lattice`` has a, b, c in Angstrom and alpha, beta, gamma in degrees."""

    name: str
    symmetry: str
    space_group: int
    lattice: tuple[float, float, float, float, float, float]


class OrientationErrors(CardPart):
    """Disorientations from the truth on one set of patterns, in degrees; shares between 0 and 1."""

    n: int
    mean: float
    median: float
    percentile_90: float
    maximum: float
    share_below_2: float


class Confidence(CardPart):
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


class EbsdCard(FolderCard):
    """What a set of weights is, which patterns it was trained on, and how wrong it is.

    Attributes:
        errors: measured by set: ``validation``, ``test`` (simulated, never used in training or for a choice) or others.
        errors_by_seed: of each member of the ensemble alone on the test set, by its seed.
        confidence: units and limit of the distance.
        training_seconds: of each member, on the machine that ``notes`` name.
    """

    KIND: ClassVar[str | None] = "ebsd"

    kind: Literal["ebsd"] = "ebsd"
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
    recipe: dict[str, Any]

    def summary(self) -> CardSummary:
        test = self.errors.get("test")
        return CardSummary(
            property="crystal_orientation",
            unit="degrees",
            inputs="EBSD pattern",
            n_test=None if test is None else test.n,
            error=None if test is None else test.mean,
        )

    def headline(self) -> str:
        if "test" not in self.errors:
            return ""
        errors = self.errors["test"]
        return f"{errors.mean:.2f} degrees mean, {errors.median:.2f} median on {errors.n} simulated patterns"

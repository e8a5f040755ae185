"""Recipes of EBSD networks: a TOML file that says all of a training run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ase_matprop.diffraction.ebsd.estimator import Estimator, n_parameters
from ase_matprop.diffraction.ebsd.geometry import Detector
from ase_matprop.diffraction.ebsd.losses import LossName
from ase_matprop.diffraction.ebsd.networks import NETWORKS, Output, build_network
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing, Scale
from ase_matprop.diffraction.ebsd.simulation import Disturbances
from ase_matprop.errors import RecipeError, unknown_name
from ase_matprop.models.folder import describe_validation


class Section(BaseModel):
    """A table of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PreparationSection(Section):
    """What is done to a pattern before the network sees it, see :class:`~.preprocessing.Preprocessing`."""

    sigma: float = Field(default=4.0, ge=0.0)
    pool: int = Field(default=2, ge=1)
    scale: Scale = "standard"

    def build(self, detector: Detector) -> Preprocessing:
        """Return the module for patterns of a detector."""
        return Preprocessing(detector.shape, sigma=self.sigma, pool=self.pool, scale=self.scale)


class NetworkSection(Section):
    """The network, what its numbers mean, and settings of its class."""

    name: str = "omnet-compact"
    output: Output = "invariants"
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NETWORKS:
            raise ValueError(str(unknown_name("EBSD network", value, NETWORKS)))
        return value

    def resolved(self, symmetry: str) -> dict[str, Any]:
        """Return the settings of the network's class, with those that follow from the output."""
        size = n_parameters(self.output, symmetry)
        if self.output == "invariants":
            return {"n_branches": 3, "outputs_per_branch": size} | self.settings
        return {"n_branches": size, "outputs_per_branch": 1} | self.settings

    def build(self, shape: tuple[int, int], symmetry: str) -> Estimator:
        """Return the network, freshly initialised, for prepared patterns of ``shape`` pixels.

        Raises:
            ValueError: if the settings do not suit the network.
        """
        return Estimator(build_network(self.name, shape, self.resolved(symmetry)), self.output, symmetry)


class TrainingSection(Section):
    """How the network is trained: ``steps`` batches of new patterns, with a one-cycle learning rate.

    Over the share ``noise_ramp`` of the steps the noise grows from nothing to what the disturbances say; a network that
    sees all of it at once takes long to find anything.
    """

    loss: LossName = "mse"
    steps: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=3e-3, gt=0.0)
    weight_decay: float = Field(default=1e-4, ge=0.0)
    gradient_clip: float = Field(default=1.0, gt=0.0)
    noise_ramp: float = Field(default=0.3, ge=0.0, le=1.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    validation_patterns: int = Field(default=1000, ge=1)
    test_patterns: int = Field(default=1000, ge=1)


class EbsdRecipe(Section):
    """All of a training run.

    The networks of all seeds are members of the model.  ``test_disturbances`` are those of the patterns that are tested
    on, where they differ from those of training; validation patterns are disturbed as in training.

    Raises:
        RecipeError: from :meth:`read`, if the file cannot be read or has mistakes; each is named with its key.
    """

    name: str
    description: str
    master_pattern: Literal["nickel"] = "nickel"
    seeds: list[int] = Field(default_factory=lambda: [0], min_length=1)
    network: NetworkSection
    training: TrainingSection
    detector: Detector = Detector()
    disturbances: Disturbances = Disturbances()
    test_disturbances: Disturbances | None = None
    preparation: PreparationSection = PreparationSection()
    notes: list[str] = Field(default_factory=list)
    citation: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice")
        if self.network.output == "invariants" and "mde" in self.training.loss:
            raise ValueError("the output 'invariants' is trained with the loss 'mae' or 'mse'")
        if self.preparation.scale == "full_range" and self.preparation.sigma > 0.0:
            raise ValueError("preparation: the scale 'full_range' needs sigma = 0")
        return self

    @classmethod
    def read(cls, path: Path) -> EbsdRecipe:
        """Read a recipe from a TOML file."""
        try:
            content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError(f"the recipe {path} cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"the recipe {path} is no valid TOML: {error}") from None
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RecipeError(f"the recipe {path} has mistakes: {describe_validation(error)}") from None

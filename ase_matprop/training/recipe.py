"""Recipes: a TOML file that says all of a training run, so that it can be run again."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import RecipeError, UnknownNameError, unknown_name
from ase_matprop.models.card import describe_validation
from ase_matprop.networks import NETWORKS
from ase_matprop.properties import get_property


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Section):
    """The data set.  ``file`` is relative to the data folder that is given when the recipe is run."""

    file: str
    property: str
    id_key: str = "material_id"
    name: str
    licence: str
    citation: str

    @field_validator("property")
    @classmethod
    def _known(cls, value: str) -> str:
        return get_property(value).name


class SplitSection(_Section):
    """Shares of the rows that are held out.  ``grouped`` keeps all rows of one reduced formula on one side."""

    test: float = Field(0.1, gt=0.0, lt=0.9)
    validation: float = Field(0.1, gt=0.0, lt=0.9)
    grouped: bool = False
    seed: int = 0


class DescriptorSection(_Section):
    """Descriptor and preparation of the features: standardised, then clipped to +-``clip`` standard deviations."""

    name: str = "ward2017"
    clip: float | None = Field(8.0, gt=0.0)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return get_descriptor(value).name


class NetworkSection(_Section):
    """Network by name with its settings, and how many of them form the ensemble."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    members: int = Field(1, ge=1)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NETWORKS:
            raise unknown_name("network", value, NETWORKS)
        return value


class TrainingSection(_Section):
    """The training loop.

    ``outlier_sigma`` removes training and validation rows whose target is more than so many standard deviations from
    the mean of the training targets (thesis of D. Jha, section 5.2.1); test rows always stay.
    """

    loss: Literal["mae", "mse", "huber"] = "mae"
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0.0)
    weight_decay: float = Field(1e-2, ge=0.0)
    schedule: Literal["one_cycle", "plateau", "constant"] = "one_cycle"
    batch_size: int = Field(256, ge=2)
    max_epochs: int = Field(80, ge=1)
    early_stopping_patience: int | None = Field(None, ge=1)
    weight_average_decay: float | None = Field(None, gt=0.0, lt=1.0)
    gradient_clip: float | None = Field(5.0, gt=0.0)
    outlier_sigma: float | None = Field(5.0, gt=0.0)
    seed: int = 0


class OutputSection(_Section):
    """What the finished model says of itself, and the precision of its stored weights."""

    description: str
    citation: list[str]
    notes: list[str] = Field(default_factory=list)
    precision: Literal["float16", "float32"] = "float16"


class Recipe(_Section):
    """A training run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataSection
    split: SplitSection = SplitSection()
    descriptor: DescriptorSection = DescriptorSection()
    network: NetworkSection
    training: TrainingSection = TrainingSection()
    output: OutputSection

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe.

        Raises:
            RecipeError: if the file cannot be read, is no TOML, or has a key or value that is not allowed; the message
                names it.
        """
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RecipeError(f"the recipe {path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"the recipe {path} is no valid TOML: {error}") from None
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise RecipeError(f"the recipe {path} cannot be used: {describe_validation(error)}") from None
        except UnknownNameError as error:
            raise RecipeError(f"the recipe {path} cannot be used: {error}") from None

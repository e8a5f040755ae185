"""Recipes: a TOML file that says all of a training run, so that it can be run again."""

from __future__ import annotations

import builtins
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ase_matprop.descriptors.neighbors import NAME as NEIGHBORS
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import RecipeError, UnknownNameError, unknown_name
from ase_matprop.models.folder import describe_validation
from ase_matprop.networks import ATOMISTIC_NETWORKS, NETWORKS, resolve_settings
from ase_matprop.properties import get_property


class Section(BaseModel):
    """A table of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(Section):
    """The data set.  Files are relative to the data folder that is given when the recipe is run.

    ``held_out_file`` has the rows for validation and test where a benchmark comes split.  ``columns`` says under which
    names the properties stand in the file, where those differ.  A property that is a class may be given by a number:
    a row is of class k if its number exceeds k of the ``class_edges``.  ``lowest_per_formula`` keeps the row with the
    lowest target of each reduced formula, ``remove_elements`` drops pure elements (thesis of D. Jha, section 3.2.1).
    ``exclude_elements`` drops rows with these elements before the split: with it, recipes whose descriptors cover
    different elements have the same test rows.  For hold-out tests (thesis, section 3.3.7), ``exclude_together`` drops
    rows that have all elements of an item (``"Ti-O"``: TiO2 and BaTiO3), ``exclude_systems`` compounds that have no
    others than those of an item (``"Na-Fe-Mn-O"``: NaFeO2 and MnO, but no pure elements).
    """

    file: str
    held_out_file: str | None = None
    property: str
    further_properties: list[str] = Field(default_factory=list)
    columns: dict[str, str] = Field(default_factory=dict)
    class_edges: list[float] = Field(default_factory=list)
    id_key: str = "material_id"
    formula_column: str = "formula"
    lowest_per_formula: bool = False
    remove_elements: bool = False
    exclude_elements: list[str] = Field(default_factory=list)
    exclude_together: list[str] = Field(default_factory=list)
    exclude_systems: list[str] = Field(default_factory=list)
    name: str
    licence: str
    citation: str

    @field_validator("property")
    @classmethod
    def _known(cls, value: str) -> str:
        return get_property(value).name

    @field_validator("further_properties")
    @classmethod
    def _all_known(cls, values: list[str]) -> list[str]:
        return [get_property(value).name for value in values]

    @field_validator("exclude_elements")
    @classmethod
    def _elements(cls, values: list[str]) -> list[str]:
        for value in values:
            if not atomic_numbers.get(value):
                raise ValueError(f"{value!r} is no element")
        return values

    @field_validator("exclude_together", "exclude_systems")
    @classmethod
    def _systems(cls, values: list[str]) -> list[str]:
        for value in values:
            symbols = value.split("-")
            for symbol in symbols:
                if not atomic_numbers.get(symbol):
                    raise ValueError(f"{symbol!r} in {value!r} is no element; write a system like 'Na-Fe-Mn-O'")
            if len(set(symbols)) < len(symbols):
                raise ValueError(f"{value!r} names an element twice")
            if len(symbols) < 2:
                raise ValueError(f"{value!r} is a single element; name two or more, or use exclude_elements")
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.properties)) < len(self.properties):
            raise ValueError("a property stands twice")
        unknown = sorted(set(self.columns) - set(self.properties))
        if unknown:
            raise ValueError(f"columns names {unknown[0]!r}, which is none of the properties")
        classes = [name for name in self.properties if get_property(name).classes]
        if classes and len(self.properties) > 1:
            raise ValueError(f"{classes[0]!r} is a class and cannot be learnt together with other properties")
        if self.class_edges and not classes:
            raise ValueError("class_edges need a property that is a class")
        if self.class_edges and len(self.class_edges) != len(self.classes) - 1:
            raise ValueError(f"{len(self.classes)} classes need {len(self.classes) - 1} class_edges")
        if sorted(set(self.class_edges)) != self.class_edges:
            raise ValueError("class_edges must increase")
        return self

    @builtins.property
    def properties(self) -> list[str]:
        """All properties that are learnt; the first one is the property of the model."""
        return [self.property, *self.further_properties]

    @builtins.property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, empty for a number."""
        return get_property(self.property).classes

    @builtins.property
    def target_columns(self) -> dict[str, str]:
        """Property -> its name in the data file."""
        return {name: self.columns.get(name, name) for name in self.properties}

    @builtins.property
    def n_outputs(self) -> int:
        """Number of values that a network needs to give."""
        return len(self.classes) or len(self.properties)


class SplitSection(Section):
    """Shares of the rows that are held out.

    ``grouped`` keeps all rows of one reduced formula on one side.  With a file of held-out rows, the shares say how
    those are divided between validation and test.  ``train_rows`` takes only so many of the training rows, at random.
    """

    test: float = Field(0.1, gt=0.0, lt=0.9)
    validation: float = Field(0.1, gt=0.0, lt=0.9)
    grouped: bool = False
    train_rows: int | None = Field(None, ge=2)
    seed: int = 0


class DescriptorSection(Section):
    """Descriptor and preparation of the features.

    ``scaling``: ``"standardize"`` to mean 0 and standard deviation 1 of the training rows, ``"maximum"`` to divide by
    the largest absolute value of the training rows (SIPFENN), ``"none"`` (ElemNet).  Then values are clipped to
    +-``clip``.
    """

    name: str = "ward2017"
    scaling: Literal["standardize", "maximum", "none"] = "standardize"
    clip: float | None = Field(None, gt=0.0)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        return get_descriptor(value).name


class NetworkSection(Section):
    """Network by name with its settings, and how many of them form the ensemble.

    ``initial_model`` (name or folder) gives the weights from which training starts, for transfer learning: a model of
    the same network on the same descriptor.
    """

    name: str
    initial_model: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    members: int = Field(1, ge=1)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NETWORKS:
            raise unknown_name("network", value, NETWORKS)
        return value


class ExclusionSection(Section):
    """Rows that are not learnt from; test rows always stay.

    ``outlier_sigma`` removes training and validation rows whose target is more than so many standard deviations from
    the mean of the training targets (thesis of D. Jha, section 5.2.1), ``hull_cutoff`` training rows that lie more than
    so many eV/atom above the convex hull of the training rows (SIPFENN, section 2.5).  ``exclude_formulas_of`` is a CSV
    file with a column of identifiers: training and validation rows of the same reduced formulas are removed, as for the
    source of a transfer (Krawczuk and Venturi, J. Mach. Learn. Model. Comput. 1 (2020), section 4.1).
    """

    exclude_formulas_of: str | None = None
    outlier_sigma: float | None = Field(None, gt=0.0)
    hull_cutoff: float | None = Field(None, gt=0.0)


class TrainingSection(ExclusionSection):
    """The training loop, and the rows that it leaves out (:class:`ExclusionSection`).

    A ``weight_decay`` is an l2 penalty with ``adam`` and decoupled with ``adamw``.  The schedule ``warm_up`` raises the
    learning rate from a thousandth in two epochs and lowers it along a cosine afterwards (SIPFENN, Figure 2.8).
    Dropout works in the first ``dropout_until`` of the epochs: a deep network without normalisation gives other values
    with it than without, and needs the remaining epochs to get used to that.  ``precision``: hidden layers in bfloat16
    are faster on processors with such instructions; weights stay float32.
    """

    loss: Literal["mae", "mse", "huber", "cross_entropy"] = "mae"
    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = Field(2e-3, gt=0.0)
    weight_decay: float = Field(1e-2, ge=0.0)
    schedule: Literal["one_cycle", "warm_up", "plateau", "constant"] = "one_cycle"
    batch_size: int = Field(256, ge=2)
    max_epochs: int = Field(80, ge=1)
    early_stopping_patience: int | None = Field(None, ge=1)
    dropout_until: float = Field(1.0, ge=0.0, le=1.0)
    weight_average_decay: float | None = Field(None, gt=0.0, lt=1.0)
    gradient_clip: float | None = Field(5.0, gt=0.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0


class OutputSection(Section):
    """What the finished model says of itself, and the precision of its stored weights."""

    description: str
    citation: list[str]
    notes: list[str] = Field(default_factory=list)
    precision: Literal["float16", "float32"] = "float16"


class DataRecipe(Section):
    """What networks and baselines have in common: rows, split and features, hence the test rows."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: DataSection
    split: SplitSection = SplitSection()
    descriptor: DescriptorSection = DescriptorSection()
    training: ExclusionSection = ExclusionSection()

    @model_validator(mode="after")
    def _hull_of_formation_energies(self) -> Self:
        if self.data.classes and self.training.outlier_sigma is not None:
            raise ValueError("training.outlier_sigma: a class has no outliers; remove the key")
        if self.training.hull_cutoff is not None and self.data.property != "formation_energy_per_atom":
            raise ValueError("training.hull_cutoff: needs the property 'formation_energy_per_atom'")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
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


class Recipe(DataRecipe):
    """A training run."""

    network: NetworkSection
    training: TrainingSection = TrainingSection()
    output: OutputSection

    @property
    def cutoff(self) -> float | None:
        """Cutoff of the neighbour graphs in Angstrom, None for a network on feature vectors."""
        if self.network.name not in ATOMISTIC_NETWORKS:
            return None
        return float(resolve_settings(self.network.name, self.network.settings)["cutoff"])

    @model_validator(mode="after")
    def _graphs(self) -> Self:
        if (self.descriptor.name == NEIGHBORS) != (self.network.name in ATOMISTIC_NETWORKS):
            raise ValueError(
                f"descriptor.name: the networks {' and '.join(sorted(ATOMISTIC_NETWORKS))}, and only these, take the "
                f"descriptor {NEIGHBORS!r}"
            )
        if self.descriptor.name == NEIGHBORS and self.data.classes:
            raise ValueError(f"network.name: {self.network.name} is for numbers, {self.data.property} is a class")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.data.classes) != (self.training.loss == "cross_entropy"):
            kind = "a class" if self.data.classes else "a number"
            raise ValueError(
                f"training.loss: {self.training.loss!r} does not suit {self.data.property}, which is {kind}"
            )
        return self

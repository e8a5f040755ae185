"""The model card: everything that a user, and the predictor, must know of a set of weights."""

from __future__ import annotations

import builtins
import math
from typing import Any

from pydantic import Field

from ase_matprop.models.folder import CardPart, CardSummary, FolderCard
from ase_matprop.properties import MaterialProperty, get_property


class NetworkSpec(CardPart):
    """The network: its name in :data:`ase_matprop.networks.NETWORKS`, its sizes and the number of ensemble members."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    n_inputs: int
    n_outputs: int = 1
    n_members: int = 1
    n_parameters: int


class DescriptorSpec(CardPart):
    """The descriptor; its features are scaled by what the weights file says, then clipped to +-``clip``."""

    name: str
    version: int
    labels: list[str]
    clip: float | None = None


class ErrorSummary(CardPart):
    """Absolute errors on one set, in the unit of the property."""

    n: int
    mae: float
    median: float
    percentile_90: float
    rmse: float


class ClassificationSummary(CardPart):
    """Quality of a classification of one set.

    Attributes:
        n: number of rows.
        accuracy: share of the rows whose most probable class is the right one.
        balanced_accuracy: mean over the classes of the share that is found.
        roc_auc: area under the receiver operating characteristic, for more than two classes one against the rest;
            None where a set has only one class.
        log_loss: mean cross entropy in nats.
        confusion: rows by true (outer) and predicted (inner) class.
    """

    n: int
    accuracy: float
    balanced_accuracy: float
    roc_auc: float | None
    log_loss: float
    confusion: list[list[int]]


class TrainingSet(CardPart):
    """Where the data came from and how they were split."""

    name: str
    licence: str
    citation: str
    source: str
    source_sha256: str = ""
    rows: dict[str, int]
    split: dict[str, Any]
    outliers_removed: int = 0
    rows_removed: dict[str, int] = Field(default_factory=dict)
    rows_without_features: dict[str, str] = Field(default_factory=dict)


class ModelCard(FolderCard):
    """What a set of weights is, what it was trained on, and how wrong it is.

    Attributes:
        property: a name of the table in :mod:`ase_matprop.properties`.
        elements: symbols of the elements that occur in the training rows.
        errors: measured errors by set (``train``, ``validation``, ``test``); ``test`` rows were never used in training
            or tuning.
        test_errors_by_group: errors on parts of the test set, such as ``"oxides"`` or ``"3 elements"``.
        further_properties: properties that the network predicts besides, in the order of its outputs.
        further_errors: measured errors of these by set.
        classification: measured quality by set, for a property that is a class; ``errors`` is empty then.
        recipe: the recipe of the training run, as it was read.
    """

    property: str
    unit: str
    per_atom: bool
    network: NetworkSpec
    descriptor: DescriptorSpec
    elements: list[str]
    training_set: TrainingSet
    errors: dict[str, ErrorSummary]
    test_errors_by_group: dict[str, ErrorSummary] = Field(default_factory=dict)
    further_properties: list[str] = Field(default_factory=list)
    further_errors: dict[str, dict[str, ErrorSummary]] = Field(default_factory=dict)
    classification: dict[str, ClassificationSummary] = Field(default_factory=dict)
    recipe: dict[str, Any]

    @builtins.property  # the field named property hides it
    def material_property(self) -> MaterialProperty:
        """The entry of the property table."""
        return get_property(self.property)

    @builtins.property
    def properties(self) -> list[str]:
        """Names of all properties that are predicted."""
        return [self.property, *self.further_properties]

    def all_errors(self) -> dict[str, ErrorSummary]:
        """The errors of each set, then those of the parts of the test set, then those of further properties."""
        return (
            self.errors
            | {f"test: {name}": summary for name, summary in self.test_errors_by_group.items()}
            | {
                f"{name} in {get_property(name).unit}: {part}": summary
                for name, parts in self.further_errors.items()
                for part, summary in parts.items()
            }
        )

    def minima(self) -> list[float]:
        """The smallest value that is possible of each property, -inf where there is none."""
        minima = (get_property(name).minimum for name in self.properties)
        return [-math.inf if minimum is None else minimum for minimum in minima]

    def summary(self) -> CardSummary:
        test, quality = self.errors.get("test"), self.classification.get("test")
        return CardSummary(
            property="+".join(self.properties),
            unit=self.unit,
            inputs=self.descriptor.name,
            n_test=self.training_set.rows.get("test"),
            error=None if test is None else test.mae,
            accuracy=None if quality is None else quality.accuracy,
        )

    def headline(self) -> str:
        if "test" in self.classification:
            return f"accuracy {self.classification['test'].accuracy:.4f}"
        return f"MAE {self.errors['test'].mae:.4f} {self.unit}" if "test" in self.errors else ""

    def check(self) -> None:
        for name in self.properties:
            get_property(name)

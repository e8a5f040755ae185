"""What a prediction returns: one row per input, with a value or the reason why there is none."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.errors import unknown_name
from ase_matprop.units import conversion_factor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class FurtherProperty:
    """Values of a property that a model predicts besides its first one: as in :class:`Predictions`."""

    values: NDArray[np.float64]
    unit: str
    spread: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted values, one row per input and in the order of the inputs.

    Attributes:
        values: predicted values in ``unit``, NaN where there is none, shape (n,); for a property that is a class the
            number of the most probable class.
        unit: unit of ``values`` and ``spread``.
        errors: None or the reason why there is no value, one entry per row.
        property: name of the property (see :mod:`ase_matprop.properties`).
        model: name of the model.
        names: where each input came from: a file, or a label or index of an object.
        formulas: chemical formulas (metals first), empty where the input could not be read.
        n_atoms: number of atoms of each input, 0 where it could not be read or was only a formula, shape (n,).
        spread: standard deviation over the members of the model's ensemble, NaN where there is none, shape (n,).
        further: values of the further properties that the model predicts, by name.
        classes: names of the classes, empty for a property that is a number.
        probabilities: probability of each class, NaN where there is none, shape (n, n_classes).
        warnings: None or why a value should not be trusted, one entry per row: element pairs, distances and numbers of
            neighbours that were never seen in training (see :class:`ase_matprop.models.reach.Reach`).
        distance: distance to the training set as the network represents it, NaN where there is none, shape (n,); one
            in ten rows that were like the training set, but not in it, lies beyond 1 (see
            :class:`ase_matprop.models.reach.TrainingDistance`).
        disagreement: standard deviation over this and other models of the same property, in ``unit``, NaN where there
            is none or nothing was compared, shape (n,).
        compared_with: names of these other models.
    """

    values: NDArray[np.float64]
    unit: str
    errors: list[str | None]
    property: str
    model: str
    names: list[str]
    formulas: list[str]
    n_atoms: NDArray[np.int64]
    spread: NDArray[np.float64]
    further: Mapping[str, FurtherProperty] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    probabilities: NDArray[np.float64] | None = None
    warnings: list[str | None] = field(default_factory=list)
    distance: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    disagreement: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    compared_with: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("distance", "disagreement"):
            if len(getattr(self, name)) != len(self.values):
                object.__setattr__(self, name, np.full(len(self.values), np.nan))

    def __len__(self) -> int:
        return len(self.values)

    @builtins.property  # the field named property hides it
    def n_failed(self) -> int:
        """Number of rows without a value."""
        return sum(error is not None for error in self.errors)

    def __getitem__(self, name: str) -> Predictions:
        """Return the predictions of one property of a model that predicts several.

        Raises:
            UnknownNameError: if the model does not predict it.
            TypeError: if ``name`` is no text.
        """
        if not isinstance(name, str):
            raise TypeError("predictions are not a sequence; take .values, .errors or .to_frame()")
        if name == self.property:
            return replace(self, further={})
        if name not in self.further:
            raise unknown_name("predicted property", name, (self.property, *self.further))
        entry = self.further[name]
        return replace(
            self,
            property=name,
            values=entry.values,
            unit=entry.unit,
            spread=entry.spread,
            further={},
            disagreement=np.full(len(self), np.nan),  # that was of the first property
            compared_with=(),
        )

    @builtins.property
    def labels(self) -> list[str | None]:
        """Name of the most probable class of each row, None where there is none or the property is a number."""
        known = np.isfinite(self.values) & bool(self.classes)
        return [self.classes[int(value)] if good else None for value, good in zip(self.values, known, strict=True)]

    def to_unit(self, unit: str) -> Predictions:
        """Return the same predictions in another unit, such as ``"kJ/mol-atom"``; further properties keep theirs.

        Raises:
            UnknownNameError: if the unit is not known or of another dimension.
        """
        factor = conversion_factor(self.unit, unit)
        return replace(
            self,
            values=self.values * factor,
            unit=unit,
            spread=self.spread * factor,
            disagreement=self.disagreement * factor,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a table: name, formula, n_atoms, <property>, unit, spread, distance, warning, model and error.

        What could not be read has no formula, and what has no cell no number of atoms.  Each further property adds the
        columns <property>, "<property> unit" and "<property> spread".  A property that is a class is given by the name
        of the most probable class, and each class adds a column "probability of <class>".  A column disagreement is
        there where models were compared.
        """
        import pandas as pd

        columns: dict[str, Any] = {
            "name": pd.Series(self.names, dtype=object),
            "formula": pd.Series([formula or None for formula in self.formulas], dtype=object),
            "n_atoms": pd.Series(self.n_atoms, dtype="Int64").replace(0, pd.NA),
            self.property: pd.Series(self.labels, dtype=object) if self.classes else self.values,
        }
        if self.probabilities is not None:
            for number, name in enumerate(self.classes):
                columns[f"probability of {name}"] = self.probabilities[:, number]
        if not self.classes:
            columns |= {"unit": self.unit, "spread": self.spread}
        for name, entry in self.further.items():
            columns |= {name: entry.values, f"{name} unit": entry.unit, f"{name} spread": entry.spread}
        if self.compared_with:
            columns["disagreement"] = self.disagreement
        columns["distance"] = self.distance
        columns["warning"] = pd.Series(self.warnings, dtype=object)  # always there: tables are written block by block
        columns |= {"model": self.model, "error": pd.Series(self.errors, dtype=object)}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """Join predictions of one model; at least one part."""
        first = parts[0]
        return replace(
            first,
            values=np.concatenate([part.values for part in parts]),
            errors=[error for part in parts for error in part.errors],
            names=[name for part in parts for name in part.names],
            formulas=[formula for part in parts for formula in part.formulas],
            n_atoms=np.concatenate([part.n_atoms for part in parts]),
            spread=np.concatenate([part.spread for part in parts]),
            further={
                name: replace(
                    entry,
                    values=np.concatenate([part.further[name].values for part in parts]),
                    spread=np.concatenate([part.further[name].spread for part in parts]),
                )
                for name, entry in first.further.items()
            },
            warnings=[warning for part in parts for warning in part.warnings],
            distance=np.concatenate([part.distance for part in parts]),
            disagreement=np.concatenate([part.disagreement for part in parts]),
            probabilities=None
            if first.probabilities is None
            else np.concatenate([part.probabilities for part in parts if part.probabilities is not None]),
        )

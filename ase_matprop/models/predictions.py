"""What a prediction returns: one row per input, with a value or the reason why there is none."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ase_matprop.units import conversion_factor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted values, one row per input and in the order of the inputs.

    Attributes:
        values: predicted values in ``unit``, NaN where there is none, shape (n,).
        unit: unit of ``values`` and ``spread``.
        errors: None or the reason why there is no value, one entry per row.
        property: name of the property (see :mod:`ase_matprop.properties`).
        model: name of the model.
        names: where each input came from: a file, or a label or index of an object.
        formulas: chemical formulas (metals first), empty where the input could not be read.
        n_atoms: number of atoms of each input, 0 where it could not be read, shape (n,).
        spread: standard deviation over the members of the model's ensemble, NaN where there is none, shape (n,).
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

    def __len__(self) -> int:
        return len(self.values)

    @builtins.property  # the field named property hides it
    def n_failed(self) -> int:
        """Number of rows without a value."""
        return sum(error is not None for error in self.errors)

    def to_unit(self, unit: str) -> Predictions:
        """Return the same predictions in another unit, such as ``"kJ/mol-atom"``.

        Raises:
            UnknownNameError: if the unit is not known or of another dimension.
        """
        factor = conversion_factor(self.unit, unit)
        return replace(self, values=self.values * factor, unit=unit, spread=self.spread * factor)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with the columns name, formula, n_atoms, <property>, unit, spread, model and error.

        What could not be read has no formula and no number of atoms.
        """
        import pandas as pd

        columns = {
            "name": pd.Series(self.names, dtype=object),
            "formula": pd.Series([formula or None for formula in self.formulas], dtype=object),
            "n_atoms": pd.Series(self.n_atoms, dtype="Int64").replace(0, pd.NA),
            self.property: self.values,
            "unit": self.unit,
            "spread": self.spread,
            "model": self.model,
            "error": pd.Series(self.errors, dtype=object),
        }
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
        )

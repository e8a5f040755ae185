"""What all featurizers here have in common: matminer's contract, fulfilled by one batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matminer.featurizers.base import BaseFeaturizer
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError

Features = NDArray[np.float64]
Errors = list[MatPropError | None]


class BatchFeaturizer(BaseFeaturizer):
    """Base class: :meth:`featurize_many` (which ``featurize_dataframe`` and ``transform`` call) runs as one batch."""

    @abstractmethod
    def compute(self, rows: Sequence[Any], n_jobs: int) -> tuple[Features, Errors]:
        """Return features of shape (n, n_features), NaN in the rows that have none, and None or an error for each."""

    def featurize(self, entry: Any) -> list[float]:
        """Return the features of one structure or composition.

        Raises:
            MatPropError: if there are none; the message says why.
        """
        features, (error,) = self.compute([entry], 1)
        if error is not None:
            raise type(error)(f"the input cannot be featurized: {error}")
        values: list[float] = features[0].tolist()
        return values

    def featurize_many(
        self,
        entries: Sequence[Any] | np.ndarray | pd.Series | pd.DataFrame,
        ignore_errors: bool = False,
        return_errors: bool = False,
        pbar: bool | dict[str, Any] = True,
    ) -> list[list[Any]]:
        """Return the features of many structures or compositions, computed as one batch.

        Args:
            entries: structures or compositions, or rows with one each.
            ignore_errors: give NaN for entries that fail; the first one raises otherwise.
            return_errors: append the reason of a failure (or NaN) to each row; needs ``ignore_errors``.
            pbar: accepted for compatibility; a batch is one step.

        Raises:
            ValueError: for ``return_errors`` without ``ignore_errors``.
            TypeError: if ``entries`` is not list-like.
            MatPropError: for an entry that fails.
        """
        if return_errors and not ignore_errors:
            raise ValueError("return_errors needs ignore_errors=True")
        # processes only where set_n_jobs asked for them: they cost seconds to start, and n_jobs is all cores by default
        features, errors = self.compute(_rows(entries), getattr(self, "_n_jobs", None) or 1)
        failures = {row: error for row, error in enumerate(errors) if error is not None}
        if failures and not ignore_errors:
            row, error = next(iter(failures.items()))
            raise type(error)(f"row {row}: {error}. To skip such rows set ignore_errors=True.")
        table: list[list[Any]] = features.tolist()
        if return_errors:
            for row, values in enumerate(table):
                failure = failures.get(row)
                values.append(float("nan") if failure is None else f"{type(failure).__name__}: row {row}: {failure}")
        return table

    def precheck(self, entry: Any) -> bool:
        """Whether an entry can be featurized, as far as a quick look tells."""
        return self.compute([entry], 1)[1] == [None]

    def implementors(self) -> list[str]:
        """Return the authors of this implementation."""
        return ["The ase_matprop developers"]


def _rows(entries: Any) -> list[Any]:
    """Return the items of a list-like object; a structure is itself iterable, so rows are looked at one by one."""
    if isinstance(entries, pd.DataFrame | pd.Series):
        entries = entries.to_numpy()
    if not isinstance(entries, list | tuple | np.ndarray):
        raise TypeError(f"entries must be list-like. Got {type(entries).__name__}.")
    return [row[0] if isinstance(row, list | tuple | np.ndarray) and len(row) == 1 else row for row in entries]

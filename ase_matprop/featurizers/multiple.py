"""Several featurizers side by side, in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matminer.featurizers.base import MultipleFeaturizer as MatminerMultipleFeaturizer

from ase_matprop.featurizers.base import BatchFeaturizer, Features, ProgressBar, check_options, progress_bar, rows_of

_ROWS_AT_ONCE = 1024


class MultipleFeaturizer(MatminerMultipleFeaturizer):
    """matminer's ``MultipleFeaturizer``, which goes through the entries in batches.

    In matminer's own, featurizers of this package are called row by row in freshly started processes (its default,
    ``iterate_over_entries=True``), or each over all rows (``False``), where a structure is tessellated once as long as
    its features stay in memory: those of the last 30,000 structures.  This one takes 1024 rows at a time through all
    featurizers: batches for the networks, one tessellation per structure however long the table is, and one progress
    bar.  Featurizers of matminer that take one column may be among them.

    Args:
        featurizers: the featurizers.
        iterate_over_entries: accepted for compatibility; entries and featurizers take turns.
    """

    def __init__(self, featurizers: list[Any], iterate_over_entries: bool = True) -> None:
        super().__init__(featurizers, iterate_over_entries)

    def featurize_many(
        self, entries: Any, ignore_errors: bool = False, return_errors: bool = False, pbar: ProgressBar = True
    ) -> list[list[Any]]:
        """Return the features of many structures or compositions, those of one featurizer behind those of the other.

        Arguments and errors are those of :meth:`BatchFeaturizer.featurize_many`; with ``return_errors`` the reasons
        of each featurizer follow its features.
        """
        check_options(ignore_errors, return_errors)
        rows = rows_of(entries)
        table: list[list[Any]] = []
        with progress_bar(self, len(rows), pbar) as bar:
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                block = rows[start : start + _ROWS_AT_ONCE]
                parts = [
                    featurizer.rows_of_features(block, ignore_errors, return_errors, start)
                    if isinstance(featurizer, BatchFeaturizer)
                    else featurizer.featurize_many([(row,) for row in block], ignore_errors, return_errors, pbar=False)
                    for featurizer in self.featurizers
                ]
                table += [[value for part in row for value in part] for row in zip(*parts, strict=True)]
                bar.update(len(block))
        return table

    #: as there, with a column of reasons for each featurizer
    featurize_dataframe = BatchFeaturizer.featurize_dataframe

    def _frame_labels(self, multiindex: bool, return_errors: bool) -> list[Any]:
        labels: list[Any] = self._generate_column_labels(multiindex, return_errors).tolist()
        return labels

    def transform(self, X: Any) -> Features:  # noqa: N803  scikit-learn's name
        """Return the features as an array, shape (n, n_features); a row that fails is NaN in the features that fail."""
        rows = rows_of(X)
        table = np.array(self.featurize_many(rows, ignore_errors=True, pbar=False), dtype=np.float64)
        return table.reshape(len(rows), len(self.feature_labels()))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return ``feature_labels()`` as an array, for ``set_output`` and ``ColumnTransformer``."""
        return np.array(self.feature_labels(), dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def precheck(self, entry: Any) -> bool:
        """Whether all featurizers can be expected to take an entry."""
        return all(featurizer.precheck(entry) for featurizer in self.featurizers)

    def precheck_dataframe(
        self, df: pd.DataFrame, col_id: Any, return_frac: bool = True, inplace: bool = False
    ) -> float | pd.DataFrame:
        """As :meth:`BatchFeaturizer.precheck_dataframe`."""
        return BatchFeaturizer.precheck_dataframe(self, df, col_id, return_frac, inplace)  # type: ignore[arg-type]

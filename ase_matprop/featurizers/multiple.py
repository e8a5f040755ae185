"""Several featurizers side by side, in batches."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matminer.featurizers.base import MultipleFeaturizer as MatminerMultipleFeaturizer

from ase_matprop.errors import FeaturizerError, FeaturizerInputError
from ase_matprop.featurizers.base import (
    BatchFeaturizer,
    Features,
    ProgressBar,
    check_options,
    failure_message,
    progress_bar,
    rows_of,
)

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

    Raises:
        FeaturizerError: if there is no featurizer, or something else in its place (a TypeError).
    """

    def __init__(self, featurizers: list[Any], iterate_over_entries: bool = True) -> None:
        _check_featurizers(featurizers)
        super().__init__(featurizers, iterate_over_entries)

    def featurize_many(
        self, entries: Any, ignore_errors: bool = False, return_errors: bool = False, pbar: ProgressBar = True
    ) -> list[list[Any]]:
        """Return the features of many structures or compositions, those of one featurizer behind those of the other.

        Arguments and errors are those of :meth:`BatchFeaturizer.featurize_many`; with ``return_errors`` the reasons
        of each featurizer follow its features.
        """
        check_options(ignore_errors, return_errors)
        _check_featurizers(self.featurizers)
        rows = rows_of(entries)
        table: list[list[Any]] = []
        with progress_bar(self, len(rows), pbar) as bar:
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                block = rows[start : start + _ROWS_AT_ONCE]
                parts = [
                    featurizer.rows_of_features(block, ignore_errors, return_errors, start)
                    if isinstance(featurizer, BatchFeaturizer)
                    else featurizer.featurize_many([(row,) for row in block], ignore_errors, return_errors, pbar=False)
                    for featurizer in _leaves(self)
                ]
                table += [[value for part in row for value in part] for row in zip(*parts, strict=True)]
                bar.update(len(block))
        return table

    # set_params may have changed the featurizers; all that needs their names comes here
    def _generate_column_labels(self, multiindex: bool, return_errors: bool) -> Any:
        _check_featurizers(self.featurizers)
        return super()._generate_column_labels(multiindex, return_errors)

    #: as there, with a column of reasons for each featurizer
    featurize_dataframe = BatchFeaturizer.featurize_dataframe

    def _frame_labels(self, multiindex: bool, return_errors: bool) -> list[Any]:
        labels: list[Any] = self._generate_column_labels(multiindex, return_errors).tolist()
        return labels

    def transform(self, X: Any) -> Features:  # noqa: N803  scikit-learn's name
        """Return the features as an array, shape (n, n_features).

        A row that fails is NaN in the features that fail, and a warning names it.

        Raises:
            FeaturizerError: if there is no featurizer, or ``X`` is not list-like (a TypeError).
        """
        _check_featurizers(self.featurizers)
        rows, leaves = rows_of(X), _leaves(self)
        features = np.full((len(rows), len(self.feature_labels())), np.nan)
        failures: dict[int, str] = {}  # of the first featurizer that fails
        failing: set[int] = set()
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            column = 0
            for number, leaf in enumerate(leaves):
                block, reasons = _features_of(leaf, rows[start : start + _ROWS_AT_ONCE])
                features[start : start + len(block), column : column + block.shape[1]] = block
                column += block.shape[1]
                for row, reason in reasons.items():
                    failing.add(number)
                    failures.setdefault(start + row, reason)
        if failures:
            names = " or ".join(dict.fromkeys(type(leaves[number]).__name__ for number in sorted(failing)))
            failures = dict(sorted(failures.items()))
            warnings.warn(failure_message(failures, len(rows), names), stacklevel=2)
        return features

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


def _check_featurizers(featurizers: Any) -> None:
    """Raise a FeaturizerError if this is no list of featurizers, or an empty one."""
    remedy = "give a list of featurizers, for example [Ward2017(), NetworkFeaturizer()]"
    if not isinstance(featurizers, list | tuple):
        got = "None was given" if featurizers is None else f"Got {type(featurizers).__name__}"
        raise FeaturizerInputError(f"MultipleFeaturizer takes several featurizers. {got}; {remedy}.")
    if not featurizers:
        raise FeaturizerError(f"MultipleFeaturizer has no featurizers; {remedy}")
    for number, featurizer in enumerate(featurizers):
        if isinstance(featurizer, type):
            name = featurizer.__name__
            raise FeaturizerInputError(f"featurizer {number} of MultipleFeaturizer is the class {name}; give {name}()")
        if not hasattr(featurizer, "featurize_many"):
            got = "None was given" if featurizer is None else f"Got {featurizer!r}"
            raise FeaturizerInputError(f"featurizer {number} of MultipleFeaturizer is none. {got}; {remedy}.")


def _leaves(featurizer: Any) -> list[Any]:
    """Return the featurizers that do the work, those of one within another in its place."""
    if isinstance(featurizer, MatminerMultipleFeaturizer):
        return [leaf for part in featurizer.featurizers for leaf in _leaves(part)]
    return [featurizer]


def _features_of(featurizer: Any, rows: Sequence[Any]) -> tuple[Features, dict[int, str]]:
    """Return the features of one featurizer, NaN in the rows that have none, and the reasons of these."""
    if isinstance(featurizer, BatchFeaturizer):
        blocks = list(featurizer._blocks(list(rows)))
        reasons = {
            start + row: str(error)
            for start, _, errors in blocks
            for row, error in enumerate(errors)
            if error is not None
        }
        return np.concatenate([features for _, features, _ in blocks]), reasons
    table = featurizer.featurize_many([(row,) for row in rows], ignore_errors=True, return_errors=True, pbar=False)
    # matminer's reason is a whole traceback
    reasons = {
        number: values[-1].strip().splitlines()[-1]
        for number, values in enumerate(table)
        if isinstance(values[-1], str)
    }
    return np.array([values[:-1] for values in table], dtype=np.float64), reasons

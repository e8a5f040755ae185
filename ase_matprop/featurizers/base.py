"""What all featurizers here have in common: matminer's contract, fulfilled by batches."""

from __future__ import annotations

import multiprocessing
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
from matminer.featurizers.base import BaseFeaturizer
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ase_matprop.errors import FeaturizerError, FeaturizerInputError, MatPropError
from ase_matprop.featurizers.frames import check_frame, check_levels, check_new_columns, with_columns

Features = NDArray[np.float64]
Errors = list[MatPropError | None]
ProgressBar = bool | dict[str, Any]

_LISTED_FAILURES = 3  # in a warning


class BatchFeaturizer(BaseFeaturizer):
    """Base class: :meth:`featurize_many` (which ``featurize_dataframe`` and ``transform`` call) computes batches.

    Each entry has its own features: they do not depend on the other rows, or on the order of the rows.
    """

    #: rows that are computed together, and between two steps of the progress bar
    rows_at_once: int = 256

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
        pbar: ProgressBar = True,
    ) -> list[list[Any]]:
        """Return the features of many structures or compositions, computed in batches.

        Args:
            entries: structures or compositions, or rows with one each.
            ignore_errors: give NaN for entries that fail; the first one raises otherwise.
            return_errors: append the reason of a failure (or NaN) to each row; needs ``ignore_errors``.
            pbar: whether to show a progress bar; a dictionary has further arguments of tqdm.

        Raises:
            FeaturizerError: for ``return_errors`` without ``ignore_errors`` (a ValueError), or if ``entries`` is not
                list-like (a TypeError).
            MatPropError: for an entry that fails.
        """
        check_options(ignore_errors, return_errors)
        rows = rows_of(entries)
        with progress_bar(self, len(rows), pbar) as bar:
            return self.rows_of_features(rows, ignore_errors, return_errors, progress=bar.update)

    def rows_of_features(
        self,
        rows: list[Any],
        ignore_errors: bool,
        return_errors: bool,
        first: int = 0,
        progress: Callable[[int], Any] | None = None,
    ) -> list[list[Any]]:
        """Return what :meth:`featurize_many` returns.

        Args:
            rows: structures or compositions.
            ignore_errors: give NaN for rows that fail; the first one raises otherwise.
            return_errors: append the reason of a failure (or NaN).
            first: number of the first row in messages.
            progress: called with the number of rows that were done since.
        """
        table: list[list[Any]] = []
        for start, features, errors in self._blocks(rows):
            table += _with_reasons(features, errors, first + start, ignore_errors, return_errors)
            if progress is not None:
                progress(len(features))
        return table

    def _blocks(self, rows: list[Any]) -> Iterator[tuple[int, Features, Errors]]:
        # processes only where set_n_jobs asked for them: they cost seconds to start, and n_jobs is all cores by default
        n_jobs = processes(getattr(self, "_n_jobs", 1))
        step = self.rows_at_once * (n_jobs if isinstance(n_jobs, int) and n_jobs > 0 else 1)
        for start in range(0, len(rows), step):
            yield start, *self.compute(rows[start : start + step], n_jobs)

    def featurize_wrapper(
        self, x: Sequence[Any], return_errors: bool = False, ignore_errors: bool = False
    ) -> list[Any]:
        """Return the features of one row; matminer's ``MultipleFeaturizer`` calls this for each row in turn.

        As :meth:`featurize_many`.  Unlike matminer's, an interruption is not taken for an error of the row.
        """
        features, (error,) = self.compute(rows_of([x]), 1)
        if error is not None and not ignore_errors:
            raise type(error)(f"{error}. To skip such rows set ignore_errors=True.")
        values: list[Any] = features[0].tolist()
        if return_errors:
            values.append(float("nan") if error is None else f"{type(error).__name__}: {error}")
        return values

    def transform(self, X: Any) -> Features:  # noqa: N803  scikit-learn's name
        """Return the features of many structures or compositions as an array, shape (n, n_features).

        A row that fails is NaN, as in matminer, and a warning names it.

        Raises:
            FeaturizerInputError: if ``X`` is not list-like.
        """
        rows = rows_of(X)
        features = np.full((len(rows), len(self.feature_labels())), np.nan)
        failures: dict[int, MatPropError] = {}
        for start, block, errors in self._blocks(rows):
            features[start : start + len(block)] = block
            failures |= {start + row: error for row, error in enumerate(errors) if error is not None}
        if failures:
            warnings.warn(failure_message(failures, len(rows), type(self).__name__), stacklevel=2)
        return features

    def featurize_dataframe(
        self,
        df: pd.DataFrame,
        col_id: Any,
        ignore_errors: bool = False,
        return_errors: bool = False,
        inplace: bool = False,
        multiindex: bool = False,
        pbar: ProgressBar = True,
    ) -> pd.DataFrame | None:
        """Add the features of a column of structures or compositions to a DataFrame, as matminer does.

        Args:
            df: the table; it is changed only if ``inplace``.
            col_id: name of the column, or a list with the name.
            ignore_errors: give NaN for rows that fail; the first one raises otherwise.
            return_errors: add a column "<name of the class> Exceptions" with the reasons.
            inplace: add the columns to ``df`` itself and return None.
            multiindex: put the columns below the name of the class, those of ``df`` below "Input Data".
            pbar: whether to show a progress bar; a dictionary has further arguments of tqdm.

        Raises:
            ColumnError: if there is no such column (a KeyError).
            FeaturizerError: if a column of the result is there already (a ValueError), or if ``df`` is no DataFrame
                (a TypeError).
            MatPropError: for a row that fails.
        """
        check_options(ignore_errors, return_errors)
        check_frame(df, col_id, type(self).__name__)
        check_levels(df, multiindex)
        labels = self._frame_labels(multiindex, return_errors)
        check_new_columns(df, labels, type(self).__name__)
        if multiindex and inplace:
            warnings.warn("Multiindexing enabled with inplace=True: the columns of the DataFrame change", stacklevel=2)
        entries = df[[col_id] if isinstance(col_id, str) else col_id].to_numpy()
        features = self.featurize_many(entries, ignore_errors, return_errors, pbar)
        return with_columns(df, pd.DataFrame(features, index=df.index, columns=labels), inplace, multiindex)

    def _frame_labels(self, multiindex: bool, return_errors: bool) -> list[Any]:
        """Return the new columns of :meth:`featurize_dataframe`, those of this featurizer alone."""
        return list(BaseFeaturizer._generate_column_labels(self, multiindex, return_errors))

    @property
    def exceptions_label(self) -> str:
        """Name of the column of reasons."""
        return f"{type(self).__name__} Exceptions"

    def precheck(self, entry: Any) -> bool:
        """Whether an entry can be featurized, as far as a quick look tells."""
        return self.compute([entry], 1)[1] == [None]

    def precheck_dataframe(
        self, df: pd.DataFrame, col_id: Any, return_frac: bool = True, inplace: bool = False
    ) -> float | pd.DataFrame:
        """Look at each row of a DataFrame with :meth:`precheck`.

        As in matminer, but with the reasons of :meth:`featurize_dataframe` for a wrong column, with the index of
        ``df`` (matminer counts rows from 0), and 1.0 for an empty table.

        Args:
            df: the table.
            col_id: name of the column, or a list with the name.
            return_frac: whether to return the share of good rows instead of the table.
            inplace: add the column to ``df`` itself.

        Returns:
            The share of good rows, or the table with the column "<name of the class> precheck pass".

        Raises:
            ColumnError: if there is no such column (a KeyError).
        """
        check_frame(df, col_id, type(self).__name__)
        passed = [bool(self.precheck(row)) for row in rows_of(df[col_id])]
        if return_frac:
            return sum(passed) / len(passed) if passed else 1.0
        table = df if inplace else df.copy(deep=False)
        table[f"{type(self).__name__} precheck pass"] = passed
        return table

    def implementors(self) -> list[str]:
        """Return the authors of this implementation."""
        return ["The ase_matprop developers"]

    # scikit-learn

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return :meth:`feature_labels` as an array, for ``set_output`` and ``ColumnTransformer``."""
        return np.array(self.feature_labels(), dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True  # there is nothing to fit

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import TransformerTags

        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = True, False
        return tags


def failure_message(failures: Mapping[int, object], n_rows: int, featurizers: str) -> str:
    """Return the warning of rows that have no features; ``failures`` are the reasons by row."""
    listed = "; ".join(f"row {row}: {error}" for row, error in list(failures.items())[:_LISTED_FAILURES])
    more = f"; and {len(failures) - _LISTED_FAILURES} more" if len(failures) > _LISTED_FAILURES else ""
    return f"{len(failures)} of {n_rows} rows have no features of {featurizers} and are NaN: {listed}{more}"


def check_options(ignore_errors: bool, return_errors: bool) -> None:
    """Raise a FeaturizerError for reasons that are asked for where errors raise."""
    if return_errors and not ignore_errors:
        raise FeaturizerError("return_errors needs ignore_errors=True")


def rows_of(entries: Any) -> list[Any]:
    """Return the items of a list-like object; a structure is itself iterable, so rows are looked at one by one.

    Raises:
        FeaturizerInputError: if it is not list-like.
    """
    if isinstance(entries, pd.Series):
        return list(entries.to_numpy())  # a list in a cell is an entry, as for matminer
    if isinstance(entries, pd.DataFrame):
        entries = entries.to_numpy()
    if not isinstance(entries, list | tuple | np.ndarray) or (isinstance(entries, np.ndarray) and not entries.ndim):
        got = "None was given" if entries is None else f"Got {type(entries).__name__}; put a single one into a list"
        raise FeaturizerInputError(
            f"the entries must be list-like: a list, array, Series or DataFrame of structures or compositions. {got}."
        )
    return [row[0] if isinstance(row, list | tuple | np.ndarray) and len(row) == 1 else row for row in entries]


def _with_reasons(
    features: Features, errors: Errors, start: int, ignore_errors: bool, return_errors: bool
) -> list[list[Any]]:
    failures = {row: error for row, error in enumerate(errors) if error is not None}
    if failures and not ignore_errors:
        row, error = next(iter(failures.items()))
        raise type(error)(f"row {start + row}: {error}. To skip such rows set ignore_errors=True.")
    table: list[list[Any]] = features.tolist()
    if return_errors:
        for row, values in enumerate(table):
            failure = failures.get(row)
            values.append(
                float("nan") if failure is None else f"{type(failure).__name__}: row {start + row}: {failure}"
            )
    return table


def progress_bar(featurizer: BaseFeaturizer, n_rows: int, pbar: ProgressBar) -> Any:
    """Return matminer's progress bar of a featurizer; one that shows nothing unless ``pbar``."""
    options = pbar if isinstance(pbar, dict) else {}
    return tqdm(**({"desc": type(featurizer).__name__, "total": n_rows, "disable": not pbar} | options))


def processes(n_jobs: Any) -> Any:
    """Return how many processes to start where ``n_jobs`` were asked for: never more than there are cores.

    One inside of a worker of ``multiprocessing``, which may not have processes of its own.
    """
    if not isinstance(n_jobs, int) or n_jobs < -1 or n_jobs in (0, 1):
        return n_jobs  # what is no number of processes is found by the descriptor
    if multiprocessing.current_process().daemon:
        return 1
    cores: int = joblib.cpu_count()
    return cores if n_jobs == -1 else min(n_jobs, cores)

"""Checks of the DataFrames that a featurizer gets, before anything is computed."""

from __future__ import annotations

import difflib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from ase_matprop.errors import ColumnError, FeaturizerError, FeaturizerInputError


def check_frame(df: Any, col_id: Any, featurizer: str) -> None:
    """Find a table that cannot be used, or that has not the one column of structures or compositions.

    Raises:
        FeaturizerInputError: if ``df`` is no DataFrame.
        ColumnError: if ``col_id`` is not one column of it.
    """
    if not isinstance(df, pd.DataFrame):
        got = "None was given" if df is None else f"Got {type(df).__name__}"
        raise FeaturizerInputError(
            f"{featurizer} takes a DataFrame and the name of its column. {got}; for a list or a Series call "
            "featurize_many."
        )
    names = list(col_id) if isinstance(col_id, list | pd.Index) else [col_id]
    if len(names) != 1:
        raise ColumnError(f"{featurizer} takes one column of structures or compositions. Got {names!r}.")
    (name,) = names
    n_found = sum(column == name for column in df.columns.tolist())
    if n_found > 1:
        raise ColumnError(f"the DataFrame has {n_found} columns {name!r}; rename or drop all but one")
    if not n_found:
        known = [str(column) for column in df.columns.tolist()]
        close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ColumnError(f"the DataFrame has no column {name!r}.{hint} Columns: {_some(known)}.")


def check_new_columns(df: pd.DataFrame, labels: Sequence[Any], featurizer: str) -> None:
    """Find columns of the result that are there already, or that it would have twice.

    Raises:
        FeaturizerError: naming them.
    """
    new = set(labels)
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise FeaturizerError(
            f"{featurizer} has several features called {_some(map(repr, twice))}; leave out one of the featurizers "
            "that have them"
        )
    there = [column for column in df.columns.tolist() if column in new]
    if there:
        raise FeaturizerError(
            f"{_some(map(repr, there))} exists in input dataframe: it has features of {featurizer} "
            "already; drop or rename these columns"
        )


def check_levels(df: pd.DataFrame, multiindex: bool) -> None:
    """Find columns of several levels where the result has one, or of more than two.

    Raises:
        FeaturizerError: saying so.
    """
    n_levels = df.columns.nlevels
    if n_levels > 1 and not multiindex:
        raise FeaturizerError("the columns of the DataFrame have several levels: set multiindex=True")
    if n_levels > 2:
        raise FeaturizerError(f"the columns of the DataFrame have {n_levels} levels; only one or two can be used")


def with_columns(df: pd.DataFrame, new: pd.DataFrame, inplace: bool, multiindex: bool) -> pd.DataFrame | None:
    """Return a table with the columns of another besides; None where they were added to the table itself.

    Args:
        df: the table; it is changed only if ``inplace``.
        new: further columns, with the same index.
        inplace: add them to ``df`` itself.
        multiindex: put the columns of ``df`` below "Input Data", unless they have two levels.
    """
    table = df if inplace else df.copy(deep=False)
    if multiindex and table.columns.nlevels == 1:
        table.columns = pd.MultiIndex.from_product((["Input Data"], table.columns.tolist()))
    if not inplace:
        return pd.concat([table, new], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.PerformanceWarning)  # many columns in place are what is asked for
        table[new.columns.tolist()] = new
    return None


def _some(names: Iterable[str], most: int = 8) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f", ... ({len(listed)} in all)" if len(listed) > most else "") or "none"

"""What a scikit-learn regressor is given: tables of numbers, or structures and compositions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.compositions import CompositionEntry, composition_entries
from ase_matprop.descriptors.neighbors import Graphs, neighbor_graphs
from ase_matprop.descriptors.registry import amounts_of, get_descriptor
from ase_matprop.errors import CompositionError, DescriptorError, MatPropError, RecipeError, StructureError
from ase_matprop.models.reach import ElementPairs, Environments, Reach, TrainingDistance
from ase_matprop.networks.schnetpack_adapter import MAX_Z
from ase_matprop.structures import StructureEntry, one_entry_each
from ase_matprop.structures.objects import is_single
from ase_matprop.training.regressor_settings import RegressorSettings

_LISTED_ROWS = 5  # in a message


@dataclass(frozen=True, eq=False)
class Crystals:
    """Structures or compositions as a network sees them.

    Attributes:
        features: shape (n, n_features), or the neighbour graphs.
        fractions: share of each atomic number among the atoms, shape (n, 119).
    """

    features: NDArray[np.float64] | Graphs
    fractions: NDArray[np.float64]

    @property
    def formulas(self) -> NDArray[np.int64]:
        """A number per row that is equal for equal reduced formulas, shape (n,)."""
        return same_rows(np.round(self.fractions * 1e6))

    def choose(self, rows: NDArray[np.int64]) -> Crystals:
        """Return some of the rows."""
        return Crystals(self.features[rows], self.fractions[rows])

    def elements(self, rows: NDArray[np.int64] | None = None) -> list[str]:
        """Symbols of the elements that occur in ``rows``, by atomic number; of all rows without."""
        chosen = self.fractions if rows is None else self.fractions[rows]
        return [chemical_symbols[number] for number in np.flatnonzero(chosen.any(axis=0))]


def same_rows(table: NDArray[Any]) -> NDArray[np.int64]:
    """Return a number per row that is equal for equal rows, shape (n,)."""
    return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)


def numbered_groups(groups: Any, n_rows: int) -> NDArray[np.int64]:
    """Return the number of each row's group, in the order of their labels, shape (n_rows,).

    Raises:
        RecipeError: if there is not one label for each row, or they cannot be compared with one another.
    """
    try:
        labels = np.asarray(groups, dtype=object).reshape(-1)
    except ValueError:  # lists of several lengths
        raise RecipeError("groups must have one label for each row, a number or a string") from None
    if len(labels) != n_rows:
        raise RecipeError(f"X has {n_rows} rows, and groups has {len(labels)} labels")
    missing = np.flatnonzero(pd.isna(labels))
    if len(missing):
        raise RecipeError(f"groups has no label for row {missing[0]} ({labels[missing[0]]}); give one for each row")
    try:
        return np.unique(labels, return_inverse=True)[1].reshape(-1)
    except TypeError:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise RecipeError(f"the labels of groups must be of one kind, numbers or strings. Got {kinds}.") from None


def check_targets(y: Any) -> None:
    """Find the rows of the targets that are NaN or infinite; what else is wrong with them is left to scikit-learn.

    Raises:
        RecipeError: with the numbers of these rows, and scikit-learn's own words for them.
    """
    if y is None:
        return
    try:
        values = np.asarray(y)
        if values.dtype.kind == "c":
            return
        if values.dtype.kind == "O":
            values = np.where(pd.isna(values), np.nan, values)
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        return
    if not 1 <= numbers.ndim <= 2:
        return
    wrong = np.flatnonzero(~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)).tolist()
    if not wrong:
        return
    kind = "NaN" if np.isnan(numbers).any() else "infinity or a value too large for dtype('float64')"
    listed = ", ".join(str(row) for row in wrong[:_LISTED_ROWS])
    more = f" and {len(wrong) - _LISTED_ROWS} more" if len(wrong) > _LISTED_ROWS else ""
    raise RecipeError(
        f"Input y contains {kind}. {len(wrong)} of {len(numbers)} rows have no finite target: "
        f"row{'s' if len(wrong) > 1 else ''} {listed}{more}, counted from 0; drop these rows of X and y, or correct y."
    )


def reach_of(training: Crystals, distance: TrainingDistance | None) -> Reach:
    """Return what a network saw in its training rows.

    Args:
        training: the rows.
        distance: the distance to them.
    """
    environments = Environments.of(training.features) if isinstance(training.features, Graphs) else None
    return Reach(ElementPairs.of(training.fractions > 0.0), environments, distance)


def has_no_rows(X: Any) -> bool:  # noqa: N803  scikit-learn's name
    """Whether this is a list, an array or a table of pandas without a row."""
    return (isinstance(X, list | tuple) or getattr(X, "ndim", 0) > 0) and len(X) == 0


def crystals_in(X: Any) -> list[Any] | None:  # noqa: N803  scikit-learn's name
    """Return the structures or compositions that ``X`` holds, or None if it is a table of numbers.

    Args:
        X: a list, Series or array of structures or compositions, a DataFrame or array with one column of them, or
            anything else.
    """
    values = X.to_numpy() if hasattr(X, "iloc") else X
    if isinstance(values, np.ndarray):
        if values.dtype.kind not in "OUT" or values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 1):
            return None
        rows: list[Any] = list(values.reshape(-1)) if values.ndim == 1 else [row[0] for row in values]
    elif isinstance(values, list | tuple):
        rows = [row[0] if isinstance(row, list | tuple | np.ndarray) and len(row) == 1 else row for row in values]
    else:
        return None
    return rows if any(is_single(row) or isinstance(row, StructureEntry | CompositionEntry) for row in rows) else None


def read_crystals(items: Sequence[Any], settings: RegressorSettings, n_jobs: int) -> Crystals:
    """Compute what the network of a recipe takes of structures or compositions.

    Raises:
        MatPropError: for the first one that cannot be used; the message has its number.
    """
    descriptor = get_descriptor(settings.descriptor.name)
    entries: list[Any] = list((one_entry_each if descriptor.needs_structure else composition_entries)(items))
    input_error = StructureError if descriptor.needs_structure else CompositionError
    _raise_first([entry.error for entry in entries], input_error)
    sound = [entry.item for entry in entries]
    amounts = amounts_of(sound)
    features: NDArray[np.float64] | Graphs
    if settings.takes_graphs:
        heavy = [f"has an element beyond Z = {MAX_Z - 1}" if max(each) >= MAX_Z else None for each in amounts]
        _raise_first(heavy, DescriptorError)
        features = neighbor_graphs(sound, settings.cutoff)
    else:
        features, reasons = descriptor.compute(sound, n_jobs=n_jobs)
        _raise_first(reasons, DescriptorError)
    fractions = np.zeros((len(sound), len(chemical_symbols)))
    for row, each in enumerate(amounts):
        fractions[row, list(each)] = list(each.values())
    fractions /= fractions.sum(axis=1, keepdims=True)
    return Crystals(features, fractions)


def _raise_first(reasons: Sequence[str | None], kind: type[MatPropError]) -> None:
    for row, reason in enumerate(reasons):
        if reason is not None:
            raise kind(f"row {row}: {reason}. Drop such rows first, for example those of the 'Exceptions' column of a "
                       "featurizer with ignore_errors=True and return_errors=True.")  # fmt: skip

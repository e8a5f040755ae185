"""Splits into training, validation and test rows, and the +-5 sigma rule for outliers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

from ase_matprop.errors import RecipeError

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Sorted row numbers of each set; ``outliers`` are rows that were taken out of training and validation."""

    train: IntArray
    validation: IntArray
    test: IntArray
    outliers: IntArray

    def to_json(self, ids: Sequence[str]) -> str:
        """Return the identifiers of the rows of each set as JSON."""
        names = ("train", "validation", "test", "outliers")
        return json.dumps({name: [ids[row] for row in getattr(self, name)] for name in names}, indent=0)


def make_split(
    n_rows: int, *, test: float, validation: float, seed: int, groups: Sequence[object] | IntArray | None = None
) -> Split:
    """Split rows at random.

    Args:
        n_rows: number of rows.
        test: share of the rows for the test set.
        validation: share of the rows for the validation set.
        seed: seed of the random choice.
        groups: one label per row; rows of one label stay together.  The shares are then shares of the groups.

    Raises:
        RecipeError: if a set would be empty.
    """
    if n_rows < 3 or test + validation >= 1.0:
        raise RecipeError(
            f"{n_rows} rows cannot be split into a test share of {test} and a validation share of {validation}; "
            "give more rows or smaller shares"
        )
    rows = np.arange(n_rows)
    labels = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]

    def hold_out(rows: IntArray, share: float) -> tuple[IntArray, IntArray]:
        splitter = (ShuffleSplit if labels is None else GroupShuffleSplit)(1, test_size=share, random_state=seed)
        try:
            kept, held = next(splitter.split(rows, groups=None if labels is None else labels[rows]))
        except ValueError as error:
            raise RecipeError(f"{len(rows)} rows cannot be split at a share of {share:.3g}: {error}") from None
        return np.sort(rows[kept]), np.sort(rows[held])

    remaining, test_rows = hold_out(rows, test)
    train_rows, validation_rows = hold_out(remaining, validation / (1.0 - test))
    return Split(train_rows, validation_rows, test_rows, np.empty(0, dtype=np.int64))


def split_held_out(held_out: NDArray[np.bool_], *, test: float, validation: float, seed: int) -> Split:
    """Split where a file of held-out rows exists: its rows are divided between validation and test at random.

    Args:
        held_out: which rows come from that file, shape (n,).
        test: share for the test set, relative to that for validation.
        validation: share for the validation set.
        seed: seed of the random choice.

    Raises:
        RecipeError: if a set would be empty.
    """
    rows = np.flatnonzero(held_out)
    n_test = round(len(rows) * test / (test + validation))
    if not 0 < n_test < len(rows) or held_out.all():
        raise RecipeError(f"{len(rows)} held-out rows of {len(held_out)} cannot be split; check the data files")
    order = np.random.default_rng(seed).permutation(rows)
    return Split(
        np.flatnonzero(~held_out), np.sort(order[n_test:]), np.sort(order[:n_test]), np.empty(0, dtype=np.int64)
    )


def thin_out(split: Split, n_train: int, seed: int) -> Split:
    """Take ``n_train`` of the training rows at random; a smaller choice is part of each larger one.

    Raises:
        RecipeError: if there are fewer training rows.
    """
    if n_train > len(split.train):
        raise RecipeError(f"train_rows is {n_train}, there are {len(split.train)} training rows")
    chosen = np.random.default_rng([seed, 1]).permutation(split.train)[:n_train]
    return replace(split, train=np.sort(chosen))


def remove_outliers(split: Split, targets: NDArray[np.float64], n_sigma: float) -> Split:
    """Take rows out of training and validation whose target is beyond ``n_sigma`` standard deviations.

    Mean and standard deviation are those of the training targets, shape (n,) or (n, n_properties), of each property.
    Test rows stay, so that test errors are those of unfiltered data.
    """
    known = targets[split.train]
    mean, sigma = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    far = (np.abs(targets - mean) > n_sigma * sigma).reshape(len(targets), -1).any(axis=1)
    return replace(
        split,
        train=split.train[~far[split.train]],
        validation=split.validation[~far[split.validation]],
        outliers=np.sort(np.concatenate([split.train[far[split.train]], split.validation[far[split.validation]]])),
    )

"""Which rows are learnt from, choose the epoch, and are held out; and what they are worth in such a division."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, GroupShuffleSplit

from ase_matprop.errors import FinetuneError, RecipeError
from ase_matprop.finetune.prepared import Prepared
from ase_matprop.finetune.references import are_determined, fitted_references
from ase_matprop.training.splits import Split, make_split

Ints = NDArray[np.int64]

_FEWEST_GROUPS = 3  # one for training, one for validation, one for test
_LEFT_OUT = "fitted reference energies: the rows for training do not determine that of this composition"


@dataclass(frozen=True, eq=False)
class Part:
    """A division of the rows.

    Attributes:
        rows: all rows; with fitted references their targets are those of this division.
        split: which of them are for training, validation and test.
    """

    rows: Prepared
    split: Split


def part_of(prepared: Prepared, split: Split) -> Part:
    """Return a division with the targets that the rows have in it.

    That matters where references are to be fitted: they are fitted to the rows for training alone, so that nothing of
    the others is in what the network learns.  Rows for validation and test whose reference energy these do not
    determine are left out; nothing can be said of them.

    Raises:
        FinetuneError: if that leaves no rows for validation, or none of those that were to be held out.
    """
    if not prepared.fit_references:
        return Part(prepared, split)
    fractions = prepared.fractions
    good = are_determined(fractions[split.train], fractions)
    kept = {name: rows[good[rows]] for name, rows in (("validation", split.validation), ("test", split.test))}
    for name, rows in kept.items():
        if len(getattr(split, name)) and not len(rows):
            raise FinetuneError(
                f"no row for {name} is of elements whose reference energies the {len(split.train)} rows for training "
                "determine; give more rows, or reference energies in place of fitted ones (references='table.csv', "
                "--references table.csv)"
            )
    amounts = [_amounts(prepared, row) for row in range(len(prepared))]
    totals = prepared.targets * prepared.n_atoms
    references = fitted_references([amounts[row] for row in split.train], totals[split.train])
    targets = np.full(len(prepared), np.nan)
    for row in np.flatnonzero(good):
        targets[row] = references.relative_energy_per_atom(amounts[row], float(totals[row]))
    lost = np.concatenate([split.validation, split.test])
    rows = replace(
        prepared,
        table=replace(prepared.table, targets=targets[:, None]),
        references=references,
        rejected=prepared.rejected | {prepared.table.ids[row]: _LEFT_OUT for row in lost[~good[lost]]},
    )
    return Part(rows, replace(split, **kept))


def _amounts(prepared: Prepared, row: int) -> dict[str, float]:
    numbers, amounts = prepared.table.numbers[row], prepared.table.amounts[row]
    return {chemical_symbols[number]: float(n) for number, n in zip(numbers, amounts, strict=True) if number}


def sha256_of(prepared: Prepared, splits: Sequence[Split]) -> dict[str, str]:
    """Return hashes of the rows, of their groups and of their divisions: results with others do not belong together."""
    groups = prepared.groups.astype(np.int64).tobytes()
    rows = [getattr(split, name) for split in splits for name in ("train", "validation", "test")]
    divided = b"".join(len(each).to_bytes(8, "little") + each.astype(np.int64).tobytes() for each in rows)
    return {
        "rows": prepared.table.source_sha256,
        "groups": hashlib.sha256(groups).hexdigest(),
        "splits": hashlib.sha256(divided).hexdigest(),
    }


def divide(prepared: Prepared, *, test: float, validation: float, seed: int) -> Split:
    """Divide rows at random, groups as a whole.

    Raises:
        FinetuneError: if the shares leave a set empty.
    """
    _check_shares(test=test, validation=validation)
    n_groups = len(np.unique(prepared.groups))
    try:
        if n_groups < _FEWEST_GROUPS or test + validation >= 0.9:
            raise RecipeError("too few groups, or too large shares")
        # shares are rounded up to whole groups
        return make_split(len(prepared), test=test, validation=validation, seed=seed, groups=prepared.groups)
    except RecipeError:
        raise FinetuneError(
            f"{n_groups} groups of rows (by {prepared.grouping}) cannot be divided into training, validation and test; "
            "add runs of other compositions, or give smaller shares test=... and validation=... (--test, --validation)"
        ) from None


def divisions(prepared: Prepared, *, test: float, validation: float, folds: int | None, seed: int) -> list[Split]:
    """Return one division of the rows, or with ``folds`` one for each part of a cross-validation.

    Raises:
        FinetuneError: if the rows cannot be divided so.
    """
    if folds is None:
        return [divide(prepared, test=test, validation=validation, seed=seed)]
    n_groups = len(np.unique(prepared.groups))
    if not isinstance(folds, int) or not 2 <= folds <= n_groups:
        raise FinetuneError(
            f"folds (--folds) must be between 2 and the number of groups of rows, {n_groups}. Got {folds!r}."
        )
    _check_shares(validation=validation)
    splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    share = min(0.5, validation / (1.0 - 1.0 / folds))
    parts = []
    for rest, tested in splitter.split(prepared.groups, groups=prepared.groups):
        train, chosen = hold_out(prepared, rest, share, seed)
        parts.append(Split(train, chosen, np.sort(tested), np.empty(0, dtype=np.int64)))
    return parts


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0.0 < share < 0.9:
            raise FinetuneError(f"the share {name} (--{name}) must be between 0 and 0.9. Got {share!r}.")


def undivided(prepared: Prepared, *, validation: float, seed: int) -> Split:
    """Return a division without test rows."""
    train, chosen = hold_out(prepared, np.arange(len(prepared)), validation, seed)
    nothing = np.empty(0, dtype=np.int64)
    return Split(train, chosen, nothing, nothing)


def hold_out(prepared: Prepared, rows: Ints, share: float, seed: int) -> tuple[Ints, Ints]:
    """Divide some rows into those for training and those for validation, groups as a whole and at least one each."""
    groups = prepared.groups[rows]
    share = max(share, 1.0 / len(np.unique(groups)))
    splitter = GroupShuffleSplit(1, test_size=min(share, 0.5), random_state=seed)
    try:
        kept, held = next(splitter.split(rows, groups=groups))
    except ValueError:
        raise FinetuneError("the rows are too few, or of too few compositions, to be divided") from None
    return np.sort(rows[kept]), np.sort(rows[held])

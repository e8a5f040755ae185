"""Predictions in an ASE database, beside or in place of a column from DFT."""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase.db.core import reserved_keys
from ase.formula import Formula

from ase_matprop.errors import MatPropError
from ase_matprop.models import DEFAULT_MODEL, Predictions
from ase_matprop.models.loading import Names
from ase_matprop.properties import get_property
from ase_matprop.workflows.database_files import (
    Change,
    OpenDatabase,
    open_database,
    open_result,
    sqlite_errors,
)
from ase_matprop.workflows.fingerprints import fingerprint
from ase_matprop.workflows.loading import Model, cached_model, check_threads, compared_tags, evaluation_threads
from ase_matprop.workflows.ranking import FAILURES_KEPT
from ase_matprop.workflows.streaming import Progress

_ROWS_AT_ONCE = 256
_OPTIONAL = ("spread", "distance", "disagreement", "compared_with", "warning", "error")


@dataclass(frozen=True)
class DatabasePredictions:
    """What :func:`add_predictions` did.

    Attributes:
        database: file or address of the database with the predictions.
        key: key under which they are.
        unit: their unit.
        n_selected: rows that the selection chose.
        n_predicted: rows that got a value now.
        n_skipped: rows that had the value of this model, or its reason for having none, already.
        n_failed: rows without a value, met now.
        failures: id and reason of the first 1000 of these.
    """

    database: str
    key: str
    unit: str
    n_selected: int
    n_predicted: int = 0
    n_skipped: int = 0
    n_failed: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)


def add_predictions(
    db: Any,
    model: Model = DEFAULT_MODEL,
    *,
    output: str | os.PathLike[str] | None = None,
    in_place: bool = False,
    key: str | None = None,
    property: str | None = None,
    selection: Any = None,
    batch_size: int = _ROWS_AT_ONCE,
    n_jobs: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    compare_with: Names = (),
    progress: Progress | None = None,
) -> DatabasePredictions:
    """Add what a model predicts for the rows of an ASE database as key-value pairs.

    ``add_predictions("candidates.db", "irnet17-mp", output="scored.db", key="hform")`` writes, for each row, ``hform``
    (the value; of a class its name), ``hform_model`` (name of the model and first digits of its weights' SHA-256),
    ``hform_structure`` (digits that change with the structure), where there are any ``hform_spread``,
    ``hform_distance``, ``hform_disagreement`` and ``hform_warning``, and in place of the value ``hform_error`` where
    there is none.  Everything else in a row stays, its id too.  Unit and meaning are in the ``key_descriptions`` of the
    database's metadata, where ASE looks for them.

    Rows are written batch by batch, each batch as a whole (in a JSON file, which ASE reads and writes as a whole, every
    few seconds).  A run that was stopped goes on when the same call is made again: rows that have the value of this
    model and have not been changed since are passed over, also those without a value and with a reason.  A call that
    fails before it has written a row leaves no copy behind.

    Args:
        db: path of a .db (SQLite) or .json file, address of a server (``postgresql://``, ``mysql://``; needs
            ``ase-db-backends``), or what ``ase.db.connect`` returned.
        model: name of a shipped model, path of a model folder, or a predictor.
        output: file for a copy of the database with the predictions; it may be the unfinished one of a stopped run.
            The database itself is only read.
        in_place: write into the database itself instead.
        key: name of the column; "<property>_<model>" if not given, such as formation_energy_per_atom_irnet17_mp.
        property: which one of a model of several properties; the first if not given.
        selection: rows to predict for, as ``db.select`` takes it, "natoms<50,Ni" for example; all if not given.
        batch_size: number of rows that are held, evaluated and written together.
        n_jobs: number of processes for the descriptor; -1 for one per core.
        device: torch device of the network.
        threads: threads of the network's evaluation; see :func:`~ase_matprop.workflows.loading.evaluation_threads`.
        compare_with: other models of the same property, for ``<key>_disagreement`` with them and their names in
            ``<key>_compared_with``.
        progress: called with the number of finished rows after each batch, those passed over included.

    Raises:
        UnknownNameError: if there is no such model or property.
        MatPropError: if neither ``output`` nor ``in_place`` is given, or both; the database does not exist, is locked
            or cannot be read; what is to be written is read-only; ``output`` exists and is no copy of the database as
            it is now; the key is not one that ASE allows, or holds values that no model wrote; the models cannot be
            compared; the selection cannot be used or chooses no row.
    """
    if (output is None) == (not in_place):
        raise MatPropError(
            "give output='other.db' to write a copy of the database with the predictions, or in_place=True to write "
            "into the database itself" + (", not both" if in_place else "")
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise MatPropError(f"the batch_size must be a positive integer. Got {batch_size!r}.")
    check_threads(threads)
    predictor = cached_model(model, device, compare_with)
    card = predictor.card
    name = card.property if property is None else property
    unit = predictor.predict([])[name].unit  # raises for a property that the model has not
    column = _Column(
        _check_key(key or _default_key(name, card.name)),
        f"{card.name} {card.weights.sha256[:12]}",
        ", ".join(compared_tags(predictor)) if name == card.property else "",  # they compare the first property
    )
    with contextlib.ExitStack() as stack:
        opened = target = stack.enter_context(open_database(db, writable=in_place))
        if output is not None:
            with sqlite_errors(opened.address):
                target = stack.enter_context(open_result(opened, Path(output)))
        stack.enter_context(sqlite_errors(target.address))
        ids = _select(target, opened.address if target.is_new else target.address, selection, column)
        target.describe(column.key, [column.key, f"{get_property(name).long_name}, {card.name}", unit])
        n_skipped = n_failed = n_done = 0
        failures: list[tuple[int, str]] = []
        for start in range(0, len(ids), batch_size):
            batch = ids[start : start + batch_size]
            rows = [row for row in map(target.get, batch) if not column.is_done(row)]
            n_skipped += len(batch) - len(rows)
            if rows:
                with evaluation_threads(threads):
                    predictions = predictor.predict(rows, batch_size=len(rows), n_jobs=n_jobs)[name]
                target.update([column.changes(row, predictions, number) for number, row in enumerate(rows)])
                failed = [(row.id, error) for row, error in zip(rows, predictions.errors, strict=True) if error]
                n_failed += len(failed)
                failures += failed[: FAILURES_KEPT - len(failures)]
            n_done += len(batch)
            if progress is not None:
                progress(n_done)
    return DatabasePredictions(
        database=target.address,
        key=column.key,
        unit=unit,
        n_selected=len(ids),
        n_predicted=len(ids) - n_skipped - n_failed,
        n_skipped=n_skipped,
        n_failed=n_failed,
        failures=failures,
    )


class _Column:
    """The keys of one predicted property.

    Attributes:
        key: key of the value.
        tag: name and weights of the model.
        compared: names and weights of the models that it is compared with, empty where there are none.
    """

    def __init__(self, key: str, tag: str, compared: str) -> None:
        self.key = key
        self.tag = tag
        self.compared = compared
        self._of_model, self._of_structure = f"{key}_model", f"{key}_structure"
        self._optional = (key, *(f"{key}_{what}" for what in _OPTIONAL))

    def is_done(self, row: Any) -> bool:
        """Whether a row has what this model says of its structure."""
        pairs = row.key_value_pairs
        return (
            pairs.get(self._of_model) == self.tag
            and pairs.get(f"{self.key}_compared_with", "") == self.compared
            and pairs.get(self._of_structure) == fingerprint(row)
            and (self.key in pairs or f"{self.key}_error" in pairs)
        )

    def is_foreign(self, row: Any) -> bool:
        """Whether a row has a value that none of our models wrote."""
        return self.key in row.key_value_pairs and self._of_model not in row.key_value_pairs

    def changes(self, row: Any, predictions: Predictions, number: int) -> Change:
        """Return what to set and what to delete in a row, whose predictions have this number."""
        values: dict[str, Any] = {self._of_model: self.tag, self._of_structure: fingerprint(row)}
        error, warning = predictions.errors[number], predictions.warnings[number]
        if self.compared:
            values[f"{self.key}_compared_with"] = self.compared
        if error is not None:
            values[f"{self.key}_error"] = error
        else:
            label = predictions.labels[number]
            values[self.key] = float(predictions.values[number]) if label is None else label
            for what in ("spread", "distance", "disagreement"):
                quantity = float(getattr(predictions, what)[number])
                if math.isfinite(quantity):
                    values[f"{self.key}_{what}"] = quantity
            if warning is not None:
                values[f"{self.key}_warning"] = warning
        return row.id, values, [name for name in self._optional if name not in values]


def _select(target: OpenDatabase, address: str, selection: Any, column: _Column) -> list[int]:
    """Return the ids of the selected rows; errors name the database by this address."""
    ids = []
    try:
        for row in target.rows(selection):
            if column.is_foreign(row):
                raise MatPropError(
                    f"row {row.id} of {address} has a value {column.key!r} that no model of ase_matprop wrote; "
                    "choose another key"
                )
            ids.append(row.id)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, MatPropError):
            raise
        raise MatPropError(f"the selection {selection!r} cannot be used: {error}; write it as for ase db") from error
    if not ids:
        chosen = "has no rows" if selection is None else f"has no row that {selection!r} selects"
        raise MatPropError(f"the database {address} {chosen}; check it with: ase db {address}")
    return ids


def _default_key(name: str, model: str) -> str:
    return f"{name}_{re.sub(r'[^0-9a-zA-Z]+', '_', model).strip('_')}"


def _check_key(key: str) -> str:
    """Return ``key`` if ASE takes it.

    Raises:
        MatPropError: otherwise, and for a key that looks like a formula, which ASE could not select by.
    """
    problem = None
    if not isinstance(key, str) or not re.fullmatch(r"[_a-zA-Z][_0-9a-zA-Z]*", key):
        problem = "must have letters, digits and underscores only, and begin with no digit"
    elif key in reserved_keys:
        problem = "is one that ASE has for itself"
    else:
        with contextlib.suppress(ValueError):
            Formula(key, strict=True)
            problem = "is a chemical formula, for which ASE would take it in a selection"
    if problem:
        raise MatPropError(f"the key {key!r} {problem}; choose another one, such as 'predicted_energy'")
    return key

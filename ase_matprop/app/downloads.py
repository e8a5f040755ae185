"""Results as files: the table of ``matprop predict``, with a column for each set of reference values."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ase_matprop.app.sessions import Run, Session
from ase_matprop.errors import MatPropError
from ase_matprop.table_files import FLOAT_FORMAT

if TYPE_CHECKING:
    import pandas as pd

    from ase_matprop.models.predictor import Entry

FORMATS = ("csv", "json")
#: with which a spreadsheet begins a formula of its own
_ACTIVE = ("=", "+", "-", "@", "\t", "\r")
_MISSING = "not predicted yet; run again"
_TEXTS = ("name", "formula", "warning", "error", "model")


def frame(session: Session) -> pd.DataFrame:
    """Return one row for each entry and model: the columns of :meth:`ase_matprop.models.Predictions.to_frame`.

    Entries come in their order, model by model, with an error where the model did not get to them; where nothing was
    predicted yet, the entries alone.
    """
    import pandas as pd

    with session.lock:
        entries, runs, references = list(session.entries), dict(session.runs), dict(session.references)
    parts = []
    for run in runs.values():
        part = _with_all(run, entries)
        for name, values in references.items():
            part[f"reference {name}"] = [values.get(number, math.nan) for number in range(len(entries))]
        parts.append(part)
    if parts:
        joined = pd.concat(parts, ignore_index=True)
        last = [name for name in ("distance", "warning", "model", "error") if name in joined]
        return joined[[name for name in joined if name not in last] + last]
    return pd.DataFrame(
        {
            "name": [entry.name for entry in entries],
            "formula": [entry.formula or None for entry in entries],
            "n_atoms": pd.Series([entry.n_atoms or None for entry in entries], dtype="Int64"),
            "error": pd.Series([entry.error for entry in entries], dtype=object),
        }
    )


def _with_all(run: Run, entries: Sequence[Entry]) -> pd.DataFrame:
    """Return the predictions of one model with a row for each entry, also for those that it did not get to."""
    import pandas as pd

    table = run.predictions.to_frame().set_index(pd.Index(run.numbers)).reindex(range(len(entries)))
    for number in sorted(set(range(len(entries))) - set(run.numbers)):
        entry = entries[number]
        known = {
            "name": entry.name,
            "formula": entry.formula or None,
            "n_atoms": entry.n_atoms or pd.NA,
            "model": run.predictions.model,
            "error": entry.error or _MISSING,
        }
        for column, value in known.items():
            table.at[number, column] = value
    return table


def as_text(session: Session, form: str) -> str:
    """Return the results as CSV, or as JSON: an array of objects.

    In CSV, a text that a spreadsheet would take for a formula has an apostrophe before it.

    Raises:
        MatPropError: for another format.
    """
    table = frame(session)
    if form == "json":
        rows = json.loads(table.to_json(orient="records", double_precision=15))
        return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
    if form != "csv":
        raise MatPropError(f"the format must be one of {', '.join(FORMATS)}. Got {form!r}.")
    for name in _TEXTS:
        if name in table:
            texts: list[Any] = [_passive(value) for value in table[name]]
            table[name] = texts
    text: str = table.to_csv(index=False, float_format=FLOAT_FORMAT)
    return text


def _passive(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_ACTIVE) else value

"""The table of the page: one row per entry, with a flag wherever a number should not be trusted."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ase_matprop.app.sessions import Run, Session
from ase_matprop.models.card import ModelCard
from ase_matprop.models.predictor import Entry
from ase_matprop.properties import get_property

#: distances to the training set beyond which a value is marked; docs/uncertainty.md has the errors there
FAR, VERY_FAR = 1.0, 2.0

#: state -> sign and words; a sign as well as a colour, for those who do not see the colour
FLAGS = {
    "good": ("✓", "within reach"),
    "far": ("▲", "far"),
    "very-far": ("▲▲", "very far"),
    "unseen": ("◆", "unseen"),
    "wide": ("↔", "wide"),
    "failed": ("✕", "failed"),
}


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: identifies it.
        title: what it is.
        unit: of its numbers, empty where it has none.
        model: whose it is, empty for those of the entries.
        numeric: whether it has numbers.
    """

    key: str
    title: str
    unit: str = ""
    model: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Cell:
    """What stands in a row under a column.

    Attributes:
        text: as it is shown.
        value: as it is sorted and filtered; None for nothing.
        flag: a key of :data:`FLAGS`, or empty.
        note: what the flag means here.
    """

    text: str = ""
    value: float | str | None = None
    flag: str = ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """An entry: its number in the session, its cells by column, and its state.

    Attributes:
        number: of the entry.
        cells: by key of the column.
        failures: reasons why there are no values, by model; those of the entry itself under an empty name.
        warned: whether a value of it is marked.
    """

    number: int
    cells: Mapping[str, Cell]
    failures: Mapping[str, str] = field(default_factory=dict)
    warned: bool = False


@dataclass(frozen=True)
class Table:
    """Columns and rows."""

    columns: list[Column]
    rows: list[Row]

    def column(self, key: str) -> Column | None:
        """Return a column by its key."""
        return next((column for column in self.columns if column.key == key), None)


@dataclass(frozen=True)
class View:
    """Which rows are shown, in which order.

    Attributes:
        sort: key of a column, empty for the order of the entries.
        descending: whether the largest come first.
        text: part of a name or formula.
        state: ``"all"``, ``"failed"``, ``"warned"`` or ``"good"``.
        column: key of the column for ``low`` and ``high``.
        low: smallest number, None for none.
        high: largest number, None for none.
    """

    sort: str = ""
    descending: bool = False
    text: str = ""
    state: str = "all"
    column: str = ""
    low: float | None = None
    high: float | None = None


def build(session: Session, cards: Mapping[str, ModelCard]) -> Table:
    """Return the table of a session.

    Args:
        session: the session.
        cards: cards of the models, by name.
    """
    with session.lock:
        entries, runs, references = list(session.entries), dict(session.runs), dict(session.references)
    columns = [
        Column("name", "name"),
        Column("formula", "formula"),
        Column("atoms", "atoms", numeric=True),
        *(Column(f"reference|{name}", name, numeric=True) for name in references),
        *(column for name, run in runs.items() for column in _columns_of(name, run)),
    ]
    by_number = {name: {number: row for row, number in enumerate(run.numbers)} for name, run in runs.items()}
    rows = []
    for number, entry in enumerate(entries):
        cells = _cells_of_entry(entry)
        for name, values in references.items():
            if number in values:
                cells[f"reference|{name}"] = _number(values[number])
        failures = {"": entry.error} if entry.error is not None else {}
        for name, run in runs.items():
            row = by_number[name].get(number)
            if row is None:
                continue
            cells |= _cells_of_row(name, run, row, cards.get(name))
            reason = run.predictions.errors[row]
            if reason is not None and entry.error is None:
                failures[name] = reason
        warned = any(cell.flag in ("far", "very-far", "unseen", "wide") for cell in cells.values())
        rows.append(Row(number, cells, failures, warned))
    return Table(columns, rows)


def arrange(table: Table, view: View) -> list[Row]:
    """Return the rows that a view shows, in its order; rows without a value come last, whatever the direction."""
    text = view.text.strip().lower()
    rows = [row for row in table.rows if _is_shown(row, view, text)]
    if not view.sort or table.column(view.sort) is None:
        return rows
    known: list[Row] = []
    unknown: list[Row] = []
    for row in rows:
        value = row.cells.get(view.sort, Cell()).value
        (unknown if value is None else known).append(row)
    numeric = [row for row in known if not isinstance(row.cells[view.sort].value, str)]
    words = [row for row in known if isinstance(row.cells[view.sort].value, str)]
    numeric.sort(key=lambda row: float(row.cells[view.sort].value or 0.0), reverse=view.descending)
    words.sort(key=lambda row: natural(str(row.cells[view.sort].value)), reverse=view.descending)
    return [*numeric, *words, *unknown]


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts 2 before 10."""
    parts = [part for part in re.split(r"(\d+)", text.lower()) if part]
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return how many rows are in each state."""
    failed = sum(bool(row.failures) for row in rows)
    warned = sum(row.warned for row in rows)
    return {"all": len(rows), "failed": failed, "warned": warned}


def flag_of(distance: float, warning: str | None) -> tuple[str, str]:
    """Return the flag of a value by its distance to the training set and its warnings, and what it means."""
    if math.isfinite(distance) and distance > VERY_FAR:
        return "very-far", f"distance {distance:.2f} from the training set: take no decision on this number" + (
            f"; {warning}" if warning else ""
        )
    if warning:
        return "unseen", warning
    if math.isfinite(distance) and distance > FAR:
        return "far", f"distance {distance:.2f} from the training set: expect about three times the usual error"
    return ("good", f"distance {distance:.2f} from the training set") if math.isfinite(distance) else ("", "")


def is_wide(spread: float, card: ModelCard | None) -> bool:
    """Whether the networks of an ensemble differ by more than the model's mean error on test rows."""
    if card is None or "test" not in card.errors or not math.isfinite(spread):
        return False
    return spread > card.errors["test"].mae


def _columns_of(name: str, run: Run) -> list[Column]:
    predictions = run.predictions
    first = get_property(predictions.property).long_name
    columns = [Column(f"{name}|{predictions.property}", first, predictions.unit, name, not predictions.classes)]
    for number, label in enumerate(predictions.classes):
        columns.append(Column(f"{name}|class {number}", f"probability of {label}", "", name, True))
    if any(math.isfinite(value) for value in predictions.spread):
        columns.append(Column(f"{name}|spread", "spread", predictions.unit, name, True))
    for key, entry in predictions.further.items():
        columns.append(Column(f"{name}|{key}", get_property(key).long_name, entry.unit, name, True))
    columns.append(Column(f"{name}|reach", "reach", "distance", name, True))
    return columns


def _cells_of_entry(entry: Entry) -> dict[str, Cell]:
    flag = "failed" if entry.error is not None else ""
    n_atoms = entry.n_atoms
    return {
        "name": Cell(entry.name, entry.name, flag, entry.error or ""),
        "formula": Cell(entry.formula, entry.formula or None),
        "atoms": Cell(str(n_atoms), float(n_atoms)) if n_atoms else Cell(),
    }


def _cells_of_row(name: str, run: Run, row: int, card: ModelCard | None) -> dict[str, Cell]:
    predictions = run.predictions
    reason = predictions.errors[row]
    first = f"{name}|{predictions.property}"
    if reason is not None:
        return {first: Cell("failed", None, "failed", reason)}
    distance = float(predictions.distance[row])
    flag, note = flag_of(distance, predictions.warnings[row])
    reach = Cell(f"{distance:.2f}" if math.isfinite(distance) else "", _or_none(distance), flag, note)
    cells = {f"{name}|reach": reach}
    if predictions.classes:
        label = predictions.labels[row] or ""
        cells[first] = Cell(label, label)
        if predictions.probabilities is not None:
            for number, value in enumerate(predictions.probabilities[row].tolist()):
                cells[f"{name}|class {number}"] = Cell(f"{value:.3f}", value)
        return cells
    cells[first] = _number(float(predictions.values[row]))
    spread = float(predictions.spread[row])
    if math.isfinite(spread):
        wide = is_wide(spread, card)
        words = "the networks of this model differ by more than its mean error on test rows" if wide else ""
        cells[f"{name}|spread"] = Cell(f"{spread:.3f}", spread, "wide" if wide else "", words)
    for key, entry in predictions.further.items():
        cells[f"{name}|{key}"] = _number(float(entry.values[row]))
    return cells


def _number(value: float) -> Cell:
    return Cell(f"{value:.3f}".replace("-", "−"), value) if math.isfinite(value) else Cell()  # noqa: RUF001  a minus


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_shown(row: Row, view: View, text: str) -> bool:
    failed = bool(row.failures)
    if not {"failed": failed, "warned": row.warned, "good": not failed and not row.warned}.get(view.state, True):
        return False
    if text and not any(text in row.cells[key].text.lower() for key in ("name", "formula")):
        return False
    if view.column and (view.low is not None or view.high is not None):
        value = row.cells.get(view.column, Cell()).value
        if not isinstance(value, float):
            return False
        return (view.low is None or value >= view.low) and (view.high is None or value <= view.high)
    return True

"""Tables that a person brings along: formulas to predict, and values to compare with."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ase_matprop.app.archives import UploadError
from ase_matprop.app.formulas import formula_entry
from ase_matprop.compositions import FORMULA_COLUMNS, CompositionEntry, reduced_formula
from ase_matprop.structures import StructureEntry
from ase_matprop.structures.objects import name_keys, shared_keys

NAME_COLUMNS = ("name", "file", "filename", "structure", "id", "material_id", "label")
MOST_COLUMNS = 20

Entry = StructureEntry | CompositionEntry


@dataclass(frozen=True, eq=False)
class ValueTable:
    """A table with numbers.

    Attributes:
        names: what each row is called, empty where there is no such column.
        formulas: the formula of each row, empty where there is no such column.
        columns: columns of numbers, NaN where a cell has none.
    """

    names: list[str]
    formulas: list[str]
    columns: dict[str, list[float]]

    def __len__(self) -> int:
        return len(self.names) or len(self.formulas)

    @classmethod
    def read(cls, path: Path, *, largest: int) -> ValueTable:
        """Read a CSV file, with commas, semicolons or tabs between its columns.

        Raises:
            UploadError: if it is no table with a column of names or formulas.
        """
        size = path.stat().st_size
        if size == 0:
            raise UploadError("is an empty file; write it again")
        if size > largest:
            raise UploadError(f"has {size:,} bytes, and a table may have {largest:,}; make several")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise UploadError("is no text in UTF-8; save it as CSV in UTF-8") from None
        if "\0" in text:
            raise UploadError("holds binary data instead of text; save it as CSV in UTF-8")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if len(lines) < 2:
            raise UploadError("has no rows below its header; give a header and a row for each value")
        separator = max(",;\t", key=lines[0].count)
        try:
            header, *rows = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
        except csv.Error as error:
            raise UploadError(f"cannot be read as CSV ({error}); save it again") from None
        return cls._of([cell.strip() for cell in header], rows)

    @classmethod
    def _of(cls, header: Sequence[str], rows: Sequence[Sequence[str]]) -> ValueTable:
        lower = [name.lower() for name in header]
        name = next((lower.index(known) for known in NAME_COLUMNS if known in lower), None)
        formula = next((lower.index(known) for known in FORMULA_COLUMNS if known in lower), None)
        if name is None and formula is None:
            raise UploadError(
                f"has no column {' or '.join(map(repr, (NAME_COLUMNS[0], FORMULA_COLUMNS[0])))}; its columns are "
                f"{', '.join(header[:MOST_COLUMNS])[:200]}"
            )
        columns: dict[str, list[float]] = {}
        for number, title in enumerate(header):
            values = [_number(row[number]) if number < len(row) else math.nan for row in rows]
            if number not in (name, formula) and title and any(map(math.isfinite, values)):
                columns[title[:60]] = values
        return cls(
            [] if name is None else [_cell(row, name) for row in rows],
            [] if formula is None else [_cell(row, formula) for row in rows],
            dict(list(columns.items())[:MOST_COLUMNS]),
        )


def _cell(row: Sequence[str], number: int) -> str:
    return row[number].strip() if number < len(row) else ""


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def formulas_of(table: ValueTable, *, room: int) -> list[CompositionEntry]:
    """Return an entry for each row of a table of formulas.

    Raises:
        UploadError: if it has no formulas, or more than ``room``.
    """
    if not table.formulas:
        raise UploadError("has no column 'formula'; for values of structures that are here, use 'Compare'")
    if len(table) > room:
        raise UploadError(f"has {len(table):,} rows, and there is room for {room:,}; use matprop predict")
    return [formula_entry(formula) for formula in table.formulas]


def match(table: ValueTable, entries: Sequence[Entry]) -> tuple[dict[str, dict[int, float]], str]:
    """Return which entries have which values, and a sentence on how many.

    A row belongs to the entries of its name (with or without folders and ending), or where the table has no names, or
    none that is known, to all entries of its formula.  Where rows of one name or formula differ, none of them counts;
    nor does a row with a shortened name that fits several entries.

    Returns:
        Name of the column -> number of the entry -> value.

    Raises:
        UploadError: if the table has no numbers, or no row belongs to an entry.
    """
    if not table.columns:
        raise UploadError("has no column of numbers; give one, such as formation_energy_per_atom")
    by_name = _rows_by(table.names)
    shared = shared_keys(entry.name for entry in entries)
    found = {number: rows for number, entry in enumerate(entries) if (rows := _named(by_name, entry.name, shared))}
    unclear = {row for key in shared & by_name.keys() for row in by_name[key]}
    if not found and table.formulas:
        by_formula = _rows_by(map(_reduced, table.formulas))
        keys = [_reduced(entry.formula) if entry.formula else "" for entry in entries]
        found = {number: by_formula[key] for number, key in enumerate(keys) if key and key in by_formula}
    if not found and unclear:
        key = next(key for key in by_name if key in shared)
        name = next(entry.name for entry in entries if key in name_keys(entry.name))
        raise UploadError(f"has names that fit several entries, such as {key!r}; write {name!r}")
    if not found:
        raise UploadError(
            "has no row that belongs to an entry of this page; its first column should have names such as "
            + ", ".join(repr(entry.name) for entry in entries[:2])
            if entries
            else "comes too early: add structures or formulas first"
        )
    columns: dict[str, dict[int, float]] = {}
    ambiguous = 0
    for title, values in table.columns.items():
        columns[title] = {}
        for number, rows in found.items():
            given = {values[row] for row in rows if math.isfinite(values[row])}
            if len(given) == 1:
                columns[title][number] = given.pop()
            ambiguous += len(given) > 1
    used = len({row for rows in found.values() for row in rows})
    text = f"{len(found)} of {len(entries)} entries have values; {used} of {len(table)} rows of the table were used"
    if ambiguous:
        text += f"; {ambiguous} values were left out, since rows of one name or formula differ"
    if unclear := unclear - {row for rows in found.values() for row in rows}:
        text += f"; {len(unclear)} rows were left out, since their names fit several entries"
    return columns, text


def _rows_by(keys: Iterable[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        if key:
            rows.setdefault(key, []).append(number)
    return rows


def _named(rows: dict[str, list[int]], name: str, shared: Container[str]) -> list[int]:
    keys = (key for key in name_keys(name) if key == name or key not in shared)
    return next((rows[key] for key in keys if key in rows), [])


def _reduced(formula: str) -> str:
    amounts = formula_entry(formula).amounts
    return reduced_formula(amounts) if amounts else ""

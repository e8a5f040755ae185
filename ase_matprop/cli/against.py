"""``matprop predict --reference-values``: predictions beside values that are known, and the plot of both."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ase_matprop.errors import MatPropError
from ase_matprop.properties import get_property
from ase_matprop.structures.objects import name_keys, shared_keys

if TYPE_CHECKING:
    import pandas as pd

#: columns that say which row of the table belongs to which input, in any case, before those of formulas
_NAME_COLUMNS = ("name", "file", "path", "id", "material_id")


class KnownValues:
    """Known values of a table, and what was predicted for the same inputs.

    A row belongs to an input that has its name: that of the file with or without its folder and ending, or that of the
    folder in which a file such as CONTCAR is; or else its formula, as it is written or reduced, if that has a single
    value.  A shortened name that fits several inputs counts for none of them.  Where the inputs are the rows of this
    very table, each has the value of its own row.

    Args:
        path: the CSV table.
        column: of the values, by default named like the property.
        property_name: what is predicted.
        inputs: files and formulas as they were given.

    Raises:
        MatPropError: if the property is a class, or the table cannot be used.
    """

    def __init__(self, path: Path, column: str | None, property_name: str, inputs: Sequence[str] = ()) -> None:
        entry = get_property(property_name)
        if entry.classes:
            raise MatPropError(
                f"the model predicts the class {entry.long_name}, which has no error in a unit; use another"
            )
        self._path, self._column = path, column or property_name
        self._property = property_name
        self._by_name: dict[str, set[float]] = {}
        self._by_text: dict[str, set[float]] = {}  # formulas as they are written
        self._by_formula: dict[str, set[float]] = {}
        self._rows: list[tuple[str, float]] = []  # formula and value of each row, where these rows are the inputs
        self._place = 0
        self._shared: set[str] = set()
        self._ambiguous = 0
        self._given: list[float] = []
        self._predicted: list[float] = []
        self._names: list[str] = []
        self._read()
        if not inputs or any(not _is_same(name, path) for name in inputs):
            self._rows = []

    def expect(self, names: Iterable[str]) -> None:
        """Take the names of all inputs, to know which shortened names fit several of them."""
        if self._by_name:
            self._shared = shared_keys(names, folder=True)

    def beside(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table of predictions with a column ``reference`` behind the predicted values."""
        values = [self._find(str(name), formula) for name, formula in zip(frame["name"], frame["formula"], strict=True)]
        self._given += values
        self._predicted += frame[self._property].tolist()
        self._names += frame["name"].tolist()
        frame.insert(list(frame.columns).index(self._property) + 1, "reference", values)
        return frame

    def finish(self, unit: str, model: str, plot: Path | None) -> None:
        """Say how large the error is, and draw the plot."""
        import numpy as np

        errors = np.abs(np.array(self._predicted, dtype=float) - np.array(self._given, dtype=float))
        known = np.isfinite(errors)
        if self._ambiguous:
            were = "inputs were" if self._ambiguous > 1 else "input was"
            typer.echo(
                f"{self._ambiguous} {were} left out as ambiguous: a name or formula fits several rows of {self._path} "
                "that differ, or a shortened name in it fits several inputs",
                err=True,
            )
        if not known.any():
            raise MatPropError(
                f"no prediction has a value in {self._path}: its rows are found by name of the file or by formula"
            )
        error, n = float(errors[known].mean()), int(known.sum())
        typer.echo(
            f"mean absolute error {error:.4f} {unit} on the {n} of {len(errors)} inputs that {self._path} has", err=True
        )
        if plot is not None:
            from ase_matprop.plots import parity, save
            from ase_matprop.plots.files import backend_of

            figure = parity(
                self._given, self._predicted, unit=unit, title=model, property_name=self._property, names=self._names,
                backend=backend_of(plot),
            )  # fmt: skip
            typer.echo(f"plot in {save(figure, plot)}", err=True)

    def _find(self, name: str, formula: Any) -> float:
        if self._rows:
            text, value = self._rows[self._place % len(self._rows)]
            self._place += 1
            if text == name.strip():
                return value
        keys = [key for key in name_keys(name, folder=True) if key in self._by_name]
        clear = [self._by_name[key] for key in keys if key == name or key not in self._shared]
        texts = [self._by_text.get(name, set()), self._by_formula.get(_reduced(formula) or "", set())]
        found = [values for values in (*clear, *texts) if values]
        for values in found:
            if len(values) == 1:
                return next(iter(values))
        self._ambiguous += bool(found) or len(clear) < len(keys)
        return float("nan")

    def _read(self) -> None:
        from ase_matprop.compositions.tables import FORMULA_COLUMNS, without_comments
        from ase_matprop.structures.files import COMPRESSIONS

        try:
            with COMPRESSIONS.get(self._path.suffix.lower(), open)(
                self._path, "rt", encoding="utf-8-sig", newline=""
            ) as stream:
                rows = list(csv.DictReader(without_comments(stream)))
        except (OSError, EOFError, ValueError, csv.Error) as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            raise MatPropError(f"the reference values {self._path}: the file {reason}") from None
        header = [name for name in (rows[0] if rows else {}) if name]
        keys = [name for name in header if name.strip().lower() in (*_NAME_COLUMNS, *FORMULA_COLUMNS)]
        if not keys or self._column not in header:
            wanted = (
                f"the column {self._column!r}" if keys else f"one of the columns {', '.join(_NAME_COLUMNS)}, formula"
            )
            raise MatPropError(
                f"the reference values {self._path} need {wanted}; they have {', '.join(header) or 'no rows'}. "
                "--reference-column names that of the values"
            )
        lower = {key.strip().lower(): key for key in reversed(keys)}
        own = next((lower[known] for known in FORMULA_COLUMNS if known in lower), None)  # which predict reads
        for row in rows:
            value = self._number(row[self._column])
            if own is not None:
                self._rows.append(((row[own] or "").strip(), value))
            if math.isnan(value):
                continue
            for key in keys:
                text = (row[key] or "").strip()
                if key.strip().lower() in _NAME_COLUMNS:
                    self._by_name.setdefault(text, set()).add(value)
                elif formula := _reduced(text):
                    self._by_text.setdefault(text, set()).add(value)
                    self._by_formula.setdefault(formula, set()).add(value)

    def _number(self, text: str | None) -> float:
        try:
            return float(text or "nan")
        except ValueError:
            raise MatPropError(f"the reference value {text!r} in {self._path} is no number") from None


def _is_same(name: str, path: Path) -> bool:
    return Path(name).expanduser().resolve() == path.resolve()


def _reduced(formula: Any) -> str | None:
    from ase_matprop.compositions import parse_formula, reduced_formula
    from ase_matprop.errors import CompositionError

    try:
        return reduced_formula(parse_formula(formula)) if isinstance(formula, str) else None
    except CompositionError:
        return None

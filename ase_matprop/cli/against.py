"""``matprop predict --reference-values``: predictions beside values that are known, and the plot of both."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ase_matprop.errors import MatPropError
from ase_matprop.properties import get_property

if TYPE_CHECKING:
    import pandas as pd

#: columns that say which row of the table belongs to which input, in any case, before those of formulas
_NAME_COLUMNS = ("name", "file", "path", "id", "material_id")


class KnownValues:
    """Known values of a table, and what was predicted for the same inputs.

    A row belongs to an input that has its name: that of the file with or without its folder and ending, or that of the
    folder in which a file such as CONTCAR is; or else its reduced formula, if that has a single value.
    """

    def __init__(self, path: Path, column: str | None, property_name: str) -> None:
        entry = get_property(property_name)
        if entry.classes:
            raise MatPropError(
                f"the model predicts the class {entry.long_name}, which has no error in a unit; use another"
            )
        self._path, self._column = path, column or property_name
        self._property = property_name
        self._by_name: dict[str, set[float]] = {}
        self._by_text: dict[str, list[float]] = {}  # formulas as they are written, row by row
        self._by_formula: dict[str, set[float]] = {}
        self._given: list[float] = []
        self._predicted: list[float] = []
        self._names: list[str] = []
        self._read()

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
        if rows := self._by_text.get(name):
            return rows[0] if len(rows) == 1 else rows.pop(0)  # the same formula again: the next row
        places = (self._by_name.get(key, set()) for key in _names_of(name))
        for values in (*places, self._by_formula.get(_reduced(formula) or "", set())):
            if len(values) == 1:
                return next(iter(values))
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
        for row in rows:
            value = self._number(row[self._column])
            for key in keys:
                text = (row[key] or "").strip()
                if key.strip().lower() in _NAME_COLUMNS:
                    self._by_name.setdefault(text, set()).add(value)
                elif formula := _reduced(text):
                    self._by_text.setdefault(text, []).append(value)
                    self._by_formula.setdefault(formula, set()).add(value)

    def _number(self, text: str | None) -> float:
        try:
            return float(text or "nan")
        except ValueError:
            raise MatPropError(f"the reference value {text!r} in {self._path} is no number") from None


def _names_of(name: str) -> Iterator[str]:
    """Yield what an input may be called in a table, the most precise first."""
    path = Path(name)
    yield name
    yield path.name
    yield path.name.partition(".")[0]
    yield path.parent.name


def _reduced(formula: Any) -> str | None:
    from ase_matprop.compositions import parse_formula, reduced_formula
    from ase_matprop.errors import CompositionError

    try:
        return reduced_formula(parse_formula(formula)) if isinstance(formula, str) else None
    except CompositionError:
        return None

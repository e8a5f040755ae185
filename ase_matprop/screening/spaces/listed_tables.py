"""Tables of formulas that can be read from any row on; private part of :mod:`ase_matprop.screening.spaces.lists`."""

from __future__ import annotations

import csv
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase_matprop.compositions import FORMULA_COLUMNS
from ase_matprop.compositions.tables import is_table
from ase_matprop.errors import MatPropError, missing_dependency
from ase_matprop.screening.spaces.base import FORMULAS_AT_ONCE
from ase_matprop.structures.files import COMPRESSIONS
from ase_matprop.structures.objects import path_name


class Table:
    """A column of a CSV or Parquet file."""

    def __init__(self, path: str | os.PathLike[str], column: str | None) -> None:
        given = Path(path).expanduser()
        self.path, self.shown = given.absolute(), path_name(given)
        self._is_parquet = given.suffix.lower() == ".parquet"
        if not (self._is_parquet or is_table(given)):
            raise MatPropError(
                f"{self.shown} must end in .csv, .csv.gz, .csv.xz, .csv.bz2 or .parquet; formulas that are in no file "
                "are given as a list"
            )
        if not self.path.is_file():
            raise MatPropError(
                f"the table {self.shown} {'is a folder' if given.is_dir() else 'does not exist'}; check the path"
            )
        self._column = column

    def cells(self, bookmark: Any = None) -> Iterator[tuple[Any, str]]:
        """Yield the cells from a bookmark on, or from the beginning, each with its bookmark.

        Raises:
            MatPropError: if the table has no such column, or cannot be read further.
        """
        try:
            yield from (self._parquet_cells if self._is_parquet else self._csv_cells)(bookmark or 0)
        except (MatPropError, MemoryError):
            raise
        except (OSError, EOFError, ValueError, csv.Error, lzma.LZMAError, zlib.error) as error:  # pyarrow's are these
            reason = " ".join(str(error).split())[:150]
            raise MatPropError(f"{self.shown} cannot be read as a table ({reason}); check the file") from None

    def _csv_cells(self, position: int) -> Iterator[tuple[int, str]]:
        with COMPRESSIONS.get(self.path.suffix.lower(), open)(self.path, "rb") as stream:
            lines = _Lines(stream)
            rows = csv.reader(lines)
            header = [name.strip() for name in next(filter(None, rows), [])]
            column = self._find_column(header)
            if position:
                stream.seek(position)
                lines.position = position
            while True:
                position = lines.position
                row = next(rows, None)
                if row is None:
                    return
                if row:  # no blank line
                    yield position, row[column] if column < len(row) else ""

    def _parquet_cells(self, first: int) -> Iterator[tuple[int, str]]:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise missing_dependency("pyarrow", "reading Parquet", extra="parquet") from None
        with pq.ParquetFile(self.path) as file:
            field = file.schema_arrow.field(self._find_column(file.schema_arrow.names))
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
                raise MatPropError(
                    f"the column {field.name} of {self.shown} has {kind}, not text; write formulas there"
                )
            row, groups = 0, list(range(file.num_row_groups))
            while groups and row + file.metadata.row_group(groups[0]).num_rows <= first:
                row += file.metadata.row_group(groups.pop(0)).num_rows
            for batch in file.iter_batches(FORMULAS_AT_ONCE, row_groups=groups, columns=[field.name]):
                for cell in batch.column(0).to_pylist():
                    if row >= first:
                        yield row, cell or ""
                    row += 1

    def _find_column(self, header: list[str]) -> int:
        names = [name.lower() for name in header]
        if self._column in header:
            return header.index(self._column)
        for name in FORMULA_COLUMNS if self._column is None else [self._column.strip().lower()]:
            if name in names:
                return names.index(name)
        wanted = " or ".join(FORMULA_COLUMNS) if self._column is None else self._column
        found = f"its columns are {', '.join(header[:20])}" if header else "it is empty"
        raise MatPropError(f"{self.shown} has no column {wanted}; {found}")


class _Lines:
    """Lines of text of a binary stream, and the position behind the last one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.position = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line: bytes = self._stream.readline()
        if not line:
            raise StopIteration
        text = line.decode("utf-8", errors="replace")  # a formula with such a byte costs its own row
        text = text.removeprefix("\ufeff") if self.position == 0 else text
        self.position += len(line)
        return text

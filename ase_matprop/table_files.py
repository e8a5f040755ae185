"""Tables that are written block by block: CSV, JSON, Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ase_matprop.errors import MatPropError, missing_dependency

if TYPE_CHECKING:
    import pandas as pd

#: of numbers in CSV: what a network in single precision has to say
FLOAT_FORMAT = "%.8g"
FORMATS = (".csv", ".json", ".parquet")


class TableFile:
    """A table file that grows by blocks of rows; a context manager.

    The rows go to ``<file>.partial``, and the file takes its own name when all is done, so that a file under its own
    name is complete.  What was written of a CSV file can be read at any time, JSON (an array of objects) and Parquet
    files only after they were closed, which an exception does too.

    Args:
        path: file to write; its ending decides the format.

    Raises:
        MatPropError: for an unknown ending, or a place where no file can be written.
        MissingDependencyError: for Parquet without pyarrow.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.n_rows = 0
        self._stream: Any = None
        if path.suffix not in FORMATS:
            raise MatPropError(f"the output {path} must end in {', '.join(FORMATS)}")
        if not path.parent.is_dir():
            raise MatPropError(f"the folder of the output {path} does not exist; make it first")
        if path.is_dir():
            raise MatPropError(f"the output {path} is a folder; give the name of a file")
        if path.suffix == ".parquet":
            try:
                import pyarrow  # noqa: F401
            except ImportError:
                raise missing_dependency("pyarrow", "writing Parquet", extra="parquet") from None
        try:
            self.partial.touch()
        except OSError as error:
            raise MatPropError(f"the output {path} cannot be written: {error.strerror}") from None

    def __enter__(self) -> TableFile:
        return self

    def write(self, frame: pd.DataFrame) -> None:
        """Append the rows of ``frame``; all blocks have the same columns."""
        if self.path.suffix == ".parquet":
            self._write_parquet(frame)
        else:
            if self._stream is None:
                self._stream = self.partial.open("w", encoding="utf-8", newline="")
            if self.path.suffix == ".csv":
                frame.to_csv(self._stream, index=False, header=self.n_rows == 0, float_format=FLOAT_FORMAT)
            else:
                rows = json.loads(frame.to_json(orient="records", double_precision=15))
                for number, row in enumerate(rows, start=self.n_rows):
                    self._stream.write(("[\n" if number == 0 else ",\n") + json.dumps(row))
            self._stream.flush()
        self.n_rows += len(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.path.suffix == ".json" and self._stream is not None:
            self._stream.write("\n]\n")
        if self._stream is not None:
            self._stream.close()
        if kind is None:
            self.partial.replace(self.path)

    def _write_parquet(self, frame: pd.DataFrame) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._stream is None:
            schema = pa.Schema.from_pandas(frame, preserve_index=False)
            # a first block without a failure has no type for the column of reasons
            fields = [pa.field(f.name, pa.string()) if pa.types.is_null(f.type) else f for f in schema]
            self._schema = pa.schema(fields)
            self._stream = pq.ParquetWriter(self.partial, self._schema)
        self._stream.write_table(pa.Table.from_pandas(frame, schema=self._schema, preserve_index=False))

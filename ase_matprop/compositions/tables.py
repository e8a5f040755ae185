"""Tables of formulas; private part of :mod:`ase_matprop.compositions`.

pandas does not read them: it takes the formula of sodium nitride, NaN, for a gap.
"""

from __future__ import annotations

import csv
import glob
import itertools
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ase_matprop.errors import CompositionError
from ase_matprop.structures.files import COMPRESSIONS

#: columns in which formulas are looked for, in any case
FORMULA_COLUMNS = ("formula", "composition", "reduced_formula", "pretty_formula")

_TABLE = re.compile(r"(?i)\.csv(\.gz|\.xz|\.bz2)?$")


class TableError(CompositionError):
    """A table of formulas cannot be read, or not to its end."""


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether the name of a file says that it is a CSV table, plain or compressed."""
    return _TABLE.search(os.fspath(path)) is not None


def find_tables(path: str | os.PathLike[str]) -> list[Path]:
    """Return the tables that a path or glob pattern stands for; the path itself if there are none."""
    plain = Path(path).expanduser()
    pattern = str(plain)
    found = glob.glob(pattern, recursive=True) if glob.has_magic(pattern) and not plain.exists() else []  # noqa: PTH207
    return [Path(match) for match in sorted(found)] or [plain]


def read_formulas(path: Path) -> Iterator[str]:
    """Yield the cells of the first of :data:`FORMULA_COLUMNS` that a CSV file has, row by row.

    Raises:
        TableError: if the file has no such column or no rows, or where it cannot be read further.
    """
    try:
        with COMPRESSIONS.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8-sig", newline="") as stream:
            rows = filter(None, csv.reader(without_comments(stream)))  # without blank lines
            header = [name.strip() for name in next(rows, [])]
            column = _formula_column(header)
            row = None
            for row in rows:
                yield row[column] if column < len(row) else ""
            if row is None:
                raise TableError("has no rows; add formulas to it")
    except FileNotFoundError:
        raise TableError("does not exist; check the path") from None
    except TableError:
        raise
    except (OSError, EOFError, ValueError, csv.Error, lzma.LZMAError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise TableError(f"cannot be read as a table ({reason}); check the file") from None


def without_comments(lines: Iterable[str]) -> Iterator[str]:
    """Return lines without those at the head that begin with #, which say what a table has."""
    return itertools.dropwhile(lambda line: line.startswith("#"), lines)


def _formula_column(header: list[str]) -> int:
    names = [name.lower() for name in header]
    for name in FORMULA_COLUMNS:
        if name in names:
            return names.index(name)
    found = f"its columns are {', '.join(header)}" if header else "it is empty"
    raise TableError(f"has no column {' or '.join(FORMULA_COLUMNS)}; {found}")

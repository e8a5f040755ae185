"""Files with structures that can be read from any structure on; private part of
:mod:`ase_matprop.screening.spaces.lists`.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from ase_matprop.errors import StructureError
from ase_matprop.structures import StructureEntry, iter_structures, one_entry_each
from ase_matprop.structures.files import file_kind, is_companion
from ase_matprop.structures.objects import path_name


def file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _size_and_time(path: Path) -> tuple[int, int]:
    """Return size and time of the last change (ns), -1 and 0 for a file that cannot be opened."""
    try:
        status = path.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # the entry of this file says why
        return ""


class FileState:
    """What a file is when this is made; it is read again only where its time is another.

    Attributes:
        path: the file.
        size: in bytes, -1 for a file that is not there.
        sha256: of its content, empty for a file that cannot be read.
    """

    __slots__ = ("_time", "path", "sha256", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size, self._time = _size_and_time(path)  # before the content: a change in between is then noticed
        self.sha256 = _file_hash(path)

    def is_same(self) -> bool:
        """Return whether the file still has this content."""
        size, time = _size_and_time(self.path)
        if size != self.size or time == self._time:
            return size == self.size
        if _file_hash(self.path) != self.sha256:
            return False
        self._time = time
        return True


@dataclass(frozen=True)
class StructureFile:
    """A file with ``count`` structures, named as the user gave it; another working directory does not matter."""

    state: FileState
    shown: str
    count: int
    is_database: bool

    @property
    def path(self) -> Path:
        return self.state.path

    def read(self) -> Iterator[StructureEntry]:
        """Yield all entries of a file that is no database."""
        for entry in iter_structures(self.path):
            yield _named(entry, self.shown + entry.name.removeprefix(path_name(self.path)))

    def entries(self, start: int, stop: int) -> Iterator[StructureEntry]:
        """Yield entries by their place in the file.

        Raises:
            StructureError: if the file was changed.
        """
        if not self.state.is_same():
            raise StructureError(f"{self.shown} is gone or was changed since the start; put the file back")
        count = start
        for entry in self._rows(start, stop) if self.is_database else itertools.islice(self.read(), start, stop):
            yield entry
            count += 1
        if count < stop:
            raise StructureError(f"{self.shown} was changed since the start; put the file back")

    def _rows(self, start: int, stop: int) -> Iterator[StructureEntry]:
        from ase.db import connect

        with closing(_open_read_only(self.path)) as connection:
            found = connection.execute("SELECT id FROM systems ORDER BY id LIMIT ? OFFSET ?", (stop - start, start))
            numbers = [number for (number,) in found]
        database = connect(str(self.path), type="db", use_lock_file=False, serial=True)
        for number in numbers:
            name = f"{self.shown}#{number}"
            try:
                row = database.get(id=number)
            except Exception as error:  # a damaged row costs no other
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                yield StructureEntry(name, None, f"cannot be read ({reason}); check this row")
            else:
                yield _named(next(one_entry_each([row])), name)


def _named(entry: StructureEntry, name: str) -> StructureEntry:
    if entry.atoms is not None:
        entry.atoms.info["name"] = name
    return StructureEntry(name, entry.atoms, entry.error)


def _open_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)


def read_index(path: Path) -> tuple[int, set[int]] | None:
    """Return the number of rows and the elements of an ASE database; None if it is none, or has no rows."""
    if path.suffix.lower() != ".db" or file_size(path) <= 0:
        return None
    try:
        with closing(_open_read_only(path)) as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM systems").fetchone()
            elements = {int(number) for (number,) in connection.execute("SELECT DISTINCT Z FROM species")}
    except sqlite3.Error:
        return None
    return (count, elements) if count else None


def find_files(item: str | os.PathLike[str]) -> Iterator[tuple[Path, bool]]:
    """Yield the files of a path or pattern in the order of :func:`ase_matprop.structures.iter_structures`.

    With each, whether the user named it; others are passed over if it turns out that they have no structures.
    """
    path = Path(item).expanduser()
    if os.fspath(item) == "":
        return
    if path.is_dir():
        yield from _folder_files(path, frozenset())
    elif os.path.lexists(path):
        yield path, True
    elif glob.has_magic(str(path)):
        for match in sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural):  # noqa: PTH207
            if not match.is_dir():
                if not is_companion(match):
                    yield match, False
            elif "**" not in str(path):
                yield from _folder_files(match, frozenset())


def given_place(item: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return the folder in which a path or pattern begins, and what follows it; ``.`` for a folder itself.

    What is named from there on has the same name wherever the folder is moved.
    """
    path = base = Path(item)
    with suppress(RuntimeError, OSError):  # ~name of a user who does not exist, text that is too long for a path
        path = base = path.expanduser()
        if path.is_dir():
            return path, "."
        base = path.parent
        while not os.path.lexists(path) and glob.has_magic(str(base)):
            base = base.parent
    return base, path_name(path.relative_to(base))


def name_from(base: Path, name: str) -> str:
    """Return the name of a structure in a file below a folder without that of the folder; other names as they are."""
    return name.removeprefix(path_name(base).rstrip(os.sep) + os.sep)


def _folder_files(folder: Path, above: frozenset[Path]) -> Iterator[tuple[Path, bool]]:
    real = folder.resolve()
    if real in above:  # a link in a circle
        return
    try:
        paths = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_natural)
    except OSError as error:
        raise StructureError(f"{folder}: cannot be opened ({error.strerror}); check its permissions") from None
    for path in paths:
        if path.is_dir():
            yield from _folder_files(path, above | {real})
        elif file_kind(path) is not None:
            yield path, False


def _natural(path: Path) -> list[list[tuple[int, int | str]]]:
    return [
        [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
        for name in path.parts
    ]

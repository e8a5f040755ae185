"""ASE databases as :mod:`ase_matprop.workflows.database` needs them: read, copied, and written batch by batch."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ase.db import connect
from ase.db.core import Database
from ase.db.jsondb import JSONDatabase
from ase.io.formats import UnknownFileTypeError
from ase.parallel import DummyMPI
from ase.utils import Lock

from ase_matprop.errors import MatPropError, missing_dependency

_FORMATS = (".db", ".json")
_SERVERS = ("postgresql://", "postgres://", "mysql://", "mariadb://")
_LOCK_TIMEOUT = 30.0  # seconds
_FLUSH_SECONDS = 10.0
_SOURCE = "ase_matprop_source"  # in the metadata of a copy: hash of what was copied

#: id of a row, values to set, keys to delete
Change = tuple[int, dict[str, Any], list[str]]


class OpenDatabase:
    """An ASE database; a context manager.

    Attributes:
        database: what ``ase.db.connect`` returns.
        address: file or address, without a password.
        path: the file, None for a server.
    """

    def __init__(self, database: Any, address: str, path: Path | None) -> None:
        self.database = database
        self.address = address
        self.path = path
        if getattr(database, "lock", None) is not None:
            database.lock.timeout = _LOCK_TIMEOUT

    def __enter__(self) -> OpenDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def rows(self, selection: Any = None) -> Iterator[Any]:
        """Return the selected rows with nothing but ids, key-value pairs and what is as short."""
        columns = ["id", "unique_id", "mtime", "key_value_pairs"]
        return iter(self.database.select(selection, include_data=False, columns=columns))

    def get(self, number: int) -> Any:
        """Return a row by its id."""
        return self.database.get(id=number)

    def update(self, changes: Iterable[Change]) -> None:
        """Make changes to several rows, all or none of them.

        Raises:
            MatPropError: if the database stays locked.
        """
        try:
            with self.database:
                for number, values, gone in changes:
                    self.database.update(number, delete_keys=gone, **values)
        except TimeoutError:
            raise _locked(self.address) from None

    def describe(self, key: str, description: list[str]) -> None:
        """Put what a key means (short and long name, unit) into the metadata.

        Raises:
            MatPropError: if the database stays locked.
        """
        metadata = self.database.metadata
        descriptions = metadata.get("key_descriptions", {})
        if list(descriptions.get(key, ())) != description:
            try:
                with self.database.lock or nullcontext():  # which ASE does not take here
                    self.database.metadata = {**metadata, "key_descriptions": {**descriptions, key: description}}
            except TimeoutError:
                raise _locked(self.address) from None

    def close(self) -> None:
        """Write what is not written yet."""


class _Buffered(JSONDatabase):
    """A JSON database in memory.

    ASE reads and writes the whole file for each row: 300 rows take half a minute.  Should a later ASE name these two
    methods otherwise, all that happens is that it does so again.
    """

    filename: Any
    _content: tuple[dict[Any, Any], list[int], int] | None = None
    _changed = False

    def _read_json(self) -> Any:
        if self._content is None:
            self._content = super()._read_json()
        return self._content

    def _write_json(self, bigdct: dict[Any, Any], ids: list[int], nextid: int) -> None:
        self._content, self._changed = (bigdct, ids, nextid), True

    def flush(self) -> None:
        """Write the file, and let it take its name when it is complete."""
        if self._changed and self._content is not None:
            own: str = self.filename
            partial = f"{own}.partial"
            self.filename = partial
            try:
                super()._write_json(*self._content)
            finally:
                self.filename = own
            shutil.copymode(own, partial)
            Path(partial).replace(own)
            self._changed = False


class _OpenJSON(OpenDatabase):
    """A JSON file, which is read once, and written every few seconds and at the end."""

    def __init__(self, path: Path, *, lock: bool) -> None:
        self._lock = Lock(f"{path}.lock", world=DummyMPI(), timeout=_LOCK_TIMEOUT) if lock else None
        if self._lock is not None:
            try:
                self._lock.acquire()
            except TimeoutError:
                raise _locked(str(path)) from None
        self._flushed = time.monotonic()
        super().__init__(_Buffered(str(path), use_lock_file=False, serial=True), str(path), path)

    def rows(self, selection: Any = None) -> Iterator[Any]:
        return iter(self.database.select(selection))  # to leave the data out, ASE would drop them from the content

    def update(self, changes: Iterable[Change]) -> None:
        super().update(changes)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.database.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        try:
            self.database.flush()
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None


def open_database(db: Any, *, writable: bool) -> OpenDatabase:
    """Open a database by path, address, or what ``ase.db.connect`` returned.

    Args:
        db: what the user gave.
        writable: whether it will be written to, which other programs are then kept from.

    Raises:
        MatPropError: if there is no such database, or its format is not known.
        MissingDependencyError: if a server is named and the package that can reach one is missing.
    """
    if isinstance(db, Database):
        name = db.filename
        if not isinstance(name, str) or name.startswith(_SERVERS) or not Path(name).exists():
            return OpenDatabase(db, _without_password(name), None)
        db = name
    if isinstance(db, str) and db.startswith(_SERVERS):
        try:
            return OpenDatabase(connect(db), _without_password(db), None)
        except ImportError:
            raise missing_dependency("ase-db-backends", "a database on a server") from None
    if not isinstance(db, str | os.PathLike):
        raise MatPropError(f"db must be a path, an address or an ASE database. Got {type(db).__name__}.")
    path = Path(db).expanduser()
    _check_format(path)
    if not path.is_file():  # ASE would make an empty one
        raise MatPropError(f"the database {path} does not exist; check the path")
    return _open_file(path.resolve(), lock=writable)


def open_result(source: OpenDatabase, output: Path) -> OpenDatabase:
    """Open the copy of a database; it is made, unless a run that was stopped has made it.

    Raises:
        MatPropError: if the output is the database itself, or exists and is no copy of it, or cannot be written.
    """
    output = output.expanduser()
    _check_format(output)
    if source.path is not None and output.exists() and output.samefile(source.path):
        raise MatPropError(f"the output {output} is the database itself; give in_place=True to write into it")
    if not output.parent.is_dir():
        raise MatPropError(f"the folder of the output {output} does not exist; make it first")
    output = output.resolve()
    state = _identity(source, with_times=True)
    _make_copy(source, output, state)
    result = _open_file(output, lock=True)
    kept = result.database.metadata.get(_SOURCE)  # none in a copy that was made by other means
    same = kept == state if kept is not None else _identity(result) == _identity(source)
    if not same:
        result.close()
        raise MatPropError(
            f"the output {output} exists and is no copy of {source.address} as it is now; delete it, or choose another "
            "name"
        )
    return result


def _make_copy(source: OpenDatabase, output: Path, state: str) -> None:
    """Copy the database, unless the copy is there."""
    lock = Lock(f"{output}.lock", world=DummyMPI(), timeout=_LOCK_TIMEOUT)
    partial = output.with_name(f"{output.stem}.partial{output.suffix}")
    try:
        lock.acquire()
    except TimeoutError:
        raise _locked(str(output)) from None
    except OSError as error:
        raise MatPropError(f"the output {output} cannot be written: {error.strerror}") from None
    try:
        if output.exists():
            return
        partial.unlink(missing_ok=True)
        _copy(source, partial, state)
        partial.replace(output)
    except OSError as error:
        raise MatPropError(f"the output {output} cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        lock.release()


def _open_file(path: Path, *, lock: bool) -> OpenDatabase:
    if path.suffix == ".json":
        opened: OpenDatabase = _OpenJSON(path, lock=lock)
    else:
        opened = OpenDatabase(connect(str(path), use_lock_file=lock, serial=True), str(path), path)
    try:
        next(iter(opened.database.select(limit=1)), None)
    except (UnknownFileTypeError, sqlite3.DatabaseError, OSError, ValueError, KeyError, AssertionError) as error:
        opened.close()
        raise MatPropError(
            f"{path} is no ASE database ({' '.join(str(error).split()) or type(error).__name__}); check the file"
        ) from None
    return opened


def _copy(source: OpenDatabase, path: Path, state: str) -> None:
    """Copy all rows with their ids, and note in the metadata which state of the source these are."""
    if source.path is None or source.path.suffix != path.suffix:
        target = _open_empty(path)
        with target.database:
            for row in source.database.select():
                _set_next_id(target.database, row.id)  # where rows were deleted ASE would number them anew
                target.database.write(row, key_value_pairs=row.key_value_pairs, data=row.get("data", {}))
        target.database.metadata = source.database.metadata
        target.close()
    elif path.suffix == ".json":
        shutil.copyfile(source.path, path)
    else:  # also right while another program writes to the file
        with sqlite3.connect(f"{source.path.as_uri()}?mode=ro", uri=True) as reading, sqlite3.connect(path) as writing:
            reading.backup(writing)
        reading.close()
        writing.close()
    with _open_file(path, lock=False) as target:
        target.database.metadata = {**target.database.metadata, _SOURCE: state}


def _set_next_id(database: Any, number: int) -> None:
    """Let the next row that is written to a database of ours have this id."""
    if isinstance(database, _Buffered):
        content, ids, _ = database._read_json()
        database._write_json(content, ids, number)
        return
    with database.managed_connection() as connection:
        connection.execute("DELETE FROM sqlite_sequence WHERE name='systems'")
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('systems', ?)", (number - 1,))


def _open_empty(path: Path) -> OpenDatabase:
    if path.suffix == ".json":
        path.write_text('{"ids": [], "nextid": 1}')
    return _OpenJSON(path, lock=False) if path.suffix == ".json" else OpenDatabase(connect(str(path)), str(path), path)


def _identity(opened: OpenDatabase, *, with_times: bool = False) -> str:
    """Return a hash of the rows' own identifiers, and of when they were changed, in the order of the rows."""
    digest = hashlib.sha256()
    for row in opened.rows():
        digest.update(
            f"{row.unique_id} {row.id} {float(row.mtime)!r}\n".encode() if with_times else row.unique_id.encode()
        )
    return f"sha256:{digest.hexdigest()}"


def _check_format(path: Path) -> None:
    if path.suffix not in _FORMATS:
        raise MatPropError(f"the database {path} must end in {' or '.join(_FORMATS)}, or be the address of a server")


def _without_password(name: Any) -> str:
    address = str(name)
    scheme, separator, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else address


def _locked(address: str) -> MatPropError:
    return MatPropError(
        f"the database {address} is locked by another program; if there is none (one was killed), delete the file "
        f"{address}.lock"
    )

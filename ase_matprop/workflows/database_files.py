"""ASE databases as :mod:`ase_matprop.workflows.database` needs them: read, copied, and written batch by batch."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
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
from ase_matprop.workflows.streaming import received

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
        is_new: whether it is a copy that was made now, to which nothing but descriptions were written.
    """

    def __init__(self, database: Any, address: str, path: Path | None) -> None:
        self.database = database
        self.address = address
        self.path = path
        self._made: tuple[int, int] | None = None
        if getattr(database, "lock", None) is not None:
            database.lock.timeout = _LOCK_TIMEOUT

    def __enter__(self) -> OpenDatabase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and self.is_new and self._state() == self._made:  # no other run has gone on with it
            self._discard()
        self.close()

    @property
    def is_new(self) -> bool:
        return self._made is not None

    def mark_new(self) -> None:
        """Take note that nothing is lost with this file, as it is now; it goes if an error comes before its rows."""
        self._made = self._state()

    def _state(self) -> tuple[int, int] | None:
        """Return what changes when the file is written to."""
        if self.path is None or not self.path.exists():
            return None
        status = self.path.stat()
        return status.st_mtime_ns, status.st_size

    def _discard(self) -> None:
        assert self.path is not None
        self.path.unlink(missing_ok=True)

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
            MatPropError: if the database stays locked, or cannot be written.
        """
        with _writing(self.address), self.database:
            for number, values, gone in changes:
                self.database.update(number, delete_keys=gone, **values)
        self._made = None

    def describe(self, key: str, description: list[str]) -> None:
        """Put what a key means (short and long name, unit) into the metadata.

        Raises:
            MatPropError: if the database stays locked, or cannot be written.
        """
        metadata = self.database.metadata
        descriptions = metadata.get("key_descriptions", {})
        if list(descriptions.get(key, ())) != description:
            lost_with_it = self.is_new and self._state() == self._made
            with _writing(self.address), self.database.lock or nullcontext():  # which ASE does not take here
                self.database.metadata = {**metadata, "key_descriptions": {**descriptions, key: description}}
            if lost_with_it:
                self.mark_new()

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

    def forget(self) -> None:
        """Write nothing any more."""
        self._changed = False

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
            with _writing(str(path)):
                self._lock.acquire()
        self._flushed = time.monotonic()
        super().__init__(_Buffered(str(path), use_lock_file=False, serial=True), str(path), path)

    def rows(self, selection: Any = None) -> Iterator[Any]:
        return iter(self.database.select(selection))  # to leave the data out, ASE would drop them from the content

    def update(self, changes: Iterable[Change]) -> None:
        super().update(changes)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            with _writing(self.address):
                self.database.flush()
            self._flushed = time.monotonic()

    def _discard(self) -> None:
        self.database.forget()
        super()._discard()

    def close(self) -> None:
        try:
            with _writing(self.address):
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
        MatPropError: if there is no such database, its format is not known, or it is to be written to and read-only.
        MissingDependencyError: if a server is named and the package that can reach one is missing.
    """
    if isinstance(db, Database):
        name = db.filename
        if (
            not isinstance(name, str)
            or name.startswith(_SERVERS)
            or not (is_database_name(name) or Path(name).exists())
        ):
            return OpenDatabase(db, _without_password(name), None)
        db = name
    if isinstance(db, str) and db.startswith(_SERVERS):
        try:
            return OpenDatabase(connect(db), _without_password(db), None)
        except ImportError:
            raise missing_dependency("ase-db-backends", "a database on a server") from None
    if not isinstance(db, str | os.PathLike):
        raise MatPropError(f"db must be a path, an address or an ASE database{received(db)}")
    path = Path(db).expanduser()
    _check_format(path)
    if not path.is_file():  # ASE would make an empty one
        raise MatPropError(f"the database {path} does not exist; check the path")
    path = path.resolve()
    if not os.access(path, os.R_OK):
        raise MatPropError(f"the database {path} cannot be read: permission is denied; allow it with chmod")
    if writable:
        _check_writable("database", path, f"give output='other{path.suffix}' for a copy in another place")
    return _open_file(path, lock=writable)


def is_database_name(name: str | os.PathLike[str]) -> bool:
    """Return whether this is the name of a file, or the address of a server, that may be a database."""
    return os.fsdecode(name).startswith(_SERVERS) or Path(os.fsdecode(name)).suffix in _FORMATS


@contextmanager
def sqlite_errors(address: str) -> Iterator[None]:
    """Raise an error of SQLite as a MatPropError with the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the details
        if code == sqlite3.SQLITE_READONLY:
            remedy = "allow to write to the file and its folder with chmod, or write a copy in another place"
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            remedy = "see whether another program uses it"
        else:
            remedy = "check the file, and whether the disk is full"
        raise MatPropError(f"the database {address} cannot be used: {error}; {remedy}") from error


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
    _check_writable("output", output, "choose another name in a folder of your own")
    state = _identity(source, with_times=True)
    made = _make_copy(source, output, state)
    result = _open_file(output, lock=True)
    if made:
        result.mark_new()
    kept = result.database.metadata.get(_SOURCE)  # none in a copy that was made by other means
    same = kept == state if kept is not None else _identity(result) == _identity(source)
    if not same:
        result.close()
        raise MatPropError(
            f"the output {output} exists and is no copy of {source.address} as it is now; delete it, or choose another "
            "name"
        )
    return result


def _make_copy(source: OpenDatabase, output: Path, state: str) -> bool:
    """Copy the database, unless the copy is there; return whether it was made."""
    lock = Lock(f"{output}.lock", world=DummyMPI(), timeout=_LOCK_TIMEOUT)
    partial = output.with_name(f"{output.stem}.partial{output.suffix}")
    with _writing(str(output), "output"):
        lock.acquire()
    try:
        if output.exists():
            return False
        with _writing(str(output), "output"):
            partial.unlink(missing_ok=True)
            _copy(source, partial, state)
            partial.replace(output)
        return True
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
        if path.suffix == ".db":
            _check_tables(path)
        next(iter(opened.database.select(limit=1)), None)
    except (UnknownFileTypeError, sqlite3.DatabaseError, OSError, ValueError, KeyError, AssertionError) as error:
        opened.close()
        raise MatPropError(
            f"{path} is no ASE database ({' '.join(str(error).split()) or type(error).__name__}); check the file"
        ) from None
    return opened


def _check_tables(path: Path) -> None:
    """Look into an SQLite file before ASE does, which would write its tables into any that it opens.

    Raises:
        ValueError: if ASE's tables are not there.
    """
    if not path.stat().st_size:
        raise ValueError("it is empty, 0 bytes")
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_LOCK_TIMEOUT)) as connection:
        if not connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name='systems'").fetchone()[0]:
            raise ValueError("it has no table of structures")


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
            writing.execute(
                "PRAGMA journal_mode=DELETE"
            )  # a log beside the file would keep the name of the unfinished one
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


def _check_writable(kind: str, path: Path, remedy: str) -> None:
    """Raise a MatPropError if a file, or its folder, in which locks and journals are made, is read-only."""
    if path.exists() and not os.access(path, os.W_OK):
        place = "file"
    elif not os.access(path.parent, os.W_OK):
        place = f"folder {path.parent}"
    else:
        return
    raise MatPropError(
        f"the {kind} {path} cannot be written: the {place} is read-only; allow it with chmod, or {remedy}"
    )


@contextmanager
def _writing(address: str, kind: str = "database") -> Iterator[None]:
    """Raise errors of the system as ones that name the file and the cause."""
    try:
        yield
    except TimeoutError:
        raise _locked(address) from None
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)  # ASE's own text for a lock is 'Error'
        raise MatPropError(
            f"the {kind} {address} cannot be written: {cause}; check the permissions of the file and its folder, and "
            "whether the disk is full"
        ) from None


def _without_password(name: Any) -> str:
    address = str(name)
    scheme, separator, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else address


def _locked(address: str) -> MatPropError:
    return MatPropError(
        f"the database {address} is locked by another program; if there is none (one was killed), delete the file "
        f"{address}.lock"
    )

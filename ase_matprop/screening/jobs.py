"""A shard as a job of a process: it is scored, and written as a whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

import ase_matprop
from ase_matprop.errors import MatPropError
from ase_matprop.screening.engine import Engine
from ase_matprop.screening.results import RUN_FILE, SHARDS_FOLDER
from ase_matprop.screening.settings import ScreeningSettings
from ase_matprop.screening.shards import score_shard
from ase_matprop.screening.summary import METADATA_KEY

_UNFINISHED = ".unfinished"
_ENGINES_KEPT = 2

_SECONDS_OF_OTHER_HOSTS = 86_400  # after which what their processes left is theirs no more


class _Engines(threading.local):
    """Engines of a thread: the facets that a hull keeps are not to be shared by threads."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[str, ...], Engine] = OrderedDict()


class _ThreadsNow:
    """How many threads of this process score shards with a number of threads that is not that of the process."""

    lock = threading.Lock()
    users = 0
    before = 0


_engines = _Engines()


@dataclass(frozen=True)
class Job:
    """What a process is told; it can be pickled.

    Attributes:
        settings: the settings.
        folder: results folder, the same for all machines.
        fingerprint: of the run.
        device: torch device of the network.
        threads: threads of the network's evaluation; None for those that the process has.
        version: version of this package.
    """

    settings: ScreeningSettings
    folder: Path
    fingerprint: str
    device: str = "cpu"
    threads: int | None = None
    version: str = ase_matprop.__version__


def run_shard(job: Job, shard: int) -> dict[str, Any]:
    """Score a shard and write its part; return what was counted.

    Raises:
        MatPropError: if this process has another version of the package, does not see the results folder, finds other
            inputs than the run began with, or cannot write.
    """
    engine = _engine(job)
    with _threads(job.threads):
        result = score_shard(engine, shard)
    _write(job, part_path(job.folder, shard), result.table, result.counts)
    return result.counts


def part_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / SHARDS_FOLDER / f"part-{shard:06d}.parquet"


def remove_unfinished(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote: those of this machine, and of others long ago."""
    for path in [*folder.glob(f"*{_UNFINISHED}"), *(folder / SHARDS_FOLDER).glob(f"*{_UNFINISHED}")]:
        host, _, process = path.name.removesuffix(_UNFINISHED).rpartition("-")
        with suppress(OSError, ValueError):
            if host.endswith(f"-{socket.gethostname()}"):
                left = not _is_running(int(process))
            else:
                left = time.time() - path.stat().st_mtime > _SECONDS_OF_OTHER_HOSTS
            if left:
                path.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Return whether a file is one that a process writes, or left when it was killed."""
    return path.name.endswith(_UNFINISHED)


@contextmanager
def clear_write_errors(folder: Path) -> Iterator[None]:
    """Raise errors of the file system as a MatPropError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MatPropError(
                f"there is no space left for the results in {folder}; finished shards are kept: free some space and "
                "start again"
            ) from None
        raise MatPropError(f"the results in {folder} cannot be written: {error.strerror or error}") from None


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    with _whole(path) as stream:
        stream.write(text.encode())


def write_table(path: Path, table: Any) -> None:
    """Write a pyarrow table to a Parquet file, as a whole or not at all."""
    import pyarrow.parquet as pq

    with _whole(path) as stream:
        pq.write_table(table, stream, compression="zstd")


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    following = _unfinished(path)
    try:
        with following.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        following.replace(path)
    finally:
        following.unlink(missing_ok=True)


def _write(job: Job, path: Path, table: Any, counts: dict[str, Any]) -> None:
    counts = {**counts, "fingerprint": job.fingerprint}
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(counts).encode()})
    with clear_write_errors(job.folder):
        write_table(path, table)


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}-{socket.gethostname()}-{os.getpid()}{_UNFINISHED}")


def _is_running(process: int) -> bool:
    if os.name == "nt":  # where signal 0 is Ctrl-C; a file that is open cannot be removed there
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _engine(job: Job) -> Engine:
    host = socket.gethostname()
    if job.version != ase_matprop.__version__:
        raise MatPropError(
            f"the worker on {host} has ase_matprop {ase_matprop.__version__}, the run was started with {job.version}; "
            "install the same version"
        )
    engines = _engines.kept
    key = (job.fingerprint, job.device, str(job.folder))
    if key not in engines:
        if not (job.folder / RUN_FILE).exists():
            raise MatPropError(
                f"the worker on {host} does not see the results folder {job.folder}; give a folder that all machines "
                "share"
            )
        engine = Engine.build(job.settings, job.device)
        if engine.fingerprint() != job.fingerprint:
            raise MatPropError(
                f"the worker on {host} finds another model, other references or other input files than the run began "
                "with; give all machines the same"
            )
        engines[key] = engine
        while len(engines) > _ENGINES_KEPT:
            engines.popitem(last=False)
    engines.move_to_end(key)
    return engines[key]


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    """Evaluate networks with so many threads, for each of the threads of this process that score shards at once."""
    if wanted is None:
        yield
        return
    with _ThreadsNow.lock:
        if not _ThreadsNow.users:
            _ThreadsNow.before = torch.get_num_threads()
        _ThreadsNow.users += 1
    torch.set_num_threads(wanted)  # also for this thread, in OpenMP
    try:
        yield
    finally:
        with _ThreadsNow.lock:
            _ThreadsNow.users -= 1
            if not _ThreadsNow.users:
                torch.set_num_threads(_ThreadsNow.before)

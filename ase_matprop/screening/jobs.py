"""A shard as a job of a process: it is scored, and written as a whole or not at all."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import torch

import ase_matprop
from ase_matprop.errors import MatPropError
from ase_matprop.screening.engine import Engine
from ase_matprop.screening.results import RUN_FILE, SHARDS_FOLDER
from ase_matprop.screening.settings import ScreeningSettings
from ase_matprop.screening.shards import score_shard
from ase_matprop.screening.summary import AGAIN, METADATA_KEY, read_footer

logger = logging.getLogger(__name__)

_UNFINISHED = ".unfinished"  # names begin with a dot, so that pyarrow and others pass over them
_UNFINISHED_NAME = re.compile(r"\.[\w.-]+?\.(?:json|parquet)-(?P<host>.+)-(?P<process>\d+)-[0-9a-f]{32}\.unfinished")
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
    _check_run(job)
    with _threads(job.threads):
        result = score_shard(engine, shard)
    _write(job, part_path(job.folder, shard), result.table, result.counts)
    return result.counts


def part_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / SHARDS_FOLDER / f"part-{shard:06d}.parquet"


def has_part(folder: Path, shard: int, fingerprint: str) -> bool:
    """Return whether a shard has a part that can be read and is one of this run; any other is written anew."""
    path = part_path(folder, shard)
    if not path.exists():
        return False
    try:
        read_footer(path, shard, fingerprint)
    except MatPropError as error:
        logger.warning("%s", str(error).replace(AGAIN, "it is scored again"))
        return False
    return True


def remove_unfinished(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote: those of this machine, and of others long ago."""
    for path in [*folder.glob(f"*{_UNFINISHED}"), *(folder / SHARDS_FOLDER).glob(f"*{_UNFINISHED}")]:
        name = _UNFINISHED_NAME.fullmatch(path.name)
        with suppress(OSError):
            if name is not None and name["host"] == socket.gethostname():
                left = not _is_running(int(name["process"]))
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


def write_first(path: Path, text: str) -> None:
    """Write a file as a whole, unless it is there: of several processes the first one writes it."""
    following = _unfinished(path)
    try:
        with following.open("xb") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(following, path)
        except FileExistsError:
            return
        except OSError:  # a file system without links
            with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
                file.write(text)
    finally:
        following.unlink(missing_ok=True)


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
    _check_run(job)
    with clear_write_errors(job.folder):
        write_table(path, table)


def _check_run(job: Job) -> dict[str, Any]:
    """Return what ``run.json`` says, unless the folder has another run by now."""
    try:
        run: dict[str, Any] = json.loads((job.folder / RUN_FILE).read_text(encoding="utf-8"))
        fingerprint = run["fingerprint"]
    except FileNotFoundError:
        raise MatPropError(
            f"the worker on {socket.gethostname()} does not see the results folder {job.folder}; give a folder that "
            "all machines share"
        ) from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise MatPropError(f"{job.folder / RUN_FILE} cannot be read ({error})") from None
    if fingerprint != job.fingerprint:
        raise MatPropError(
            f"the folder {job.folder} has another run than that of which a shard was to be scored; start that again "
            "with another output"
        )
    return run


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}-{socket.gethostname()}-{os.getpid()}-{uuid4().hex}{_UNFINISHED}")


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
    engines, key = _engines.kept, _key(job)
    if key not in engines:
        run = _check_run(job)
        engine = Engine.build(job.settings, job.device)
        if engine.fingerprint != job.fingerprint:
            raise MatPropError(
                f"the worker on {host} finds another model, other references or other input files than the run began "
                "with; give all machines the same"
            )
        keep_engine(job, replace(engine, known_margin=run.get("margin")))
    engines.move_to_end(key)
    return engines[key]


def keep_engine(job: Job, engine: Engine) -> None:
    """Let this thread score shards of a job with an engine that is there."""
    engines = _engines.kept
    engines[_key(job)] = engine
    while len(engines) > _ENGINES_KEPT:
        engines.popitem(last=False)


def _key(job: Job) -> tuple[str, ...]:
    return job.fingerprint, job.device, str(job.folder)


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

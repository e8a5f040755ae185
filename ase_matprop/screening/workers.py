"""Shards on many processes and machines, through Dask."""

from __future__ import annotations

import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from ase_matprop.errors import MatPropError, missing_dependency
from ase_matprop.screening.jobs import Job, run_shard

logger = logging.getLogger(__name__)

_SECONDS_FOR_SCHEDULER = 30
_SECONDS_BETWEEN_LOOKS = 5.0  # after workers that came, or went
_SECONDS_WITHOUT_WORKERS = 60.0


@dataclass(frozen=True)
class Workers:
    """Who scores the shards.

    Attributes:
        local: number of worker processes on this machine.
        scheduler: address of a running Dask scheduler, such as ``tcp://10.0.0.1:8786``.
        slurm: number of jobs to submit to SLURM, through dask-jobqueue.
        slurm_options: keyword arguments of ``dask_jobqueue.SLURMCluster``, beside those of its configuration file.
        threads: threads of the network's evaluation for each shard that a worker scores; by default the cores of this
            machine shared evenly among local workers, and one for others.
    """

    local: int | None = None
    scheduler: str | None = None
    slurm: int | None = None
    slurm_options: dict[str, Any] = field(default_factory=dict)
    threads: int | None = None

    def __post_init__(self) -> None:
        if sum(choice is not None for choice in (self.local, self.scheduler, self.slurm)) != 1:
            raise MatPropError("give a number of local workers, the address of a scheduler or a number of SLURM jobs")
        if self.scheduler is not None and not re.fullmatch(r"[a-z]+://.+:\d+", self.scheduler):
            raise MatPropError(
                f"{self.scheduler!r} is no address of a scheduler; give the one that `dask scheduler` shows when it "
                "starts, such as tcp://10.0.0.1:8786"
            )
        if self.local == 0:
            raise MatPropError(
                "0 local workers score nothing; give workers=None to take no other process than this one"
            )
        for name in ("local", "slurm", "threads"):
            number = getattr(self, name)
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise MatPropError(f"the number of {name} workers or threads must be positive. Got {number!r}.")

    @classmethod
    def of(cls, workers: Workers | int) -> Workers:
        """Return workers, given as such or as a number of local processes."""
        return workers if isinstance(workers, Workers) else cls(local=workers)


def run_on_workers(job: Job, shards: list[int], workers: Workers) -> Generator[dict[str, Any]]:
    """Score shards on workers; yield the counts of each as it is done, in whatever order.

    A shard whose worker dies is scored again by another one.  No more shards are handed out than workers can score at
    once: a run of a million shards needs no more memory here or in the scheduler than one of a hundred, and no shard is
    blamed for the death of a worker that had not begun it.

    Local workers are new processes that import the main module of the calling script, which must therefore call this
    only under ``if __name__ == "__main__":``.

    Raises:
        MatPropError: if the workers cannot be started, the scheduler cannot be reached or is lost, a worker finds that
            the run is not its own, or a shard has killed several workers.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise missing_dependency("distributed", "screening on more than one process", extra="screening") from None
    with _quiet(logging.WARNING if workers.local is None else logging.CRITICAL), ExitStack() as stack:
        client, job = _connect(stack, job, _fewer(workers, len(shards)))
        yield from _collect(client, job, shards)


def available_cores() -> int:
    """Return the number of cores that this process may use, which may be fewer than the machine has."""
    import joblib  # slow to import

    return int(joblib.cpu_count())


@contextmanager
def _quiet(level: int) -> Iterator[None]:
    """Let Dask, which tells of every connection, log no less than a level."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "distributed.nanny")]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(max(level, each.level))
    try:
        yield
    finally:
        for each, former in zip(loggers, before, strict=True):
            each.setLevel(former)


def _fewer(workers: Workers, n_shards: int) -> Workers:
    return workers if workers.local is None else replace(workers, local=min(workers.local, n_shards))


def _collect(client: Any, job: Job, shards: list[int]) -> Generator[dict[str, Any]]:
    remaining = iter(shards)
    finished: SimpleQueue[Any] = SimpleQueue()
    running: dict[str, tuple[int, Any]] = {}
    run = f"{job.fingerprint[:12]}-{uuid4().hex[:8]}"  # a key that a scheduler knows would give the result of then
    waiting_since, said = time.monotonic(), False

    def fill() -> int:
        n_threads: int = sum(client.nthreads().values())
        while len(running) < max(n_threads, 1) and (shard := next(remaining, None)) is not None:
            future = client.submit(run_shard, job, shard, key=f"{run}-{shard}", pure=False)
            running[future.key] = shard, future
            future.add_done_callback(finished.put)
        return n_threads

    n_threads = _asked(fill)
    while running:
        try:
            future = finished.get(timeout=_SECONDS_BETWEEN_LOOKS)
        except Empty:
            n_threads = _asked(fill)
            if n_threads:
                waiting_since = time.monotonic()
            elif not said and time.monotonic() - waiting_since > _SECONDS_WITHOUT_WORKERS:
                logger.warning("the scheduler has no workers so far; the run goes on as soon as it has")
                said = True
            continue
        shard, _ = running.pop(future.key)
        yield _result(future, shard)
        del future  # the scheduler forgets what nobody holds
        _asked(fill)


def _asked(question: Callable[[], int]) -> int:
    try:
        return question()
    except (OSError, RuntimeError, TimeoutError) as error:
        raise _lost(error) from None


def _result(future: Any, shard: int) -> dict[str, Any]:
    from distributed.scheduler import KilledWorker

    try:
        counts: dict[str, Any] = future.result()
    except KilledWorker as error:
        raise MatPropError(
            f"shard {shard} has killed {error.allowed_failures + 1} workers, perhaps for want of memory; take a "
            "smaller shard_size or fewer workers. Finished shards are kept"
        ) from None
    except CancelledError as error:
        raise _lost(error) from None
    except ImportError as error:
        if isinstance(error, MatPropError):
            raise
        raise MatPropError(
            f"a worker cannot import what it needs ({error}); install ase-matprop[screening] where workers run"
        ) from None
    return counts


def _lost(error: BaseException) -> MatPropError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return MatPropError(
        f"the connection to the scheduler was lost ({reason}). Finished shards are kept: start the same run again"
    )


def _connect(stack: ExitStack, job: Job, workers: Workers) -> tuple[Any, Job]:
    """Return a client of the workers, which ``stack`` closes, and the job with its number of threads."""
    from distributed import Client

    threads = workers.threads
    if workers.scheduler is not None:
        try:
            client = Client(workers.scheduler, timeout=_SECONDS_FOR_SCHEDULER, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MatPropError(
                f"the scheduler {workers.scheduler} cannot be reached ({reason}); give the address that `dask "
                "scheduler` shows when it starts, such as tcp://10.0.0.1:8786"
            ) from None
        return stack.enter_context(client), replace(job, threads=threads or 1)
    if workers.slurm is not None:
        cluster = stack.enter_context(slurm_cluster(workers))
        cluster.scale(jobs=workers.slurm)
        return stack.enter_context(Client(cluster, set_as_default=False)), replace(job, threads=threads or 1)
    assert workers.local is not None
    threads = threads or max(1, available_cores() // workers.local)
    cluster = stack.enter_context(_local_cluster(workers.local))
    client = stack.enter_context(Client(cluster, set_as_default=False))
    client.register_plugin(_ignoring_interrupts())
    return client, replace(job, threads=threads)


def _ignoring_interrupts() -> Any:
    """Return a plugin for workers on this terminal, whose Ctrl-C is for the process that ends them."""
    from distributed import WorkerPlugin

    class IgnoreInterrupts(WorkerPlugin):  # type: ignore[misc]
        name = "ase-matprop-interrupts"

        def setup(self, worker: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)

    return IgnoreInterrupts()


def _local_cluster(n_workers: int) -> Any:
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=True, memory_limit=0, silence_logs=logging.CRITICAL,
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},  # the usual port may be taken
        )  # fmt: skip
    except (OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MatPropError(
            f"the worker processes cannot be started ({reason}); a script must call this under "
            "'if __name__ == \"__main__\":', and workers=None takes no other process"
        ) from None


def slurm_cluster(workers: Workers) -> Any:
    """Return a ``dask_jobqueue.SLURMCluster``; a worker process for each core, unless the options have ``processes``.

    Raises:
        MatPropError: if the options do not describe jobs.
        MissingDependencyError: without dask-jobqueue.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise missing_dependency("dask-jobqueue", "jobs of SLURM", extra="slurm") from None
    options = dict(workers.slurm_options)
    if isinstance(options.get("cores"), int):
        options.setdefault("processes", options["cores"])
    try:
        return SLURMCluster(**options)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise MatPropError(
            f"the SLURM jobs cannot be described: {reason}; give cores, memory and the rest in the table [slurm] of "
            "the space file, or in the configuration of dask-jobqueue"
        ) from None

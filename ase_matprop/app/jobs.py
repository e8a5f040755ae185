"""Work in the background, with progress and a way to stop it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Literal

from ase_matprop.errors import MatPropError

logger = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "stopped", "failed"]


class StoppedError(Exception):
    """A person stopped the work."""


class Job:
    """One piece of work.

    Attributes:
        state: how far it is.
        done: steps that are done.
        total: steps that there are; 0 while that is not known.
        message: what it does now, or why it failed.
    """

    def __init__(self, total: int = 0) -> None:
        self.state: State = "waiting"
        self.done = 0
        self.total = total
        self.message = "waiting for another run to finish"
        self._stop = threading.Event()
        self.finished = threading.Event()

    @property
    def active(self) -> bool:
        """Whether it is not at its end."""
        return self.state in ("waiting", "running")

    @property
    def share(self) -> float:
        """Share that is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def cancel(self) -> None:
        """Ask it to stop at the next step."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def step(self, done: int, message: str | None = None) -> None:
        """Note what is done.

        Raises:
            StoppedError: if it was asked to stop.
        """
        if self.cancelled:
            raise StoppedError
        self.done = done
        if message is not None:
            self.message = message

    def run(self, work: Callable[[Job], str]) -> None:
        """Do the work, which returns the last message; never raises."""
        try:
            self.step(0)
            self.state = "running"
            self.message = work(self)
            self.state = "done"
        except StoppedError:
            self.state, self.message = "stopped", "stopped; what was finished before is kept"
        except (MatPropError, OSError) as error:
            self.state, self.message = "failed", str(error)
        except Exception as error:  # the page must say so; the terminal has the traceback
            logger.exception("a job of the page failed")
            self.state, self.message = "failed", f"{type(error).__name__}: {error}; the terminal has more of it"
        finally:
            self.finished.set()


class Workers:
    """Threads that do the jobs: as many at a time as there are threads, the others wait."""

    def __init__(self, n: int = 1) -> None:
        self._pool = ThreadPoolExecutor(n, thread_name_prefix="matprop-app")

    def start(self, job: Job, work: Callable[[Job], str]) -> Job:
        """Queue a job and return it."""
        self._pool.submit(job.run, work)
        return job

    def close(self) -> None:
        """Take no more jobs."""
        with suppress(RuntimeError):
            self._pool.shutdown(wait=False, cancel_futures=True)

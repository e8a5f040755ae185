"""What belongs to one tab of the browser, and to no other; gone when the tab is closed, or forgotten."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ase_matprop.app.limits import Limits
from ase_matprop.app.uploads import Shelf
from ase_matprop.errors import MatPropError

if TYPE_CHECKING:
    from ase_matprop.app.jobs import Job
    from ase_matprop.app.runs import RunFiles
    from ase_matprop.app.tuning import Tuning
    from ase_matprop.compositions import CompositionEntry
    from ase_matprop.models.predictions import Predictions
    from ase_matprop.structures import StructureEntry

PREFIX = "matprop-app-"
_GRACE = 12.0  # seconds


class SessionError(MatPropError, LookupError):
    """A session is not there, or cannot be opened."""


@dataclass(eq=False)
class Run:
    """What one model predicted.

    Attributes:
        numbers: which entries of the session the rows belong to.
        predictions: one row for each of them.
    """

    numbers: list[int]
    predictions: Predictions


@dataclass(eq=False)
class Session:
    """The data of one tab.

    Attributes:
        token: what the tab shows to get at its data; it cannot be guessed.
        shelf: its folder.
        entries: structures and formulas, in the order in which they came.
        runs: results by model.
        references: columns of reference values: name -> number of the entry -> value.
        jobs: what works for it in the background, by kind.
        models: model folders of this session by name, from fine-tunings.
        calculations: what was uploaded to fine-tune on.
        tuning: the last fine-tuning.
        checked: what the last check of the models found: name -> whether it is sound, and words.
        lock: held while anything of this is changed.
        version: raised with every change that the page shows.
        seen: when the tab last gave a sign, by the clock of the sessions.
    """

    token: str
    shelf: Shelf
    entries: list[StructureEntry | CompositionEntry] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    references: dict[str, dict[int, float]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)
    calculations: RunFiles | None = None
    tuning: Tuning | None = None
    checked: dict[str, tuple[bool, str]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    version: int = 0
    seen: float = 0.0

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.shelf.folder

    @property
    def room(self) -> int:
        """How many more entries it takes."""
        return max(0, self.shelf.limits.entries - len(self.entries))

    def add(self, entries: list[StructureEntry] | list[CompositionEntry]) -> None:
        """Append entries."""
        with self.lock:
            self.entries += entries
            self.version += 1

    def clear(self) -> None:
        """Forget entries, results and reference values; models of fine-tunings stay."""
        with self.lock:
            self.entries, self.runs, self.references = [], {}, {}
            self.version += 1

    def close(self) -> None:
        """Stop what works for it, and delete its folder."""
        jobs = list(self.jobs.values())
        for job in jobs:
            job.cancel()
        for job in jobs:
            if job.state == "running" and job is self.jobs.get("tune"):
                job.finished.wait(_GRACE)  # its process writes into the folder until it has ended
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """All open sessions, below one temporary folder that only the user can enter.

    Args:
        limits: of each session, and how many there may be.
        clock: seconds that go on while the machine does; for tests.
        parent: where the folder is made; that of the system by default.
    """

    def __init__(
        self, limits: Limits, *, clock: Callable[[], float] = time.monotonic, parent: Path | None = None
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))  # mode 0700

    def open(self) -> Session:
        """Return a new session.

        Raises:
            SessionError: if there are too many.
        """
        self.sweep()
        token = secrets.token_urlsafe(32)
        folder = self.folder / secrets.token_hex(8)
        with self._lock:
            longest = min(self._sessions.values(), key=lambda session: session.seen, default=None)
            full = longest is not None and len(self._sessions) >= self.limits.sessions
        if full and longest is not None and self._clock() - longest.seen > self.limits.forgotten:
            self.close(longest.token)
        with self._lock:
            if len(self._sessions) >= self.limits.sessions:
                raise SessionError(
                    f"{self.limits.sessions} tabs of this page are open, which is the limit; close some of them"
                )
            folder.mkdir(mode=0o700)
            session = Session(token, Shelf(folder, self.limits), seen=self._clock())
            self._sessions[token] = session
        return session

    def get(self, token: object) -> Session:
        """Return the session of a token, and note that it is in use.

        Raises:
            SessionError: if there is none.
        """
        with self._lock:
            session = self._sessions.get(token) if isinstance(token, str) else None
            if session is not None:
                session.seen = self._clock()
                return session
        raise SessionError("this session is over and its data are deleted; reload the page to begin another one")

    def close(self, token: object) -> None:
        """Delete a session; nothing happens if there is none."""
        with self._lock:
            session = self._sessions.pop(token, None) if isinstance(token, str) else None
        if session is not None:
            session.close()

    def sweep(self) -> int:
        """Delete the sessions that were idle for too long; return how many."""
        now = self._clock()
        with self._lock:
            old = [token for token, session in self._sessions.items() if now - session.seen > self.limits.idle]
        for token in old:
            self.close(token)
        return len(old)

    def close_all(self) -> None:
        """Delete all sessions and the folder."""
        for token in list(self._sessions):
            self.close(token)
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_leftovers(parent: Path | None = None) -> list[Path]:
    """Delete the folders of servers that were killed and could not do it themselves; return them."""
    removed = []
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        found = re.fullmatch(rf"{PREFIX}(\d+)-.*", folder.name)
        try:
            mine = found is not None and folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
        except (OSError, AttributeError):  # gone by now, or a system without owners
            continue
        if mine and found is not None and not _is_running(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True

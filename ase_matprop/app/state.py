"""What the server holds: the sessions, and who works for them."""

from __future__ import annotations

import threading
from pathlib import Path

from ase_matprop.app.jobs import Workers
from ase_matprop.app.limits import Limits
from ase_matprop.app.predicting import Choice, choices
from ase_matprop.app.sessions import Session, Sessions

_SWEEP = 60.0  # seconds between two looks for sessions that were forgotten

#: where downloaded models are kept, unless the user says otherwise
MODELS_FOLDER = Path("~/.matprop/models")


class State:
    """The state of one server.

    Attributes:
        limits: of each session.
        sessions: all that are open.
        models_folder: folder of the user's own models, in which downloads are put; nothing else outlasts a session.
        predictions: does predictions, one at a time: they use all cores that PyTorch has anyway.
        others: does downloads and checks.
        tunings: does fine-tunings, each in a process of its own.
    """

    def __init__(self, models_folder: Path | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.sessions = Sessions(self.limits)
        self.models_folder = (models_folder or MODELS_FOLDER).expanduser()
        self.predictions, self.others, self.tunings = Workers(1), Workers(2), Workers(1)
        self._closed = threading.Event()
        threading.Thread(target=self._sweep, daemon=True, name="matprop-app-sweep").start()

    def choices(self, session: Session | None = None) -> dict[str, Choice]:
        """Return the models that can be chosen, by name."""
        return choices(self.models_folder, session.models if session is not None else None)

    def close(self) -> None:
        """Stop all work and delete all sessions."""
        self._closed.set()
        self.sessions.close_all()
        for workers in (self.predictions, self.others, self.tunings):
            workers.close()

    def _sweep(self) -> None:
        while not self._closed.wait(_SWEEP):
            self.sessions.sweep()

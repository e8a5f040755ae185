"""The models of the page: their cards, and what they predict for the entries of a session."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase_matprop.app.jobs import Job, StoppedError
from ase_matprop.app.sessions import Run, Session
from ase_matprop.compositions import CompositionEntry
from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import MatPropError
from ase_matprop.models import Predictions, list_models, load_model
from ase_matprop.models.card import ModelCard
from ase_matprop.models.folder import CARD_FILE
from ase_matprop.models.predictor import Entry, Predictor
from ase_matprop.structures import StructureEntry

#: entries between two looks at whether somebody pressed "Stop"
STRUCTURES_AT_ONCE = 16
FORMULAS_AT_ONCE = 512
_LOADED = 6  # models that are held in memory

_loading = threading.Lock()


@dataclass(frozen=True)
class Choice:
    """A model that can be chosen.

    Attributes:
        name: what it is called on the page.
        folder: where it is.
        card: its card.
        origin: ``"shipped"``, ``"downloaded"`` or ``"fine-tuned"``.
    """

    name: str
    folder: Path
    card: ModelCard
    origin: str

    @property
    def needs_structure(self) -> bool:
        """Whether a formula alone does not do."""
        return get_descriptor(self.card.descriptor.name).needs_structure


def choices(models_folder: Path, tuned: dict[str, Path] | None = None) -> dict[str, Choice]:
    """Return the models by name: shipped ones, those in the user's folder, and those of a session.

    A folder that holds no model that can be read is passed over; "Verify" on the page says why.
    """
    found: dict[str, Choice] = {}
    downloaded = downloaded_folders(models_folder)
    for origin, folders in (("shipped", list_models()), ("downloaded", downloaded), ("fine-tuned", tuned or {})):
        for name, folder in folders.items():
            try:
                card = _card(folder, (folder / CARD_FILE).stat().st_mtime_ns)
            except (MatPropError, OSError):
                continue
            key = name if name not in found else f"{name} ({origin})"
            found[key] = Choice(key, folder, card, origin)
    return found


def downloaded_folders(models_folder: Path) -> dict[str, Path]:
    """Return the model folders below the user's own folder by name."""
    if not models_folder.is_dir():
        return {}
    return {path.name: path for path in sorted(models_folder.iterdir()) if (path / CARD_FILE).is_file()}


@functools.lru_cache(maxsize=64)
def _card(folder: Path, modified: int) -> ModelCard:
    return ModelCard.read(folder)


def load(choice: Choice) -> Predictor:
    """Return a loaded model; the last ones that were used are held in memory.

    Raises:
        ArtefactError: if it is incomplete or was altered.
    """
    with _loading:
        return _load(choice.folder, choice.card.weights.sha256)


@functools.lru_cache(maxsize=_LOADED)
def _load(folder: Path, sha256: str) -> Predictor:
    return load_model(str(folder))


def predict_all(job: Job, session: Session, chosen: Sequence[Choice]) -> str:
    """Predict all entries of a session with some models, one after the other.

    What was finished when the work is stopped is kept, unless another run was started since.

    Args:
        job: takes the progress.
        session: has the entries, and gets the results.
        chosen: the models.

    Returns:
        What was done, in a sentence.

    Raises:
        StoppedError: if the job was stopped.
        MatPropError: if a model cannot be loaded.
    """
    with session.lock:
        entries = list(session.entries)
    job.total = len(entries) * len(chosen)
    failed = 0
    for number, choice in enumerate(chosen):
        job.step(number * len(entries), f"loading {choice.name}")
        predictor = load(choice)
        parts: list[Predictions] = []
        try:
            size = STRUCTURES_AT_ONCE if choice.needs_structure else FORMULAS_AT_ONCE
            inputs = [suited(entry, choice) for entry in entries]
            for part in predictor.iter_batches(inputs, batch_size=size):
                parts.append(part)
                done = sum(map(len, parts))
                job.step(number * len(entries) + done, f"{choice.name}: {done} of {len(entries)}")
        finally:
            if parts:
                predictions = Predictions.concatenate(parts)
                failed += predictions.n_failed
                with session.lock:
                    latest = session.jobs.get("predict") in (None, job)  # no other run was started meanwhile
                    if latest and session.entries[: len(entries)] == entries:  # and nobody cleared the table
                        session.runs[choice.name] = Run(list(range(len(predictions))), predictions)
                        session.version += 1
    values = len(entries) * len(chosen) - failed
    done_text = f"finished: {values} value{'s' if values != 1 else ''} of {len(chosen)} model{'s' * (len(chosen) > 1)}"
    return done_text + (f", {failed} failed; the table says why" if failed else "")


def suited(entry: Entry, choice: Choice) -> Entry:
    """Return an entry as a model takes it: a formula for a model that needs a structure is an entry with an error."""
    if choice.needs_structure and isinstance(entry, CompositionEntry):
        reason = entry.error or (
            f"is a formula, and the model {choice.name} needs a structure; give a file, or choose a model of formulas"
        )
        return StructureEntry(entry.name, None, reason)
    if not choice.needs_structure and isinstance(entry, StructureEntry):
        amounts: dict[int, float] | None = None
        if entry.atoms is not None:
            numbers = entry.atoms.numbers.tolist()
            amounts = {number: float(numbers.count(number)) for number in sorted(set(numbers))}
        return CompositionEntry(entry.name, amounts, entry.error, entry.n_atoms)
    return entry


__all__ = ["Choice", "StoppedError", "choices", "downloaded_folders", "load", "predict_all", "suited"]

"""One copy of each model in a process, and no more threads than a forked process may take."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ase_matprop.models.card import ModelCard
from ase_matprop.models.loading import Names, load_model, names_of
from ase_matprop.models.predictor import Predictor
from ase_matprop.models.registry import find_model

#: models that stay loaded; the one that was not asked for the longest goes first
MODELS_KEPT = 8

_loaded: OrderedDict[tuple[str, ...], Predictor] = OrderedDict()


class _Process:
    """What a fork changes."""

    lock = threading.Lock()
    forked = False

    @classmethod
    def after_fork(cls) -> None:
        cls.lock, cls.forked = threading.Lock(), True  # a lock that another thread held stays locked for ever


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_Process.after_fork)


def shared_model(name_or_path: str | os.PathLike[str], device: str = "cpu", compare_with: Names = ()) -> Predictor:
    """Return a model that this process has loaded before, as long as its weights are the same, or load it.

    A forked process has the models of its parent.  The predictor belongs to all who asked for it: do not change it.

    Raises:
        UnknownNameError: if there is no such model.
        ArtefactError: if the model folder is incomplete or was altered.
        MatPropError: if the model cannot be compared with those of ``compare_with``.
    """
    folder, *others = (find_model(model).resolve() for model in (name_or_path, *names_of(compare_with)))
    key = (device, *(text for each in (folder, *others) for text in (str(each), ModelCard.read(each).weights.sha256)))
    with _Process.lock:
        if key not in _loaded:
            _loaded[key] = load_model(folder, device=device, compare_with=others)
            while len(_loaded) > MODELS_KEPT:
                _loaded.popitem(last=False)
        _loaded.move_to_end(key)
        return _loaded[key]


@contextmanager
def evaluation_threads() -> Iterator[None]:
    """Evaluate networks with one thread where this process was forked, and as ever elsewhere.

    matminer forks one process per core, which would slow one another down with a thread per core each; and a forked
    process whose parent has computed with several threads may wait for ever for those, which were not forked with it.
    """
    before = torch.get_num_threads()
    if not _Process.forked or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

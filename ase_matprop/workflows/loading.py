"""One copy of each model in a process, and as many threads as the process may take."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ase_matprop.errors import MatPropError, unknown_name
from ase_matprop.models import ModelCard, Predictor, sharing
from ase_matprop.models.loading import Names, names_of
from ase_matprop.properties import get_property

Model = str | os.PathLike[str] | Predictor


def cached_model(model: Model, device: str = "cpu", compare_with: Names = ()) -> Predictor:
    """Return a model, loaded by this process at most once as long as its weights are the same.

    A forked process has the models that its parent had loaded.  The predictor is shared: do not change it.

    Args:
        model: name of a shipped model, path of a model folder, or a predictor, which is returned as it is.
        device: torch device on which the network is evaluated.
        compare_with: other models of the same property, as for :func:`ase_matprop.load_model`.

    Raises:
        UnknownNameError: if there is no such model.
        ArtefactError: if the model folder is incomplete or was altered.
        MatPropError: if the models cannot be compared, or ``model`` is a predictor, which has its own ``compare_with``.
    """
    if not isinstance(model, Predictor):
        return sharing.shared_model(model, device, compare_with)
    if names_of(compare_with):
        raise MatPropError(
            "the model is loaded already; give compare_with to load_model instead, or the name of the model here"
        )
    return model


def compared_tags(predictor: Predictor) -> list[str]:
    """Return names, and first digits of the weights' SHA-256, of the models that a model is compared with."""
    return [f"{other.card.name} {other.card.weights.sha256[:12]}" for other in predictor._others]


@contextmanager
def evaluation_threads(threads: int | None = None) -> Iterator[None]:
    """Evaluate networks inside of this context with a number of threads, and set the former number again.

    Without a number nothing is changed in the main process.  A worker process evaluates with one thread, unless
    OMP_NUM_THREADS says otherwise (joblib's own workers have it): ``n`` workers with a thread per core each would slow
    one another down, and a forked worker whose parent has already computed with several threads would wait for ever
    for threads that were not forked with it.

    Raises:
        MatPropError: if ``threads`` is not a positive integer.
    """
    if threads is None and multiprocessing.parent_process() is not None and "OMP_NUM_THREADS" not in os.environ:
        threads = 1
    before = torch.get_num_threads()
    if threads is None:
        with sharing.evaluation_threads():  # which also knows of processes that were forked by other means
            yield
        return
    check_threads(threads)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_threads(threads: int | None) -> None:
    """Raise a MatPropError if ``threads`` is neither None nor a positive integer."""
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise MatPropError(f"the number of threads must be a positive integer, or None. Got {threads!r}.")


def rankable_property(card: ModelCard, name: str | None = None) -> str:
    """Return the property of a model by which structures are ranked.

    Args:
        card: card of the model.
        name: property that the user asks for; the first one if it is an energy.

    Raises:
        UnknownNameError: if the model does not predict it.
        MatPropError: if none was asked for and the first one is no energy, or if it is a class.
    """
    chosen = card.property if name is None else name
    if chosen not in card.properties:
        raise unknown_name("predicted property", chosen, card.properties)
    entry = get_property(chosen)
    if entry.classes:
        raise MatPropError(
            f"the model {card.name} predicts a class ({', '.join(entry.classes)}), by which nothing can be ranked; "
            "take a model of an energy or of another number"
        )
    if name is None and not entry.is_energy:
        raise MatPropError(
            f"the model {card.name} predicts no energy but {chosen}; to rank by that, give property={chosen!r}"
        )
    return chosen

"""Predictions for generators of structures, batch by batch: nothing but one batch is held."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from ase import Atoms

from ase_matprop.errors import MatPropError, StructureError
from ase_matprop.models import DEFAULT_MODEL, Predictions, Predictor
from ase_matprop.models.loading import Names
from ase_matprop.models.predictor import Entry
from ase_matprop.structures.objects import is_single
from ase_matprop.workflows.loading import Model, cached_model, check_threads, evaluation_threads

Progress = Callable[[int], None]

#: a structure, and what was read from it when it came
Given = tuple[Any, Entry]


@dataclass(frozen=True, eq=False)
class PredictionBatch:
    """Structures of a generator with their predictions.

    Attributes:
        start: index of the first one among all that the generator gave.
        structures: the very objects that the generator gave.
        predictions: one row for each of them.
    """

    start: int
    structures: list[Any]
    predictions: Predictions

    def __len__(self) -> int:
        return len(self.structures)


@dataclass(frozen=True, eq=False)
class Prediction:
    """One structure with what was predicted for it.

    Attributes:
        index: its place in the input, from 0.
        structure: the very object that was given.
        name: file, or label or index of an object.
        formula: chemical formula, empty where the input could not be read.
        n_atoms: number of atoms, 0 where there is none.
        value: predicted value in ``unit``; NaN where ``error`` says why.  Of a class its number.
        label: name of the class, where the property is one.
        unit: unit of ``value`` and ``spread``.
        spread: standard deviation over the members of the ensemble, NaN where there is none.
        distance: how far from the training set, NaN where that is not known (see
            :class:`ase_matprop.models.Predictions`).
        disagreement: standard deviation over the compared models in ``unit``, NaN where there is none.
        error: None, or why there is no value.
        warning: None, or why the value should not be trusted.
    """

    index: int
    structure: Any
    name: str
    formula: str
    n_atoms: int
    value: float
    label: str | None
    unit: str
    spread: float
    distance: float
    disagreement: float
    error: str | None
    warning: str | None


def iter_prediction_batches(
    structures: Any,
    model: Model = DEFAULT_MODEL,
    *,
    batch_size: int | None = None,
    n_jobs: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    compare_with: Names = (),
) -> Iterator[PredictionBatch]:
    """Predict for the structures of an iterable, batch by batch.

    The next structures are taken from the iterable when the batch before has been used.

    Args:
        structures: iterable of whatever :meth:`ase_matprop.models.Predictor.predict` takes.  A generator
            that changes an object which it has given must give copies, unless ``batch_size`` is 1.
        model: name of a shipped model, path of a model folder, or a predictor.
        batch_size: number of structures that are held and evaluated together; 256 by default (4096 compositions).
        n_jobs: number of processes for the descriptor; -1 for one per core.
        device: torch device of the network.
        threads: threads of the network's evaluation; see :func:`~ase_matprop.workflows.loading.evaluation_threads`.
        compare_with: other models of the same property, for the disagreement with them.

    Yields:
        Batches in the order of the input, with exactly one row for each structure; a bad structure costs its own row.

    Raises:
        UnknownNameError: if there is no such model.
        MatPropError: if an option cannot be used, ``structures`` is a DataFrame, the models cannot be compared,
            or a structure was changed after it was given and before its batch was used.
    """
    predictor = cached_model(model, device, compare_with)
    check_threads(threads)
    batches = batches_after(0, lambda entry: None, structures, predictor, batch_size, n_jobs, threads)
    return (batch for batch, _ in batches)


def batches_after(
    n_passed: int,
    passed: Callable[[Entry], None],
    structures: Any,
    predictor: Predictor,
    batch_size: int | None,
    n_jobs: int,
    threads: int | None,
) -> Iterator[tuple[PredictionBatch, list[Given]]]:
    """As :func:`iter_prediction_batches`, with what was read from the structures beside each batch.

    The first ``n_passed`` structures are only read and shown to ``passed``.
    """
    held: deque[Given] = deque()
    entries = _entries(predictor, structures, held)
    for entry in islice(entries, n_passed):
        held.popleft()
        passed(entry)
    batches = predictor.iter_batches(entries, batch_size=batch_size, n_jobs=n_jobs)
    start = n_passed
    while True:
        with evaluation_threads(threads):
            predictions = next(batches, None)
        if predictions is None:
            return
        given = [held.popleft() for _ in range(len(predictions))]
        check_unchanged(predictor, given)
        yield PredictionBatch(start, [structure for structure, _ in given], predictions), given
        start += len(predictions)


def iter_predictions(
    structures: Any,
    model: Model = DEFAULT_MODEL,
    *,
    property: str | None = None,
    batch_size: int | None = None,
    n_jobs: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    compare_with: Names = (),
) -> Iterator[Prediction]:
    """Predict for the structures of an iterable and give them one by one; they are evaluated in batches.

    Args and errors as for :func:`iter_prediction_batches`; ``property`` is which one of a model of several properties,
    the first if not given.

    Raises:
        UnknownNameError: besides, if the model does not predict ``property``.
    """
    predictor = cached_model(model, device, compare_with)
    if property is not None and property not in predictor.card.properties:
        predictor.predict([])[property]  # raises, and names those that there are
    batches = iter_prediction_batches(
        structures, predictor, batch_size=batch_size, n_jobs=n_jobs, device=device, threads=threads
    )
    return (row for batch in batches for row in _rows(batch, property))


def _rows(batch: PredictionBatch, name: str | None) -> Iterator[Prediction]:
    predictions = batch.predictions if name is None else batch.predictions[name]
    labels = predictions.labels
    for row, structure in enumerate(batch.structures):
        yield Prediction(
            index=batch.start + row,
            structure=structure,
            name=predictions.names[row],
            formula=predictions.formulas[row],
            n_atoms=int(predictions.n_atoms[row]),
            value=float(predictions.values[row]),
            label=labels[row],
            unit=predictions.unit,
            spread=float(predictions.spread[row]),
            distance=float(predictions.distance[row]),
            disagreement=float(predictions.disagreement[row]),
            error=predictions.errors[row],
            warning=predictions.warnings[row],
        )


def _entries(predictor: Predictor, structures: Any, held: deque[Given]) -> Iterator[Entry]:
    """Yield an entry for each structure, and put the structure itself with its entry into ``held``."""
    if structures is None:
        raise StructureError(f"structures must be an iterable of structures, or a single one{received(structures)}")
    given: deque[Any] = deque()

    def passing() -> Iterator[Any]:
        for structure in structures:
            given.append(structure)
            yield structure

    several = isinstance(structures, Iterable) and not is_single(structures) and not hasattr(structures, "columns")
    if not several:
        given.append(structures)
    for entry in predictor.entries(passing() if several else structures):
        held.append((given.popleft(), entry))
        yield entry


def received(obj: object) -> str:
    """Return the end of a message about an object of the wrong type."""
    return "; None was given" if obj is None else f". Got {type(obj).__name__}."


def check_unchanged(predictor: Predictor, held: Iterable[Given]) -> None:
    """Raise a MatPropError if a structure is no longer what it was when the generator gave it.

    A generator that works on a few objects, a Monte Carlo loop on its one state for example, would else get wrong
    structures back with its predictions.
    """
    for structure, entry in held:
        if entry.item is None or isinstance(structure, str | os.PathLike):
            continue
        if isinstance(structure, Atoms) and structure == entry.item:  # sooner than to read it again
            continue
        (now,) = predictor.entries([structure])
        if now.item is None or bool(np.any(now.item != entry.item)):
            raise MatPropError(
                f"{entry.name} was changed after the generator had given it, before it was used; let the generator "
                "give copies"
            )

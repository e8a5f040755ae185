"""The best of many structures, without holding more than these and one batch."""

from __future__ import annotations

import bisect
import builtins
import functools
import logging
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.formula import Formula
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError, StructureError
from ase_matprop.models import DEFAULT_MODEL, Predictor
from ase_matprop.models.loading import Names
from ase_matprop.structures.checks import DISORDER_REMEDY
from ase_matprop.workflows.database_files import is_database_name
from ase_matprop.workflows.loading import Model, cached_model, check_threads, rankable_property
from ase_matprop.workflows.streaming import Given, Progress, batches_after, check_unchanged

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: reasons that are kept; all failures are counted
FAILURES_KEPT = 1000

#: values that are closer (in the unit of the property) are equal, and the structure that came first is the better one:
#: the last digits of a network's output depend on what else is in its batch
RESOLUTION = 1e-5

_DISORDER_REMEDY = "ase_matprop.workflows.rank_orderings ranks its ordered structures"


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best structures, the best one first.

    Attributes:
        structures: the very objects that were given, n of them.
        values: predicted values in ``unit``, shape (n,).
        indices: place of each in the input, from 0, shape (n,).
        names: file, or label or index of an object.
        formulas: chemical formulas.
        spread: standard deviation over the members of the ensemble, NaN where there is none, shape (n,).
        distance: how far from the training set, NaN where that is not known, shape (n,) (see
            :class:`ase_matprop.models.Predictions`).
        disagreement: standard deviation over the compared models in ``unit``, NaN where there is none, shape (n,).
        compared_with: names of the other models.
        warnings: None or why a value should not be trusted.
        unit: unit of the values.
        property: what was predicted.
        model: name of the model.
        n_seen: number of structures in the input.
        n_failed: number of those without a value.
        failures: index, name and reason of the first 1000 of these.
    """

    structures: list[Any]
    values: NDArray[np.float64]
    indices: NDArray[np.int64]
    names: list[str]
    formulas: list[str]
    spread: NDArray[np.float64]
    distance: NDArray[np.float64]
    disagreement: NDArray[np.float64]
    compared_with: tuple[str, ...]
    warnings: list[str | None]
    unit: str
    property: str
    model: str
    n_seen: int
    n_failed: int
    failures: list[tuple[int, str, str]]

    def __len__(self) -> int:
        return len(self.structures)

    @builtins.property  # the field named property hides it
    def best(self) -> Any:
        """The best structure.

        Raises:
            MatPropError: if there is none; the message has the reason of the first failure.
        """
        if not self.structures:
            raise MatPropError(self._nothing())
        return self.structures[0]

    def _nothing(self) -> str:
        """Return the message for a ranking without structures."""
        problem = f"none of the {self.n_seen} structures has a predicted {self.property}"
        if not self.failures:
            return problem
        _, name, reason = self.failures[0]
        first = f"{name}: {reason.replace(DISORDER_REMEDY, _DISORDER_REMEDY)}"
        return first if self.n_seen == 1 else f"{problem}; the first one, {first}"

    def to_frame(self) -> pd.DataFrame:
        """Return a table with the columns rank (from 1), index, name, formula, <property>, unit, spread, distance and
        model.

        A column disagreement is there where models were compared, and a column warning where there is one.
        """
        import pandas as pd

        columns = {
            "rank": np.arange(1, len(self) + 1),
            "index": self.indices,
            "name": pd.Series(self.names, dtype=object),
            "formula": pd.Series(self.formulas, dtype=object),
            self.property: self.values,
            "unit": self.unit,
            "spread": self.spread,
        }
        if self.compared_with:
            columns["disagreement"] = self.disagreement
        columns["distance"] = self.distance
        if any(self.warnings):
            columns["warning"] = pd.Series(self.warnings, dtype=object)
        return pd.DataFrame(columns | {"model": self.model}, index=pd.RangeIndex(len(self)))


@dataclass(frozen=True, eq=False)
class _Kept:
    """A structure that is among the best so far."""

    given: Given
    extra: Any
    index: int
    value: float
    name: str
    formula: str
    spread: float
    distance: float
    disagreement: float
    warning: str | None


class _Best:
    """The ``keep`` lowest keys of those that were offered, in the order of the input."""

    def __init__(self, keep: int | None) -> None:
        self.keep = keep
        self.items: list[tuple[float, int, _Kept]] = []  # sorted; indices differ, so structures are never compared

    def offer(self, key: float, kept: _Kept) -> None:
        item = (key, kept.index, kept)
        if self.keep is None or len(self.items) < self.keep:
            bisect.insort(self.items, item)
        elif key < self.items[-1][0] - RESOLUTION:
            bisect.insort(self.items, item)
            worst = len(self.items) - 1
            first = bisect.bisect_left(self.items, (self.items[-1][0] - RESOLUTION,))
            del self.items[max(range(first, worst + 1), key=lambda place: self.items[place][1])]


def _in_order(items: list[tuple[float, int, _Kept]]) -> list[_Kept]:
    """Return what has the lowest key first, and of equal keys what came first in the input."""
    ordered: list[_Kept] = []
    equal: list[_Kept] = []
    lowest = -math.inf
    for key, _, kept in sorted(items, key=lambda item: item[:2]):
        if key > lowest + RESOLUTION:
            ordered += sorted(equal, key=lambda each: each.index)
            equal, lowest = [], key
        equal.append(kept)
    return ordered + sorted(equal, key=lambda each: each.index)


def rank(
    structures: Iterable[Any] | Any,
    model: Model = DEFAULT_MODEL,
    *,
    keep: int | None = 100,
    property: str | None = None,
    highest_first: bool = False,
    per_composition: bool = False,
    batch_size: int | None = None,
    n_jobs: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    compare_with: Names = (),
    progress: Progress | None = None,
) -> Ranking:
    """Predict for all structures of an iterable and return the best ones.

    Works for lists and generators alike, icet's ``enumerate_structures`` for example; no more than one batch and the
    best so far are held.  Values closer than 1e-5 are equal, and
    to this the result does not depend on ``batch_size`` and ``n_jobs``.

    Args:
        structures: iterable of whatever :meth:`ase_matprop.models.Predictor.predict` takes.  A generator that changes
            an object which it has given must give copies.
        model: name of a shipped model, path of a model folder, or a predictor.
        keep: how many to return; None for all.
        property: by which to rank; the first of the model if that is an energy.  Energies are compared per atom.
        highest_first: the highest values are the best, not the lowest.
        per_composition: return the ``keep`` best of each composition (NiAl and Ni2Al2 are one).
        batch_size: number of structures that are held and evaluated together.
        n_jobs: number of processes for the descriptor; -1 for one per core.
        device: torch device of the network.
        threads: threads of the network's evaluation; see :func:`~ase_matprop.workflows.loading.evaluation_threads`.
        compare_with: other models of the same property, for the disagreement with them; they do not change the order.
        progress: called with the number of finished structures after each batch.

    Returns:
        The best structures; a structure without a value is counted and its reason kept, and costs no other one.  If
        no structure has a value, the log has a warning with the reason of the first one.

    Raises:
        UnknownNameError: if there is no such model or property.
        StructureError: if ``structures`` is the path of a folder, or of a database that is not a single structure.
        MatPropError: if the model predicts no energy and no property was chosen, an option cannot be used, the models
            cannot be compared, or a structure among the best was changed after it was given.
    """
    predictor = cached_model(model, device, compare_with)
    options = (batch_size, n_jobs, threads)
    ranking, _ = ranked(
        structures,
        predictor,
        options,
        keep,
        property,
        highest_first,
        per_composition=per_composition,
        progress=progress,
    )
    if ranking.n_seen and not ranking.structures:
        if isinstance(structures, str | os.PathLike) and _has_several(structures, predictor):
            _, _, reason = ranking.failures[0]
            path = os.fsdecode(structures)
            raise StructureError(
                f"{path}: {reason}; rank takes one file with one structure, or an iterable of structures"
            )
        logger.warning("%s", ranking._nothing())
    return ranking


def _has_several(path: str | os.PathLike[str], predictor: Predictor) -> bool:
    """Return whether something that was not read as one structure is meant as a source of several."""
    (entry,) = predictor.entries([path])
    return entry.item is None and (is_database_name(path) or Path(path).expanduser().is_dir())


def ranked(
    structures: Iterable[Any] | Any,
    predictor: Predictor,
    options: tuple[int | None, int, int | None],
    keep: int | None,
    property: str | None,
    highest_first: bool,
    *,
    per_composition: bool = False,
    progress: Progress | None = None,
    extra: Callable[[int], Any] = lambda index: None,
) -> tuple[Ranking, list[Any]]:
    """Do what :func:`rank` does, and return what ``extra`` has for each of the best besides.

    ``options`` are batch_size, n_jobs and threads.  ``extra`` is called once with the index of each structure, also of
    those that are not kept.  All else is as for :func:`rank`.
    """
    if keep is not None and (not isinstance(keep, int) or isinstance(keep, bool) or keep < 1):
        raise MatPropError(f"keep must be a positive integer, or None for all. Got {keep!r}.")
    check_threads(options[2])
    name = rankable_property(predictor.card, property)
    best: dict[str, _Best] = {}
    failures: list[tuple[int, str, str]] = []
    empty, n_seen, n_failed = predictor.predict([])[name], 0, 0
    batches = batches_after(0, lambda entry: None, structures, predictor, *options)
    for number, (batch, given) in enumerate(batches, start=1):
        part = batch.predictions[name]
        for row, error in enumerate(part.errors):
            index = batch.start + row
            beside = extra(index)
            if error is not None:
                n_failed += 1
                if len(failures) < FAILURES_KEPT:
                    failures.append((index, part.names[row], error))
                continue
            value, formula = float(part.values[row]), part.formulas[row]
            kept = _Kept(
                given=given[row],
                extra=beside,
                index=index,
                value=value,
                name=part.names[row],
                formula=formula,
                spread=float(part.spread[row]),
                distance=float(part.distance[row]),
                disagreement=float(part.disagreement[row]),
                warning=part.warnings[row],
            )
            group = _reduced(formula) if per_composition else ""
            best.setdefault(group, _Best(keep)).offer(-value if highest_first else value, kept)
        n_seen += len(batch)
        if progress is not None:
            progress(n_seen)
        if number & (number - 1) == 0:  # early, and yet not after each batch: 1, 2, 4, 8 ...
            check_unchanged(predictor, (item[2].given for group in best.values() for item in group.items))
    chosen = _in_order([item for group in best.values() for item in group.items])
    check_unchanged(predictor, (kept.given for kept in chosen))
    ranking = Ranking(
        structures=[kept.given[0] for kept in chosen],
        values=np.array([kept.value for kept in chosen], dtype=np.float64),
        indices=np.array([kept.index for kept in chosen], dtype=np.int64),
        names=[kept.name for kept in chosen],
        formulas=[kept.formula for kept in chosen],
        spread=np.array([kept.spread for kept in chosen], dtype=np.float64),
        distance=np.array([kept.distance for kept in chosen], dtype=np.float64),
        disagreement=np.array([kept.disagreement for kept in chosen], dtype=np.float64),
        compared_with=empty.compared_with,
        warnings=[kept.warning for kept in chosen],
        unit=empty.unit,
        property=name,
        model=predictor.card.name,
        n_seen=n_seen,
        n_failed=n_failed,
        failures=failures,
    )
    return ranking, [kept.extra for kept in chosen]


@functools.lru_cache(maxsize=4096)
def _reduced(formula: str) -> str:
    """Return the same text for all multiples of a composition."""
    try:
        return str(Formula(formula).reduce()[0].format("hill"))
    except ValueError:  # amounts that are no integers
        return formula

"""Callables that score a structure, for the places where other packages ask for one."""

from __future__ import annotations

import builtins
import logging
import math
import os
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from ase_matprop.errors import MatPropError, StructureError, UnknownElementError, unknown_name
from ase_matprop.models import DEFAULT_MODEL, Predictor
from ase_matprop.models.predictor import descriptor_of
from ase_matprop.models.registry import find_model, list_models, read_card
from ase_matprop.workflows.loading import cached_model, check_threads, evaluation_threads, rankable_property

logger = logging.getLogger(__name__)

_ON_ERROR = ("last", "raise")


@dataclass(frozen=True)
class ScoringFunction:
    """A function from a structure to a number, the lower the better; made by :func:`scoring_function`.

    Two with the same settings are equal.  The weights are loaded at the first call, once in a process, and are no part
    of a pickle.
    """

    model: str
    property: str
    highest_first: bool = False
    device: str = "cpu"
    threads: int | None = 1
    on_error: str = "last"
    _predictor: Predictor | None = field(default=None, init=False, repr=False, compare=False)

    def __call__(self, structure: Any) -> float:
        """Return the predicted value, negative with ``highest_first``; infinite where the model has none.

        Raises:
            UnknownElementError: if the structure has an element that the model never saw.
            StructureError: if it is none that the model can be asked about; with ``on_error="raise"`` also where the
                model has no value.
        """
        predictor = self.predictor
        (entry,) = predictor.entries([structure])
        with evaluation_threads(self.threads):
            predictions = predictor.predict_entries([entry])[self.property]
        (error,) = predictions.errors
        if error is None:
            return float(predictions.values[0]) * (-1.0 if self.highest_first else 1.0)
        label = entry.formula or entry.name
        if predictor.unknown_elements(entry.elements):  # then every other ordering has it too
            raise UnknownElementError(f"{label}: {error}")
        if entry.error is not None or self.on_error == "raise":
            raise StructureError(f"{label}: {error}")
        logger.warning("%s, %s is ranked last: %s", self.model, label, error)
        return math.inf

    @builtins.property  # the field named property hides it
    def predictor(self) -> Predictor:
        """The loaded model; it is loaded at the first use, and again in another process."""
        if self._predictor is None:
            object.__setattr__(self, "_predictor", cached_model(self.model, self.device))
        assert self._predictor is not None
        return self._predictor

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_predictor": None}


@dataclass(frozen=True)
class SortCriteria:
    """What pymatgen takes for ``sort_criteria``; made by :func:`sort_criteria`."""

    scoring: ScoringFunction

    def __call__(self, structure: Any) -> tuple[Any, float]:
        """Return the structure itself, and its score times the number of sites, which pymatgen divides by it again.

        Raises:
            UnknownElementError, StructureError: as :class:`ScoringFunction`.
        """
        return structure, self.scoring(structure) * len(structure)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings, so that a transformation with these criteria can be written to JSON by pymatgen."""
        settings = {name: value for name, value in self.scoring.__dict__.items() if not name.startswith("_")}
        return {"@module": type(self).__module__, "@class": type(self).__name__, **settings}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SortCriteria:
        """Return the criteria of :meth:`as_dict`.

        Raises:
            UnknownNameError: if there is no such model here.
        """
        return sort_criteria(**{name: value for name, value in data.items() if not name.startswith("@")})


def scoring_function(
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    property: str | None = None,
    highest_first: bool = False,
    device: str = "cpu",
    threads: int | None = 1,
    on_error: str = "last",
) -> ScoringFunction:
    """Return a function that gives the predicted value of a structure, for ``sorted(..., key=...)`` and the like.

    It evaluates one structure at a time; :func:`~ase_matprop.workflows.rank` does the same in batches, several times
    faster.

    Args:
        model: name of a shipped model, or path of a model folder.
        property: by which to score; the first of the model if that is an energy.
        highest_first: score with the negative value, so that the highest comes first.
        device: torch device of the network.
        threads: threads of the network's evaluation.  One structure is too little work to be shared: on busy cores two
            threads are slower than one, many times so for SchNet.  None for as many as the process has.
        on_error: ``"last"`` to give a sound structure for which the model has no value an infinite score, with a
            warning in the log; ``"raise"`` to raise then.  What is no structure, or has an element that the model never
            saw, raises always.

    Returns:
        Function of one structure (ASE ``Atoms``, pymatgen ``Structure``, file) that can be pickled.

    Raises:
        UnknownNameError: if there is no such model or property.
        ArtefactError: if the model folder has no valid card.
        MatPropError: if the model predicts no energy and no property was chosen, or sees nothing but the composition,
            or an option cannot be used.
    """
    if isinstance(model, Predictor):
        raise MatPropError("give the name or the folder of the model: a loaded one cannot be sent to other processes")
    name = os.fspath(model)
    card = read_card(name)
    if not descriptor_of(card).needs_structure:
        raise MatPropError(
            f"the model {card.name} sees nothing but the composition, so all orderings of a parent have the same "
            "value; take a model that needs the structure, such as irnet17-mp"
        )
    if on_error not in _ON_ERROR:
        raise unknown_name("on_error setting", on_error, _ON_ERROR)
    check_threads(threads)
    if name not in list_models():
        name = str(find_model(name).absolute())  # a worker process may have another working directory
    return ScoringFunction(name, rankable_property(card, property), highest_first, device, threads, on_error)


class ScoringSettings(TypedDict, total=False):
    """The settings of :func:`scoring_function`."""

    property: str | None
    highest_first: bool
    device: str
    threads: int | None
    on_error: str


def sort_criteria(model: str | os.PathLike[str] = DEFAULT_MODEL, **settings: Unpack[ScoringSettings]) -> SortCriteria:
    """Return ``sort_criteria`` for pymatgen's EnumerateStructureTransformation: orderings ranked by a model.

    ``EnumerateStructureTransformation(max_cell_size=4, sort_criteria=sort_criteria("irnet17-mp"), n_jobs=1)``; the
    same as an argument of DopingTransformation, which passes it on.  The "energy" of the ranked list is that of the
    cell.  pymatgen's ``n_jobs`` is -1, all cores, if not given: its worker processes import torch and load the model,
    which takes seconds each, so that a few hundred orderings are ranked sooner with ``n_jobs=1``.

    SQSTransformation takes no such function; rank what it returns with
    :func:`~ase_matprop.workflows.rank_orderings`.

    Args and errors: as for :func:`scoring_function`, with the same settings.
    """
    return SortCriteria(scoring_function(model, **settings))

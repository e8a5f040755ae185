"""Models against one another, and against values that a person brought along."""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ase_matprop.app.sessions import Session
from ase_matprop.properties import get_property


@dataclass(frozen=True, eq=False)
class Series:
    """Numbers of the entries.

    Attributes:
        key: ``"model|property"`` or ``"reference|name"``.
        label: what it is called.
        property: name of the property, empty for reference values.
        unit: its unit, empty for reference values, which have that of what they are compared with.
        values: one number for each entry, NaN where there is none, shape (n,).
    """

    key: str
    label: str
    property: str
    unit: str
    values: NDArray[np.float64]

    @builtins.property  # the field named property hides it
    def is_reference(self) -> bool:
        """Whether it came with a table."""
        return not self.property


@dataclass(frozen=True)
class Agreement:
    """How one series agrees with another, over the entries that have both; NaN where there are none.

    Attributes:
        n: number of these entries.
        mae: mean absolute difference.
        rmse: root of the mean square difference.
        bias: mean of the series minus the other one.
        largest: largest absolute difference.
        worst: number of the entry that has it, None for none.
    """

    n: int
    mae: float
    rmse: float
    bias: float
    largest: float
    worst: int | None


def all_series(session: Session) -> list[Series]:
    """Return everything of a session that has numbers: reference values first, then models."""
    with session.lock:
        n, runs, references = len(session.entries), dict(session.runs), dict(session.references)
    found = []
    for name, given in references.items():
        values = np.full(n, np.nan)
        values[list(given)] = list(given.values())
        found.append(Series(f"reference|{name}", f"{name} (reference)", "", "", values))
    for name, run in runs.items():
        predictions = run.predictions
        columns = [] if predictions.classes else [(predictions.property, predictions.unit, predictions.values)]
        columns += [(key, entry.unit, entry.values) for key, entry in predictions.further.items()]
        for key, unit, numbers in columns:
            values = np.full(n, np.nan)
            values[run.numbers] = numbers
            label = f"{name}, {get_property(key).long_name}" if predictions.further else name
            found.append(Series(f"{name}|{key}", label, key, unit, values))
    return found


def comparable(baseline: Series, series: list[Series]) -> list[Series]:
    """Return the series that can be compared with one of them: of the same property, or of none that is stated."""
    return [
        other
        for other in series
        if other.key != baseline.key
        and (baseline.is_reference or other.is_reference or other.property == baseline.property)
    ]


def agreement(baseline: Series, other: Series) -> Agreement:
    """Return how a series agrees with the baseline."""
    known = np.isfinite(baseline.values) & np.isfinite(other.values)
    difference = (other.values - baseline.values)[known]
    if not len(difference):
        return Agreement(0, math.nan, math.nan, math.nan, math.nan, None)
    size = np.abs(difference)
    return Agreement(
        len(difference),
        float(size.mean()),
        float(np.sqrt(np.square(difference).mean())),
        float(difference.mean()),
        float(size.max()),
        int(np.flatnonzero(known)[size.argmax()]),
    )

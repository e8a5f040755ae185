"""Descriptors by name, and their combination: ``get_descriptor("ward2017+fractions")``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.errors import DescriptorError, unknown_name

FloatArray = NDArray[np.float64]
Features = tuple[FloatArray, list[str | None]]
Amounts = Mapping[int, float]
_ROWS_PER_PROCESS = 16


@dataclass(frozen=True)
class Descriptor:
    """A function from structures to feature vectors, with the names of the features.

    Attributes:
        name: name in cards, recipes and on the command line.
        version: raised whenever the numbers change, so that weights never meet features of another kind.
        labels: names of the features.
        needs_structure: whether a composition alone does not do.
    """

    name: str
    version: int
    labels: tuple[str, ...]
    _function: Callable[[Sequence[Any]], Features]
    needs_structure: bool = True

    def compute(self, structures: Sequence[Atoms | Amounts], *, n_jobs: int = 1) -> Features:
        """Compute the features of a batch.

        Args:
            structures: structures that passed :func:`ase_matprop.structures.as_atoms`; where the descriptor does not
                need the structure, also compositions as atomic number -> amount.
            n_jobs: number of processes; -1 for one per core, and never more; small batches are not divided.

        Returns:
            Features of shape (n, n_features), NaN in the rows that have none, and n entries of None or the reason.

        Raises:
            DescriptorError: if ``n_jobs`` is not a number of processes.
        """
        check_n_jobs(n_jobs)
        if n_jobs == 1 or len(structures) < 2:
            return self._function(structures)
        import joblib  # only needed here, and slow to import

        # a process takes a second to start: never more than there are cores, or than have something to do
        most = min(joblib.cpu_count(), math.ceil(len(structures) / _ROWS_PER_PROCESS))
        n_jobs = min(joblib.effective_n_jobs(n_jobs), most)
        if n_jobs == 1:
            return self._function(structures)
        n_chunks = min(len(structures), 4 * n_jobs)
        bounds = np.linspace(0, len(structures), n_chunks + 1).astype(int)
        parts = joblib.Parallel(n_jobs=n_jobs)(
            joblib.delayed(_compute_part)(self.name, list(structures[start:stop])) for start, stop in pairwise(bounds)
        )
        return np.concatenate([features for features, _ in parts]), [error for _, part in parts for error in part]

    def compute_sound(
        self, structures: Sequence[Atoms | Amounts | None], errors: Sequence[str | None], *, n_jobs: int = 1
    ) -> Features:
        """Compute the features of the rows that have no error so far.

        Args:
            structures: one entry per row; only looked at where there is no error.
            errors: None or the reason why a row is out, one entry per row.
            n_jobs: number of processes; -1 for one per core.

        Returns:
            Features of shape (n, n_features), NaN in the rows that have none, and all errors, old and new.
        """
        features = np.full((len(errors), len(self.labels)), np.nan)
        merged = list(errors)
        sound = [row for row, error in enumerate(errors) if error is None]
        if sound:
            features[sound], reasons = self.compute([structures[row] for row in sound], n_jobs=n_jobs)
            for row, reason in zip(sound, reasons, strict=True):
                merged[row] = reason
        return features, merged


def check_n_jobs(n_jobs: int) -> None:
    """Raise a DescriptorError if ``n_jobs`` is not a number of processes."""
    if not isinstance(n_jobs, int) or n_jobs == 0 or n_jobs < -1:
        raise DescriptorError(f"the number of processes must be positive, or -1 for one per core. Got {n_jobs!r}.")


def _compute_part(name: str, structures: list[Atoms | Amounts]) -> Features:
    return get_descriptor(name).compute(structures)


def amounts_of(structures: Sequence[Atoms | Amounts]) -> list[Amounts]:
    """Return the compositions of structures as atomic number -> number of atoms; compositions are passed on."""
    return [
        dict(Counter(entry.numbers.tolist())) if isinstance(entry, Atoms) else entry  # type: ignore[misc]
        for entry in structures
    ]


def get_descriptor(name: str) -> Descriptor:
    """Return the descriptor called ``name``; several names joined by ``+`` give their features side by side.

    Names: ``ward2017`` (271 features: 126 of the structure, 145 of the composition), ``composition`` (145),
    ``structure`` (126), ``fractions`` (86), ``ks2022`` (256, see
    :mod:`ase_matprop.descriptors.ks2022`); and ``neighbors``, the graphs of SchNet and PaiNN, which stands alone.

    Raises:
        UnknownNameError: if one of the names does not exist.
        DescriptorError: if ``neighbors`` does not stand alone.
    """
    parts = [_single(part.strip()) for part in name.split("+")]
    if len(parts) == 1:
        return parts[0]
    if not all(part.labels for part in parts):
        raise DescriptorError(f"the descriptor 'neighbors' stands alone. Got {name!r}.")

    def compute(structures: Sequence[Atoms | Amounts]) -> Features:
        results = [part.compute(structures) for part in parts]
        errors = [next((error for error in row if error), None) for row in zip(*(r[1] for r in results), strict=True)]
        features = np.column_stack([features for features, _ in results])
        features[[error is not None for error in errors]] = np.nan
        return features, errors

    return Descriptor(
        name="+".join(part.name for part in parts),
        version=math.prod(part.version for part in parts),  # raised whenever one of them is
        labels=tuple(label for part in parts for label in part.labels),
        _function=compute,
        needs_structure=any(part.needs_structure for part in parts),
    )


def _ward2017() -> Descriptor:
    from ase_matprop.descriptors import ward2017

    return Descriptor("ward2017", 1, tuple(ward2017.feature_labels()), ward2017.compute)


def _structure() -> Descriptor:
    from ase_matprop.descriptors import ward2017

    def compute(structures: Sequence[Atoms]) -> Features:
        features, errors = ward2017.compute(structures)
        return features[:, : ward2017.N_STRUCTURE], errors

    return Descriptor("structure", 1, tuple(ward2017.structure_labels()), compute)


def _ks2022() -> Descriptor:
    from ase_matprop.descriptors import ks2022

    return Descriptor("ks2022", 1, tuple(ks2022.feature_labels()), ks2022.compute)


def _composition() -> Descriptor:
    from ase_matprop.descriptors import composition

    def compute(structures: Sequence[Atoms | Amounts]) -> Features:
        return composition.compute_amounts(amounts_of(structures))

    return Descriptor("composition", 1, tuple(composition.feature_labels()), compute, needs_structure=False)


def _fractions() -> Descriptor:
    from ase_matprop.descriptors import fractions

    def compute(structures: Sequence[Atoms | Amounts]) -> Features:
        return fractions.compute_amounts(amounts_of(structures))

    return Descriptor("fractions", 1, tuple(fractions.feature_labels()), compute, needs_structure=False)


def _neighbors() -> Descriptor:
    from ase_matprop.descriptors import neighbors

    def compute(structures: Sequence[Atoms]) -> Features:
        raise DescriptorError(
            "neighbour graphs are no feature vectors; take ase_matprop.descriptors.neighbors.neighbor_graphs"
        )

    return Descriptor(neighbors.NAME, neighbors.VERSION, (), compute)


DESCRIPTORS: dict[str, Callable[[], Descriptor]] = {
    "ward2017": _ward2017,
    "structure": _structure,
    "composition": _composition,
    "fractions": _fractions,
    "ks2022": _ks2022,
    "neighbors": _neighbors,
}


def _single(name: str) -> Descriptor:
    if name not in DESCRIPTORS:
        raise unknown_name("descriptor", name, DESCRIPTORS)
    return DESCRIPTORS[name]()

"""Everything that is known of what a model saw in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.models.reach.distance import TrainingDistance
from ase_matprop.models.reach.elements import ElementPairs
from ase_matprop.models.reach.environments import Environments


@dataclass(frozen=True, eq=False)
class Reach:
    """What a model saw in training; each part may be missing from a model of an older version.

    Attributes:
        pairs: which elements occurred together.
        environments: which met within the cutoff, how close, and with how many neighbours; of networks on graphs.
        distance: the distance to the training set.
    """

    pairs: ElementPairs | None = None
    environments: Environments | None = None
    distance: TrainingDistance | None = None

    @classmethod
    def of(cls, graphs: Graphs) -> Reach:
        """Collect what some structures have."""
        occurrences = np.zeros((len(graphs), int(graphs.numbers.max(initial=0)) + 1), dtype=bool)
        occurrences[graphs.structure_of_atom, graphs.numbers] = True
        return cls(ElementPairs.of(occurrences), Environments.of(graphs))

    def joined(self, other: Reach) -> Reach:
        """Return what was seen in either of two trainings; the distance is to the training set of this one."""
        pairs = [reach.pairs for reach in (self, other) if reach.pairs is not None]
        environments = [reach.environments for reach in (self, other) if reach.environments is not None]
        return Reach(
            pairs[0].joined(pairs[1]) if len(pairs) == 2 else None,  # half of it would warn of what the other saw
            environments[0].joined(environments[1]) if len(environments) == 2 else None,
            self.distance,
        )

    def warnings(self, compounds: Sequence[Iterable[int]], graphs: Graphs | None = None) -> list[str | None]:
        """Return for each input what was never seen in training, or None.

        Args:
            compounds: atomic numbers of the elements of each input.
            graphs: neighbour graphs of the inputs, where the model has them.
        """
        found: list[list[str]] = [[] for _ in compounds]
        if self.pairs is not None:
            found = self.pairs.warnings(compounds)
        if self.environments is not None and graphs is not None:
            # what never occurred together is said already
            together = (
                None if self.pairs is None else (self.pairs.counts > 0) | np.eye(len(self.pairs.counts), dtype=bool)
            )
            further = self.environments.warnings(graphs, together)
            found = [words + more for words, more in zip(found, further, strict=True)]
        return ["; ".join(words) or None for words in found]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of all parts by name."""
        parts = (self.pairs, self.environments, self.distance)
        return {name: array for part in parts if part is not None for name, array in part.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Reach | None:
        """Return what :meth:`to_arrays` wrote, None if nothing.

        Raises:
            KeyError: if a part is incomplete.
            ValueError: if arrays do not fit one another.
        """
        if not arrays:
            return None
        return cls(
            ElementPairs.from_arrays(arrays) if "pair_elements" in arrays else None,
            Environments.from_arrays(arrays) if {"shortest", "fewest", "most"} & arrays.keys() else None,
            TrainingDistance.from_arrays(arrays) if "distance_unit" in arrays else None,
        )

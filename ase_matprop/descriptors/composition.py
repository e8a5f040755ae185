r"""The 145 composition features of Ward et al. (features 127-271 of Ward-2017), for a whole batch.

Ward, Agrawal, Choudhary, Wolverton, npj Comput. Mater. 2, 16028 (2016), doi:10.1038/npjcompumats.2016.28; order and
names of Table 1 of Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254:

1. number of components, and :math:`\|x\|_p = (\sum_i x_i^p)^{1/p}` of the element fractions for p = 2, 3, 5, 7, 10;
2. for each of the 22 elemental properties the mean, range, mean absolute deviation, maximum, minimum and mode;
3. fractions of the valence electrons that are in s, p, d and f orbitals;
4. whether a neutral ionic compound can be formed with one known oxidation state per element (1 or 0), and the maximum
   and the mean of the ionic character :math:`1 - \exp(-(\chi_i - \chi_j)^2 / 4)` over pairs of elements.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ase_matprop.descriptors.elements import MAGPIE_PROPERTIES, check_elements, load_element_table
from ase_matprop.errors import DescriptorError, UnknownElementError

FloatArray = NDArray[np.float64]

STATISTICS = ("mean", "range", "mean absolute deviation", "maximum", "minimum", "mode")
NORMS = (2, 3, 5, 7, 10)


@dataclass(frozen=True, eq=False)
class ElementSlots:
    """Compositions of a batch as padded arrays: one slot for each element of a composition.

    Attributes:
        numbers: atomic numbers in ascending order, 0 in unused slots, shape (n, n_slots).
        fractions: atomic fractions, 0 in unused slots, shape (n, n_slots).
        amounts: amounts as they were given, 0 in unused slots, shape (n, n_slots).
    """

    numbers: NDArray[np.int64]
    fractions: FloatArray
    amounts: FloatArray

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which slots hold an element, shape (n, n_slots)."""
        return self.numbers > 0

    @classmethod
    def from_amounts(cls, amounts: Sequence[Mapping[int, float]]) -> ElementSlots:
        """Build the slots from mappings of atomic number to amount."""
        n_slots = max((len(entry) for entry in amounts), default=1)
        numbers = np.zeros((len(amounts), n_slots), dtype=np.int64)
        values = np.zeros((len(amounts), n_slots))
        for row, entry in enumerate(amounts):
            ordered = sorted(entry.items())
            numbers[row, : len(ordered)] = [number for number, _ in ordered]
            values[row, : len(ordered)] = [amount for _, amount in ordered]
        return cls(numbers, values / values.sum(axis=1, keepdims=True), values)


def feature_labels() -> list[str]:
    """Return the names of the 145 features, a fresh list."""
    labels = ["Number of Components", *(f"{p}-norm of Element Fractions" for p in NORMS)]
    labels += [f"{statistic} {name}" for name in MAGPIE_PROPERTIES.values() for statistic in STATISTICS]
    labels += [f"Fraction of Valence Electrons in {orbital} orbitals" for orbital in "spdf"]
    return [*labels, "Can Form Ionic Compound", "maximum Ionic Character", "mean Ionic Character"]


def compute(slots: ElementSlots) -> FloatArray:
    """Return the 145 features of each composition, shape (n, 145).

    The elements must be known to Magpie (:func:`ase_matprop.descriptors.elements.check_elements`).
    """
    if not len(slots.numbers):
        return np.empty((0, len(feature_labels())))
    return np.column_stack(
        [
            stoichiometry(slots),
            property_statistics(slots, load_element_table().properties).reshape(len(slots.numbers), -1),
            _valence_fractions(slots),
            _ionic_character(slots),
        ]
    )


def compute_amounts(amounts: Sequence[Mapping[int, float]]) -> tuple[FloatArray, list[str | None]]:
    """Return the features of compositions given as atomic number -> amount, and a reason for each row that has none.

    Returns:
        Features of shape (n, 145), NaN in the rows without features, and n entries of None or a reason.
    """
    errors = [_composition_error(entry) for entry in amounts]
    good = [row for row, error in enumerate(errors) if error is None]
    features = np.full((len(amounts), len(feature_labels())), np.nan)
    if good:
        features[good] = compute(ElementSlots.from_amounts([amounts[row] for row in good]))
    return features, errors


def _composition_error(amounts: Mapping[int, float]) -> str | None:
    try:
        if not amounts or not all(math.isfinite(amount) and amount > 0 for amount in amounts.values()):
            raise DescriptorError("a composition needs at least one element, each with a positive amount")
        check_elements(amounts)
    except (DescriptorError, UnknownElementError) as error:
        return str(error)
    return None


def stoichiometry(slots: ElementSlots) -> FloatArray:
    """Return the number of components and the norms of the element fractions, shape (n, 6)."""
    norms = [(slots.fractions**p).sum(axis=1) ** (1.0 / p) for p in NORMS]
    return np.column_stack([slots.used.sum(axis=1), *norms])


def property_statistics(slots: ElementSlots, properties: FloatArray) -> FloatArray:
    """Return the :data:`STATISTICS` of elemental properties, shape (n, n_properties, 6).

    Args:
        slots: the compositions.
        properties: one row for each atomic number, shape (n_numbers, n_properties).
    """
    values = properties[slots.numbers]  # (n, slots, n_properties)
    weight = slots.fractions[..., None]
    used = slots.used[..., None]
    mean = (weight * values).sum(axis=1)
    deviation = (weight * np.abs(values - mean[:, None, :])).sum(axis=1)
    maximum = np.where(used, values, -np.inf).max(axis=1)
    minimum = np.where(used, values, np.inf).min(axis=1)
    # the mode is the value of the most frequent element, and the smallest one where several are equally frequent
    frequent = np.isclose(slots.fractions, slots.fractions.max(axis=1, keepdims=True), atol=0.0)[..., None]
    mode = np.where(frequent, values, np.inf).min(axis=1)
    return np.stack([mean, maximum - minimum, deviation, maximum, minimum, mode], axis=2)


def _valence_fractions(slots: ElementSlots) -> FloatArray:
    table = load_element_table()
    electrons = [
        (slots.fractions * table.column(f"N{orbital}Valence")[slots.numbers]).sum(axis=1) for orbital in "spdf"
    ]
    total = (slots.fractions * table.column("NValence")[slots.numbers]).sum(axis=1)
    result: FloatArray = np.column_stack(electrons) / total[:, None]
    return result


def _ionic_character(slots: ElementSlots) -> FloatArray:
    chi = load_element_table().column("Electronegativity")[slots.numbers]
    maximum = np.zeros(len(chi))
    mean = np.zeros(len(chi))
    for first, second in combinations(range(chi.shape[1]), 2):
        both = slots.used[:, first] & slots.used[:, second]
        character = np.where(both, 1.0 - np.exp(-0.25 * (chi[:, first] - chi[:, second]) ** 2), 0.0)
        maximum = np.maximum(maximum, character)
        mean += slots.fractions[:, first] * slots.fractions[:, second] * character
    possible = [
        can_form_ionic_compound(numbers[numbers > 0], amounts[numbers > 0])
        for numbers, amounts in zip(slots.numbers, slots.amounts, strict=True)
    ]
    return np.column_stack([possible, maximum, mean])


def can_form_ionic_compound(numbers: Iterable[int], amounts: Iterable[float]) -> bool:
    """Whether some choice of one Magpie oxidation state per element makes the composition neutral.

    A pure element counts as neutral, as in Magpie and matminer.
    """
    amounts = np.asarray(list(amounts), dtype=float)
    return _is_neutral(tuple(int(number) for number in numbers), tuple(np.round(amounts / amounts.min(), 8).tolist()))


@functools.lru_cache(maxsize=100_000)
def _is_neutral(numbers: tuple[int, ...], amounts: tuple[float, ...]) -> bool:
    if len(numbers) == 1:
        return True
    states = load_element_table().oxidation_states
    charges = np.zeros(1)
    for number, amount in zip(numbers, amounts, strict=True):
        charges = np.unique(np.round(np.add.outer(charges, amount * np.array(states[number])), 6))
    return bool(np.any(np.abs(charges) < 1e-5))

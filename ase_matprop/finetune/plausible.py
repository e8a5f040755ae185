"""Energies that no calculation can mean: mistaken units, broken files, fill values such as -1e6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack

Floats = NDArray[np.float64]

#: eV/atom; formation energies of solids lie between -5 and 2, those of atoms squeezed into each other below this
LARGEST_FORMATION_ENERGY = 50.0
#: eV/Angstrom; nothing that is further than a tenth of a bond length from its place feels more
LARGEST_FORCE = 1000.0
#: Thomas-Fermi energy of an atom, -20.9 eV Z^(7/3); half as much again, since heavy ones are relativistic
_THOMAS_FERMI = 1.5 * 20.9


def implausible(values: Floats, items: Sequence[Atoms | Mapping[int, float]], *, total: bool) -> dict[int, str]:
    """Return why energies cannot be right, by the index of the row.

    Energies above references are compared with :data:`LARGEST_FORMATION_ENERGY`.  Total energies depend on the
    pseudopotentials: none can be larger than that of all electrons, and none further than that limit from the energies
    of the elements that fit the rows best (least absolute deviations, which a few wrong rows do not move).

    Args:
        values: energies in eV/atom, shape (n,).
        items: structure or amounts of the elements of each.
        total: whether the energies are total ones.
    """
    limit = LARGEST_FORMATION_ENERGY
    if not total:
        return {
            int(row): f"an energy of {values[row]:.6g} eV/atom above the elements is beyond +-{limit:g} eV/atom, which "
            "no structure has; correct the row, or the unit or the references of all"
            for row in np.flatnonzero(np.abs(values) > limit)
        }
    highest = np.array([max(_numbers(item)) for item in items], dtype=np.float64)
    beyond = np.abs(values) > limit + _THOMAS_FERMI * highest ** (7.0 / 3.0)
    found = {
        int(row): f"a total energy of {values[row]:.6g} eV/atom is more than all electrons of its atoms have; correct "
        "the row, or the unit of all"
        for row in np.flatnonzero(beyond)
    }
    rest = np.flatnonzero(~beyond).tolist()
    deviations = _deviations(_fractions([items[row] for row in rest]), values[rest], limit)
    for row, deviation in zip(rest, deviations, strict=True):
        if abs(deviation) > limit:
            found[int(row)] = (
                f"a total energy of {values[row]:.6g} eV/atom is {deviation:+.6g} eV/atom away from what other rows "
                "say of its elements; correct the row"
            )
    return found


def implausible_forces(forces: Floats) -> str | None:
    """Return why the forces on the atoms of a structure cannot be right, None if they can."""
    if not np.isfinite(forces).all():
        return "has forces that are no numbers"
    largest = float(np.abs(forces).max(initial=0.0))
    if largest > LARGEST_FORCE:
        return (
            f"has a force of {largest:.6g} eV/Angstrom, beyond {LARGEST_FORCE:g}; correct the row, or the unit of all"
        )
    return None


def _deviations(fractions: Floats, values: Floats, limit: float) -> Floats:
    """Return how far values are from energies of the elements that fit them best, shape (n,)."""
    if not len(values):
        return values
    levels = np.linalg.lstsq(fractions, values, rcond=None)[0]
    deviations: Floats = values - fractions @ levels
    if np.abs(deviations).max() <= limit:
        return deviations
    n, n_elements = fractions.shape
    solution = linprog(
        np.concatenate([np.zeros(n_elements), np.ones(2 * n)]),
        A_eq=hstack([csr_array(fractions), eye_array(n), -eye_array(n)]).tocsr(),
        b_eq=values,
        bounds=[(None, None)] * n_elements + [(0.0, None)] * (2 * n),
        method="highs",
    )
    return deviations if solution.x is None else np.asarray(values - fractions @ solution.x[:n_elements])


def _numbers(item: Atoms | Mapping[int, float]) -> list[int]:
    return item.numbers.tolist() if isinstance(item, Atoms) else list(item)


def _fractions(items: Sequence[Atoms | Mapping[int, float]]) -> Floats:
    """Return the share of each element that occurs among the atoms of each row, shape (n, n_elements)."""
    elements = {number: column for column, number in enumerate(sorted({n for item in items for n in _numbers(item)}))}
    amounts = np.zeros((len(items), len(elements)))
    for row, item in enumerate(items):
        pairs = [(n, 1.0) for n in _numbers(item)] if isinstance(item, Atoms) else item.items()
        for number, amount in pairs:
            amounts[row, elements[number]] += amount
    return np.asarray(amounts / amounts.sum(axis=1, keepdims=True))

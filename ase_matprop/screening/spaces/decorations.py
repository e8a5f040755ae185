"""Elements on the species of a crystal: numbered, each different crystal once.

A crystal has m species (sublattices that have one element each).  A decoration puts a different element on each.
Isometries of the bare geometry that map species onto species make decorations equivalent: in B2 AB and BA are the same.

Decorations are grouped by *type pattern*: elements that are allowed on the same species have the same type, and whether
an equivalent decoration is allowed depends on types only.  Within a pattern the equivalences form a group that acts
without fixed points, so that the different crystals are (combinations of elements) x (cosets of that group), which can
be counted in closed form and numbered without going through them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.screening.spaces.formulas import unrank_combinations
from ase_matprop.screening.spaces.volumes import Geometry
from ase_matprop.structures import MINIMUM_DISTANCE, StructureEntry

__all__ = ["MOST_SPECIES", "Decorations", "Template", "find_equivalences"]

#: species that a crystal may have; the arrangements of one more would be counted in hundreds of thousands
MOST_SPECIES = 8

#: in which symmetry is looked for, Angstrom; the coordinates of prototypes are rounded to a thousandth of the cell
_PRECISION = 0.01

Permutation = tuple[int, ...]


def find_equivalences(atoms: Atoms, species: NDArray[Any]) -> list[Permutation]:
    """Return the permutations of species under which a crystal remains itself, whatever elements are on them.

    Args:
        atoms: periodic cell; its elements do not count.
        species: index of the species of each site, shape (n,).

    Returns:
        Permutations p such that the elements x[0], x[1] ... and x[p[0]], x[p[1]] ... make the same crystal, or its
        mirror image; a group, the identity first.
    """
    import spglib

    size = int(species.max()) + 1
    identity = tuple(range(size))
    counts = np.bincount(species)
    if size == 1 or len(set(counts.tolist())) == size:
        return [identity]
    scaled = atoms.get_scaled_positions()
    bare = (atoms.cell.array, scaled, np.ones(len(atoms), dtype=int))
    symmetry = spglib.get_symmetry(bare, symprec=_PRECISION)
    found = {identity}
    for rotation, translation in zip(symmetry["rotations"], symmetry["translations"], strict=True):
        moved = scaled @ rotation.T + translation
        between = moved[:, None] - scaled[None]
        between -= np.round(between)
        site = np.linalg.norm(between @ atoms.cell.array, axis=2).argmin(axis=1)
        images = [set(species[site[species == index]].tolist()) for index in range(size)]
        if all(len(image) == 1 for image in images):
            permutation = tuple(image.pop() for image in images)
            if len(set(permutation)) == size:
                found.add(permutation)
    return sorted(found)


@dataclass(frozen=True, eq=False)
class Template:
    """A crystal of which elements and volume are free.

    Attributes:
        species: index of the species of each site, shape (n,).
        cell: Angstrom, shape (3, 3).
        positions: Angstrom, shape (n, 3).
        geometry: what its volume depends on.
    """

    species: NDArray[np.int64]
    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    geometry: Geometry

    @classmethod
    def of(cls, atoms: Atoms, species: NDArray[Any]) -> Template:
        """Return the template of a periodic cell whose sites belong to the species 0, 1 ... of ``species``."""
        species = np.array(species, dtype=np.int64)
        return cls(species, atoms.cell.array.copy(), atoms.positions.copy(), Geometry.of(atoms, species))

    def fingerprint(self) -> str:
        """Return text that changes with the shape or the species."""
        digest = hashlib.sha256(self.species.tobytes())
        for lengths in (self.cell, self.positions):
            digest.update((np.round(lengths, 6) + 0.0).tobytes())  # which makes 0.0 of -0.0
        return digest.hexdigest()[:16]

    def entries(
        self, names: Sequence[str], numbers: NDArray[Any], volumes: NDArray[np.float64]
    ) -> Iterator[StructureEntry]:
        """Yield decorated structures.

        Args:
            names: of the structures, n of them.
            numbers: atomic number of each species, shape (n, m).
            volumes: of the cell, Angstrom^3, shape (n,).
        """
        factors = np.cbrt(volumes / self.geometry.volume)
        shortest = float(self.geometry.distances.min())
        sites = numbers[:, self.species]
        cells = factors[:, None, None] * self.cell
        positions = factors[:, None, None] * self.positions
        for index, (name, factor) in enumerate(zip(names, factors.tolist(), strict=True)):
            if not factor * shortest >= MINIMUM_DISTANCE:
                reason = f"the volume {volumes[index]:g} Angstrom^3 of its cell leaves no room; choose another volume"
                yield StructureEntry(name, None, reason)
                continue
            atoms = Atoms(sites[index], positions[index], cell=cells[index], pbc=True)
            atoms.info["name"] = name
            yield StructureEntry(name, atoms, None)


@dataclass(frozen=True, eq=False)
class _Pattern:
    """Decorations whose elements have the same types.

    Attributes:
        pools: for each type that occurs, the atomic numbers of that type, in order.
        taken: how many of each pool.
        columns: which of the taken elements, pool after pool, each species has in each arrangement, shape (c, m).
        count: number of decorations.
    """

    pools: tuple[NDArray[np.int64], ...]
    taken: tuple[int, ...]
    columns: NDArray[np.int64]
    count: int


class Decorations:
    """All different decorations of a crystal, in a fixed order.

    Args:
        allowed: atomic numbers that each species may have.
        equivalences: permutations of species, a group, as :func:`find_equivalences` gives it.

    Attributes:
        count: number of decorations.
    """

    def __init__(self, allowed: Sequence[Sequence[int]], equivalences: Sequence[Permutation]) -> None:
        self.n_species = len(allowed)
        sets = [frozenset(numbers) for numbers in allowed]
        types: dict[tuple[bool, ...], list[int]] = {}
        for number in sorted(frozenset().union(*sets)):
            types.setdefault(tuple(number in entry for entry in sets), []).append(number)
        members = sorted(types)
        pools = [np.array(types[member], dtype=np.int64) for member in members]
        choices = [[index for index, member in enumerate(members) if member[site]] for site in range(self.n_species)]
        self._patterns: list[_Pattern] = []
        for pattern in itertools.product(*choices):
            taken = [pattern.count(index) for index in range(len(members))]
            if any(count > len(pool) for count, pool in zip(taken, pools, strict=True)):
                continue
            images = [tuple(pattern[site] for site in permutation) for permutation in equivalences]
            if any(image < pattern and _is_allowed(image, members) for image in images):
                continue
            stabilizer = [entry for entry, image in zip(equivalences, images, strict=True) if image == pattern]
            used = [index for index, count in enumerate(taken) if count]
            columns = _arrangements(pattern, used, stabilizer)
            combinations = math.prod(math.comb(len(pools[index]), taken[index]) for index in used)
            self._patterns.append(
                _Pattern(
                    tuple(pools[index] for index in used),
                    tuple(taken[index] for index in used),
                    columns,
                    combinations * len(columns),
                )
            )
        self.count = sum(pattern.count for pattern in self._patterns)

    def numbers(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the decorations from ``start`` to before ``stop`` as atomic numbers, shape (stop - start, m)."""
        parts, first = [np.empty((0, self.n_species), dtype=np.int64)], 0
        for pattern in self._patterns:
            low, high = max(start - first, 0), min(stop - first, pattern.count)
            if low < high:
                parts.append(_decorate(pattern, np.arange(low, high, dtype=np.int64)))
            first += pattern.count
        return np.concatenate(parts)


def _is_allowed(pattern: Sequence[int], members: Sequence[tuple[bool, ...]]) -> bool:
    return all(members[index][site] for site, index in enumerate(pattern))


def _arrangements(pattern: Sequence[int], used: Sequence[int], stabilizer: Sequence[Permutation]) -> NDArray[np.int64]:
    """Return which of the taken elements each species has, one row for each coset of the stabilizer."""
    slots = [[site for site, entry in enumerate(pattern) if entry == index] for index in used]
    starts = np.concatenate([[0], np.cumsum([len(sites) for sites in slots])]).tolist()
    rows = []
    for orders in itertools.product(*(itertools.permutations(range(len(sites))) for sites in slots)):
        row = [0] * len(pattern)
        for sites, order, start in zip(slots, orders, starts, strict=False):
            for site, rank in zip(sites, order, strict=True):
                row[site] = start + rank
        if all(tuple(row) <= tuple(row[site] for site in permutation) for permutation in stabilizer):
            rows.append(row)
    return np.array(rows, dtype=np.int64)


def _decorate(pattern: _Pattern, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    rest, arrangement = np.divmod(indices, len(pattern.columns))
    elements = []
    for pool, taken in zip(pattern.pools, pattern.taken, strict=True):
        rest, combination = np.divmod(rest, math.comb(len(pool), taken))
        elements.append(pool[unrank_combinations(combination, len(pool), taken)])
    return np.take_along_axis(np.concatenate(elements, axis=1), pattern.columns[arrangement], axis=1)

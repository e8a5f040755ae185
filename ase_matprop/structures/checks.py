"""What makes atoms a crystal that a model can be asked about; private part of :mod:`ase_matprop.structures`."""

from __future__ import annotations

import functools

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: two atoms closer than this (Angstrom) are one atom written twice; the shortest bond there is, H2, has 0.74
MINIMUM_DISTANCE = 0.3
#: a site counts as fully occupied within this
OCCUPANCY_TOLERANCE = 1e-3
#: a cell is flat if its volume is below this part of the product of its three lengths
_FLATNESS = 1e-6
#: up to this number of atoms all pairs are quicker than a tree
_ALL_PAIRS_LIMIT = 40

DISORDER_REMEDY = (
    "enumerate ordered structures first, for example with pymatgen's OrderDisorderedStructureTransformation"
)


def find_problem(atoms: Atoms) -> str | None:
    """Return what is wrong with ``atoms`` and the remedy in one line, or None for a valid crystal."""
    if len(atoms) == 0:
        return "has no atoms; give a structure with at least one atom"
    return _element_problem(atoms) or _cell_problem(atoms) or _overlap_problem(atoms)


def find_disorder(atoms: Atoms) -> str | None:
    """Return which site is disordered, from the ``occupancy`` that ASE keeps in ``atoms.info``, or None."""
    occupancies = atoms.info.get("occupancy")
    if not isinstance(occupancies, dict):
        return None
    kinds = {str(kind) for kind in atoms.arrays["spacegroup_kinds"]} if "spacegroup_kinds" in atoms.arrays else None
    for kind, species in occupancies.items():
        if (kinds is not None and str(kind) not in kinds) or not isinstance(species, dict):
            continue
        if len(species) > 1 or any(abs(part - 1.0) > OCCUPANCY_TOLERANCE for part in species.values()):
            return (
                f"{disorder(species)}; {DISORDER_REMEDY}; if these atoms are ordered already, delete "
                "atoms.info['occupancy']"
            )
    return None


def disorder(species: dict[str, float]) -> str:
    """Return the words for a site that is occupied by ``species``, a part of each."""
    parts = " ".join(f"{symbol}{part:g}" for symbol, part in species.items())
    return f"has a disordered site ({parts})"


def _element_problem(atoms: Atoms) -> str | None:
    numbers = atoms.numbers
    # one comparison for the common case; the atom is looked up only when there is something to report
    if numbers.min() >= 1 and numbers.max() < len(chemical_symbols):
        return None
    index = int(np.flatnonzero((numbers < 1) | (numbers >= len(chemical_symbols)))[0])
    if numbers[index] == 0:
        return f"atom {index} is a placeholder ('X', atomic number 0); replace it by an element or delete it"
    return f"atom {index} has the atomic number {numbers[index]}, which no element has; use 1 to 118"


def _cell_problem(atoms: Atoms) -> str | None:
    cell = atoms.cell.array
    if not np.isfinite(cell).all():
        return "has NaN or infinite numbers in its cell; set the lattice vectors again"
    finite = np.isfinite(atoms.positions)
    if not finite.all():
        index = int(np.flatnonzero(~finite.all(axis=1))[0])
        return f"has NaN or infinite coordinates, first at atom {index} (from 0); set its position or delete the atom"
    lengths = np.sqrt((cell * cell).sum(axis=1))
    vacuum = "give it a cell with vacuum, for example atoms.center(vacuum=10), and set atoms.pbc = True"
    problem = None
    if not lengths.any():
        problem = f"has no cell; for a molecule or cluster {vacuum}; for a crystal set the lattice vectors"
    elif not lengths.all():
        axes = " and ".join("abc"[axis] for axis in np.flatnonzero(lengths == 0.0))
        problem = f"has no lattice vector {axes}, so its cell has zero volume; for a slab or wire {vacuum}"
    elif abs(np.linalg.det(cell)) <= _FLATNESS * lengths.prod():
        problem = "has a cell of zero volume, its lattice vectors lie in one plane; correct them"
    elif not atoms.pbc.all():
        axes = ", ".join("abc"[axis] for axis in np.flatnonzero(~atoms.pbc))
        problem = (
            f"is not periodic along {axes}; give the bulk crystal with atoms.pbc = True (a slab needs vacuum in its "
            "cell, and is not what models of bulk crystals know)"
        )
    return problem


def _overlap_problem(atoms: Atoms) -> str | None:
    try:
        first, second, distances = close_pairs(atoms.positions, atoms.cell.array, MINIMUM_DISTANCE)
    except (RuntimeError, ValueError, FloatingPointError, np.linalg.LinAlgError):
        return "has a cell too distorted, or coordinates too large, to measure distances; give the reduced cell"
    if not len(distances):
        return None
    closest = int(np.argmin(distances))
    i, j, distance = int(first[closest]), int(second[closest]), distances[closest]
    symbols = atoms.symbols
    if i == j:
        return (
            f"atom {i} ({symbols[i]}) is {distance:.2f} Angstrom from its own periodic image; the lattice vectors must "
            "be in Angstrom and at least as long as a bond"
        )
    pairs = {(min(pair), max(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    more = "" if len(pairs) == 1 else f" (the closest of {len(pairs)} such pairs)"
    return (
        f"atoms {i} ({symbols[i]}) and {j} ({symbols[j]}), counted from 0, are {distance:.2f} Angstrom apart{more}; "
        "remove the duplicate site, or check that cell and coordinates are in Angstrom"
    )


@functools.lru_cache(maxsize=_ALL_PAIRS_LIMIT + 1)
def _all_pairs(count: int) -> tuple[Integers, Integers]:
    first, second = np.triu_indices(count, 1)
    return first, second


def close_pairs(positions: Floats, cell: Floats, cutoff: float) -> tuple[Integers, Integers, Floats]:
    """Return all pairs of atoms closer than ``cutoff`` under periodic boundary conditions.

    Args:
        positions: Cartesian coordinates, shape (atoms, 3), Angstrom.
        cell: lattice vectors as rows, shape (3, 3), Angstrom, of non-zero volume.
        cutoff: distance in Angstrom.

    Returns:
        Indices i and j, and the distance of the pair.  i equals j where an atom is close to its own image; if a
        lattice vector itself is that short, then this is the one pair that is returned.

    Raises:
        RuntimeError: if the cell is too distorted to be reduced.
    """
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.sqrt((inverse * inverse).sum(axis=0))
    count = len(positions)
    if heights.min() <= 2.0 * cutoff:
        # Rare.  Rounding finds the nearest image only if the cell is thicker than two cutoffs everywhere, so take the
        # reduced cell, and as many copies of it as that needs.  Copies of one atom stand in for its images.
        cell = np.asarray(minkowski_reduce(cell)[0], dtype=np.float64)
        shortest = float(np.sqrt((cell * cell).sum(axis=1)).min())
        if shortest < cutoff:
            zero = np.zeros(1, dtype=np.int64)
            return zero, zero, np.array([shortest])
        inverse = np.linalg.inv(cell)
        heights = 1.0 / np.sqrt((inverse * inverse).sum(axis=0))
        copies = np.floor(2.0 * cutoff / heights).astype(int) + 1
        shifts = np.stack(np.meshgrid(*[np.arange(n) for n in copies], indexing="ij"), axis=-1).reshape(-1, 3)
        positions = (positions[None, :, :] + (shifts @ cell)[:, None, :]).reshape(-1, 3)
        cell, inverse, heights = cell * copies[:, None], inverse / copies[None, :], heights * copies
    scaled = positions @ inverse
    if len(positions) <= _ALL_PAIRS_LIMIT:
        first, second = _all_pairs(len(positions))
    else:
        # |r| < cutoff implies that each scaled difference times the height of the cell along it is below the cutoff
        boxed = (scaled - np.floor(scaled)) * heights
        boxed[boxed >= heights] = 0.0
        tree = cKDTree(boxed, boxsize=heights, balanced_tree=False, compact_nodes=False)
        first, second = tree.query_pairs(cutoff, p=np.inf, output_type="ndarray").T
    difference = scaled.take(first, axis=0) - scaled.take(second, axis=0)
    difference -= np.rint(difference)
    vectors = difference @ cell
    squares = np.einsum("ij,ij->i", vectors, vectors)
    close = np.flatnonzero(squares < cutoff * cutoff)
    if not len(close):
        return close, close, squares[close]
    return first[close] % count, second[close] % count, np.sqrt(squares[close])

"""Which rows must stay on one side of a division: those of one composition, of one run, of nearly one structure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ase_matprop.descriptors.neighbors import neighbor_graphs
from ase_matprop.finetune.vasp.similar import is_same_crystal

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: fewer compositions, runs or structures than this cannot be divided
_FEWEST_FORMULAS, _FEWEST = 5, 3
#: neighbours whose distances tell structures apart, and how far they are looked for, Angstrom
_N_NEAREST, _CUTOFF = 16, 6.0
#: structures whose mean distances to neighbours differ by more are not compared any further, Angstrom
_FAR = 0.25
#: with so many others, the nearest of other runs, a row is compared, in blocks of so many rows
_MOST_COMPARED, _BLOCK = 8, 500
#: so many pairs are compared without regard to cell and order of the atoms, which is slow
_MOST_MATCHED = 300


def group_rows(formulas: Ints, items: Sequence[Atoms | Mapping[int, float]], runs: Sequence[str]) -> tuple[Ints, str]:
    """Return the number of the group of each row, and what the groups are, in words.

    With at least five reduced formulas these are the groups.  With fewer, they are the runs, or the rows where there
    are no runs, and those that hold nearly the same structure are one group.  Where fewer than three groups remain,
    near duplicates are not held together, and with fewer than three runs nothing is: the words say so.

    Args:
        formulas: number of the reduced formula of each row, shape (n,).
        items: structures, or amounts of the elements.
        runs: the run that each row is a frame of, empty where there is none; no entries where nothing is known.
    """
    if len(np.unique(formulas)) >= _FEWEST_FORMULAS:
        return formulas, "reduced formula"
    has_runs = any(runs)
    names = [run or f"row {row}" for row, run in enumerate(runs or [""] * len(items))]
    labels = np.unique(names, return_inverse=True)[1].astype(np.int64)
    joined = _join_near(labels, formulas, items)
    reason = "since there are too few compositions"
    if len(np.unique(joined)) >= _FEWEST:
        return joined, f"{'run' if has_runs else 'structure'} with its near duplicates, {reason}"
    reason += " and too few different structures"
    if has_runs and len(np.unique(labels)) >= _FEWEST:
        return labels, f"run, {reason}"
    return np.arange(len(items)), f"row, {reason}"


def _join_near(labels: Ints, formulas: Ints, items: Sequence[Atoms | Mapping[int, float]]) -> Ints:
    """Return the labels with one number for those that have rows of nearly the same structure."""
    parent = np.arange(len(labels))  # of labels, which are fewer than rows

    def root(label: int) -> int:
        while parent[label] != label:
            label = int(parent[label])
        return label

    n_matched = 0
    for first, second in _candidates(labels, formulas, items):
        one, other = root(int(labels[first])), root(int(labels[second]))
        if one == other:
            continue
        atoms, others = items[first], items[second]
        if isinstance(atoms, Atoms) and isinstance(others, Atoms):
            is_near = is_same_crystal(atoms, others, match=False)
            if not is_near and n_matched < _MOST_MATCHED:
                n_matched += 1
                is_near = is_same_crystal(atoms, others)
        else:
            is_near = True  # all that is known is the formula
        if is_near:
            parent[max(one, other)] = min(one, other)
    return np.unique([root(int(label)) for label in labels], return_inverse=True)[1].astype(np.int64)


def _candidates(
    labels: Ints, formulas: Ints, items: Sequence[Atoms | Mapping[int, float]]
) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows of one formula and different labels that may have nearly the same structure, nearest first.

    Displacements by d change the mean distances to the nearest neighbours by at most 2 d, whatever the cell and the
    order of the atoms.
    """
    found: list[tuple[float, int, int]] = []
    for formula in np.unique(formulas):
        rows = np.flatnonzero(formulas == formula)
        structures = [atoms for row in rows.tolist() if isinstance(atoms := items[row], Atoms)]
        if len(structures) < len(rows):
            found += [(0.0, int(rows[0]), int(row)) for row in rows[1:]]
            continue
        shapes = _shapes(structures)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            distances = cdist(shapes[block], shapes, "chebyshev")
            distances[labels[rows[block]][:, None] == labels[rows][None, :]] = np.inf
            n_compared = min(_MOST_COMPARED, len(rows))
            nearest = np.argpartition(distances, n_compared - 1, axis=1)[:, :n_compared]
            for place, columns in enumerate(nearest):
                found += [
                    (float(distances[place, column]), int(rows[start + place]), int(rows[column]))
                    for column in columns
                    if distances[place, column] < _FAR
                ]
    for _, first, second in sorted(found):
        yield first, second


def _shapes(structures: Sequence[Atoms]) -> Floats:
    """Return the mean distances to the nearest neighbours in Angstrom, by element of the central atom.

    Args:
        structures: n structures of one reduced formula.

    Returns:
        Shape (n, number of elements x number of neighbours); neighbours that are too far count with the cutoff.
    """
    graphs = neighbor_graphs(structures, _CUTOFF)
    nearest = np.full((len(graphs.numbers), _N_NEAREST), _CUTOFF)
    order = np.lexsort((graphs.distances, graphs.centers))
    centers, distances = graphs.centers[order], graphs.distances[order]
    first = np.concatenate([[0], np.cumsum(graphs.n_neighbors)])[:-1]
    rank = np.arange(len(centers)) - first[centers]
    kept = rank < _N_NEAREST
    nearest[centers[kept], rank[kept]] = distances[kept]
    shapes = []
    for row in range(len(graphs)):
        atoms = graphs.atoms_of([row])
        numbers = graphs.numbers[atoms]
        shapes.append(np.concatenate([nearest[atoms][numbers == number].mean(axis=0) for number in np.unique(numbers)]))
    return np.array(shapes)

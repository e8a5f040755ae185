"""KS2022 of random solid solutions: a composition spread over a lattice, in cells drawn until the features converge.

The features are statistics over local environments, so those of a random solution are statistics over the environments
of many randomly occupied cells, pooled.  All cells have the same geometry: one tessellation serves them all, and a cell
costs a matrix product.  Atoms are dealt from decks that hold the elements in the wanted proportion, so that the pooled
composition meets the target to less than one atom at the end of each deck.  The features of the composition are those
of the target itself; in an equimolar alloy, chance would else decide which element is the most frequent.

What converges are means and mean absolute deviations.  Minima, maxima and ranges over sites grow with the logarithm of
the number of atoms, here as in pySIPFENN: in an infinite random solution every environment occurs, so that each minimum
is 0 and each maximum the largest difference between two elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.compositions import as_amounts
from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.ks2022 import features as ks
from ase_matprop.descriptors.ks2022.inputs import atoms_of, list_of_atoms
from ase_matprop.descriptors.ks2022.ordered import features_of
from ase_matprop.descriptors.sites import (
    SiteStatistics,
    chunks_of_structures,
    site_geometry,
    sphere_volume,
    structure_columns,
    sum_by_slot,
)
from ase_matprop.descriptors.tessellation import Tessellation
from ase_matprop.descriptors.voronoi import tessellate
from ase_matprop.errors import CompositionError, DescriptorError
from ase_matprop.structures.prototypes import Prototype, get_prototype

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_CELLS_PER_DECK = 16
_STRUCTURAL = 13  # features that the geometry alone decides


@dataclass(frozen=True, eq=False)
class RandomSolution:
    """Features of a random solid solution, and how they converged.

    Attributes:
        features: the 256 features over all cells drawn, shape (256,).
        prototype: name of the lattice.
        target: wanted fraction of each element, by symbol.
        realised: fraction of each element in the cells drawn, by symbol.
        n_cells: number of cells drawn.
        atoms_per_cell: number of atoms of one cell.
        converged: whether the criteria were met within the limit on the cells.
        tolerance: limit on the changes.
        history: features after each cell, shape (n_cells, 256).
        changes: largest change of each feature against the cells of the window before, in units of its scale (see
            :func:`feature_scale`); NaN before there is a whole window; shape (n_cells, 256).
        composition_deviation: mean absolute deviation from the target fractions after each cell, shape (n_cells,).
        fewest_atoms: number of atoms of the rarest element after each cell, shape (n_cells,).
    """

    features: FloatArray
    prototype: str
    target: dict[str, float]
    realised: dict[str, float]
    n_cells: int
    atoms_per_cell: int
    converged: bool
    tolerance: float
    history: FloatArray = field(repr=False)
    changes: FloatArray = field(repr=False)
    composition_deviation: FloatArray = field(repr=False)
    fewest_atoms: IntArray = field(repr=False)

    @property
    def n_atoms(self) -> int:
        """Number of atoms in all cells drawn."""
        return self.n_cells * self.atoms_per_cell

    def to_frame(self) -> pd.DataFrame:
        """Return the convergence record, a row for each cell drawn."""
        import pandas as pd

        labels = np.array(ks.feature_labels(), dtype=object)
        known = np.asarray(np.isfinite(self.changes).all(axis=1))
        worst = np.where(known[:, None], self.changes, 0.0).argmax(axis=1)
        return pd.DataFrame(
            {
                "atoms": self.atoms_per_cell * np.arange(1, self.n_cells + 1),
                "largest change": np.where(known, self.changes[np.arange(self.n_cells), worst], np.nan),
                "of feature": np.where(known, labels[worst], ""),
                "composition deviation": self.composition_deviation,
                "fewest atoms of an element": self.fewest_atoms,
            },
            index=pd.RangeIndex(1, self.n_cells + 1, name="cells"),
        )


def feature_scale() -> FloatArray:
    """Return the unit in which changes of the features are measured, shape (256,).

    The range of the elemental property from H to Pu, half of that for mean absolute deviations, and one for features
    that are no statistics of an elemental property.
    """
    spread = np.ptp(ks.properties()[1:95], axis=0)
    differences = spread[:, None] * np.array([1.0, 0.5, 1.0, 1.0, 1.0])
    composition = spread[:, None] * np.array([1.0, 1.0, 0.5, 1.0, 1.0, 1.0])
    return np.concatenate([np.ones(_STRUCTURAL), differences.ravel(), np.ones(6), composition.ravel(), np.ones(6)])


def random_solution(
    composition: Any,
    prototype: Any,
    *,
    min_atoms: int = 64,
    max_cells: int = 1000,
    tolerance: float = 0.002,
    composition_tolerance: float = 0.01,
    min_occurrences: int = 10,
    window: int = 4,
    seed: int = 0,
    require_convergence: bool = True,
) -> RandomSolution:
    """Compute the KS2022 features of a composition that is spread at random over a lattice.

    Cells are drawn until no feature changes by more than ``tolerance`` against any of the ``window`` cells before, the
    composition is met, and each element has occurred often enough.

    Args:
        composition: a formula such as ``"Fe50 Ni30 Cr20"``, a pymatgen ``Composition``, or what else
            :func:`ase_matprop.compositions.as_amounts` takes.
        prototype: name of a shipped prototype, a :class:`~ase_matprop.structures.prototypes.Prototype`, or a structure,
            whose elements do not count.
        min_atoms: the lattice is repeated along its shortest vector until the cell has this many atoms.
        max_cells: limit on the cells drawn.
        tolerance: limit on the changes of features, in units of :func:`feature_scale`.  pySIPFENN's criterion is about
            ``tolerance=0.005, window=2``, without the features that decrease.
        composition_tolerance: limit on the mean absolute deviation from the wanted element fractions.
        min_occurrences: how often each element has to occur in all cells together.
        window: how many earlier cells the features are compared with.
        seed: of the random numbers; the same one gives the same result.
        require_convergence: raise if the criteria are not met within ``max_cells``; otherwise ``converged`` says so.

    Raises:
        CompositionError: if this is no composition, or one that ``max_cells`` cells cannot represent.
        UnknownNameError: if there is no such prototype.
        StructureError: if the structure given for it is none.
        DescriptorError: if an element has no data, an option is out of range, or the features do not converge.
    """
    check_options(
        min_atoms=min_atoms,
        max_cells=max_cells,
        tolerance=tolerance,
        composition_tolerance=composition_tolerance,
        min_occurrences=min_occurrences,
        window=window,
        seed=seed,
    )
    name, cell = lattice_cell(prototype, min_atoms)
    amounts = dict(sorted(as_amounts(composition).items()))
    problem = ks.element_error(amounts)
    if problem is not None:
        raise DescriptorError(problem)
    numbers = np.array(list(amounts), dtype=np.int64)
    fractions = np.array(list(amounts.values()), dtype=float) / sum(amounts.values())
    _check_reach(numbers, fractions, len(cell), max_cells, min_occurrences)
    tessellation, (failure,) = tessellate([cell])
    if tessellation is None:
        raise DescriptorError(f"the lattice {name}: {failure}")

    pool = _Pool(tessellation, numbers, fractions)
    history: list[FloatArray] = []
    changes: list[FloatArray] = []
    deviations: list[float] = []
    fewest: list[int] = []
    scale, converged = feature_scale(), False
    for elements in _deal(fractions, len(cell), max_cells, np.random.default_rng(seed)):
        features, counts = pool.add(elements)
        history.append(features)
        previous = np.array(history[-1 - window : -1])
        change = np.abs(previous - features).max(axis=0) / scale if len(previous) == window else np.full(256, np.nan)
        changes.append(change)
        deviations.append(float(np.abs(counts / counts.sum() - fractions).mean()))
        fewest.append(int(counts.min()))
        converged = bool(
            change.max() <= tolerance and deviations[-1] <= composition_tolerance and fewest[-1] >= min_occurrences
        )
        if converged:
            break
    symbols = [chemical_symbols[number] for number in numbers]
    result = RandomSolution(
        features=history[-1],
        prototype=name,
        target=dict(zip(symbols, fractions.tolist(), strict=True)),
        realised=dict(zip(symbols, (counts / counts.sum()).tolist(), strict=True)),
        n_cells=len(history),
        atoms_per_cell=len(cell),
        converged=converged,
        tolerance=tolerance,
        history=np.array(history),
        changes=np.array(changes),
        composition_deviation=np.array(deviations),
        fewest_atoms=np.array(fewest),
    )
    if require_convergence and not converged:
        last = result.to_frame().iloc[-1]
        raise DescriptorError(
            f"the features of {' '.join(f'{s}{x:.3g}' for s, x in result.target.items())} on {name} did not converge "
            f"in {max_cells} cells of {len(cell)} atoms: the last change of {last['of feature']!r} is "
            f"{last['largest change']:.2g} (tolerance {tolerance:g}), the composition deviates by {deviations[-1]:.2g} "
            f"({composition_tolerance:g}), the rarest element occurs {fewest[-1]} times ({min_occurrences}). Raise "
            "max_cells, min_atoms or the tolerance, or set require_convergence=False."
        )
    return result


def pooled_features(cells: Sequence[Any]) -> FloatArray:
    """Return the KS2022 features over the environments of several cells together, shape (256,).

    For ensembles that were drawn elsewhere: special quasirandom structures, snapshots of a simulation.

    Args:
        cells: valid periodic Atoms, which are not checked again, or what else
            :func:`ase_matprop.structures.as_atoms` takes.

    Raises:
        DescriptorError: if there is no cell, or one of them has no features.
        StructureError: for what is no structure; the message has its number.
    """
    cells = list_of_atoms(cells, "cell")
    if not cells:
        raise DescriptorError("there are no cells to pool; give at least one")
    for index, atoms in enumerate(cells):
        problem = ks.atoms_error(atoms)
        if problem is not None:
            raise DescriptorError(f"cell {index}: {problem}")
    parts: list[Tessellation] = []
    for chunk in chunks_of_structures(cells, [None] * len(cells)):
        tessellation, failures = tessellate([cells[index] for index in chunk])
        for index, failure in zip(chunk, failures, strict=True):
            if failure is not None:
                raise DescriptorError(f"cell {index}: {failure}")
        assert tessellation is not None  # since nothing failed
        parts += tessellation.split()
    features: FloatArray = features_of(Tessellation.join(parts), cells, pooled=True)[0]
    return features


def check_options(
    *,
    min_atoms: int,
    max_cells: int,
    tolerance: float,
    composition_tolerance: float,
    min_occurrences: int,
    window: int,
    seed: int,
) -> None:
    """Raise a DescriptorError if an option of :func:`random_solution` is out of range."""
    whole = {"min_atoms": (min_atoms, 1), "max_cells": (max_cells, 1), "window": (window, 1)}
    whole |= {"min_occurrences": (min_occurrences, 0), "seed": (seed, 0)}
    for name, (value, least) in whole.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise DescriptorError(f"{name} must be a whole number of at least {least}. Got {value!r}.")
    for name, limit in (("tolerance", tolerance), ("composition_tolerance", composition_tolerance)):
        if isinstance(limit, bool) or not isinstance(limit, Real) or not limit > 0:
            raise DescriptorError(f"{name} must be a positive number. Got {limit!r}.")


def lattice_cell(prototype: Any, min_atoms: int) -> tuple[str, Atoms]:
    """Return the name of the lattice, and a cell of it that has enough atoms and is about as long as wide.

    Raises:
        UnknownNameError: if there is no such prototype.
        StructureError: if the structure given for it is none.
    """
    if isinstance(prototype, str):
        prototype = get_prototype(prototype)
    if isinstance(prototype, Prototype):
        name, atoms = prototype.name, prototype.atoms()
    else:
        atoms = atoms_of(prototype, "prototype")
        name = str(atoms.info.get("name", atoms.get_chemical_formula(mode="metal")))
    lengths = atoms.cell.lengths()
    repeats = np.ones(3, dtype=int)
    while len(atoms) * repeats.prod() < min_atoms:
        repeats[np.argmin(np.round(lengths * repeats, 6))] += 1
    return name, atoms.repeat(repeats)


def _check_reach(numbers: IntArray, fractions: FloatArray, n_sites: int, max_cells: int, min_occurrences: int) -> None:
    rarest = int(fractions.argmin())
    needed = max(min_occurrences, 1)
    if math.floor(fractions[rarest] * n_sites * max_cells) < needed:
        raise CompositionError(
            f"a fraction of {fractions[rarest]:.3g} of {chemical_symbols[numbers[rarest]]} cannot occur {needed} times "
            f"in {max_cells} cells of {n_sites} atoms; {math.ceil(needed / fractions[rarest])} atoms are needed in "
            "all: raise max_cells or min_atoms, or lower min_occurrences"
        )


def _deal(fractions: FloatArray, n_sites: int, max_cells: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield for each cell the index of the element on each site, shape (n_sites,)."""
    dealt = np.zeros(len(fractions), dtype=np.int64)
    for start in range(0, max_cells, _CELLS_PER_DECK):
        n_cells = min(_CELLS_PER_DECK, max_cells - start)
        wanted = fractions * (dealt.sum() + n_cells * n_sites)  # in all, so that rounding does not add up
        counts = np.maximum(np.floor(wanted + 1e-9).astype(np.int64) - dealt, 0)
        missing = n_cells * n_sites - int(counts.sum())
        counts[np.argsort(-(wanted - dealt - counts), kind="stable")[:missing]] += 1
        deck = np.repeat(np.arange(len(fractions)), counts)[: n_cells * n_sites]
        dealt += np.bincount(deck, minlength=len(fractions))
        yield from rng.permutation(deck).reshape(n_cells, n_sites)


class _Pool:
    """Environments of randomly occupied cells of one geometry."""

    def __init__(self, tessellation: Tessellation, numbers: IntArray, fractions: FloatArray) -> None:
        t = tessellation
        self.composition = ks.composition_features(ElementSlots(numbers[None], fractions[None], fractions[None]))[0]
        self.order = t.order  # the same seed puts the same atoms on the same sites
        self.site, self.neighbor, self.n_sites = t.site, t.neighbor, len(t.structure)
        geometry = site_geometry(t.site, t.area, t.distance, self.n_sites)
        self.share = t.area / geometry.area[t.site]
        over_sites = SiteStatistics(t.n_sites)
        packing = over_sites.total(sphere_volume(geometry.radius)) / t.cell_volumes
        self.fixed = np.concatenate([*structure_columns(over_sites, geometry, t.site_volumes), packing])
        q = ks.properties()[numbers]
        self.table = np.abs(q[:, None, :] - q[None, :, :])  # (elements, elements, properties)
        self.differences = np.empty((0, q.shape[1]))
        self.size = 0
        self.counts = np.zeros(len(numbers), dtype=np.int64)
        self.sum = np.zeros(q.shape[1])
        self.smallest, self.largest = np.full(q.shape[1], np.inf), np.full(q.shape[1], -np.inf)

    def add(self, elements: IntArray) -> tuple[FloatArray, IntArray]:
        """Add a cell; return the features of all so far, shape (256,), and the number of atoms of each element."""
        elements = elements[self.order]
        share = sum_by_slot(self.site, self.share, elements[self.neighbor], self.n_sites, len(self.table))
        new = np.einsum("se,sep->sp", share, self.table[elements])
        start, self.size = self.size, self.size + self.n_sites
        if self.size > len(self.differences):
            longer = np.empty((2 * self.size, new.shape[1]))
            longer[:start] = self.differences[:start]
            self.differences = longer
        self.differences[start : self.size] = new
        self.counts += np.bincount(elements, minlength=len(self.table))
        self.sum += new.sum(axis=0)
        self.smallest = np.minimum(self.smallest, new.min(axis=0))
        self.largest = np.maximum(self.largest, new.max(axis=0))
        mean = self.sum / self.size
        deviation = np.abs(self.differences[: self.size] - mean).mean(axis=0)
        five = np.column_stack([mean, deviation, self.smallest, self.largest, self.largest - self.smallest])

        return np.concatenate([self.fixed, five.ravel(), self.composition]), self.counts.copy()

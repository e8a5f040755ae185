r"""Distances to the convex hull for millions of candidates: facets once per chemical system, then matrix products.

The hull energy at a composition x (atom fractions) is the optimum of a linear programme and of its dual,

.. math:: E(x) = \min_{a \ge 0} \{a E : a X = x\} = \max_\mu \{\mu x : X \mu \le E\},

with the compositions X and energies E of the references.  The chemical potentials :math:`\mu` that can be a maximum are
those of the lower facets of the convex hull (S. P. Ong, L. Wang, B. Kang, G. Ceder, Chem. Mater. 20, 1798 (2008),
doi:10.1021/cm702327g), which Qhull finds; all candidates of a system are then one matrix product.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.spatial import ConvexHull, QhullError

from ase_matprop.compositions import reduced_formula
from ase_matprop.errors import CompositionError, MatPropError
from ase_matprop.screening.arguments import element_number
from ase_matprop.screening.hull.references import References
from ase_matprop.screening.spaces.base import FormulaBlock

#: chemical systems whose facets are kept
SYSTEMS_KEPT = 4096

#: atom fractions that are smaller are no decomposition product
SMALLEST_SHARE = 1e-6

#: a reference that is less far below the elements, in eV/atom, is no vertex (as in pymatgen)
_BELOW_ELEMENTS = 1e-11

#: in eV/atom; how far references may be below a facet
_SUPPORTING = 1e-9

#: volume of a facet's composition simplex, as a fraction of that of the whole system, below which it is degenerate
_SMALLEST_VOLUME = 1e-12

#: what the volumes of all facets may lack from 1
_MISSING_VOLUME = 1e-10

#: with more elements a hull has too many facets, and each candidate is a linear programme of its own
_MOST_ELEMENTS = 7

System = tuple[int, ...]


class ReferenceHull:
    """The convex hull of references, for any number of elements; facets are worked out when they are first needed.

    It holds the facets of the last :data:`SYSTEMS_KEPT` chemical systems, and can be pickled.

    Args:
        references: reference compounds with an end member for each element of the candidates.
        systems_kept: number of chemical systems whose facets are kept.
    """

    def __init__(self, references: References, systems_kept: int = SYSTEMS_KEPT) -> None:
        self.references = references
        self.systems_kept = systems_kept
        self._ends = references.end_members()
        self._element_energies = np.full(256, np.nan)
        self._element_energies[list(self._ends)] = references.energies[list(self._ends.values())]
        self._element_energies[0] = 0.0
        self._fractions = references.fractions()
        self._relative = references.energies - (self._fractions * self._element_energies[references.numbers]).sum(
            axis=1
        )
        self._own = self._rows_by_system()
        self._stable: dict[System, NDArray[np.int64]] = {}
        self._systems: OrderedDict[System, _SystemHull] = OrderedDict()

    def check_covers(self, elements: Iterable[str | int]) -> None:
        """Raise a ReferenceEnergyError if an element has no end member; see :meth:`References.check_covers`."""
        numbers = frozenset(map(element_number, elements))
        if not numbers <= self._ends.keys():
            self.references.check_covers(numbers)

    def energies(self, block: FormulaBlock) -> NDArray[np.float64]:
        """Return the energy of the hull at each composition.

        Args:
            block: n compositions, fastest where those of one chemical system follow one another.

        Returns:
            Energies of the most stable mixtures of references in eV/atom, shape (n,).

        Raises:
            CompositionError: if the elements of a formula are not in ascending order, or it has none.
            ReferenceEnergyError: if an element has no end member.
        """
        result = np.empty(len(block))
        for system, rows in self._groups(block):
            result[rows] = self._system(system).energies(_fractions_of(block, rows, len(system)))
        return result

    def e_above_hull(self, block: FormulaBlock, energies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far candidates are above the hull of the references, negative where they are below it.

        Args:
            block: n compositions.
            energies: their formation energies in eV/atom, shape (n,).

        Returns:
            Distances in eV/atom, shape (n,), NaN where the energy is.

        Raises:
            ReferenceEnergyError: if an element has no end member.
        """
        return np.asarray(energies, dtype=np.float64) - self.energies(block)

    def products(self, block: FormulaBlock) -> list[list[tuple[int, float]]]:
        """Return what each composition decomposes into.

        Returns:
            For each of n compositions the rows of the references and their shares, fractions of all atoms, the
            largest first.

        Raises:
            ReferenceEnergyError: if an element has no end member.
        """
        result: list[list[tuple[int, float]]] = [[] for _ in range(len(block))]
        for system, rows in self._groups(block):
            members, shares = self._system(system).products(_fractions_of(block, rows, len(system)))
            for row, found, amounts in zip(rows.tolist(), members.tolist(), shares.tolist(), strict=True):
                pairs = [pair for pair in zip(found, amounts, strict=True) if pair[1] > SMALLEST_SHARE]
                result[row] = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
        return result

    def decomposition(self, block: FormulaBlock) -> list[str]:
        """Return what each composition decomposes into, as text.

        The amounts are fractions of all atoms, not of formula units: ``"0.667 Fe2O3 + 0.333 Li2O"`` says that two
        thirds of the atoms end up in Fe2O3.  A composition that is itself on the hull gives its own formula.
        """
        return [written([(share, self.formula(row)) for row, share in pairs]) for pairs in self.products(block)]

    def formula(self, row: int) -> str:
        """Return the reduced formula of a reference."""
        numbers, amounts = self.references.numbers[row].tolist(), self.references.amounts[row].tolist()
        return reduced_formula({n: amount for n, amount in zip(numbers, amounts, strict=True) if n})

    def vertices(self, elements: Iterable[int]) -> NDArray[np.int64]:
        """Return the rows of the references that are stable in a chemical system, its end members among them."""
        system = tuple(sorted(elements))
        self.check_covers(system)
        return self._system(system).vertices()

    def _rows_by_system(self) -> dict[System, NDArray[np.int64]]:
        """Return for each chemical system the rows of its own compounds that are below the elements, once a
        composition.
        """
        numbers = self.references.numbers
        below = np.flatnonzero(self._relative < -_BELOW_ELEMENTS)
        seen: dict[System, dict[bytes, int]] = defaultdict(dict)
        keys = np.round(self._fractions[below], 9) + 0.0
        for row, key in zip(below.tolist(), keys, strict=True):
            system = tuple(filter(None, numbers[row].tolist()))
            best = seen[system].setdefault(key.tobytes(), row)
            if self._relative[row] < self._relative[best]:
                seen[system][key.tobytes()] = row
        return {system: np.array(sorted(rows.values())) for system, rows in seen.items()}

    def _groups(self, block: FormulaBlock) -> Iterator[tuple[System, NDArray[np.int64]]]:
        """Yield each chemical system of a block with its rows."""
        if not len(block):
            return
        numbers = np.asarray(block.numbers)
        if (numbers[:, 0] == 0).any():
            raise CompositionError(f"formula {np.flatnonzero(numbers[:, 0] == 0)[0]} of the block has no element")
        self.check_covers(set(np.flatnonzero(np.bincount(numbers.ravel())).tolist()) - {0})
        heads = np.flatnonzero(np.concatenate([[True], (numbers[1:] != numbers[:-1]).any(axis=1)]))
        before, after = numbers[heads, :-1], numbers[heads, 1:]
        disordered = ((after != 0) & ((before == 0) | (after <= before))).any(axis=1)
        if disordered.any():
            raise CompositionError(
                f"formula {heads[disordered.argmax()]} of the block does not have its elements in ascending order of "
                "atomic number, each once; FormulaBlock.of makes blocks that do"
            )
        ends = np.append(heads[1:], len(block)).tolist()
        runs: dict[System, list[NDArray[np.int64]]] = {}
        for head, end, system in zip(heads.tolist(), ends, numbers[heads].tolist(), strict=True):
            runs.setdefault(tuple(filter(None, system)), []).append(np.arange(head, end))
        for elements, rows in runs.items():
            yield elements, rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _system(self, system: System) -> _SystemHull:
        found = self._systems.get(system)
        if found is not None:
            self._systems.move_to_end(system)
            return found
        hull = self._systems[system] = self._compute(system)
        while len(self._systems) > self.systems_kept:
            self._systems.popitem(last=False)
        return hull

    def _compute(self, system: System) -> _SystemHull:
        """Return the hull of a system from its own compounds and those that are stable in a part of it.

        What is not stable in its own chemical system is no vertex of a larger one.
        """
        pools = [self._own[system]] if system in self._own else []
        pools += [self._stable_of(part) for part in self._parts(system)]
        ends = np.array([self._ends[number] for number in system])
        rows = np.concatenate([ends, *pools])
        place = np.full(256, len(system))
        place[list(system)] = range(len(system))
        fractions = np.zeros((len(rows), len(system) + 1))
        fractions[np.arange(len(rows))[:, None], place[self.references.numbers[rows]]] = self._fractions[rows]
        relative = self._relative[rows]
        relative[: len(system)] = 0.0
        return _SystemHull(rows, fractions[:, :-1], relative, self._element_energies[list(system)])

    def _parts(self, system: System) -> list[System]:
        """Return the chemical systems of compounds with some, but not all, elements of a system."""
        if len(system) > _MOST_ELEMENTS:
            return [part for part in self._own if set(part) < set(system)]
        sizes = range(2, len(system))
        parts = itertools.chain.from_iterable(itertools.combinations(system, size) for size in sizes)
        return [part for part in parts if part in self._own]

    def _stable_of(self, system: System) -> NDArray[np.int64]:
        """Return the rows of the compounds of all elements of a system that are vertices of its hull."""
        found = self._stable.get(system)
        if found is None:
            own = self._own[system]
            found = self._stable[system] = own[np.isin(own, self._compute(system).vertices())]
        return found


class _SystemHull:
    """The lower facets of the hull of one chemical system of d elements.

    Args:
        rows: rows of the references, the d end members first, shape (m,).
        fractions: their atom fractions, shape (m, d).
        relative: their energies relative to the end members, in eV/atom, shape (m,); none above 0.
        elements: energies of the end members, shape (d,).
    """

    def __init__(
        self,
        rows: NDArray[np.int64],
        fractions: NDArray[np.float64],
        relative: NDArray[np.float64],
        elements: NDArray[np.float64],
    ) -> None:
        self.rows = rows
        self.fractions = fractions
        self.relative = relative
        self.elements = elements
        found = _lower_facets(fractions, relative)
        #: corners of the facets, and chemical potentials relative to the end members; None where Qhull finds no hull
        self.facets: NDArray[np.int64] | None = None if found is None else found[0]
        self.potentials: NDArray[np.float64] | None = None if found is None else found[1]

    def energies(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the energies of the hull at fractions ``x`` of shape (n, d)."""
        if self.potentials is None:
            relative = np.array([linear_programme(self.fractions, self.relative, row)[0] for row in x])
        else:
            relative = (self.potentials @ x.T).max(axis=0)
        return relative + x @ self.elements

    def products(self, x: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return rows of the references and their shares, both of shape (n, d or m)."""
        if self.potentials is None or self.facets is None:
            shares = np.array([linear_programme(self.fractions, self.relative, row)[1] for row in x])
            return np.broadcast_to(self.rows, shares.shape), shares
        facets = self.facets[(self.potentials @ x.T).argmax(axis=0)]
        shares = np.linalg.solve(self.fractions[facets].transpose(0, 2, 1), x[:, :, None])[:, :, 0]
        # where facets are in one plane, the one that was found may not have the composition within it
        for outside in np.flatnonzero(shares.min(axis=1) < -SMALLEST_SHARE).tolist():
            facets[outside], shares[outside] = self._within(x[outside])
        return self.rows[facets], shares

    def _within(self, x: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the facet that has a composition within it, and the shares of its corners."""
        assert self.facets is not None
        corners = self.fractions[self.facets].transpose(0, 2, 1)
        shares = np.linalg.solve(corners, np.broadcast_to(x[:, None], (len(corners), len(x), 1)))[:, :, 0]
        best = shares.min(axis=1).argmax()
        return self.facets[best], shares[best]

    def vertices(self) -> NDArray[np.int64]:
        """Return the rows of the references that are corners of a facet; all of them where there are no facets."""
        return self.rows if self.facets is None else self.rows[np.unique(self.facets)]


def _lower_facets(
    fractions: NDArray[np.float64], relative: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Return the corners of the lower facets and the potentials, both (f, d); None if they do not cover the system."""
    m, d = fractions.shape
    if m == d:
        return np.arange(d)[None], np.zeros((1, d))
    if d > _MOST_ELEMENTS:
        return None
    top = np.full(d, 1.0 / d)
    top[-1] = 1.0 - relative.min()
    points = np.vstack([np.column_stack([fractions[:, 1:], relative]), top])
    try:
        facets = ConvexHull(points, qhull_options="Qt i").simplices
    except QhullError:
        return None
    facets = np.sort(facets[(facets < m).all(axis=1)].astype(np.int64), axis=1)
    volumes = np.abs(np.linalg.det(fractions[facets]))
    facets, volumes = (column[volumes > _SMALLEST_VOLUME] for column in (facets, volumes))
    potentials = np.linalg.solve(fractions[facets], relative[facets][:, :, None])[:, :, 0]
    supporting = (potentials @ fractions.T <= relative + _SUPPORTING).all(axis=1)
    if abs(volumes[supporting].sum() - 1.0) > _MISSING_VOLUME:
        return None
    return facets[supporting], potentials[supporting]


def linear_programme(
    fractions: NDArray[np.float64], energies: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the energy of the hull at one composition and the shares of the references.

    Args:
        fractions: atom fractions of the references, shape (m, d), with an end member for each of d elements.
        energies: their energies in eV/atom, shape (m,).
        x: atom fractions, shape (d,).

    Raises:
        MatPropError: if the solver fails.
    """
    found = linprog(energies, A_eq=fractions.T, b_eq=x, bounds=(0.0, None), method="highs")
    if not found.success:
        raise MatPropError(f"the energy of the hull at the fractions {x.tolist()} cannot be found: {found.message}")
    return float(found.fun), np.asarray(found.x)


def _fractions_of(block: FormulaBlock, rows: NDArray[np.int64], d: int) -> NDArray[np.float64]:
    amounts = np.asarray(block.amounts[rows, :d], dtype=np.float64)
    fractions: NDArray[np.float64] = amounts / amounts.sum(axis=1, keepdims=True)
    return fractions


def written(products: Iterable[tuple[float, str]]) -> str:
    """Return shares (fractions of all atoms) and formulas as text, the largest share first."""
    pairs = sorted(products, key=lambda pair: (-round(pair[0], 6), pair[1]))
    return pairs[0][1] if len(pairs) == 1 else " + ".join(f"{share:.3g} {formula}" for share, formula in pairs)


def system_name(elements: Iterable[int]) -> str:
    """Return the name of a chemical system, symbols in alphabetical order: ``"Fe-Li-O"``."""
    return "-".join(sorted(chemical_symbols[number] for number in elements))

"""Reference compounds and their formation energies: what a convex hull is made of."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.compositions import CompositionEntry, composition_entries
from ase_matprop.errors import ReferenceEnergyError
from ase_matprop.screening.arguments import element_number
from ase_matprop.screening.hull.reading import Rows, read_entries, read_materials_project, read_table
from ase_matprop.screening.spaces.base import FormulaBlock

#: rows that are named in a message
SHOWN = 5

#: no formation energy is as low, in eV/atom: the lowest ones, of fluorides, are near -4.6
LOWEST_FORMATION_ENERGY = -10.0

#: what the lowest entry of an element may differ from zero in a table of formation energies, in eV/atom
ELEMENT_TOLERANCE = 1.0


@dataclass(frozen=True, eq=False)
class References:
    """Reference compounds with their formation energies.

    One composition may occur any number of times; its lowest energy counts.

    Attributes:
        numbers: atomic numbers of the elements of each compound, ascending, padded with 0, shape (n, k).
        amounts: number of atoms of each in the formula unit, 0 where the number is, shape (n, k).
        energies: formation energies in eV/atom, shape (n,).
        ids: what each row is called in its database.
        source: file or database, for messages and reports.
        functional: how the energies were calculated, such as "PBE(+U)", or None where that is not known.
    """

    numbers: NDArray[np.uint8]
    amounts: NDArray[np.float64]
    energies: NDArray[np.float64]
    ids: list[str]
    source: str
    functional: str | None = None

    def __post_init__(self) -> None:
        n = len(self.energies)
        if self.numbers.shape != self.amounts.shape or len(self.numbers) != n or len(self.ids) != n:
            raise ReferenceEnergyError(
                f"references need as many compositions as energies and ids; got {len(self.numbers)} compositions, "
                f"{n} energies and {len(self.ids)} ids"
            )
        if not n:
            raise ReferenceEnergyError(f"{self.source} has no reference compound; give formulas and formation energies")

    def __len__(self) -> int:
        return len(self.energies)

    @classmethod
    def from_formulas(
        cls,
        formulas: Iterable[Any],
        energies: Sequence[float] | NDArray[np.float64],
        ids: Sequence[str] | None = None,
        source: str = "the references",
        functional: str | None = None,
        skip_bad: bool = False,
    ) -> References:
        """Return references from formulas, or whatever else has a composition.

        Args:
            formulas: one or more of what :func:`ase_matprop.compositions.composition_entries` takes.
            energies: formation energies in eV/atom.
            ids: names of the rows; their numbers, from 1, by default.
            source: what the messages call these references.
            functional: how the energies were calculated.
            skip_bad: leave out rows that cannot be used.

        Raises:
            ReferenceEnergyError: if a row has no formula or no formation energy, or the elements show that these are
                total energies.
        """
        values = np.asarray(energies, dtype=np.float64)
        rows = list(composition_entries(formulas))
        names = [str(number) for number in range(1, len(rows) + 1)] if ids is None else list(map(str, ids))
        if not len(rows) == len(values) == len(names):
            raise ReferenceEnergyError(
                f"{source} has {len(rows)} formulas, {len(values)} energies and {len(names)} ids; each row needs one"
            )
        reasons = [_fault(row, float(value)) for row, value in zip(rows, values, strict=True)]
        bad = [number for number, reason in enumerate(reasons) if reason]
        if bad and not skip_bad:
            shown = "; ".join(f"row {number + 1} ({rows[number].name}): {reasons[number]}" for number in bad[:SHOWN])
            more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            raise ReferenceEnergyError(
                f"{source}: {len(bad)} of {len(rows)} rows cannot be used: {shown}{more}; correct or remove them, or "
                "skip them (skip_bad, skip_bad_rows, --skip-bad-rows)"
            )
        good = [number for number, reason in enumerate(reasons) if not reason]
        block = FormulaBlock.of([rows[number].amounts or {} for number in good])
        references = cls(
            block.numbers, block.amounts, values[good], [names[number] for number in good], source, functional
        )
        references._check_formation_energies()
        return references

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        formula_column: str | None = None,
        energy_column: str | None = None,
        id_column: str | None = None,
        functional: str | None = None,
        skip_bad: bool = False,
    ) -> References:
        """Read a table of formulas and formation energies.

        Comment lines (``#``) may stand above the header; ``# functional: PBE(+U)`` among them says how the energies
        were calculated.

        Args:
            path: ``.csv``, plain or compressed (.gz, .xz, .bz2), or ``.parquet``.
            formula_column: column of formulas; by default ``formula``, ``composition``, ``reduced_formula`` or
                ``pretty_formula``.
            energy_column: column of formation energies in eV/atom; by default ``formation_energy_per_atom``,
                ``formation_energy``, ``e_form`` or ``delta_e``.
            id_column: column of names; by default ``id`` or ``material_id``, or the number of the row.
            functional: how the energies were calculated, instead of what the file says.
            skip_bad: leave out rows that cannot be used.

        Raises:
            ReferenceEnergyError: if the file cannot be read, has not these columns, or has rows that cannot be used.
        """
        return cls._from_rows(read_table(Path(path), formula_column, energy_column, id_column), functional, skip_bad)

    @classmethod
    def from_entries_json(cls, path: str | Path, functional: str | None = None, skip_bad: bool = False) -> References:
        """Read entries of pymatgen (``ComputedEntry``, ``ComputedStructureEntry``, ``PDEntry``).

        Args:
            path: JSON file, plain or compressed, with a list of entries or ``{"entries": [...]}``.  Their energies are
                total energies; formation energies are relative to the lowest entry of each element.
            functional: how the energies were calculated; by default what the entries say.
            skip_bad: leave out entries that cannot be used.

        Raises:
            ReferenceEnergyError: if the file has no entries, or an element has none.
        """
        return cls._from_rows(read_entries(Path(path)), functional, skip_bad)

    @classmethod
    def from_materials_project(cls, elements: Iterable[str | int], api_key: str | None = None) -> References:
        """Fetch formation energies (GGA and GGA+U, with the corrections of the Materials Project).

        Up to five elements: all entries of their chemical systems.  More: stable entries only, which are all that a
        hull needs.

        Args:
            elements: symbols or atomic numbers.
            api_key: key of the Materials Project; by default the environment variable ``MP_API_KEY``.

        Raises:
            MissingDependencyError: if the package mp-api is not installed.
            ReferenceEnergyError: without a key, or if the Materials Project does not answer.
        """
        numbers = frozenset(map(element_number, elements))
        rows = read_materials_project([chemical_symbols[number] for number in sorted(numbers)], api_key)
        return cls._from_rows(rows, None, skip_bad=True).restrict(numbers)

    @classmethod
    def _from_rows(cls, rows: Rows, functional: str | None, skip_bad: bool) -> References:
        return cls.from_formulas(
            rows.formulas, rows.energies, rows.ids, rows.source, functional or rows.functional, skip_bad
        )

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers of all elements that occur."""
        return frozenset(np.unique(self.numbers).tolist()) - {0}

    @property
    def block(self) -> FormulaBlock:
        """The compositions, as columns."""
        return FormulaBlock(self.numbers, self.amounts)

    def formulas(self) -> list[str]:
        """Return the formulas, metals first, with the amounts that were given."""
        return self.block.formulas()

    def fractions(self) -> NDArray[np.float64]:
        """Return the atom fractions, shape (n, k)."""
        shares: NDArray[np.float64] = self.amounts / self.amounts.sum(axis=1, keepdims=True)
        return shares

    def end_members(self) -> dict[int, int]:
        """Return for each element that has an entry of its own the row of the lowest one."""
        rows = np.flatnonzero((self.numbers > 0).sum(axis=1) == 1)
        found: dict[int, int] = {}
        for row in rows[np.argsort(self.energies[rows], kind="stable")].tolist():
            found.setdefault(int(self.numbers[row].max()), row)
        return found

    def check_covers(self, elements: Iterable[str | int]) -> None:
        """Raise a ReferenceEnergyError if one of ``elements`` has no entry of its own, an end member of the hull."""
        missing = sorted(frozenset(map(element_number, elements)) - self.end_members().keys())
        if missing:
            names = ", ".join(chemical_symbols[number] for number in missing)
            are = "is no entry of the element" if len(missing) == 1 else "are no entries of the elements"
            raise ReferenceEnergyError(
                f"there {are} {names} in {self.source}, so compounds of it have no hull; add a row with its formation "
                "energy, usually 0, or put all missing elements at zero (elements_at_zero, --elements-at-zero)"
            )

    def without_compounds(self, elements: Iterable[str | int]) -> list[str]:
        """Return the symbols of those of some elements of which there is no compound with others of them."""
        wanted = frozenset(map(element_number, elements))
        within = np.isin(self.numbers, [0, *wanted]).all(axis=1)
        compounds = self.numbers[within & ((self.numbers > 0).sum(axis=1) > 1)]
        return [chemical_symbols[number] for number in sorted(wanted - set(compounds.ravel().tolist()))]

    def with_elements_at_zero(self, elements: Iterable[str | int] | None = None) -> References:
        """Return the references with an entry of 0 eV/atom for each element that has none.

        Args:
            elements: symbols or atomic numbers; by default the elements of the references.
        """
        wanted = self.elements if elements is None else frozenset(map(element_number, elements))
        missing = sorted(wanted - self.end_members().keys())
        width = self.numbers.shape[1]
        numbers = np.zeros((len(missing), width), dtype=np.uint8)
        amounts = np.zeros((len(missing), width))
        numbers[:, 0], amounts[:, 0] = missing, 1.0
        return replace(
            self,
            numbers=np.concatenate([self.numbers, numbers]),
            amounts=np.concatenate([self.amounts, amounts]),
            energies=np.concatenate([self.energies, np.zeros(len(missing))]),
            ids=[*self.ids, *(f"{chemical_symbols[number]} at zero" for number in missing)],
        )

    def restrict(self, elements: Iterable[str | int]) -> References:
        """Return the references that have no other elements than these.

        Raises:
            ReferenceEnergyError: if none is left.
        """
        allowed = np.zeros(256, dtype=bool)
        allowed[[0, *frozenset(map(element_number, elements))]] = True
        return self.take(np.flatnonzero(allowed[self.numbers].all(axis=1)))

    def take(self, rows: NDArray[np.int64]) -> References:
        """Return some of the rows, in the order given."""
        return replace(
            self,
            numbers=self.numbers[rows],
            amounts=self.amounts[rows],
            energies=self.energies[rows],
            ids=[self.ids[row] for row in rows.tolist()],
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of compositions, energies and functional: what results depend on."""
        digest = hashlib.sha256(repr((self.numbers.shape, self.functional)).encode())
        for column, kind in ((self.numbers, np.uint8), (self.amounts, np.float64), (self.energies, np.float64)):
            digest.update(np.ascontiguousarray(column, dtype=kind).tobytes())
        return digest.hexdigest()

    def _check_formation_energies(self) -> None:
        ends = {number: float(self.energies[row]) for number, row in self.end_members().items()}
        odd = [number for number, energy in sorted(ends.items()) if abs(energy) > ELEMENT_TOLERANCE]
        if odd:
            shown = ", ".join(f"{chemical_symbols[number]} {ends[number]:.3f}" for number in odd[:SHOWN])
            raise ReferenceEnergyError(
                f"{self.source}: the elements are not near 0 eV/atom ({shown}), so these seem to be total energies; "
                "give formation energies, or the entries of pymatgen as JSON"
            )


def read_references(path: str | Path, functional: str | None = None, skip_bad: bool = False) -> References:
    """Read references from a table (.csv, .parquet) or from entries of pymatgen (.json), plain or compressed.

    Raises:
        ReferenceEnergyError: as :meth:`References.from_csv` and :meth:`References.from_entries_json`, and for another
            ending.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if ".json" in suffixes[-2:]:
        return References.from_entries_json(path, functional=functional, skip_bad=skip_bad)
    return References.from_csv(path, functional=functional, skip_bad=skip_bad)


def _fault(row: CompositionEntry, energy: float) -> str:
    """Return why a row cannot be used, empty where it can."""
    if row.error is not None:
        return row.error
    if not math.isfinite(energy):
        return f"its formation energy is {energy}"
    if energy < LOWEST_FORMATION_ENERGY:
        return f"{energy:.3f} eV/atom is no formation energy"
    return ""

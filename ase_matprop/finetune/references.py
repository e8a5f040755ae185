"""Reference energies of the elements: from total energies to formation energies.

    from ase_matprop.finetune import fitted_references, references_from_runs, references_from_table

    references = references_from_runs(read_vasp("runs/"))        # the elements' own calculations among the runs
    references = references_from_table({"O": -4.93, "Zr": -8.55})  # eV/atom, or the path of a CSV, JSON or YAML file
    references.formation_energy_per_atom(atoms, energy)

Where there are neither, a least-squares fit to the compounds themselves takes out most of what depends on the
composition only. Its result is not a formation energy, and is never called one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_matprop.compositions.formulas import parse_formula
from ase_matprop.errors import ReferenceEnergyError
from ase_matprop.finetune.reference_tables import checked_energies, missing_elements, read_table
from ase_matprop.finetune.vasp.runs import VaspRun, VaspRuns, lowest_of_elements

Kind = Literal["runs", "table", "fitted"]
Amounts = Mapping[str, float]

_PROPERTY_OF: dict[str, str] = {
    "runs": "formation_energy_per_atom",
    "table": "formation_energy_per_atom",
    "fitted": "energy_above_fitted_references_per_atom",
}
#: a singular value below this part of the largest is zero
_RANK_TOLERANCE = 1e-8
#: a part of a composition that is larger lies beyond those that were fitted
_BEYOND = 1e-6
#: parts of an undetermined direction that are named
_NAMED = 0.05


@dataclass(frozen=True)
class References:
    """Reference energies of elements.

    Attributes:
        kind: ``runs`` (calculations of the elements), ``table`` (given by the user) or ``fitted`` (least squares).
        energies: element -> energy, eV/atom.
        description: where they come from, for the model card.
        sources: element -> file of the calculation, for ``runs``.
        undetermined: for ``fitted``, the directions that the compositions leave open, in words.
        n_fitted: for ``fitted``, the number of energies they were fitted to.
        rank: for ``fitted``, the number of element energies that the compositions determine.
    """

    kind: Kind
    energies: dict[str, float]
    description: str
    sources: dict[str, str] = field(default_factory=dict)
    undetermined: tuple[str, ...] = ()
    n_fitted: int = 0
    rank: int = 0

    def formation_energy_per_atom(self, composition: Atoms | str | Amounts, energy: float) -> float:
        """Return the formation energy, eV/atom.

        Args:
            composition: atoms, a formula such as ``"Zr4O8"``, or element -> number of atoms.
            energy: total energy of just these atoms, eV.

        Raises:
            ReferenceEnergyError: if an element has no reference, or the references are fitted, which give no formation
                energy.
        """
        if self.kind == "fitted":
            raise ReferenceEnergyError(
                "fitted references give no formation energy, but an energy above fitted references: call "
                "relative_energy_per_atom, or use references_from_runs or references_from_table"
            )
        return self.relative_energy_per_atom(composition, energy)

    def relative_energy_per_atom(self, composition: Atoms | str | Amounts, energy: float) -> float:
        """Return the energy minus that of the references, eV/atom: the property that :attr:`property` names.

        Arguments and errors are those of :meth:`formation_energy_per_atom`.
        """
        amounts = element_amounts(composition)
        return (energy - self.reference_energy(amounts)) / sum(amounts.values())

    def total_energy(self, composition: Atoms | str | Amounts, value: float) -> float:
        """Return the total energy of the atoms, eV, from a ``value`` in eV/atom: the way back."""
        amounts = element_amounts(composition)
        return value * sum(amounts.values()) + self.reference_energy(amounts)

    def reference_energy(self, composition: Atoms | str | Amounts) -> float:
        """Return the energy of the atoms in their reference states, eV.

        Raises:
            ReferenceEnergyError: if an element has no reference.
        """
        amounts = element_amounts(composition)
        missing = sorted(amounts.keys() - self.energies.keys())
        if missing:
            raise ReferenceEnergyError(missing_elements(missing))
        return float(sum(amount * self.energies[element] for element, amount in amounts.items()))

    def to_dict(self) -> dict[str, Any]:
        """Return the references as JSON has them."""
        return {
            "kind": self.kind,
            "property": self.property,
            "unit": "eV/atom",
            "energies": dict(self.energies),
            "description": self.description,
            "sources": dict(self.sources),
            "undetermined": list(self.undetermined),
            "n_fitted": self.n_fitted,
            "rank": self.rank,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> References:
        """Return the references that :meth:`to_dict` wrote.

        Raises:
            ReferenceEnergyError: if the dictionary is none of those.
        """
        kind = data.get("kind")
        if kind not in _PROPERTY_OF or not isinstance(data.get("energies"), Mapping):
            raise ReferenceEnergyError(
                "this is no dictionary of reference energies; make one with References.to_dict()"
            )
        return cls(
            kind=kind,
            energies=checked_energies(data["energies"], "the references"),
            description=str(data.get("description", "")),
            sources=dict(data.get("sources", {})),
            undetermined=tuple(data.get("undetermined", ())),
            n_fitted=int(data.get("n_fitted", 0)),
            rank=int(data.get("rank", 0)),
        )

    @property  # the last of the class: the name hides the decorator
    def property(self) -> str:
        """Name of the property (see :mod:`ase_matprop.properties`) that these references make of a total energy."""
        return _PROPERTY_OF[self.kind]


def references_from_runs(
    runs: VaspRuns | Sequence[VaspRun], elements: Iterable[str] | None = None, *, allow_mixed: bool = False
) -> References:
    """Return the references from the calculations of the elements among the runs.

    For each element the run with the lowest energy per atom counts that is used, is a static calculation or a finished
    relaxation of a crystal (or of a molecule in a box, for elements that are gases), and was made with the settings of
    the others.

    Args:
        runs: runs of :func:`~ase_matprop.finetune.read_vasp`.
        elements: the elements that are needed; those of all runs that are used by default.
        allow_mixed: whether runs that do not go together may be there; the references are those of the largest set.

    Raises:
        ReferenceEnergyError: if an element has no run.
        IncompatibleRunsError: if the runs do not go together, unless ``allow_mixed``.
    """
    if not isinstance(runs, VaspRuns):
        runs = VaspRuns(runs, energy="sigma0")
    runs.check_usable()
    runs.check_compatible(allow_mixed)
    settings, members = runs.settings_sets()[0]
    lowest = lowest_of_elements(members)
    needed = sorted({e for run in members for e in run.elements} if elements is None else set(elements))
    missing = [element for element in needed if element not in lowest]
    if missing:
        raise ReferenceEnergyError(missing_elements(missing))
    return _of_runs({element: lowest[element] for element in needed}, runs, settings.describe())


def references_of_each(runs: VaspRuns) -> tuple[list[References], References]:
    """Return the references of each used run, and those that stand for all of them on a model card.

    Each run has the elements' runs that were made with its own settings, as far as there are any.  Where sets of
    settings are mixed, those of the largest set that has any stand for all.

    Raises:
        ReferenceEnergyError: if no run of an element can be a reference of any run.
    """
    used, sets = runs.used, runs.settings_sets()
    found = runs.references_of(used)
    if not any(found):
        raise ReferenceEnergyError(missing_elements(sorted({element for run in used for element in run.elements})))
    settings, lowest = next((settings, lowest) for settings, members in sets if (lowest := lowest_of_elements(members)))
    described = settings.describe()
    if len(sets) > 1:
        described += (
            f". {len(sets)} sets of settings are mixed: each run has the references of its own settings, and these "
            "are those of the largest set that has any"
        )
    return [_of_runs(each, runs, described) for each in found], _of_runs(lowest, runs, described)


def _of_runs(lowest: Mapping[str, VaspRun], runs: VaspRuns, settings: str) -> References:
    energy = "energy(sigma->0)" if runs.energy == "sigma0" else "free energy"
    return References(
        kind="runs",
        energies={element: run.energy_per_atom for element, run in lowest.items()},
        description=f"{energy} of own VASP calculations of the elements: {settings}",
        sources={element: run.path for element, run in lowest.items()},
    )


def references_from_table(
    table: Mapping[str, float] | str | os.PathLike[str], elements: Iterable[str] | None = None
) -> References:
    """Return references that the user gives.

    Args:
        table: element -> energy in eV/atom; or the path of a CSV file with the columns ``element`` and
            ``energy_per_atom``, or of a JSON or YAML file with element: energy.
        elements: the elements that are needed; all of the table by default.

    Raises:
        ReferenceEnergyError: if the table cannot be read, has something other than elements and energies, or lacks an
            element.
    """
    if isinstance(table, Mapping):
        values, name = dict(table), "the table of reference energies"
    else:
        values, name = read_table(Path(table)), str(table)
    energies = checked_energies(values, name)
    missing = sorted(set(elements or ()) - energies.keys())
    if missing:
        raise ReferenceEnergyError(missing_elements(missing, name))
    return References(kind="table", energies=energies, description=f"reference energies of the elements from {name}")


def fitted_references(
    compositions: Sequence[Atoms | str | Amounts], energies: Sequence[float] | np.ndarray
) -> References:
    """Return element energies that a least-squares fit makes of the compounds' own total energies.

    The energies per atom are fitted by the atomic fractions.  Where the compositions leave something open, the solution
    with the smallest sum of squares is taken, and a warning names what is open: energies of compositions outside of
    those that were fitted then have an arbitrary part.

    Args:
        compositions: atoms, formulas or element -> number of atoms.
        energies: total energy of just these atoms, eV, one for each.

    Raises:
        ReferenceEnergyError: if there is nothing to fit, or an energy is no number.
    """
    amounts = [element_amounts(composition) for composition in compositions]
    values = np.asarray(energies, dtype=np.float64)
    if not amounts or values.shape != (len(amounts),):
        raise ReferenceEnergyError(f"a fit needs one energy per composition; got {len(amounts)} and {values.size}")
    if not np.isfinite(values).all():
        raise ReferenceEnergyError(
            f"energy {int(np.flatnonzero(~np.isfinite(values))[0])} (from 0) is no number; leave it out"
        )
    elements = sorted({element for each in amounts for element in each})
    fractions = np.array([[each.get(element, 0.0) for element in elements] for each in amounts])
    sizes = fractions.sum(axis=1)
    fractions /= sizes[:, None]
    solution, _, rank, _ = np.linalg.lstsq(fractions, values / sizes, rcond=_RANK_TOLERANCE)
    undetermined = _open_directions(fractions, elements, int(rank))
    if undetermined:
        warnings.warn(
            f"{len(amounts)} compositions of {len(elements)} elements determine {rank} of {len(elements)} reference "
            f"energies; left open: {'; '.join(undetermined)}. The smallest solution is taken: add compounds of other "
            "compositions, or the elements themselves",
            UserWarning,
            stacklevel=2,
        )
    residual = values / sizes - fractions @ solution
    return References(
        kind="fitted",
        energies=dict(zip(elements, map(float, solution), strict=True)),
        description=f"least-squares fit to {len(amounts)} total energies (root mean square residual "
        f"{float(np.sqrt((residual**2).mean())):.4f} eV/atom, rank {rank} of {len(elements)}); not formation energies",
        undetermined=tuple(undetermined),
        n_fitted=len(amounts),
        rank=int(rank),
    )


def are_determined(fitted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return which compositions have a reference energy that a fit to other compositions determines, shape (n,).

    Args:
        fitted: atomic fractions that the fit is made to, shape (m, n_elements).
        wanted: atomic fractions that are asked for, shape (n, n_elements).
    """
    _, sizes, rows = np.linalg.svd(fitted, full_matrices=False)
    felt = rows[sizes > _RANK_TOLERANCE * sizes.max()]
    beyond = wanted - (wanted @ felt.T) @ felt
    return np.asarray(np.abs(beyond).max(axis=1) < _BEYOND)


def _open_directions(fractions: np.ndarray, elements: Sequence[str], rank: int) -> list[str]:
    """Return the directions of element energies that no composition feels, as sums of elements."""
    _, _, rows = np.linalg.svd(fractions, full_matrices=True)
    directions = rows[rank:]
    for place in range(len(directions)):  # reduced row echelon form: few elements in each
        column = int(np.abs(directions[place:]).max(axis=0).argmax())
        pivot = place + int(np.abs(directions[place:, column]).argmax())
        directions[[place, pivot]] = directions[[pivot, place]]
        directions[place] /= directions[place, column]
        for other in range(len(directions)):
            if other != place:
                directions[other] -= directions[other, column] * directions[place]
    texts = []
    for direction in directions:
        terms = [(value, element) for value, element in zip(direction, elements, strict=True) if abs(value) > _NAMED]
        text = " ".join(f"{'-' if value < 0 else '+'} {abs(value):.3g} {element}" for value, element in terms)
        texts.append(text.removeprefix("+ "))
    return texts


def element_amounts(composition: Atoms | str | Amounts) -> dict[str, float]:
    """Return the number of atoms of each element, by symbol."""
    if isinstance(composition, Atoms):
        return {str(element): float(count) for element, count in composition.symbols.formula.count().items()}
    if isinstance(composition, str):
        return {chemical_symbols[number]: amount for number, amount in parse_formula(composition).items()}
    return {str(element): float(amount) for element, amount in composition.items() if amount}

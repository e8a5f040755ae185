"""Runs as the user sees them; private part of :mod:`ase_matprop.finetune.vasp`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.errors import CalculationError, IncompatibleRunsError
from ase_matprop.finetune.vasp.settings import SettingsSet, VaspSettings

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_SETS = 6
#: elements whose reference state is a gas of molecules, so that a molecule in a box stands for it
GASES = frozenset({"H", "N", "O", "F", "Cl"})


@dataclass
class VaspRun:
    """One run.

    Attributes:
        path: the file that was read.
        status: ``used`` or ``rejected``.
        reason: why it is rejected and what to do, in one line; None for a run that is used.
        notes: what is worth knowing besides.
        formula: reduced formula, such as ``Fe2O3``; empty if the file does not tell.  The group of a split, too.
        n_atoms: number of atoms of the cell.
        calculation: static, relaxation, molecular dynamics, displacements, response or transition state.
        energy: energy of the cell, eV, by the chosen convention; NaN for a rejected run.
        settings: functional, cutoff energy and so on, or None if the file does not tell.
        n_steps: number of ionic steps in the file.
        n_dropped: number of those with unusable numbers.
        frames: the ionic steps that are used, with a calculator that has their results.
        main: the place among ``frames`` of the one that ``energy`` belongs to.
        is_final: whether the energy is that of a static calculation or of the end of a relaxation.
        vacuum: axes of the cell along which there is vacuum, such as ``c`` for a slab and ``abc`` for a molecule in a
            box; empty for a crystal.
        is_image: whether it is an image of a nudged elastic band, whose forces include those of the springs.
        magnetization: total magnetic moment at the end, Bohr magnetons; NaN if there is no OUTCAR.
        moments: magnetic moments of the atoms at the end, or None.
    """

    path: str
    status: str = "rejected"
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    formula: str = ""
    n_atoms: int = 0
    calculation: str = ""
    energy: float = math.nan
    settings: VaspSettings | None = None
    n_steps: int = 0
    n_dropped: int = 0
    frames: list[Atoms] = field(default_factory=list)
    main: int = -1
    is_final: bool = False
    vacuum: str = ""
    is_image: bool = False
    magnetization: float = math.nan
    moments: NDArray[np.float64] | None = None

    @property
    def is_used(self) -> bool:
        """Whether the run is used."""
        return self.status == "used"

    @property
    def energy_per_atom(self) -> float:
        """Energy per atom, eV; NaN for a rejected run."""
        return self.energy / self.n_atoms if self.n_atoms else math.nan

    @property
    def atoms(self) -> Atoms:
        """The frame that the energy belongs to."""
        return self.frames[self.main]

    @property
    def elements(self) -> frozenset[str]:
        """Symbols of the elements."""
        return self.settings.elements if self.settings is not None else frozenset()

    @property
    def is_isolated_atom(self) -> bool:
        """Whether it is a single atom with vacuum around it, which is the reference state of nothing."""
        return self.n_atoms == 1 and self.vacuum == "abc"

    @property
    def is_reference(self) -> bool:
        """Whether it can be the reference of an element.

        A used, finished run of one element: a crystal, or for hydrogen, nitrogen, oxygen, fluorine and chlorine a
        molecule in a box.  Slabs, wires, clusters and single atoms have energies above that of the reference state.
        """
        if not (self.is_used and self.is_final and len(self.elements) == 1):
            return False
        return not self.vacuum or (self.n_atoms > 1 and self.elements <= GASES)

    def reject(self, reason: str) -> None:
        """Take the run out of use."""
        self.status, self.reason, self.energy, self.frames, self.is_final = "rejected", reason, math.nan, [], False


class VaspRuns(Sequence[VaspRun]):
    """The runs of one or several folders.

    Args:
        runs: the runs, in order.
        energy: ``"sigma0"`` or ``"free"``, the convention of their energies.

    Attributes:
        runs: all runs.
        energy: the convention of the energies.
    """

    def __init__(self, runs: Sequence[VaspRun], *, energy: str) -> None:
        self.runs = list(runs)
        self.energy = energy

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.runs[index]

    def __iter__(self) -> Iterator[VaspRun]:
        return iter(self.runs)

    def __repr__(self) -> str:
        return f"VaspRuns({len(self.used)} used, {len(self.rejected)} rejected)"

    @property
    def used(self) -> list[VaspRun]:
        """The runs that are used."""
        return [run for run in self.runs if run.is_used]

    @property
    def rejected(self) -> list[VaspRun]:
        """The runs that are not, each with its reason."""
        return [run for run in self.runs if not run.is_used]

    @property
    def frames(self) -> list[Atoms]:
        """The frames of all runs that are used.

        Each has a ``SinglePointCalculator`` with ``energy`` (eV per cell, by the convention of the runs),
        ``free_energy``, and where the run has them ``forces`` (N, 3; eV/Angstrom) and ``stress`` (Voigt-6,
        eV/Angstrom^3, ASE's sign). ``info`` has ``name``, ``run`` (the path), ``step`` (from 0), ``group`` (reduced
        formula), ``functional``.
        """
        return [frame for run in self.used for frame in run.frames]

    def settings_sets(self) -> list[tuple[SettingsSet, list[VaspRun]]]:
        """Return the sets of used runs whose energies can be compared, the largest first.

        A run without the element in which two sets differ goes to the first that it fits; the order of the runs plays
        no part.
        """
        sets: list[tuple[SettingsSet, list[VaspRun]]] = []
        # runs with many elements first: they say most about their set
        for run in sorted(self.used, key=lambda run: (-len(run.elements), run.path)):
            assert run.settings is not None
            for each, members in sets:
                if not each.differences(run.settings):
                    each.add(run.settings)
                    members.append(run)
                    break
            else:
                sets.append((SettingsSet.of(run.settings), [run]))
        return sorted(sets, key=lambda entry: (-len(entry[1]), entry[1][0].path))

    def check_usable(self, minimum: int = 1) -> None:
        """Raise unless there are enough runs.

        Raises:
            CalculationError: if fewer than ``minimum`` runs are used; the message has the reasons and what to do.
        """
        if len(self.used) >= minimum:
            return
        reasons = Counter(run.reason or "" for run in self.rejected)
        listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
        needed = "" if minimum == 1 else f", and {minimum} are needed: add runs"
        raise CalculationError(
            f"{len(self.used)} of {len(self.runs)} VASP runs can be used{needed}"
            + (f". Reasons: {listed}" if listed else "")
            + (". The table of `matprop vasp FOLDER` has the reason of each" if len(reasons) > 3 else "")
        )

    def check_compatible(self, allow_mixed: bool = False) -> None:
        """Raise if the runs that are used do not go together.

        Args:
            allow_mixed: whether the user says that mixing is meant.

        Raises:
            IncompatibleRunsError: if functional, ENCUT, LASPH, or U or POTCAR of an element differ; the message lists
                the sets.
        """
        sets = self.settings_sets()
        if len(sets) > 1 and not allow_mixed:
            raise IncompatibleRunsError(
                f"{describe_sets(sets)}. Give the runs of one set only (column settings_set of `matprop vasp FOLDER`), "
                "or mix them with allow_mixed=True (--allow-mixed) if you know that their energies can be compared"
            )

    def formation_energies_per_atom(self) -> NDArray[np.float64]:
        """Return the formation energy of every run, eV/atom, from the elemental runs among them.

        The energy of an element is the lowest per atom of its runs that are used, final and made with settings that go
        with those of the run in question.  NaN where one is missing.
        """
        energies = np.full(len(self.runs), np.nan)
        used = [index for index, run in enumerate(self.runs) if run.is_used]
        for index, levels in zip(used, self.references_of([self.runs[i] for i in used]), strict=True):
            run = self.runs[index]
            symbols = run.atoms.get_chemical_symbols()
            missing = run.elements - levels.keys()
            if not missing:
                energies[index] = (run.energy - sum(levels[s].energy_per_atom for s in symbols)) / len(symbols)
        return energies

    def missing_elements(self) -> list[str]:
        """Return the elements that stand in the way of a formation energy.

        Of each there is a used run without an elemental run that goes with it.
        """
        used = self.used
        return sorted(
            {e for run, known in zip(used, self.references_of(used), strict=True) for e in run.elements - known.keys()}
        )

    def references_of(self, runs: Sequence[VaspRun]) -> list[dict[str, VaspRun]]:
        """Return for each of some used runs the references of its elements, as far as there are any.

        That is the run of the element with the lowest energy per atom, among those whose settings go with those of the
        run in question: where sets of runs are mixed, each has references of its own.
        """
        elemental = [run for run in self.runs if run.is_reference]
        found = []
        for run in runs:
            assert run.settings is not None
            own = SettingsSet.of(run.settings)
            fitting = [
                other
                for other in elemental
                if other.elements <= run.elements and other.settings and not own.differences(other.settings)
            ]
            found.append(lowest_of_elements(fitting))
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return one row per run; docs/vasp.md lists the columns.  Energies in eV/atom, NaN where there is none."""
        import pandas as pd

        set_of = {id(run): number for number, (_, runs) in enumerate(self.settings_sets(), start=1) for run in runs}
        rows = []
        for run, formation in zip(self.runs, self.formation_energies_per_atom(), strict=True):
            settings = run.settings
            rows.append(
                {
                    "path": run.path,
                    "formula": run.formula,
                    "n_atoms": run.n_atoms,
                    "energy_per_atom": run.energy_per_atom,
                    "formation_energy_per_atom": formation,
                    "functional": settings.label if settings else "",
                    "status": run.status,
                    "reason": run.reason,
                    "notes": "; ".join(run.notes) or None,
                    "calculation": run.calculation,
                    "n_steps": run.n_steps,
                    "n_used": len(run.frames),
                    "n_dropped": run.n_dropped,
                    "settings_set": set_of.get(id(run), 0),
                    "encut": settings.encut if settings else math.nan,
                    "hubbard_u": _joined(settings.hubbard_u) if settings else "",
                    "potcars": "; ".join(settings.potcars[e] for e in sorted(settings.potcars)) if settings else "",
                    "kpoints": settings.kpoints if settings else "",
                    "kpoint_density": settings.kpoint_density if settings else math.nan,
                    "kpoint_spacing": settings.kpoint_spacing if settings else math.nan,
                    "spin": settings.spin if settings else "",
                    "magnetization": run.magnetization,
                    "vasp_version": settings.version if settings else "",
                }
            )
        return pd.DataFrame(rows)


def describe_sets(sets: Sequence[tuple[SettingsSet, Sequence[VaspRun]]]) -> str:
    """Return in words how the runs differ, and which sets there are."""
    first = sets[0][0]
    different = {
        word
        for _, runs in sets[1:]
        for run in runs
        if run.settings is not None
        for word in first.differences(run.settings)
    }
    listed = [
        f"set {number}: {len(runs)} run{'' if len(runs) == 1 else 's'} with {each.describe(different)}, such as "
        f"{runs[0].path}"
        for number, (each, runs) in enumerate(sets, start=1)
    ]
    more = [f"and {len(listed) - _SHOWN_SETS} more sets"] if len(listed) > _SHOWN_SETS else []
    sets_in_words = ". ".join(listed[:_SHOWN_SETS] + more)
    return f"the runs do not go together, they differ in {', '.join(sorted(different))} ({sets_in_words})"


def lowest_of_elements(runs: Sequence[VaspRun]) -> dict[str, VaspRun]:
    """Return for each element the run with the lowest energy per atom among those that can be its reference."""
    lowest: dict[str, VaspRun] = {}
    for run in runs:
        if run.is_reference:
            (element,) = run.elements
            if element not in lowest or run.energy_per_atom < lowest[element].energy_per_atom:
                lowest[element] = run
    return lowest


def _joined(values: dict[str, float]) -> str:
    return ", ".join(f"{element} {value:g}" for element, value in values.items())

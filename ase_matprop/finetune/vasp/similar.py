"""Duplicates, near duplicates, magnetic orderings; private part of :mod:`ase_matprop.finetune.vasp`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray

from ase_matprop.finetune.vasp.runs import VaspRun
from ase_matprop.finetune.vasp.settings import SettingsSet

#: two energies of a cell are the same number, eV
_SAME_ENERGY = 1e-6
#: an OUTCAR writes five decimals, Angstrom
_SAME_POSITION = 1e-3
#: atoms displaced by less than this are nearly where they were, Angstrom
_NEAR_POSITION = 0.1
#: volumes per atom of structures that are compared differ by less than this part
_NEAR_VOLUME = 0.05
#: more atoms are compared site by site only
_MOST_ATOMS = 100
#: with so many others, the nearest in volume, a run is compared
_MOST_COMPARED = 8
#: magnetic moments per atom that differ by more are another ordering, Bohr magnetons
_SAME_MOMENT = 0.1
#: energies must differ by more than this for another ordering where the moments alone do not tell, eV/atom
_SAME_MAGNETIC_ENERGY = 1e-3


def mark_similar(runs: Sequence[VaspRun]) -> None:
    """Reject the later copies of a run, and note runs of nearly one structure.

    Two runs are copies if structure, settings and energy are the same.  Runs of nearly one structure stay in use: the
    notes say so, and say where the two differ in magnetic ordering.
    """
    by_formula: dict[tuple[str, int], list[VaspRun]] = defaultdict(list)
    for run in runs:
        if not run.is_used:
            continue
        same_cell = by_formula[run.formula, run.n_atoms]
        original = next((other for other in same_cell if _is_copy(run, other)), None)
        if original is None:
            same_cell.append(run)
        else:
            run.reject(f"duplicate of {original.path}: same structure, settings and energy")
    groups: dict[str, list[VaspRun]] = defaultdict(list)
    for run in runs:
        if run.is_used:
            groups[run.formula].append(run)
    for group in groups.values():
        for position, run in enumerate(group[1:], start=1):
            _note_nearest(run, group[:position])


def _is_copy(run: VaspRun, other: VaspRun) -> bool:
    assert run.settings is not None and other.settings is not None
    return (
        abs(run.energy - other.energy) < _SAME_ENERGY
        and len(run.frames) == len(other.frames)
        and run.is_final == other.is_final
        and not SettingsSet.of(other.settings).differences(run.settings)
        and _displacement(run.atoms, other.atoms) < _SAME_POSITION
    )


def _note_nearest(run: VaspRun, earlier: Sequence[VaspRun]) -> None:
    assert run.settings is not None
    volume = run.atoms.get_volume() / run.n_atoms
    distances = [
        (abs(other.atoms.get_volume() / other.n_atoms / volume - 1.0), index) for index, other in enumerate(earlier)
    ]
    near = sorted(entry for entry in distances if entry[0] < _NEAR_VOLUME)[:_MOST_COMPARED]
    for other in (earlier[index] for _, index in near):
        if not is_same_crystal(run.atoms, other.atoms):
            continue
        assert other.settings is not None
        difference = run.energy_per_atom - other.energy_per_atom
        if run.settings.label != other.settings.label:
            note = f"nearly the structure of {other.path}, with {other.settings.label} there"
        elif not _same_magnetism(run, other, difference):
            note = (
                f"the structure of {other.path} in another magnetic ordering ({1000 * difference:+.1f} meV/atom): a "
                "network cannot tell the two apart"
            )
        else:
            note = f"nearly the structure of {other.path}: the two belong on one side of a split"
        run.notes.append(note)
        return


def _displacement(atoms: Atoms, other: Atoms) -> float:
    """Return how far atoms and lattice vectors are apart at most, Angstrom; infinite for atoms in another order."""
    if len(atoms) != len(other) or (atoms.numbers != other.numbers).any():
        return math.inf
    cells = float(np.abs(atoms.cell.array - other.cell.array).max())
    if cells > 1.0:
        return math.inf
    shift = (atoms.get_scaled_positions() - other.get_scaled_positions()) @ atoms.cell.array
    _, lengths = find_mic(shift, atoms.cell, pbc=True)
    return max(cells, float(lengths.max()))


def is_same_crystal(atoms: Atoms, other: Atoms, *, match: bool = True) -> bool:
    """Return whether two structures of one formula are nearly the same: displaced by less than 0.1 Angstrom, or so.

    Args:
        atoms: a structure.
        other: another one.
        match: whether it may be the same in another cell, or with its atoms in another order.
    """
    if _displacement(atoms, other) < _NEAR_POSITION:
        return True
    if not match or max(len(atoms), len(other)) > _MOST_ATOMS:
        return False
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(ltol=0.05, stol=0.1, angle_tol=3, scale=False)
    return bool(matcher.fit(_structure(atoms), _structure(other)))


def _structure(atoms: Atoms) -> Any:
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice(atoms.cell.array), atoms.get_chemical_symbols(), atoms.get_scaled_positions())


def _same_magnetism(run: VaspRun, other: VaspRun, difference: float) -> bool:
    """Return whether two runs of one structure have, as far as is known, one magnetic ordering.

    Args:
        run: a run.
        other: a run of nearly the same structure.
        difference: energy per atom of the first minus that of the second, eV.
    """
    equal_energies = abs(difference) < _SAME_MAGNETIC_ENERGY
    for final in (True, False):
        moments, others = _moments(run, final=final), _moments(other, final=final)
        if moments is None or others is None:
            continue
        sums, other_sums = _sums(moments, run.n_atoms), _sums(others, other.n_atoms)
        if np.abs(sums - other_sums).max() > _SAME_MOMENT:
            return not final and equal_energies  # moments of the INCAR may vanish on the way
        if _displacement(run.atoms, other.atoms) < _NEAR_POSITION and len(moments) == len(others) == run.n_atoms:
            apart = min(np.abs(moments - others).max(), np.abs(moments + others).max())
            return bool(apart <= _SAME_MOMENT) or equal_energies
        # cells of several sizes, as those of antiferromagnets: only the energies tell
        is_antiferromagnet = sums[0] <= _SAME_MOMENT < sums[1]
        return equal_energies or not is_antiferromagnet
    if math.isfinite(run.magnetization) and math.isfinite(other.magnetization):
        return abs(abs(run.magnetization) / run.n_atoms - abs(other.magnetization) / other.n_atoms) <= _SAME_MOMENT
    return True


def _moments(run: VaspRun, *, final: bool) -> NDArray[np.float64] | None:
    assert run.settings is not None
    if run.settings.spin == "none":
        return np.zeros(run.n_atoms)
    if final:
        return run.moments
    return np.array(run.settings.magmom) if run.settings.magmom else None


def _sums(moments: NDArray[np.float64], n_atoms: int) -> NDArray[np.float64]:
    """Return the total moment and the sum of the absolute moments, per atom: the same for a larger cell."""
    return np.array([abs(moments.sum()), np.abs(moments).sum()]) / n_atoms

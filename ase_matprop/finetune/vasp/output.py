"""What both readers make of a run: its ionic steps and how it was controlled; private part of :mod:`..vasp`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from ase_matprop.finetune.vasp.functional import is_true, number
from ase_matprop.finetune.vasp.settings import VaspSettings

Floats = NDArray[np.float64]

#: VASP's stress in kbar, positive under compression -> ASE's in eV/Angstrom^3, negative under compression
KBAR_TO_ASE_STRESS = -0.1 * GPa
#: VASP's pressure in kbar -> eV/Angstrom^3
KBAR = 0.1 * GPa


@dataclass
class IonicStep:
    """One ionic step.

    Attributes:
        atoms: the structure that the numbers below belong to (Angstrom), or None.
        free_energy: free energy F of the cell, eV, without PV; what the forces are the derivative of.
        sigma0: energy(sigma->0) of the cell, eV, without PV.
        n_electronic: number of electronic steps, 0 where there were none.
        converged: whether the electronic steps reached EDIFF.
        forces: (N, 3), eV/Angstrom, or None.
        stress: Voigt-6 in ASE's order and sign, eV/Angstrom^3, or None.
        problem: why the numbers cannot be used, or None.
    """

    atoms: Atoms | None
    free_energy: float = math.nan
    sigma0: float = math.nan
    n_electronic: int = 0
    converged: bool = False
    forces: Floats | None = None
    stress: Floats | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Tags:
    """The tags of VASP that decide what the steps of a run mean.

    Attributes:
        algorithm: ALGO, in capitals.
        nelm: NELM, the largest number of electronic steps.
        nsw: NSW, the largest number of ionic steps.
        ibrion: IBRION, what moves the ions.
        isif: ISIF, what of the cell may change and whether there is a stress.
        ediffg: EDIFFG, where a relaxation ends: eV, or if negative eV/Angstrom.
        icharg: ICHARG; from 10 on the charge density is kept fixed.
        pstress: PSTRESS, kbar.
        images: IMAGES, the number of images of a nudged elastic band.
        response: whether a linear response follows the electronic steps of a structure.
        force_field: whether VASP's machine-learned force field was in use.
    """

    algorithm: str = "NORMAL"
    nelm: int = 60
    nsw: int = 0
    ibrion: int = -1
    isif: int = 2
    ediffg: float = 0.0
    icharg: int = 2
    pstress: float = 0.0
    images: int = 0
    response: bool = False
    force_field: bool = False

    @property
    def calculation(self) -> str:
        """Static, relaxation, molecular dynamics, displacements, response or transition state."""
        if self.nsw <= 0 or self.ibrion == -1:
            return "response" if self.response else "static"
        return {
            0: "molecular dynamics",
            1: "relaxation",
            2: "relaxation",
            3: "relaxation",
            5: "displacements",
            6: "displacements",
            7: "response",
            8: "response",
            40: "transition state",
            44: "transition state",
        }.get(self.ibrion, f"IBRION = {self.ibrion}")


def tags_from(values: Mapping[str, Any]) -> Tags:
    """Return the tags from VASP's own names (capitals) and values, with VASP's defaults for those that are missing."""
    nsw = int(number(values.get("NSW"), 0))
    ibrion = int(number(values.get("IBRION"), -1 if nsw <= 0 else 0))
    words = str(values.get("ALGO") or "NORMAL").upper().split()
    return Tags(
        algorithm=words[0] if words else "NORMAL",
        nelm=int(number(values.get("NELM"), 60)),
        nsw=nsw,
        ibrion=ibrion,
        isif=int(number(values.get("ISIF"), 0 if ibrion == 0 else 2)),
        ediffg=number(values.get("EDIFFG"), 0.0),
        icharg=int(number(values.get("ICHARG"), 2)),
        pstress=number(values.get("PSTRESS"), 0.0),
        images=int(number(values.get("IMAGES"), 0)),
        response=is_true(values.get("LEPSILON")) or is_true(values.get("LCALCEPS")) or ibrion in (7, 8),
        force_field=is_true(values.get("ML_LMLFF")),
    )


@dataclass
class VaspOutput:
    """A run as it stands in its files.

    Attributes:
        settings: what decides with which other runs its energies can be compared.
        steps: all ionic steps.
        initial: the structure that the run began with, or None.
        tags: VASP's own names of the settings and their values, for what this package asks of them.
        free: (N, 3) whether a coordinate may move (selective dynamics), or None for all.
        reached_accuracy: whether VASP said that the relaxation is done; None where the file does not say.
        unfinished: why the run is not at its end, and the remedy; None if it is.
        magnetization: total magnetic moment of the cell at the end, Bohr magnetons; NaN where it is not known.
        moments: magnetic moments of the atoms at the end, Bohr magnetons, or None.
    """

    settings: VaspSettings
    steps: list[IonicStep]
    tags: Tags
    initial: Atoms | None = None
    free: NDArray[np.bool_] | None = None
    reached_accuracy: bool | None = None
    unfinished: str | None = None
    magnetization: float = math.nan
    moments: Floats | None = None
    notes: list[str] = field(default_factory=list)

"""Runs that are made by hand, and ways to get at single ones of those that were read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ase_matprop.finetune import VaspRun, VaspRuns
from ase_matprop.finetune.vasp import VaspSettings


def by_name(runs: VaspRuns, folder: Path) -> dict[str, VaspRun]:
    """The runs by their path below a folder."""
    return {str(Path(run.path).relative_to(folder)): run for run in runs}


def only(runs: VaspRuns) -> VaspRun:
    """The run, of which there is one."""
    (run,) = runs
    return run


def made_run(
    path: str, atoms: Atoms, energy: float, functional: str = "PBE", *, free_energy: float | None = None, **changes
) -> VaspRun:
    """A finished static run with the energy of the cell in eV; ``changes`` are other attributes of it."""
    frame = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True, info={"name": path, "run": path})
    forces = np.zeros((len(frame), 3))
    free = energy if free_energy is None else free_energy
    frame.calc = SinglePointCalculator(frame, energy=energy, free_energy=free, forces=forces)
    run = VaspRun(
        path,
        "used",
        formula=str(frame.symbols.formula.reduce()[0]),
        n_atoms=len(frame),
        calculation="static",
        energy=energy,
        settings=VaspSettings(functional, {}, {}, frozenset(frame.symbols), 500.0),
        n_steps=1,
        frames=[frame],
        main=0,
        is_final=True,
    )
    for name, value in changes.items():
        setattr(run, name, value)
    return run

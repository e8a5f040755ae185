"""VASP runs: the one place that finds, reads and judges them.

A folder of calculations becomes one :class:`VaspRun` per run, with the reason where a run is not used, and ASE frames
of the others whose energies, forces and stresses are in ASE's units and signs.  Files are read with pymatgen; nothing
is written.  docs/vasp.md says which number is taken from where, and what is refused.
"""

from ase_matprop.finetune.vasp.read import read_vasp
from ase_matprop.finetune.vasp.runs import VaspRun, VaspRuns
from ase_matprop.finetune.vasp.settings import VaspSettings

__all__ = ["VaspRun", "VaspRuns", "VaspSettings", "read_vasp"]

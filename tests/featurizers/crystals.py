"""Structures that the tests of the featurizers share, and ten rows that no featurizer of structures can take."""

from __future__ import annotations

import math

from ase import Atoms
from pymatgen.core import Lattice, Molecule, Structure

NACL = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
FEO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.33), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CSCL = Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
DISORDERED = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Ni": 0.5}], [[0, 0, 0]])
FLEROVIUM = Structure(Lattice.cubic(4.0), ["Fl", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])  # no table has it

WATER = Molecule(["O", "H", "H"], [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
TWICE = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.01]])
FLAT = Structure(Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), ["Na"], [[0, 0, 0]])

#: a row and a word of the reason why it has no features
BROKEN = [
    (None, "None"),
    (math.nan, "float"),
    (7, "int"),
    ("no such file.cif", "does not exist"),
    ([NACL, NACL], "list"),
    (WATER, "Molecule"),
    (DISORDERED, "disordered"),
    (TWICE, "apart|closer|distance"),
    (FLAT, "volume|flat"),
    (Atoms(), "no atoms"),
]

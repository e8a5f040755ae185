"""A script as many have it: relax, fit an equation of state, compare two structures.  With ASE's EMT potential."""

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa


def calculator():
    return EMT()


# 1. relax cell and positions of L1_2 Cu3Au from a poor guess
atoms = bulk("Cu", "fcc", a=3.65, cubic=True)
atoms.symbols[0] = "Au"
atoms.rattle(0.02, seed=1)
atoms.calc = calculator()
optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)
converged = optimizer.run(fmax=0.02, steps=60)
print(f"Cu3Au: a = {atoms.get_volume() ** (1 / 3):.3f} Angstrom after {optimizer.nsteps} steps, converged: {converged}")

# 2. equation of state around it
volumes, energies = [], []
for strain in np.linspace(0.98, 1.02, 7):
    strained = atoms.copy()
    strained.set_cell(atoms.cell * strain, scale_atoms=True)
    strained.calc = calculator()
    volumes.append(strained.get_volume())
    energies.append(strained.get_potential_energy())
v0, e0, bulk_modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
print(f"equation of state: a = {v0 ** (1 / 3):.3f} Angstrom, bulk modulus {bulk_modulus / GPa:.0f} GPa")

# 3. static energies of two structures
for name, a in (("fcc", 3.61), ("bcc", 2.87)):
    copper = bulk("Cu", name, a=a)
    copper.calc = calculator()
    print(f"Cu, {name}: {copper.get_potential_energy() / len(copper):.3f} eV/atom")

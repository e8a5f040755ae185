"""Formation energies through ASE's calculator interface: only the calculator line is new in an existing script."""

from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError

from ase_matprop import MatProp

# rock salt against cesium chloride structure, each at its own volume
calculator = MatProp("irnet17-mp")
for name, atoms in {
    "rock salt": bulk("NaCl", "rocksalt", a=5.64),
    "cesium chloride": bulk("NaCl", "cesiumchloride", a=3.49),
}.items():
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    spread = calculator.predictions.spread[0]
    print(f"NaCl, {name}: {energy:.3f} eV per cell, {energy / len(atoms):.3f} eV/atom, ensemble spread {spread:.3f}")

# a network on descriptors has no forces, and says so
try:
    atoms.get_forces()
except PropertyNotImplementedError as error:
    print(f"forces: {error}")

# total energies on the scale of one's own references (here invented ones, eV per atom of Na and of Cl2)
atoms.calc = MatProp("irnet17-mp", reference_energies={"Na": -1.31, "Cl": -1.83})
print(f"with references: {atoms.get_potential_energy():.3f} eV per cell")

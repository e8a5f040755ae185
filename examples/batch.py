"""Many structures at once: from files or objects to a table, with the reason for each that fails."""

from pathlib import Path

from ase import Atoms
from ase.build import bulk

from ase_matprop import load_model, predict

folder = Path(__file__).parent / "structures"

# a folder: one row per structure
print(predict(folder).to_frame()[["formula", "n_atoms", "formation_energy_per_atom", "unit"]].to_string(index=False))

# objects: one row per input, and a bad one costs its own row only
model = load_model("irnet17-mp")
molecule = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
result = model.predict([bulk("NiAl", "cesiumchloride", 2.887), molecule])
for name, value, error in zip(result.names, result.values, result.errors, strict=True):
    print(f"{name}: {error if error else f'{value:.3f} {result.unit}'}")

# how far to trust it: the card that every model carries
test = model.card.errors["test"]
print(f"{model.card.name}: mean absolute error {test.mae:.3f} {model.card.unit} on {test.n} held-out structures")

"""The 243 endmembers of the Fe-Cr-Ni sigma phase, from its prototype to formation energies.

python examples/sigma_phase/run.py [FIGURE.png]

The thermodynamic (CALPHAD) model of sigma has five sublattices; with three elements on each there are 3^5 endmembers,
few of which exist.  Their formation energies are what the model needs, and took SIPFENN's authors months of DFT
(doi:10.1016/j.commatsci.2022.111254, section 3.4).  Here they are built from the prototype and predicted.

If MATPROP_DATA names the folder of the calculated ones (doi:10.48550/arXiv.2011.10883), the error is measured as well:
0.11 eV/atom, and no rank correlation.  Frank-Kasper phases are rare in the training set, so that these numbers are a
start and not yet an answer; fine-tuned on a tenth of the endmembers, nn20-mp has an error of 0.04 (docs/results.md,
with the command: matprop learning-curve).
"""

import lzma
import os
import sys
import time
from itertools import product
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ase.io import read

from ase_matprop import load_model
from ase_matprop.descriptors.elements import ground_state_volumes
from ase_matprop.structures.prototypes import get_prototype

ELEMENTS = ("Fe", "Cr", "Ni")
sigma = get_prototype("sigma")
print(f"{sigma.name}: space group {sigma.space_group}, {len(sigma)} atoms, sublattices {sigma.multiplicities}")

start = time.perf_counter()
volumes = ground_state_volumes()  # of the elements: what a cell is scaled to before anything was calculated
endmembers = [
    sigma.decorate(dict(zip("ABCDE", symbols, strict=True)), volume=volumes) for symbols in product(ELEMENTS, repeat=5)
]
names = ["-".join(symbols) for symbols in product(ELEMENTS, repeat=5)]
predicted = load_model("irnet17-mp", compare_with="nn24-mp").predict(endmembers)
seconds = time.perf_counter() - start

table = predicted.to_frame().assign(sublattices=names)
columns = ["sublattices", "formula", "formation_energy_per_atom", "disagreement", "distance"]
print(f"{len(table)} endmembers built and predicted in {seconds:.1f} s; {predicted.n_failed} failed. The ten lowest:\n")
print(table.nsmallest(10, "formation_energy_per_atom")[columns].round(3).to_string(index=False))
print(
    f"\nmedian distance to the training set: {np.median(predicted.distance):.1f}, which does not give their errors away"
)

calculated = Path(os.environ.get("MATPROP_DATA", "nowhere")) / "sigma" / "fe_cr_ni_sigma.extxyz.xz"
if calculated.is_file():
    with lzma.open(calculated, "rt") as stream:
        infos = [atoms.info for atoms in read(stream, ":", format="extxyz")]
    energies = {info["id"].removeprefix("sigma-"): info["formation_energy_per_atom"] for info in infos}
    error = table["formation_energy_per_atom"] - table["sublattices"].map(energies)
    rank = table["formation_energy_per_atom"].corr(table["sublattices"].map(energies), method="spearman")
    print(f"against DFT: MAE {error.abs().mean():.3f} eV/atom, mean error {error.mean():+.3f}", end=", ")
    print(f"rank correlation {rank:.2f}")

figure, axes = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
shares = pd.DataFrame([{symbol: np.mean(atoms.symbols == symbol) for symbol in ELEMENTS} for atoms in endmembers])
points = axes.scatter(shares["Cr"], table["formation_energy_per_atom"], c=shares["Ni"], cmap="viridis", s=14)
axes.set(xlabel="fraction of Cr", ylabel="formation energy (eV/atom)", title="Fe-Cr-Ni sigma endmembers, irnet17-mp")
figure.colorbar(points, label="fraction of Ni")
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
    print(f"figure in {sys.argv[1]}")

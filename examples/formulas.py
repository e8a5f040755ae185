"""Formulas instead of structures: formation energies, band gaps, and what a hidden layer makes of the elements."""

from pymatgen.core import Composition
from sklearn.decomposition import PCA

from ase_matprop import load_model

candidates = ["Fe2O3", "Ca3(PO4)2", "Lu(MnGe)6", Composition("NaCl"), {"Ti": 1, "O": 2}, "Fe2O", "Xy2"]
energies = load_model("irnet17-composition-mp").predict(candidates)
print(energies.to_frame()[["name", "formula", "formation_energy_per_atom", "unit", "error"]].to_string(index=False))
assert energies.n_failed == 1  # Xy is no element

gaps = load_model("irnet17-bandgap-oqmd").predict(["MgO", "ZnS", "Cu3Au"])
for formula, gap in zip(gaps.formulas, gaps.values, strict=True):
    print(f"{formula}: band gap {gap:.2f} {gaps.unit}")

alkali_and_halogens = ["Li", "Na", "K", "Rb", "Cs", "F", "Cl", "Br", "I"]
activations, _ = load_model("elemnet-oqmd").represent(alkali_and_halogens, layer=0)
print("first two principal components of ElemNet's first hidden layer")
for symbol, point in zip(alkali_and_halogens, PCA(2).fit_transform(activations), strict=True):
    print(f"{symbol:2s} {point[0]:7.2f} {point[1]:7.2f}")

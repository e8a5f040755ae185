"""The 271 Ward-2017 features in a matminer pipeline: a DataFrame of pymatgen structures into scikit-learn."""

import pandas as pd
from pymatgen.core import Lattice, Structure
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from ase_matprop.featurizers import Ward2017

# measured lattice parameters (Angstrom) and formation enthalpies (eV/atom) of rock-salt type compounds, rounded
compounds = {
    "LiF": (4.03, -3.19), "LiCl": (5.13, -2.12), "NaF": (4.63, -2.98), "NaCl": (5.64, -2.13), "KCl": (6.29, -2.26),
    "MgO": (4.21, -3.12), "CaO": (4.81, -3.29), "SrO": (5.16, -3.07), "BaO": (5.52, -2.84), "CaS": (5.69, -2.46),
}  # fmt: skip


def rock_salt(formula: str, a: float) -> Structure:
    cation, anion = (
        formula[:-2] if formula.endswith("Cl") else formula[:-1],
        "Cl" if formula.endswith("Cl") else formula[-1],
    )
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


frame = pd.DataFrame(
    {
        "structure": [rock_salt(formula, a) for formula, (a, _) in compounds.items()] + [None],
        "enthalpy": [enthalpy for _, enthalpy in compounds.values()] + [0.0],
    },
    index=[*compounds, "broken row"],
)
featurizer = Ward2017()
features = featurizer.featurize_dataframe(frame, "structure", ignore_errors=True, return_errors=True, pbar=False)
print(
    features[["enthalpy", "Packing Efficiency", "mean neighbor difference in Electronegativity"]].round(3).to_string()
)
print("failed:", features.loc["broken row", "Ward2017 Exceptions"])

good = features.drop(index="broken row")
labels = featurizer.feature_labels()
model = make_pipeline(SimpleImputer(), RandomForestRegressor(random_state=0)).fit(good[labels], good["enthalpy"])
prediction = model.predict(featurizer.featurize_dataframe(
    pd.DataFrame({"structure": [rock_salt("KF", 5.35)]}), "structure", pbar=False)[labels])  # fmt: skip
print(f"KF, random forest on ten compounds: {prediction[0]:.2f} eV/atom (measured: -2.94)")

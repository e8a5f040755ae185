"""A matminer DataFrame with ten broken rows through featurizers into scikit-learn, and a network inside of a pipeline.

The crystals are those of the elements (structures and lattice parameters: ``ase.data.reference_states``), the target is
their measured bulk modulus (``pymatgen.core.Element``), which is none of Ward's features.
"""

import math
import textwrap
import warnings

import numpy as np
import pandas as pd
from ase.build import bulk
from ase.data import chemical_symbols, reference_states
from pymatgen.core import Element, Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline

from ase_matprop.featurizers import IRNetFeaturizer, MultipleFeaturizer, Ward2017
from ase_matprop.training import NetworkRegressor

warnings.filterwarnings("ignore", message="No data available")  # of a few elements

# the table: crystals of the elements, and ten rows that somebody else's script left behind
rows = {}
for symbol, state in zip(chemical_symbols, reference_states, strict=False):
    if state is not None and state["symmetry"] in ("fcc", "bcc", "hcp") and "basis" not in state:
        modulus = Element(symbol).bulk_modulus
        if modulus:
            rows[symbol] = (AseAtomsAdaptor.get_structure(bulk(symbol)), math.log10(float(modulus)))
cube = Lattice.cubic(4.0)
broken = {
    "gap": None,
    "not a number": math.nan,
    "an energy": -3.21,
    "formula": "NaCl",
    "lost file": "POSCAR_17",
    "list": [rows["Al"][0]],
    "molecule": Molecule(["O", "H", "H"], [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]),
    "alloy": Structure(cube, [{"Cu": 0.5, "Ni": 0.5}], [[0, 0, 0]]),
    "site twice": Structure(cube, ["Na", "Na"], [[0, 0, 0], [0, 0, 0.01]]),
    "flat cell": Structure(Lattice([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), ["Na"], [[0, 0, 0]]),
}
rows |= {name: (structure, 2.0) for name, structure in broken.items()}
index = np.random.default_rng(0).permutation(list(rows))
frame = pd.DataFrame({"structure": pd.Series({name: rows[name][0] for name in index}, dtype=object)})
frame["log10 K"] = [rows[name][1] for name in index]

# features: 271 of Ward et al., and the last hidden layers of IRNet-17, which knows formation energies
featurizer = MultipleFeaturizer([Ward2017(), IRNetFeaturizer(output="representation")])
print(f"{len(frame)} rows, {featurizer.precheck_dataframe(frame, 'structure'):.0%} of them can be featurized")
features = featurizer.featurize_dataframe(frame, "structure", ignore_errors=True, return_errors=True, pbar=False)
for name, reason in features["Ward2017 Exceptions"].dropna().items():
    print(f"  {name:13s} {textwrap.shorten(reason, 100, placeholder=' ...')}")

# scikit-learn: ten rows less, and everything as ever
good = features[features["Ward2017 Exceptions"].isna()]
ward, learnt = (part.feature_labels() for part in featurizer.featurizers)
folds = KFold(5, shuffle=True, random_state=0)


def error(model, inputs) -> str:
    scores = cross_val_score(model, inputs, good["log10 K"], cv=folds, scoring="neg_mean_absolute_error")
    return f"{-scores.mean():.3f}"


print(f"\nmean absolute error of log10(bulk modulus / GPa), 5-fold cross-validation on {len(good)} elements")
print("  the mean of the other folds           ", error(DummyRegressor(), good[ward]))
print("  random forest, Ward2017               ", error(RandomForestRegressor(random_state=0), good[ward]))
print("  random forest, hidden layers          ", error(RandomForestRegressor(random_state=0), good[learnt]))
print("  random forest, both                   ", error(RandomForestRegressor(random_state=0), good[ward + learnt]))

# a network of this package in the same place: its recipe says how it is built and trained
recipe = {
    "network": {"name": "irnet", "settings": {"stacks": [[64, 2], [32, 1]]}, "members": 2},
    "descriptor": {"clip": 8.0},
    "training": {"loss": "mae", "max_epochs": 40, "batch_size": 16},
}
network = make_pipeline(Ward2017(), NetworkRegressor(recipe))
print("  two small IRNets in a pipeline        ", error(network, good["structure"]))

"""KS2022, the 256 features of pySIPFENN: for ordered structures, in the dilute limit, and for random solid solutions.

Definitions: A. M. Krajewski, J. W. Siegel, J. Xu, Z.-K. Liu, Comput. Mater. Sci. 208, 111254 (2022),
doi:10.1016/j.commatsci.2022.111254, and pySIPFENN 0.18 (A. M. Krajewski, J. W. Siegel, Z.-K. Liu, doi:10.48550/
arXiv.2404.02849), with which the numbers agree; :mod:`~ase_matprop.descriptors.ks2022.features` says how they differ
from those of Ward-2017, and ``docs/ks2022.md`` where pySIPFENN itself goes wrong.
"""

from ase_matprop.descriptors.ks2022.dilute import compute_dilute, dilute_limit
from ase_matprop.descriptors.ks2022.features import (
    N_FEATURES,
    atoms_error,
    element_error,
    feature_labels,
    pysipfenn_labels,
)
from ase_matprop.descriptors.ks2022.ordered import compute
from ase_matprop.descriptors.ks2022.random_solutions import RandomSolution, pooled_features, random_solution

__all__ = [
    "N_FEATURES",
    "RandomSolution",
    "atoms_error",
    "compute",
    "compute_dilute",
    "dilute_limit",
    "element_error",
    "feature_labels",
    "pooled_features",
    "pysipfenn_labels",
    "random_solution",
]

"""matminer featurizers: the descriptors of this package, and what its networks make of them."""

from ase_matprop.featurizers.cache import clear_cache
from ase_matprop.featurizers.descriptors import ElementFractions, MagpieComposition, Ward2017
from ase_matprop.featurizers.ks2022 import KS2022, KS2022Dilute, KS2022RandomSolution
from ase_matprop.featurizers.multiple import MultipleFeaturizer
from ase_matprop.featurizers.network import (
    ElemNetFeaturizer,
    IRNetFeaturizer,
    NetworkFeaturizer,
    SchNetFeaturizer,
    SIPFENNFeaturizer,
)

__all__ = [
    "KS2022",
    "ElemNetFeaturizer",
    "ElementFractions",
    "IRNetFeaturizer",
    "KS2022Dilute",
    "KS2022RandomSolution",
    "MagpieComposition",
    "MultipleFeaturizer",
    "NetworkFeaturizer",
    "SIPFENNFeaturizer",
    "SchNetFeaturizer",
    "Ward2017",
    "clear_cache",
]

"""matminer featurizers: the descriptors of this package, and what its networks make of them."""

from ase_matprop.featurizers.descriptors import ElementFractions, MagpieComposition, Ward2017
from ase_matprop.featurizers.network import NetworkFeaturizer

__all__ = ["ElementFractions", "MagpieComposition", "NetworkFeaturizer", "Ward2017"]

"""What a model saw in training, and how far from it a new input lies."""

from ase_matprop.models.reach.distance import TrainingDistance
from ase_matprop.models.reach.elements import ElementPairs
from ase_matprop.models.reach.environments import Environments
from ase_matprop.models.reach.reach import Reach

__all__ = ["ElementPairs", "Environments", "Reach", "TrainingDistance"]

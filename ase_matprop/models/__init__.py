"""Models: the one place where a descriptor meets a network."""

from ase_matprop.models.card import ModelCard
from ase_matprop.models.loading import DEFAULT_MODEL, load_model, predict
from ase_matprop.models.predictions import Predictions
from ase_matprop.models.predictor import Predictor
from ase_matprop.models.registry import list_models

__all__ = ["DEFAULT_MODEL", "ModelCard", "Predictions", "Predictor", "list_models", "load_model", "predict"]

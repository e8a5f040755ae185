"""Phase regions from two-dimensional X-ray diffraction images: PADNet, its data, and what it is compared with.

D. Jha, Ph.D. thesis, Northwestern University (2020), chapter 7.  Names are loaded when they are asked for: background
removal needs no torch, and nothing but files needs fabio.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_matprop.diffraction.xrd.background import minimum_background, remove_background, smooth_background
    from ase_matprop.diffraction.xrd.cross_validation import CrossValidation, Experiment, cross_validate
    from ase_matprop.diffraction.xrd.errors import DiffractionImageError, DiffractionSettingsError
    from ase_matprop.diffraction.xrd.features import integrate
    from ase_matprop.diffraction.xrd.files import read_image
    from ase_matprop.diffraction.xrd.geometry import DetectorGeometry
    from ase_matprop.diffraction.xrd.model import train_model
    from ase_matprop.diffraction.xrd.networks import PatternNetwork, padnet, plain_cnn
    from ase_matprop.diffraction.xrd.predictor import PatternPredictor, PhaseRegionPredictions
    from ase_matprop.diffraction.xrd.simulation import ImageSet, simulate
    from ase_matprop.diffraction.xrd.training import TrainingSettings

_MODULES = {
    "background": ("minimum_background", "remove_background", "smooth_background"),
    "cross_validation": ("CrossValidation", "Experiment", "cross_validate"),
    "errors": ("DiffractionImageError", "DiffractionSettingsError"),
    "features": ("integrate",),
    "files": ("read_image",),
    "geometry": ("DetectorGeometry",),
    "model": ("train_model",),
    "networks": ("PatternNetwork", "padnet", "plain_cnn"),
    "predictor": ("PatternPredictor", "PhaseRegionPredictions"),
    "simulation": ("ImageSet", "simulate"),
    "training": ("TrainingSettings",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CrossValidation",
    "DetectorGeometry",
    "DiffractionImageError",
    "DiffractionSettingsError",
    "Experiment",
    "ImageSet",
    "PatternNetwork",
    "PatternPredictor",
    "PhaseRegionPredictions",
    "TrainingSettings",
    "cross_validate",
    "integrate",
    "minimum_background",
    "padnet",
    "plain_cnn",
    "read_image",
    "remove_background",
    "simulate",
    "smooth_background",
    "train_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

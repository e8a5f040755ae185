"""Neural networks for properties of crystals, behind the interfaces of ASE, pymatgen and matminer.

    from ase_matprop import MatProp, load_model, predict

    atoms.calc = MatProp("irnet17-mp")
    atoms.get_potential_energy()                                  # eV per cell

    load_model("irnet17-mp").predict([atoms, structure]).to_frame()
    load_model("elemnet-mp").predict(["NaCl", "Fe2O3"]).to_frame()
    predict("runs/*/POSCAR", model="irnet17-mp").to_frame()

The public names load what they need at first use: ``import ase_matprop`` imports neither torch nor pymatgen.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_matprop.calculators import SIPFENN, ElemNet, IRNet, MatProp, SchNet
    from ase_matprop.errors import MatPropError
    from ase_matprop.models import Predictions as Predictions
    from ase_matprop.models import list_models as list_models
    from ase_matprop.models import load_model, predict
    from ase_matprop.structures import read_structures
    from ase_matprop.training.regressor import NetworkRegressor as NetworkRegressor
    from ase_matprop.workflows import sort_criteria as sort_criteria

__version__ = "0.1.0"

_MODULE_OF = {
    "ElemNet": "ase_matprop.calculators",
    "IRNet": "ase_matprop.calculators",
    "MatProp": "ase_matprop.calculators",
    "MatPropError": "ase_matprop.errors",
    "NetworkRegressor": "ase_matprop.training.regressor",
    "Predictions": "ase_matprop.models",
    "SIPFENN": "ase_matprop.calculators",
    "SchNet": "ase_matprop.calculators",
    "list_models": "ase_matprop.models",
    "load_model": "ase_matprop.models",
    "predict": "ase_matprop.models",
    "read_structures": "ase_matprop.structures",
    "sort_criteria": "ase_matprop.workflows",
}

#: ``list_models``, ``Predictions`` and ``sort_criteria`` are there besides
__all__ = [
    "SIPFENN",
    "ElemNet",
    "IRNet",
    "MatProp",
    "MatPropError",
    "SchNet",
    "load_model",
    "predict",
    "read_structures",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

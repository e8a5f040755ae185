"""The only place that imports SchNetPack (2.0.4 and 2.2.0): its representations, output module and keys.

K. T. Schütt et al., J. Chem. Theory Comput. 15, 448 (2019), doi:10.1021/acs.jctc.8b00908, and J. Chem. Phys. 158,
144801 (2023), doi:10.1063/5.0138367.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from types import ModuleType
from typing import Any

from torch import nn

from ase_matprop.errors import missing_dependency

#: SchNetPack embeds atomic numbers below this one
MAX_Z = 100


def schnetpack(submodule: str = "") -> ModuleType:
    """Import SchNetPack, or one of its modules.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    _restore_loader_name()
    root = logging.getLogger()
    level, handlers, environment = root.level, list(root.handlers), dict(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its dependencies, about each other
            return importlib.import_module(f"schnetpack.{submodule}" if submodule else "schnetpack")
    except ModuleNotFoundError as error:
        raise missing_dependency(error.name or "schnetpack", "a SchNet or PaiNN network") from None
    finally:  # some of its dependencies set up logging and the environment for everybody
        root.setLevel(level)
        root.handlers[:] = handlers
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


def _restore_loader_name() -> None:
    """Put back a type variable that torch 2.13 renamed and SchNetPack 2.0.4 imports by its old name."""
    from torch.utils.data import dataloader

    if not hasattr(dataloader, "T_co"):
        dataloader.T_co = dataloader._T_co  # type: ignore[attr-defined]


def build_representation(
    kind: str, *, n_atom_basis: int, n_interactions: int, n_rbf: int, cutoff: float, n_filters: int | None
) -> nn.Module:
    """Return SchNetPack's ``SchNet`` or ``PaiNN`` with Gaussian radial functions and a cosine cutoff."""
    radial = schnetpack("nn")
    shared: dict[str, Any] = {
        "n_atom_basis": n_atom_basis,
        "n_interactions": n_interactions,
        "radial_basis": radial.GaussianRBF(n_rbf=n_rbf, cutoff=cutoff),
        "cutoff_fn": radial.CosineCutoff(cutoff),
    }
    representation = schnetpack("representation")
    module: nn.Module
    if kind == "schnet":
        module = representation.SchNet(**shared, n_filters=n_filters)
    else:
        module = representation.PaiNN(**shared)
    return module


def build_output(n_in: int, n_layers: int, n_outputs: int) -> nn.Module:
    """Return SchNetPack's atom-wise output layers, which do not sum over the atoms."""
    module: nn.Module = schnetpack("atomistic").Atomwise(
        n_in=n_in,
        n_out=n_outputs,
        n_layers=n_layers,
        aggregation_mode=None,
        output_key="unused",
        per_atom_output_key=CONTRIBUTIONS,
    )
    return module


#: keys of SchNetPack's input dictionary
NUMBERS, CENTERS, NEIGHBORS, VECTORS = "_atomic_numbers", "_idx_i", "_idx_j", "_Rij"
#: keys that its representations and our output write
SCALARS, CONTRIBUTIONS = "scalar_representation", "contributions"

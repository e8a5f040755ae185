"""Training: one data path, one loop and one artefact for every network on feature vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase_matprop.training.regressor import NetworkRegressor as NetworkRegressor

__all__ = ["NetworkRegressor"]


def __getattr__(name: str) -> Any:
    if name == "NetworkRegressor":  # loads torch and Lightning, which a reader of a recipe does not need
        from ase_matprop.training.regressor import NetworkRegressor

        return NetworkRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

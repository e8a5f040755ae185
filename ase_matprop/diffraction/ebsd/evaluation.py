"""Networks in evaluation mode on many patterns."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.estimator import Estimator
from ase_matprop.diffraction.ebsd.preprocessing import Preprocessing


@torch.no_grad()
def predict_all(
    members: list[Estimator], preparation: Preprocessing, patterns: Tensor, *, batch_size: int = 256
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return orientations of patterns, the spread of the estimates and their residuals.

    Args:
        members: networks in evaluation mode, of one Laue group.
        preparation: of the patterns.
        patterns: shape (n, rows, columns).
        batch_size: patterns that are evaluated together.

    Returns:
        Quaternions in the fundamental zone, shape (n, 4); mean disorientation of the estimates from these in degrees,
        shape (n,); mean residual, shape (n,).
    """
    quaternions, spreads, residuals = [np.empty((0, 4))], [np.empty(0)], [np.empty(0)]
    for part in patterns.split(batch_size) if len(patterns) else ():
        prepared = preparation(part)
        estimates = [member.estimate(member(prepared)) for member in members]
        found = torch.cat([estimate.quaternions for estimate in estimates], dim=1).numpy()
        mean, spread = convert.mean_orientations(found, members[0].symmetry)
        quaternions.append(mean)
        spreads.append(spread)
        residuals.append(torch.cat([estimate.residuals for estimate in estimates], dim=1).mean(dim=1).numpy())
    return np.concatenate(quaternions), np.concatenate(spreads), np.concatenate(residuals)

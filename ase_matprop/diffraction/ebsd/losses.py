"""Losses on orientations: those of Table 6.1 of the thesis of D. Jha (Northwestern University, 2020).

D. Jha et al., Microsc. Microanal. 24, 497 (2018), doi:10.1017/S1431927618015131.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ase_matprop.diffraction.ebsd.rotations import disorientations
from ase_matprop.diffraction.ebsd.symmetry import get_laue_group
from ase_matprop.errors import unknown_name

LossName = Literal["mae", "mse", "mde", "mae+mde", "mse+mde"]
LOSSES: tuple[LossName, ...] = ("mae", "mse", "mde", "mae+mde", "mse+mde")


class OrientationLoss(nn.Module):
    """Mean absolute or squared error of the network's parameters, mean disorientation, or a sum of two of these.

    Args:
        name: ``"mae"``, ``"mse"``, ``"mde"``, ``"mae+mde"`` or ``"mse+mde"``; the disorientation is in radians, and so
            are Euler angles.
        symmetry: name of the Laue group.

    Raises:
        UnknownNameError: if there is no such loss or no such Laue group.
    """

    operators: Tensor

    def __init__(self, name: LossName = "mae+mde", symmetry: str = "m-3m") -> None:
        super().__init__()
        if name not in LOSSES:
            raise unknown_name("loss", name, LOSSES)
        self.terms = name.split("+")
        operators = torch.tensor(get_laue_group(symmetry).operators)
        self.register_buffer("operators", operators, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Return the loss, a number.

        Args:
            outputs: parameters that the network gives, shape (n, k): Euler angles in radians, quaternions, or the
                tensors of :class:`~.invariants.InvariantTensors`.
            targets: the same of the true orientations, for angles and quaternions of the variant in the fundamental
                zone.
            predicted: quaternions of the outputs, shape (n, 4); used for the disorientation only.
            true: quaternions of the targets, shape (n, 4).
        """
        loss = outputs.new_zeros(())
        for term in self.terms:
            if term == "mde":
                loss = loss + disorientations(predicted, true, self.operators.to(predicted)).mean()
            elif term == "mae":
                loss = loss + (outputs - targets).abs().mean()
            else:
                loss = loss + (outputs - targets).square().mean()
        return loss

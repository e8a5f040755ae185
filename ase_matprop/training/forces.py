"""Training on energies and forces together: the forces are the slopes of the energy that the network gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ase_matprop.networks.schnet import add_vectors
from ase_matprop.training.loop import Trainee

#: weight of the error of a force component beside that of the energy per atom, as common for atomistic networks
FORCE_WEIGHT = 1.0


class ForceTrainee(Trainee):
    """Lightning module of a network on neighbour graphs whose forces are learnt besides.

    The loss is that of the energies per atom plus :data:`FORCE_WEIGHT` times that of the force components, both in
    units of the target's scale.  The state with the lowest sum of both mean absolute errors on the validation rows is
    kept.
    """

    def training_step(self, batch: tuple[Any, Tensor], batch_index: int) -> Tensor:
        loss, metric = self._energy_and_forces(batch, training=True)
        self.log(f"train_{self.metric}", metric, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch[1]))
        return loss

    def validation_step(self, batch: tuple[Any, Tensor], batch_index: int) -> None:
        _, metric = self._energy_and_forces(batch, training=False)
        self.log(f"validation_{self.metric}", metric, prog_bar=True, batch_size=len(batch[1]))

    def _energy_and_forces(self, batch: tuple[Any, Tensor], *, training: bool) -> tuple[Tensor, Tensor]:
        inputs, targets = batch
        with torch.inference_mode(False), torch.enable_grad():
            positions = inputs["positions"].detach().clone().requires_grad_(True)
            inputs = add_vectors({**inputs, "positions": positions})
            values = self.network(inputs)
            per_cell = values[:, 0] * inputs["n_atoms"]
            (slopes,) = torch.autograd.grad(per_cell.sum(), positions, create_graph=training)
        energy_loss, energy_error = self._errors(values, targets)
        forces = -slopes.float()
        loss = nn.functional.l1_loss if self.settings.loss == "mae" else nn.functional.mse_loss
        error = (forces.detach() - inputs["forces"]).abs().mean() * self.target_scale
        return energy_loss + FORCE_WEIGHT * loss(forces, inputs["forces"]), energy_error + FORCE_WEIGHT * error

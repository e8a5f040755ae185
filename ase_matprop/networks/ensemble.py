"""Several networks of one architecture, trained from different seeds, as one network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from ase_matprop.networks.vector import VectorNetwork


class Ensemble(nn.Module):
    """The mean over its members; their spread says how far they disagree.

    Shape:
        input (n, n_inputs), output (n, n_outputs).
    """

    def __init__(self, members: Iterable[VectorNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def n_layers(self) -> int:
        """Number of hidden layers of each member, as :meth:`member_activations` counts them."""
        return len(cast(VectorNetwork, self.members[0]).blocks)

    def forward(self, features: Tensor) -> Tensor:
        return self.member_outputs(features).mean(dim=0)

    def member_outputs(self, features: Tensor) -> Tensor:
        """Return the outputs of each member, shape (n_members, n, n_outputs)."""
        return torch.stack([member(features) for member in self.members])

    def member_activations(self, features: Tensor, layer: int) -> Tensor:
        """Return the activations of a hidden layer of each member, shape (n_members, n, width)."""
        return torch.stack([cast(VectorNetwork, member).represent(features, layer) for member in self.members])

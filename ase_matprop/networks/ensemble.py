"""Several networks of one architecture, trained from different seeds, as one network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ase_matprop.networks.schnet import AtomisticNetwork, GraphTensors
from ase_matprop.networks.vector import VectorNetwork

Network = VectorNetwork | AtomisticNetwork
Inputs = Tensor | GraphTensors


class Ensemble(nn.Module):
    """The mean over its members; their spread says how far they disagree.

    Shape:
        input (n, n_inputs), or the tensors of neighbour graphs; output (n, n_outputs).
    """

    def __init__(self, members: Iterable[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def n_layers(self) -> int:
        """Number of hidden layers of each member, as :meth:`member_activations` counts them."""
        return cast(Network, self.members[0]).n_layers

    def forward(self, inputs: Inputs) -> Tensor:
        return self.member_outputs(inputs).mean(dim=0)

    def member_outputs(self, inputs: Inputs) -> Tensor:
        """Return the outputs of each member, shape (n_members, n, n_outputs)."""
        return torch.stack([member(inputs) for member in self.members])

    def members_and_hidden(self, inputs: Inputs) -> Tensor:
        """Return the outputs of each member and, beside them, the activations of its last hidden layer.

        Both come from one evaluation; of a network on graphs the mean over the atoms.

        Returns:
            Shape (n_members, n, n_outputs + width).
        """
        parts = []
        for member in self.members:
            network = cast(Network, member)
            hidden = network.hidden(cast(Any, inputs))
            outputs = network.read_out(hidden, cast(Any, inputs))
            parts.append(torch.cat([outputs, network.pooled(hidden, cast(Any, inputs))], dim=1))
        return torch.stack(parts)

    def member_activations(self, inputs: Inputs, layer: int) -> Tensor:
        """Return the activations of a hidden layer of each member, shape (n_members, n, width)."""
        return torch.stack([cast(Any, member).represent(inputs, layer) for member in self.members])

"""Several networks of one architecture, trained from different seeds, as one network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean over its members; their spread says how far they disagree.

    Shape:
        input (n, n_inputs), output (n, n_outputs).
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, features: Tensor) -> Tensor:
        return self.member_outputs(features).mean(dim=0)

    def member_outputs(self, features: Tensor) -> Tensor:
        """Return the outputs of each member, shape (n_members, n, n_outputs)."""
        return torch.stack([member(features) for member in self.members])

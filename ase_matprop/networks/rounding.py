"""Matrix products of bfloat16 numbers, for evaluation where a few meV/atom do not matter."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

#: narrower layers take little time, and lose most by rounding: they stay in float32
NARROWEST = 256

_Module = TypeVar("_Module", bound=nn.Module)


class _Linear(nn.Module):
    """A linear layer that takes numbers of any precision, and computes and gives its own."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().to(dtype), requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().to(dtype), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        return functional.linear(features.to(self.weight.dtype), self.weight, self.bias)


def with_rounded_layers(network: _Module) -> _Module:
    """Return a copy of a network on feature vectors whose wide hidden layers multiply in bfloat16.

    Layers narrower than :data:`NARROWEST` on either side, the first one on fewer features than that among them, stay in
    float32.  For evaluation only.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                is_wide = min(child.in_features, child.out_features) >= NARROWEST
                setattr(module, name, _Linear(child, torch.bfloat16 if is_wide else torch.float32))
    return network

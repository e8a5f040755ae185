"""OMNet: one convolutional trunk, and a branch for each output.

D. Jha et al., Microsc. Microanal. 24, 497 (2018), doi:10.1017/S1431927618015131; D. Jha, Ph.D. thesis, Northwestern
University (2020), section 6.3.2.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ase_matprop.errors import unknown_name

Output = Literal["euler", "quaternion", "invariants"]


class OMNet(nn.Module):
    """3x3 convolutions with ReLU and maximum pools, two shared dense layers, and branches of three dense layers.

    The defaults are the published network for patterns of 60 x 60 pixels, divided by 255, with one Euler angle per
    branch: 207,024,067 parameters.

    Args:
        shape: pixels of the patterns (rows, columns).
        convolutions: widths of the convolutions; a maximum pool of 2 x 2 follows each group.
        dense: widths of the shared dense layers.
        branch: widths of the hidden layers of each branch.
        n_branches: number of branches.
        outputs_per_branch: numbers that each branch gives.
        batch_norm: whether to normalise over the batch after each convolution and shared dense layer.
        dropout: share of the activations that are dropped in training after each shared dense layer.

    Shape:
        input (n, 1, rows, columns), output (n, n_branches, outputs_per_branch).

    Raises:
        ValueError: if the pools leave nothing of the pattern.
    """

    def __init__(
        self,
        shape: Sequence[int] = (60, 60),
        *,
        convolutions: Sequence[Sequence[int]] = ((256, 256, 512, 512), (256, 256, 96, 96)),
        dense: Sequence[int] = (8192, 2048),
        branch: Sequence[int] = (1024, 256),
        n_branches: int = 3,
        outputs_per_branch: int = 1,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        rows, columns = shape[0] >> len(convolutions), shape[1] >> len(convolutions)
        if min(rows, columns) < 1:
            raise ValueError(f"{len(convolutions)} pools leave nothing of {shape[0]} x {shape[1]} pixels")
        layers: list[nn.Module] = []
        width = 1
        for group in convolutions:
            for wider in group:
                layers.append(nn.Conv2d(width, wider, 3, padding=1, bias=not batch_norm))
                layers += [nn.BatchNorm2d(wider)] if batch_norm else []
                layers.append(nn.ReLU())
                width = wider
            layers.append(nn.MaxPool2d(2))
        self.n_outputs = outputs_per_branch
        self.convolutions = nn.Sequential(*layers)
        shared: list[nn.Module] = [nn.Flatten()]
        for size, wider in itertools.pairwise((width * rows * columns, *dense)):
            shared.append(nn.Linear(size, wider, bias=not batch_norm))
            shared += [nn.BatchNorm1d(wider)] if batch_norm else []
            shared.append(nn.ReLU())
            shared += [nn.Dropout(dropout)] if dropout else []
        self.shared = nn.Sequential(*shared)
        self.branches = nn.ModuleList(_branch(dense[-1], branch, outputs_per_branch) for _ in range(n_branches))

    def forward(self, patterns: Tensor) -> Tensor:
        hidden = self.shared(self.convolutions(patterns))
        return torch.stack([branch(hidden) for branch in self.branches], dim=1)


def _branch(n_inputs: int, widths: Sequence[int], n_outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size, width in itertools.pairwise((n_inputs, *widths)):
        layers += [nn.Linear(size, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear((n_inputs, *widths)[-1], n_outputs))


def compact(shape: Sequence[int] = (30, 30), **settings: Any) -> OMNet:
    """Return OMNet with an eighth of the widths and batch normalisation, for patterns that were pooled to 30 x 30."""
    defaults: dict[str, Any] = {
        "convolutions": ((32, 32, 64, 64), (32, 32, 12, 12)),
        "dense": (1024, 256),
        "branch": (128, 32),
        "batch_norm": True,
    }
    return OMNet(shape, **(defaults | settings))


def early_pool(shape: Sequence[int] = (30, 30), **settings: Any) -> OMNet:
    """Return a compact OMNet whose wide convolutions come after the first pool: a third of the work of `compact`."""
    defaults: dict[str, Any] = {
        "convolutions": ((32, 32), (64, 64, 64), (96, 96)),
        "dense": (512, 256),
        "branch": (128, 64),
        "batch_norm": True,
    }
    return OMNet(shape, **(defaults | settings))


#: name in cards -> what builds the network
NETWORKS: dict[str, Callable[..., OMNet]] = {"omnet": OMNet, "omnet-compact": compact, "omnet-early-pool": early_pool}


def build_network(name: str, shape: Sequence[int], settings: Mapping[str, Any]) -> OMNet:
    """Return a freshly initialised network, its weights laid out as the convolutions are a quarter faster.

    Args:
        name: a key of :data:`NETWORKS`.
        shape: pixels of the patterns that it gets.
        settings: further keyword arguments of :class:`OMNet`.

    Raises:
        UnknownNameError: if there is no such network.
        ValueError: if the settings do not suit the network.
    """
    if name not in NETWORKS:
        raise unknown_name("EBSD network", name, NETWORKS)
    known = [p.name for p in inspect.signature(OMNet).parameters.values() if p.kind is p.KEYWORD_ONLY]
    strange = sorted(set(settings) - set(known))
    if strange:
        raise ValueError(f"the network {name!r} has no setting {strange[0]!r}; it has {', '.join(known)}")
    network = NETWORKS[name](shape, **settings)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

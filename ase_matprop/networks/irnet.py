"""IRNet, SRNet and the plain network: deep fully connected regression with and without shortcuts.

D. Jha et al., Sci. Rep. 11, 4244 (2021), doi:10.1038/s41598-021-83193-1, Table 4 and Figure 5; D. Jha, Ph.D. thesis,
Northwestern University (2020), Table 4.1.  The third stack of the 48-layer network is printed as 1024 wide although its
output is 256, and is 256 here.  The sizes of the 24-layer network are not printed: they follow the pattern of the
others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ase_matprop.networks.vector import VectorNetwork

#: depth -> stacks of (width, number of layers); the output layer counts as one layer of the depth
STACKS: dict[int, tuple[tuple[int, int], ...]] = {
    10: ((1024, 2), (512, 2), (256, 2), (128, 1), (64, 1), (32, 1)),
    17: ((1024, 4), (512, 3), (256, 3), (128, 3), (64, 2), (32, 1)),
    24: ((1024, 4), (512, 4), (256, 4), (128, 4), (64, 4), (32, 3)),
    48: ((1024, 8), (512, 8), (256, 8), (128, 8), (64, 8), (32, 4), (16, 3)),
}

RESIDUALS = ("individual", "stacked", "none")


class IRNet(VectorNetwork):
    """A stack of FC-BN-ReLU sequences with shortcuts, and a linear output.

    Args:
        n_inputs: number of input features.
        n_outputs: number of predicted values.
        depth: number of layers, a key of :data:`STACKS`.
        residual: ``"individual"`` for a shortcut round every FC-BN-ReLU sequence (IRNet), ``"stacked"`` for one round
            every stack of equally wide sequences (SRNet), ``"none"`` for the plain network.  Where widths differ, the
            shortcut is a linear projection.
        dropout: share of the activations that is dropped after each sequence during training; the papers use none.
        stacks: ``(width, number of layers)`` of each stack, in place of those of ``depth``.

    Shape:
        input (n, n_inputs), output (n, n_outputs).

    Raises:
        ValueError: for a depth or a kind of residual that does not exist.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int = 1,
        *,
        depth: int = 17,
        residual: str = "individual",
        dropout: float = 0.0,
        stacks: Sequence[Sequence[int]] | None = None,
    ) -> None:
        if stacks is None and depth not in STACKS:
            raise ValueError(f"the depth must be one of {sorted(STACKS)}, or give 'stacks'. Got {depth!r}.")
        if residual not in RESIDUALS:
            raise ValueError(f"the residual must be one of {', '.join(RESIDUALS)}. Got {residual!r}.")
        blocks: list[nn.Module] = []
        width_in = n_inputs
        for width, n_layers in STACKS[depth] if stacks is None else stacks:
            sizes = [width_in, *[width] * (n_layers - 1)]
            layers = [_sequence(size, width, dropout) for size in sizes]
            if residual == "individual":
                blocks += [_Shortcut(layer, size, width) for layer, size in zip(layers, sizes, strict=True)]
            elif residual == "stacked":
                blocks.append(_Shortcut(nn.Sequential(*layers), width_in, width))
            else:
                blocks += layers
            width_in = width
        super().__init__(blocks, width_in, n_outputs)


def srnet(
    n_inputs: int,
    n_outputs: int = 1,
    *,
    depth: int = 17,
    dropout: float = 0.0,
    stacks: Sequence[Sequence[int]] | None = None,
) -> IRNet:
    """Return SRNet: shortcuts round every stack of equally wide layers; arguments as for :class:`IRNet`."""
    return IRNet(n_inputs, n_outputs, depth=depth, residual="stacked", dropout=dropout, stacks=stacks)


def plain_network(
    n_inputs: int,
    n_outputs: int = 1,
    *,
    depth: int = 17,
    dropout: float = 0.0,
    stacks: Sequence[Sequence[int]] | None = None,
) -> IRNet:
    """Return the plain network, without shortcuts; arguments as for :class:`IRNet`."""
    return IRNet(n_inputs, n_outputs, depth=depth, residual="none", dropout=dropout, stacks=stacks)


def _sequence(n_inputs: int, n_outputs: int, dropout: float) -> nn.Sequential:
    """Fully connected layer, batch normalisation, ReLU."""
    modules = [nn.Linear(n_inputs, n_outputs), nn.BatchNorm1d(n_outputs), nn.ReLU()]
    return nn.Sequential(*modules, nn.Dropout(dropout)) if dropout else nn.Sequential(*modules)


class _Shortcut(nn.Module):
    """The sum of what a module makes of its input and of the input itself, projected where the widths differ."""

    def __init__(self, module: nn.Module, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.module = module
        self.projection = nn.Identity() if n_inputs == n_outputs else nn.Linear(n_inputs, n_outputs, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return torch.add(self.module(features), self.projection(features))

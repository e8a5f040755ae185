"""The SIPFENN networks NN9, NN20 and NN24: wide, shallow networks on the 271 Ward-2017 features.

A. M. Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254, Figure 3.1.  The
paper does not print the share of the activations that its dropout layers drop; 0.5 is the default of the framework in
which its networks were designed (Wolfram Language, ``DropoutLayer``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from ase_matprop.networks.vector import VectorNetwork

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "softsign": nn.Softsign,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
}
Layers = Sequence[tuple[int, str, bool]]  # width, activation, whether dropout follows


class SIPFENN(VectorNetwork):
    """Base class of the three networks: fully connected layers with SoftSign, Sigmoid and ELU activations.

    Args:
        n_inputs: number of input features.
        n_outputs: number of predicted values.
        width_factor: factor on the width of every hidden layer, for machines that cannot hold the published widths.
        dropout: share of the activations that each dropout layer drops in training.

    Shape:
        input (n, n_inputs), output (n, n_outputs).

    Raises:
        ValueError: if the factor is not positive.
    """

    layers: Layers

    def __init__(self, n_inputs: int, n_outputs: int = 1, *, width_factor: float = 1.0, dropout: float = 0.5) -> None:
        if not width_factor > 0.0:
            raise ValueError(f"the width_factor must be positive. Got {width_factor!r}.")
        blocks, size = [], n_inputs
        for full_width, activation, dropped in self.layers:
            width = max(1, round(full_width * width_factor))
            linear = nn.Linear(size, width)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
            drop = [nn.Dropout(dropout)] if dropped and dropout else []
            blocks.append(nn.Sequential(linear, _ACTIVATIONS[activation](), *drop))
            size = width
        super().__init__(blocks, size, n_outputs)


class NN9(SIPFENN):
    """The network optimised for the OQMD: four layers of 10,000 units, no mitigation of overfitting."""

    layers = (
        (10000, "softsign", False),
        (10000, "sigmoid", False),
        (10000, "sigmoid", False),
        (10000, "sigmoid", False),
        (1000, "elu", False),
        (100, "elu", False),
    )


class NN20(SIPFENN):
    """The network optimised for new materials: as wide as NN9, with dropout; to be trained with an l2 of 1e-6."""

    layers = (
        (10000, "softsign", True),
        (10000, "sigmoid", True),
        (10000, "elu", True),
        (10000, "sigmoid", True),
        (1000, "elu", True),
        (100, "elu", False),
    )


class NN24(SIPFENN):
    """The small network: 4000 wide, with dropout."""

    layers = (
        (4000, "softsign", True),
        (4000, "sigmoid", True),
        (4000, "elu", True),
        (1000, "elu", True),
        (100, "elu", False),
    )

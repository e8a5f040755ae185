"""ElemNet: formation energy from nothing but the element fractions.

D. Jha et al., Sci. Rep. 8, 17593 (2018), doi:10.1038/s41598-018-35934-y; D. Jha, Ph.D. thesis, Northwestern University
(2020), Tables 3.1 and 5.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ase_matprop.networks.vector import VectorNetwork

#: widths of the 16 hidden layers; the output is the 17th layer
WIDTHS = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32,)
#: after these layers (counted from 1) a share of the activations is dropped
DROPOUT_AFTER = (4, 7, 10, 13)
#: the shares that are dropped there; the table prints what is kept: 0.8, 0.9, 0.7 and 0.8
DROPOUT = (0.2, 0.1, 0.3, 0.2)


class ElemNet(VectorNetwork):
    """17 fully connected layers with ReLU, and dropout where the width changes.

    Args:
        n_inputs: number of input features; 86 element fractions in the papers.
        n_outputs: number of predicted values.
        dropout: shares of the activations that are dropped in training after layers 4, 7, 10 and 13.

    Shape:
        input (n, n_inputs), output (n, n_outputs).

    Raises:
        ValueError: if ``dropout`` does not hold four shares.
    """

    def __init__(self, n_inputs: int, n_outputs: int = 1, *, dropout: Sequence[float] = DROPOUT) -> None:
        if len(dropout) != len(DROPOUT_AFTER):
            raise ValueError(f"dropout must have {len(DROPOUT_AFTER)} shares. Got {list(dropout)}.")
        dropped = dict(zip(DROPOUT_AFTER, dropout, strict=True))
        blocks = []
        for number, (size, width) in enumerate(zip((n_inputs, *WIDTHS), WIDTHS, strict=False), start=1):
            linear = nn.Linear(size, width)
            # without normalisation or shortcuts, only this initialisation carries a signal through 17 layers
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            drop = [nn.Dropout(dropped[number])] if dropped.get(number) else []
            blocks.append(nn.Sequential(linear, nn.ReLU(), *drop))
        super().__init__(blocks, WIDTHS[-1], n_outputs)

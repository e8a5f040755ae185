"""What all networks on feature vectors have in common: a chain of blocks, and a linear output."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class VectorNetwork(nn.Module):
    """Blocks one after the other, and a linear output.

    Args:
        blocks: modules that take and give tensors of shape (n, width).
        width: width of what the last block gives.
        n_outputs: number of predicted values.

    Shape:
        input (n, n_inputs), output (n, n_outputs).
    """

    def __init__(self, blocks: Iterable[nn.Module], width: int, n_outputs: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.output = nn.Linear(width, n_outputs)

    @property
    def n_layers(self) -> int:
        """Number of hidden layers, as :meth:`represent` counts them."""
        return len(self.blocks)

    def forward(self, features: Tensor) -> Tensor:
        return self.read_out(self.hidden(features), features)

    def hidden(self, features: Tensor) -> Tensor:
        """Return the activations of the last hidden layer, shape (n, width)."""
        return self.represent(features)

    def read_out(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Return what :meth:`forward` returns, from what :meth:`hidden` returned for ``features``."""
        output: Tensor = self.output(hidden)
        return output

    def pooled(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Return one representation for each row, from what :meth:`hidden` returned: here the same."""
        return hidden

    def represent(self, features: Tensor, layer: int = -1) -> Tensor:
        """Return the activations after hidden layer ``layer``, shape (n, width of the layer).

        Args:
            features: shape (n, n_inputs).
            layer: number of the hidden layer, counted from 0 for the first, or backwards from -1 for the last.

        Raises:
            IndexError: if there is no such layer.
        """
        for block in self.blocks[: range(len(self.blocks))[layer] + 1]:
            features = block(features)
        return features

"""A chain of fully connected layers: what is read from a file of another program, before it is known what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: the activation of a layer that has none
LINEAR = "linear"


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """One fully connected layer.

    Attributes:
        name: name in the file, for messages.
        weight: float32, shape (n_outputs, n_inputs), as in torch.
        bias: float32, shape (n_outputs,).
        activation: name in lower case, such as ``"softsign"``; ``"linear"`` for none; None where the file does not say.
    """

    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: str | None

    @property
    def n_inputs(self) -> int:
        """Number of values that the layer takes."""
        return int(self.weight.shape[1])

    @property
    def n_outputs(self) -> int:
        """Number of values that the layer gives."""
        return int(self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class Affine:
    """The elementwise map ``factor * x + shift``; float64, each of one value or of one per feature."""

    factor: NDArray[np.float64] = field(default_factory=lambda: np.ones(1))
    shift: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def then(self, factor: NDArray[np.float64], shift: NDArray[np.float64]) -> Affine:
        """Return this map followed by ``factor * x + shift``."""
        return Affine(self.factor * factor, self.shift * factor + shift)

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return bool(np.all(self.factor == 1.0) and np.all(self.shift == 0.0))


@dataclass(frozen=True, eq=False)
class DenseChain:
    """The content of a file of weights.

    Attributes:
        file_format: what the file is, for cards and messages.
        layers: the fully connected layers from the input to the output.
        before: what is done to the features before the first layer.
        clip: bound to which the features are clipped after that, if they are.
        after: what is done to the output of the last layer.
        metadata: texts that are stored with the network.
        half_precision: whether the weights are stored in half precision.
        remarks: what a reader of the card should know of how the file was read.
    """

    file_format: str
    layers: Sequence[DenseLayer]
    before: Affine = field(default_factory=Affine)
    clip: float | None = None
    after: Affine = field(default_factory=Affine)
    metadata: Mapping[str, str] = field(default_factory=dict)
    half_precision: bool = False
    remarks: Sequence[str] = ()

"""Orientations without a seam: tensors that are the same for all equivalent orientations, and no others.

Neither Euler angles nor quaternions depend continuously on a crystal's orientation: at the border of the fundamental
zone they jump from one variant to another, and a network that must follow the jump gives something between.  The sum of
the n-th tensor powers of a star of equivalent crystal directions, seen from the sample, has no such jump: for cubic
crystals the three axes a_i to the fourth power, sum_i a_i a_i a_i a_i, with 15 independent components (harmonics of
degree 4). Y. Zhou et al., CVPR 2019, doi:10.1109/CVPR.2019.00589, show the gain for rotations without symmetry.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.rotations import multiply, to_matrices
from ase_matprop.diffraction.ebsd.symmetry import find_laue_group, get_laue_group

_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

#: Laue group -> (a crystal direction, tensor power of its star); together they have the group's rotations and no others
_STARS: dict[str, tuple[tuple[tuple[float, float, float], int], ...]] = {
    "-1": ((_X, 1), (_Y, 1)),
    "2/m": ((_Y, 1), (_X, 2)),
    "mmm": ((_X, 2), (_Y, 2)),
    "4/m": ((_Z, 1), (_X, 4)),
    "4/mmm": ((_Z, 2), (_X, 4)),
    "-3": ((_Z, 1), (_X, 3)),
    "-3m": ((_X, 3),),
    "6/m": ((_Z, 1), (_X, 6)),
    "6/mmm": ((_Z, 2), (_X, 6)),
    "m-3": (((1.0, 1.0, 1.0), 3),),
    "m-3m": ((_X, 4),),
}
_TABLE_SIZE = 20_000
_NEWTON_STEPS = 5
_STEP = 1e-3  # radians


class InvariantTensors(nn.Module):
    """Between orientations and the tensors of their Laue group.

    Args:
        symmetry: name of the Laue group.

    Attributes:
        size: number of components; these have a mean of zero over all orientations and a mean square of one.

    Raises:
        UnknownNameError: if there is no such Laue group.
    """

    table: Tensor
    table_tensors: Tensor

    def __init__(self, symmetry: str = "m-3m") -> None:
        super().__init__()
        group = get_laue_group(symmetry)
        self.symmetry = group.name
        rotations = convert.to_matrices(group.operators)
        self._stars: list[tuple[Tensor, Tensor, Tensor]] = []
        for direction, power in _STARS[group.name]:
            star = _distinct(rotations @ (np.array(direction) / np.linalg.norm(direction)), even=power % 2 == 0)
            combinations = list(itertools.combinations_with_replacement(range(3), power))
            weights = [math.sqrt(math.factorial(power) / _repetitions(c)) for c in combinations]
            self._stars.append((torch.tensor(star), torch.tensor(combinations), torch.tensor(weights).double()))
        self.size = sum(len(weights) for _, _, weights in self._stars)
        quaternions = torch.tensor(convert.random_orientations(_TABLE_SIZE, seed=0))
        self._mean, self._scale = torch.zeros(self.size).double(), torch.ones(()).double()
        tensors = self.encode(quaternions)
        self._mean = tensors.mean(dim=0)
        self._scale = (tensors - self._mean).square().mean().sqrt()
        self.register_buffer("table", quaternions, persistent=False)
        self.register_buffer("table_tensors", self.encode(quaternions).float(), persistent=False)

    @staticmethod
    def count(symmetry: str) -> int:
        """Return the number of components for a Laue group."""
        return sum((power + 1) * (power + 2) // 2 for _, power in _STARS[find_laue_group(symmetry)])

    def encode(self, quaternions: Tensor) -> Tensor:
        """Return the tensors of orientations (n, 4), shape (n, size), in the precision of ``quaternions``."""
        matrices = to_matrices(quaternions)
        parts = []
        for star, combinations, weights in self._stars:
            directions = star.to(quaternions) @ matrices  # g^T h: the crystal direction h in the sample frame
            factors = directions[..., combinations.to(quaternions.device)]  # (n, members, components, power)
            parts.append(factors.prod(dim=-1).sum(dim=-2) * weights.to(quaternions))
        return (torch.cat(parts, dim=-1) - self._mean.to(quaternions)) / self._scale.to(quaternions)

    def decode(self, tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the orientations whose tensors are closest to the given ones, and how far off these are.

        The closest of a table, then Gauss-Newton steps in the three-dimensional space of small rotations, in float64.

        Args:
            tensors: shape (n, size).

        Returns:
            Quaternions, shape (n, 4), float64, and root mean square residuals, shape (n,), 0 where the tensors belong
            to an orientation, about 1 where they belong to none.
        """
        table = self.table_tensors
        lengths = table.square().sum(dim=1)
        closest = torch.cat(
            [(2.0 * part @ table.T - lengths).argmax(dim=1) for part in tensors.to(table).split(1024)]
            or [torch.zeros(0, dtype=torch.long)]
        )
        quaternions, wanted = self.table[closest], tensors.double()
        steps = _small_rotations(torch.eye(3, dtype=torch.float64, device=wanted.device) * _STEP)
        identity = torch.eye(3, dtype=torch.float64, device=wanted.device)
        for _ in range(_NEWTON_STEPS):
            here = self.encode(quaternions)
            forward = self.encode(multiply(steps, quaternions[:, None]).flatten(0, 1)).unflatten(0, (-1, 3))
            back = self.encode(multiply(steps * _INVERSE, quaternions[:, None]).flatten(0, 1)).unflatten(0, (-1, 3))
            slopes = (forward - back) / (2.0 * _STEP)  # (n, 3, size)
            normal = slopes @ slopes.mT + 1e-6 * identity
            move = torch.linalg.solve(normal, (slopes @ (wanted - here)[..., None])[..., 0])
            length = move.norm(dim=1, keepdim=True).clamp_min(1e-12)
            move = move * (length.clamp_max(0.1) / length)
            quaternions = nn.functional.normalize(multiply(_small_rotations(move), quaternions), dim=1)
        return quaternions, (self.encode(quaternions) - wanted).square().mean(dim=1).sqrt()


_INVERSE = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)


def _small_rotations(vectors: Tensor) -> Tensor:
    """Return unit quaternions, shape (n, 4), of rotation vectors in radians, shape (n, 3)."""
    return nn.functional.normalize(torch.cat([torch.ones_like(vectors[:, :1]), vectors / 2.0], dim=1), dim=1)


def _distinct(star: NDArray[np.float64], *, even: bool) -> NDArray[np.float64]:
    """Return the directions that differ; for ``even`` tensor powers v and -v are one."""
    kept: list[NDArray[np.float64]] = []
    for direction in star:
        products = [float(direction @ other) for other in kept]
        if all((abs(p) if even else p) < 1.0 - 1e-9 for p in products):
            kept.append(direction)
    return np.array(kept)


def _repetitions(combination: tuple[int, ...]) -> int:
    return math.prod(math.factorial(count) for count in Counter(combination).values())

"""Orientations as torch tensors, which networks and losses are differentiated through; see ``orientations``."""

from __future__ import annotations

import torch
from torch import Tensor

from ase_matprop.diffraction.ebsd.symmetry import hamilton_product


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """Return the Hamilton products of quaternions (w, x, y, z), shapes (..., 4), which broadcast."""
    parts = hamilton_product(first.unbind(-1), second.unbind(-1))
    return torch.stack(torch.broadcast_tensors(*parts), dim=-1)


def conjugate(quaternions: Tensor) -> Tensor:
    """Return the inverse rotations, shape (..., 4)."""
    return torch.cat([quaternions[..., :1], -quaternions[..., 1:]], dim=-1)


def from_euler(angles: Tensor) -> Tensor:
    """Return quaternions, shape (..., 4), of Bunge Euler angles in radians, shape (..., 3)."""
    phi1, phi, phi2 = angles.unbind(-1)
    half_sum, half_difference = (phi1 + phi2) / 2.0, (phi1 - phi2) / 2.0
    cosine, sine = torch.cos(phi / 2.0), torch.sin(phi / 2.0)
    parts = (
        cosine * torch.cos(half_sum),
        -sine * torch.cos(half_difference),
        -sine * torch.sin(half_difference),
        -cosine * torch.sin(half_sum),
    )
    return torch.stack(parts, dim=-1)


def to_matrices(quaternions: Tensor) -> Tensor:
    """Return matrices from sample to crystal coordinates, shape (..., 3, 3), of unit quaternions."""
    w, x, y, z = quaternions.unbind(-1)
    parts = (
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip
    matrices: Tensor = torch.stack(parts, dim=-1).unflatten(-1, (3, 3))
    return matrices


def disorientations(first: Tensor, second: Tensor, operators: Tensor) -> Tensor:
    """Return disorientation angles in radians, differentiable with finite gradients everywhere.

    The arc cosine of equation 6.4 has an infinite slope where two orientations coincide, which is where training goes.
    Here the angle is 2 atan2(|v|, |w|) of the one of the n variants of the difference (w, v) that has the largest |w|:
    its gradient has the length 2 (radians per unit of quaternion) up to the coincidence, where it is taken as zero, as
    it is taken at 180 degrees.

    Args:
        first: quaternions, shape (..., 4), of any length but zero.
        second: quaternions; the shapes broadcast.
        operators: rotations of the Laue group, shape (n, 4), see :class:`~.symmetry.LaueGroup`.
    """
    difference = multiply(second, conjugate(first))
    with torch.no_grad():
        scalars = difference @ conjugate(operators).T
        best = operators[scalars.abs().argmax(dim=-1)]
    w, v = multiply(best, difference).split([1, 3], dim=-1)
    squares = v.square().sum(dim=-1)
    apart = squares > torch.finfo(squares.dtype).tiny
    lengths = torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)
    return 2.0 * torch.atan2(lengths, w[..., 0].abs())

"""A network together with what its numbers mean: patterns in, estimates of orientations out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ase_matprop.diffraction.ebsd.invariants import InvariantTensors
from ase_matprop.diffraction.ebsd.networks import OMNet, Output
from ase_matprop.diffraction.ebsd.rotations import conjugate, from_euler, multiply
from ase_matprop.diffraction.ebsd.symmetry import get_laue_group
from ase_matprop.errors import unknown_name

OUTPUTS: tuple[Output, ...] = ("euler", "quaternion", "invariants")


class Estimates(NamedTuple):
    """Estimates of orientations.

    Attributes:
        quaternions: unit quaternions, shape (n, k, 4), k estimates of each orientation.
        residuals: how far what the network gave is from any orientation, shape (n, k): 0 for none to 1 for far.
    """

    quaternions: Tensor
    residuals: Tensor


class Estimator(nn.Module):
    """A network whose numbers are Euler angles, quaternions or invariant tensors.

    Args:
        network: gives shape (n, n_branches, outputs_per_branch): either all parameters of an orientation in each
            branch, or one in each.
        output: ``"euler"`` (radians, the variant in the fundamental zone), ``"quaternion"`` (the same variant) or
            ``"invariants"`` (:class:`~.invariants.InvariantTensors`).
        symmetry: name of the Laue group.

    Raises:
        UnknownNameError: if there is no such output or Laue group.
        ValueError: if the network gives another number of parameters.
    """

    operators: Tensor

    def __init__(self, network: OMNet, output: Output, symmetry: str) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise unknown_name("output of an EBSD network", output, OUTPUTS)
        self.network, self.output = network, output
        group = get_laue_group(symmetry)
        self.symmetry = group.name
        self.register_buffer("operators", torch.tensor(group.operators), persistent=False)
        self.tensors = InvariantTensors(symmetry) if output == "invariants" else None
        self.n_parameters = n_parameters(output, symmetry)
        n_branches, n_outputs = len(network.branches), network.n_outputs
        if (n_branches, n_outputs) != (self.n_parameters, 1) and n_outputs != self.n_parameters:
            raise ValueError(
                f"the output {output!r} needs {self.n_parameters} outputs_per_branch, or {self.n_parameters} branches "
                f"of one; the network has {n_branches} of {n_outputs}"
            )
        self.split = n_outputs != self.n_parameters

    def forward(self, patterns: Tensor) -> Tensor:
        """Return parameters, shape (n, k, n_parameters), of prepared patterns, shape (n, 1, rows, columns)."""
        given: Tensor = self.network(patterns)
        return given.mT if self.split else given

    def targets(self, quaternions: Tensor) -> Tensor:
        """Return the parameters of true orientations in the fundamental zone, shape (n, 4) -> (n, n_parameters)."""
        if self.tensors is not None:
            return self.tensors.encode(quaternions)
        return quaternions if self.output == "quaternion" else _euler(quaternions)

    def predicted(self, parameters: Tensor) -> Tensor:
        """Return quaternions of parameters, shape (..., n_parameters) -> (..., 4), differentiable.

        Raises:
            ValueError: for invariant tensors, whose orientation is found by a search.
        """
        if self.output == "euler":
            return from_euler(parameters)
        if self.output == "quaternion":
            return nn.functional.normalize(parameters, dim=-1, eps=1e-6)
        raise ValueError("the disorientation cannot be differentiated through invariant tensors; use 'mae' or 'mse'")

    @torch.no_grad()
    def estimate(self, parameters: Tensor) -> Estimates:
        """Return the orientations of parameters, shape (n, k, n_parameters)."""
        n, k = parameters.shape[:2]
        if self.tensors is not None:
            quaternions, residuals = self.tensors.decode(parameters.flatten(0, 1))
            return Estimates(quaternions.unflatten(0, (n, k)), residuals.unflatten(0, (n, k)))
        found = self.predicted(parameters.double())
        lengths = parameters.double().norm(dim=-1) if self.output == "quaternion" else torch.ones(n, k)
        return Estimates(found, (1.0 - lengths.to(found)).abs().clamp_max(1.0))


def n_parameters(output: Output, symmetry: str) -> int:
    """Return how many numbers describe an orientation."""
    if output == "invariants":
        return InvariantTensors.count(symmetry)
    return 4 if output == "quaternion" else 3


def to_fundamental_zone(quaternions: Tensor, operators: Tensor) -> Tensor:
    """Return the variant with the smallest angle of rotation, as :func:`~.orientations.reduce` does; shape (n, 4)."""
    best = (quaternions @ conjugate(operators).T).abs().argmax(dim=-1)
    reduced = multiply(operators[best], quaternions)
    return torch.where(reduced[..., :1] < 0.0, -reduced, reduced)


def _euler(quaternions: Tensor) -> Tensor:
    w, x, y, z = quaternions.unbind(-1)
    phi = 2.0 * torch.atan2(torch.hypot(x, y), torch.hypot(w, z))
    half_sum, half_difference = torch.atan2(-z, w), torch.atan2(-y, -x)
    turn = 2.0 * torch.pi
    return torch.stack([(half_sum + half_difference) % turn, phi, (half_sum - half_difference) % turn], dim=-1)

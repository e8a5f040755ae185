"""Continuous-filter convolution with tabulated filters: SchNet's interaction without a filter network per pair.

The filters of SchNet (K. T. Schütt et al., J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779, Eq. 8) depend on
nothing but the distance.  Training on energies needs their values, not their slopes: here the filter network is
evaluated once per step on a grid of distances, and each pair takes values between those of its two closest points.  The
weights that are trained are those of SchNet, which is evaluated without a table afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: number of intervals between zero and the cutoff: 0.0125 Angstrom wide for a cutoff of 5 Angstrom
INTERVALS = 400
#: the same for predictions, where a table is made once: its error is that of float32
FINE_INTERVALS = 8192
#: filters change over the width of a Gaussian: networks with many of them have at least so many intervals for each
PER_GAUSSIAN, FINE_PER_GAUSSIAN = 8, 100


class Pairs(NamedTuple):
    """Pairs of atoms in the order of their centres; each must be there from both ends.

    Attributes:
        first: where the pairs of each atom begin, and their number at the end, shape (N + 1,).
        neighbors: index of the neighbour of each pair, shape (E,).
        intervals: interval of the table in which the distance of each pair lies, shape (E,).
        weights: where in the interval it lies, from 0 to 1, shape (E,).
    """

    first: Tensor
    neighbors: Tensor
    intervals: Tensor
    weights: Tensor


def grid(cutoff: float, n_intervals: int, device: torch.device) -> Tensor:
    """Return the distances of a table, shape (n_intervals + 1,)."""
    return torch.arange(n_intervals + 1, device=device) * (cutoff / n_intervals)


def place(distances: Tensor, cutoff: float, n_intervals: int) -> tuple[Tensor, Tensor]:
    """Return the interval of each distance and the weight of its upper end, shape (E,) each."""
    scaled = distances * (n_intervals / cutoff)
    intervals = scaled.to(torch.int32).clamp_(0, n_intervals - 1)
    return intervals, (scaled - intervals).clamp_(0.0, 1.0)


def convolve(features: Tensor, table: Tensor, pairs: Pairs) -> Tensor:
    """Return ``out[i] = sum_j features[j] * filter(distance of i and j)``.

    Args:
        features: shape (N, F).
        table: filters by grid point, shape (n_intervals + 1, F).
        pairs: which atoms are neighbours, and where their distances lie in the table.

    Returns:
        Shape (N, F).
    """
    if features.device.type == "cpu" and features.dtype == torch.float32 and _kernels() is not None:
        result: Tensor = _Convolution.apply(features, table, *pairs)
        return result
    counts = pairs.first[1:] - pairs.first[:-1]
    centers = torch.repeat_interleave(torch.arange(len(features), device=features.device), counts)
    lower, weights = pairs.intervals.long(), pairs.weights[:, None].to(table.dtype)
    filters = torch.lerp(table[lower], table[lower + 1], weights)
    return torch.zeros_like(features).index_add(0, centers, features[pairs.neighbors.long()] * filters)


class _Convolution(torch.autograd.Function):
    """The same in one pass over the pairs, compiled by numba; several times faster than gathers and a scatter."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, table: Tensor, *pairs: Tensor) -> Tensor:
        ctx.save_for_backward(features, table, *pairs)
        sum_neighbors, _ = _compiled()
        output = torch.empty_like(features)
        sum_neighbors(*_arrays(features, table, *pairs), output.numpy())
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, table, *pairs = ctx.saved_tensors
        sum_neighbors, sum_points = _compiled()
        arrays = _arrays(*pairs)
        of_features = of_table = None
        (given,) = _arrays(gradient)
        if ctx.needs_input_grad[0]:  # each pair is there from both ends: the transposed sum is the same sum
            of_features = torch.empty_like(features)
            sum_neighbors(given, *_arrays(table), *arrays, of_features.numpy())
        if ctx.needs_input_grad[1]:
            of_table = torch.zeros_like(table)
            sum_points(given, *_arrays(features), *arrays, of_table.numpy())
        return of_features, of_table, *[None] * len(pairs)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.detach().contiguous().numpy() for tensor in tensors]


def _compiled() -> tuple[Callable[..., None], Callable[..., None]]:
    kernels = _kernels()
    assert kernels is not None
    return kernels


@cache
def _kernels() -> tuple[Callable[..., None], Callable[..., None]] | None:
    """Return the compiled loops, or None where numba is not installed."""
    try:
        import numba
    except ImportError:
        return None

    @numba.njit(fastmath=True, nogil=True)  # type: ignore[untyped-decorator]
    def sum_neighbors(
        features: Any, table: Any, first: Any, neighbors: Any, intervals: Any, weights: Any, output: Any
    ) -> None:  # pragma: no cover
        width = features.shape[1]
        for i in range(features.shape[0]):
            total = output[i]
            for f in range(width):
                total[f] = 0.0
            for pair in range(first[i], first[i + 1]):
                feature, weight = features[neighbors[pair]], weights[pair]
                lower, upper = table[intervals[pair]], table[intervals[pair] + 1]
                for f in range(width):
                    total[f] += feature[f] * (lower[f] + weight * (upper[f] - lower[f]))

    @numba.njit(fastmath=True, nogil=True)  # type: ignore[untyped-decorator]
    def sum_points(
        gradient: Any, features: Any, first: Any, neighbors: Any, intervals: Any, weights: Any, output: Any
    ) -> None:  # pragma: no cover
        width = features.shape[1]
        for i in range(features.shape[0]):
            given = gradient[i]
            for pair in range(first[i], first[i + 1]):
                feature, weight = features[neighbors[pair]], weights[pair]
                lower, upper = output[intervals[pair]], output[intervals[pair] + 1]
                for f in range(width):
                    product = feature[f] * given[f]
                    upper[f] += weight * product
                    lower[f] += product - weight * product

    return sum_neighbors, sum_points

"""From what a detector recorded to what a network reads, and which patterns cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ase_matprop.diffraction.ebsd.errors import PatternError

Scale = Literal["standard", "full_range"]

_SATURATED = 0.05  # share of pixels at the largest value
_EMPTY = 0.5  # standard deviation in counts of what has no background


class Preprocessing(nn.Module):
    """Dynamic background, pool, contrast.

    The background of a pattern is the pattern itself, smoothed by parabolas with Gaussian weights of ``sigma`` pixels;
    what is left after its subtraction is averaged over squares of ``pool`` pixels and scaled to mean 0 and standard
    deviation 1.

    Args:
        shape: pixels (rows, columns).
        sigma: in pixels; 0: no background is subtracted.
        pool: edge of the squares, in pixels.
        scale: ``"standard"`` as said, or ``"full_range"``: the counts of 8 bits are divided by 255 and nothing else is
            done to the contrast, as for the published network; needs a ``sigma`` of 0.

    Shape:
        input (n, rows, columns), output (n, 1, rows / pool, columns / pool).

    Raises:
        PatternError: if the patterns have not whole numbers of squares, or ``sigma`` does not suit ``scale``.
    """

    smooth_rows: Tensor
    smooth_columns: Tensor

    def __init__(
        self, shape: Sequence[int] = (60, 60), *, sigma: float = 4.0, pool: int = 2, scale: Scale = "standard"
    ) -> None:
        super().__init__()
        rows, columns = shape
        if pool < 1 or rows % pool or columns % pool:
            raise PatternError(f"patterns of {rows} x {columns} pixels cannot be averaged over {pool} x {pool} pixels")
        if scale == "full_range" and sigma > 0.0:
            raise PatternError("patterns that are divided by their full range keep their background: sigma must be 0")
        self.sigma, self.pool, self.scale = sigma, pool, scale
        self.output_shape = (rows // pool, columns // pool)
        self.register_buffer("smooth_rows", _smoothing(rows, sigma), persistent=False)
        self.register_buffer("smooth_columns", _smoothing(columns, sigma).T.contiguous(), persistent=False)

    def forward(self, patterns: Tensor) -> Tensor:
        if self.sigma > 0.0:
            patterns = patterns - self.smooth_rows @ patterns @ self.smooth_columns
        pooled = nn.functional.avg_pool2d(patterns[:, None], self.pool) if self.pool > 1 else patterns[:, None]
        if self.scale == "full_range":
            return pooled / 255.0
        pooled = pooled - pooled.mean(dim=(2, 3), keepdim=True)
        return pooled / pooled.square().mean(dim=(2, 3), keepdim=True).sqrt().clamp_min(1e-6)


def _smoothing(n: int, sigma: float) -> Tensor:
    """Return the matrix that gives, at each of n points, the parabola through its surroundings with Gaussian weights.

    A mere average would leave much of a background that falls towards the edges of the pattern, as most do: many times
    the contrast of the bands.
    """
    if sigma <= 0.0:
        return torch.eye(n)
    distance = (torch.arange(n, dtype=torch.float64) - torch.arange(n, dtype=torch.float64)[:, None]) / sigma
    weights = torch.exp(-0.5 * distance.square())
    powers = torch.stack([distance**k for k in range(min(3, n))], dim=1)  # (points, powers, neighbours)
    normal = (powers * weights[:, None]) @ powers.mT
    rows: Tensor = torch.linalg.inv(normal)[:, :1] @ (powers * weights[:, None])
    return rows[:, 0].float()


def remove_static_background(patterns: ArrayLike, background: ArrayLike) -> NDArray[np.float32]:
    """Return patterns, shape (n, rows, columns), minus a background of shape (rows, columns), scaled to their mean.

    Raises:
        PatternError: if the background has another shape, is not finite or is zero.
    """
    given, static = np.asarray(patterns, dtype=np.float32), np.asarray(background, dtype=np.float32)
    if static.shape != given.shape[1:]:
        raise PatternError(
            f"the static background has the shape {static.shape}, the patterns {given.shape[1:]}; take the one that "
            "was recorded with these patterns"
        )
    if not np.isfinite(static).all() or static.mean() <= 0.0:
        raise PatternError("the static background must be finite and have a positive mean")
    return np.asarray(given - static * (given.mean(axis=(1, 2), keepdims=True) / static.mean()), dtype=np.float32)


def check_patterns(patterns: NDArray, shape: Sequence[int] | None = None) -> list[str | None]:
    """Return for each pattern what is wrong with it, None where nothing is.

    Args:
        patterns: shape (n, rows, columns), integers as they were recorded, or floating-point numbers.
        shape: pixels that are expected.

    Raises:
        PatternError: if these are no patterns of one size, or no real numbers.
    """
    if patterns.ndim != 3:
        raise PatternError(f"patterns must have the shape (n, rows, columns). Got {patterns.shape}.")
    if patterns.dtype.kind not in "uif":
        raise PatternError(f"patterns must be integers or floating-point numbers. Got the dtype {patterns.dtype}.")
    rows, columns = patterns.shape[1:]
    if shape is not None and (rows, columns) != tuple(shape):
        reason = f"the pattern has {rows} x {columns} pixels, {shape[0]} x {shape[1]} are needed; bin or crop it"
        return [reason] * len(patterns)
    return [_fault(pattern) for pattern in patterns]


def _fault(pattern: NDArray) -> str | None:
    values = pattern.astype(np.float64)
    if pattern.size == 0:
        return "the pattern has no pixels"
    if not np.isfinite(values).all():
        return "the pattern has values that are not finite"
    lowest, highest = float(values.min()), float(values.max())
    if lowest == highest:
        return f"the pattern is empty: all its pixels are {lowest:g}"
    share = float((values == highest).mean())
    if share > _SATURATED:
        return f"the pattern is saturated: {share:.0%} of its pixels have its largest value, {highest:g}"
    return None if pattern.dtype.kind == "f" else _fault_of_counts(values)


def _fault_of_counts(values: NDArray[np.float64]) -> str | None:
    rough = values[1:, 1:] - values[1:, :-1] - values[:-1, 1:] + values[:-1, :-1]
    if float(rough.std()) < _EMPTY:
        return "the pattern is empty: it has no contrast beside a smooth background"
    return None

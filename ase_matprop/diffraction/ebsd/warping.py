"""Patterns of one detector as another one would have recorded them, which is what a network was trained for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ase_matprop.diffraction.ebsd.errors import DetectorError
from ase_matprop.diffraction.ebsd.geometry import Detector


def pixel_coordinates(detector: Detector, directions: NDArray[np.float64], centers: ArrayLike) -> NDArray[np.float64]:
    """Return where directions (sample frame) meet a detector: x from the left in widths, y from the top in heights.

    Args:
        detector: its tilts and shape.
        directions: unit vectors, shape (k, 3).
        centers: pattern centres, shape (n, 3).

    Returns:
        Shape (n, k, 2); NaN for directions away from the detector.
    """
    seen = directions @ detector.axes.T
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.where(seen[:, 2:] > 1e-6, seen[:, :2] / seen[:, 2:], np.nan)
    chosen = np.asarray(centers, dtype=np.float64)[:, None, :]
    rows, columns = detector.shape
    return np.asarray(chosen[..., :2] + slopes * chosen[..., 2:] * np.array([rows / columns, 1.0]))


def warp(
    patterns: Tensor, source: Detector, target: Detector, centers: ArrayLike | None = None
) -> tuple[Tensor, Tensor]:
    """Return patterns as the detector ``target`` sees them, by bilinear interpolation.

    Larger patterns are first averaged over whole squares of pixels, as far as these are smaller than the target's.

    Args:
        patterns: of the detector ``source``, shape (n, rows, columns), float32.
        source: where they were recorded.
        target: where they are wanted.
        centers: pattern centres of the patterns, shape (3,) or (n, 3); the source's by default.

    Returns:
        Patterns, shape (n, rows, columns) of the target, with the mean of the pattern where the source has no pixels;
        and the share of pixels that it has, shape (n,).

    Raises:
        DetectorError: if the number of pattern centres is not that of the patterns, or one is impossible.
    """
    chosen = np.asarray(source.pattern_center if centers is None else centers, dtype=np.float64)
    if chosen.shape != (3,) and chosen.shape != (len(patterns), 3):
        raise DetectorError(f"{len(patterns)} patterns need as many pattern centres, or one. Got {chosen.shape}.")
    if not np.isfinite(chosen).all() or (chosen[..., 2] <= 0.0).any():
        raise DetectorError("pattern centres must be finite, with a positive distance")
    if not len(patterns):
        return patterns.new_zeros((0, *target.shape)), patterns.new_zeros(0)
    scale = float(np.mean(chosen[..., 2])) * source.shape[0] / (target.pattern_center[2] * target.shape[0])
    factor = max(1, int(scale + 1e-6))
    if factor > 1 and source.shape[0] % factor == 0 and source.shape[1] % factor == 0:
        patterns = nn.functional.avg_pool2d(patterns[:, None], factor)[:, 0]
    places = pixel_coordinates(source, target.directions(), np.atleast_2d(chosen))
    grid = torch.from_numpy(2.0 * np.nan_to_num(places, nan=-9.0) - 1.0).float()
    grid = grid.unflatten(1, target.shape).expand(len(patterns), -1, -1, -1)
    found = nn.functional.grid_sample(patterns[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    inside = (grid.abs() <= 1.0).all(dim=-1)
    count = inside.sum(dim=(1, 2))
    mean = (found * inside).sum(dim=(1, 2)) / count.clamp_min(1)
    return torch.where(inside, found, mean[:, None, None]), count / inside[0].numel()

"""One-dimensional patterns: images integrated over the azimuth, for the methods that PADNet is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import minimum_filter1d, uniform_filter1d

from ase_matprop.diffraction.xrd.errors import DiffractionImageError, DiffractionSettingsError
from ase_matprop.diffraction.xrd.geometry import DetectorGeometry

#: width of the window of the background of 1D patterns, degrees of 2 theta: a few lines wide
BACKGROUND_WINDOW = 4.0


def integrate(
    images: ArrayLike,
    geometry: DetectorGeometry,
    n_points: int | None = None,
    two_theta_range: tuple[float, float] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean counts of the pixels in steps of 2 theta.

    Each pixel counts for the step in which its centre is (pyFAI's method without splitting of pixels, and without
    corrections of solid angle and polarisation).

    Args:
        images: counts, shape (..., height, width).
        geometry: position of the detector.
        n_points: number of steps; by default the number of rows of the image.
        two_theta_range: first and last edge of the steps, degrees; by default the range of the pixels' centres.

    Returns:
        Centres of the steps in degrees, shape (n_points,), and mean counts, shape (..., n_points); between its
        neighbours where no pixel is in a step.

    Raises:
        DiffractionImageError: if the images have another shape than the detector.
        DiffractionSettingsError: for a range without pixels, or less than one step.
    """
    counts = np.asarray(images, dtype=np.float64)
    if counts.ndim < 2 or counts.shape[-2:] != geometry.shape:
        raise DiffractionImageError(
            f"the image has the shape {counts.shape}, its geometry is of {geometry.shape[0]} x {geometry.shape[1]} "
            "pixels; give the geometry of this image"
        )
    n_points = geometry.shape[0] if n_points is None else n_points
    two_theta = geometry.two_theta().ravel()
    low, high = (two_theta.min(), two_theta.max()) if two_theta_range is None else two_theta_range
    inside = (two_theta >= low) & (two_theta <= high)
    if n_points < 1 or not inside.any():
        raise DiffractionSettingsError(
            f"no pixel is in the range of {low:g} to {high:g} degrees of 2 theta, or fewer than one step was asked for "
            f"({n_points}); the image covers {two_theta.min():.2f} to {two_theta.max():.2f}"
        )
    step = np.minimum(((two_theta[inside] - low) / (high - low) * n_points).astype(np.int64), n_points - 1)
    n_pixels = np.bincount(step, minlength=n_points)
    rows = counts.reshape(-1, two_theta.size)[:, inside]
    shifted = step + n_points * np.arange(len(rows))[:, np.newaxis]
    sums = np.bincount(shifted.ravel(), rows.ravel(), n_points * len(rows)).reshape(-1, n_points)
    means = sums / np.maximum(n_pixels, 1)
    known = np.flatnonzero(n_pixels)
    if len(known) < n_points:
        every = np.arange(n_points)
        means = np.stack([np.interp(every, known, row[known]) for row in means])
    edges = np.linspace(low, high, n_points + 1)
    return (edges[1:] + edges[:-1]) / 2.0, means.reshape(*counts.shape[:-2], n_points)


def line_background(
    two_theta: NDArray[np.float64], patterns: NDArray[np.float64], window: float = BACKGROUND_WINDOW
) -> NDArray[np.float64]:
    """Return the background of 1D patterns: minimum, then mean in a window (equations 7.9 and 7.10 along one axis).

    Args:
        two_theta: equal steps in degrees, shape (n,).
        patterns: shape (..., n).
        window: width in degrees.

    Returns:
        Shape as ``patterns``.
    """
    n = max(3, 2 * round(0.5 * window / float(two_theta[1] - two_theta[0])) + 1)
    smallest = minimum_filter1d(patterns, n, axis=-1, mode="nearest")
    return np.asarray(uniform_filter1d(smallest, n, axis=-1, mode="nearest"))


def line_patterns(
    images: NDArray[np.float32],
    geometries: Sequence[DetectorGeometry],
    *,
    n_points: int | None = None,
    remove_background: bool = False,
) -> NDArray[np.float64]:
    """Return 1D patterns of samples as features: the frames one after the other, each divided by its largest value.

    Args:
        images: shape (n, frames, height, width).
        geometries: one per frame.
        n_points: steps of 2 theta per frame; by default the number of rows of the images.
        remove_background: whether :func:`line_background` is taken off first.

    Returns:
        Shape (n, frames * n_points).
    """
    parts = []
    for frame, geometry in enumerate(geometries):
        two_theta, patterns = integrate(images[:, frame], geometry, n_points)
        if remove_background:
            patterns = patterns - line_background(two_theta, patterns)
        parts.append(patterns / np.maximum(patterns.max(axis=1, keepdims=True), 1e-12))
    return np.concatenate(parts, axis=1)

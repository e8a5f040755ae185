"""Background of two-dimensional diffraction images: minimum filter, and minimum plus mean filter.

D. Jha, Ph.D. thesis, Northwestern University (2020), equations 7.9 and 7.10.  The window at pixel (i, j) is
``-f/2 <= x, y <= f/2`` with both ends, as the equations have it (201 x 201 pixels for f = 200), and is cut off at the
border of the image.  Equation 7.10 is applied to the minimum-filtered image MF, as the text describes it: CS is the
mean of MF over the window.

Both filters are separable, so that the cost of a pixel does not depend on f.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import minimum_filter1d, uniform_filter1d

from ase_matprop.diffraction.xrd.errors import DiffractionImageError, DiffractionSettingsError

#: filter size that worked best in the thesis, for images of 2048 x 2048 pixels
FILTER_SIZE = 200
_REFERENCE_SIZE = 2048

#: what can be taken from an image: nothing, the minimum filter, the minimum plus mean filter
METHODS = ("none", "minimum", "minimum_mean")


def scaled_filter_size(shape: Sequence[int], at_2048: int = FILTER_SIZE) -> int:
    """Return the filter size that covers as much of an image as ``at_2048`` pixels of 2048.

    Args:
        shape: height and width in pixels.
        at_2048: filter size for 2048 x 2048 pixels.
    """
    return max(2, round(at_2048 * min(shape[-2:]) / _REFERENCE_SIZE))


def minimum_background(image: ArrayLike, size: int | None = None) -> NDArray[np.float64]:
    """Return the background MF of equation 7.9: the smallest count in the window round each pixel.

    Args:
        image: counts, shape (..., height, width); several images are filtered one by one.
        size: the f of the equation in pixels; by default what covers as much of the image as 200 of 2048 pixels.

    Returns:
        Counts, shape (..., height, width).

    Raises:
        DiffractionImageError: if the image has not two dimensions or more, is empty, or has values that are not finite.
        DiffractionSettingsError: if the size is not between 1 and twice the image.
    """
    counts = _as_counts(image)
    window = _window(counts.shape, size)
    for axis in (-2, -1):
        counts = minimum_filter1d(counts, window, axis=axis, mode="nearest")  # at the border the same as cut off
    return counts


def smooth_background(image: ArrayLike, size: int | None = None) -> NDArray[np.float64]:
    """Return the background CS of equation 7.10: the mean of MF in the window round each pixel.

    Arguments, result and errors as for :func:`minimum_background`.
    """
    background = minimum_background(image, size)
    window = _window(background.shape, size)
    for axis in (-2, -1):
        length = background.shape[axis]
        inside = uniform_filter1d(np.ones(length), window, mode="constant")
        background = uniform_filter1d(background, window, axis=axis, mode="constant")
        background /= inside[:, np.newaxis] if axis == -2 else inside
    return background


def remove_background(
    image: ArrayLike, method: str = "minimum_mean", size: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the image without its background, and the background.

    Args:
        image: counts, shape (..., height, width).
        method: ``"minimum"`` for I-MF, ``"minimum_mean"`` for I-CS, ``"none"`` for I itself.  I-CS can be negative.
        size: the f of the equations in pixels; by default what covers as much of the image as 200 of 2048 pixels.

    Raises:
        DiffractionImageError: if the image cannot be used (:func:`minimum_background`).
        DiffractionSettingsError: for an unknown method or a size out of range.
    """
    counts = _as_counts(image)
    if method == "none":
        return counts, np.zeros_like(counts)
    if method not in METHODS:
        raise DiffractionSettingsError(f"the background method must be one of {', '.join(METHODS)}. Got {method!r}.")
    background = (minimum_background if method == "minimum" else smooth_background)(counts, size)
    return counts - background, background


def _as_counts(image: ArrayLike) -> NDArray[np.float64]:
    try:
        counts = np.asarray(image, dtype=np.float64)
    except (TypeError, ValueError):
        raise DiffractionImageError("the image is no array of numbers; give counts of shape (height, width)") from None
    if counts.ndim < 2 or counts.size == 0:
        raise DiffractionImageError(
            f"the image has the shape {counts.shape}; background needs counts of shape (height, width)"
        )
    if not np.isfinite(counts).all():
        raise DiffractionImageError(
            f"the image has {np.count_nonzero(~np.isfinite(counts))} counts that are not finite; replace masked pixels"
        )
    return counts


def _window(shape: tuple[int, ...], size: int | None) -> int:
    """Return the number of pixels of the window along one axis."""
    if size is None:
        size = scaled_filter_size(shape)
    largest = 2 * min(shape[-2:])
    if not 1 <= size <= largest:
        raise DiffractionSettingsError(
            f"the filter size must be between 1 and {largest}, twice the image ({shape[-2]} x {shape[-1]}). Got {size}."
        )
    return 2 * (int(size) // 2) + 1

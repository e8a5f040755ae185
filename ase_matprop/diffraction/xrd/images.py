"""Checks of detector images, and their way to the size of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ase_matprop.diffraction.xrd.errors import DiffractionImageError
from ase_matprop.diffraction.xrd.geometry import DetectorGeometry

#: share of the pixels that may be saturated
LARGEST_SATURATED = 0.001
#: counts that noise alone spreads so far that no two in a thousand pixels share the largest of them
_MANY_COUNTS = 1000.0
#: deviation of 2 theta of any pixel from where it was in training that is tolerated, degrees
LARGEST_SHIFT = 0.3


def check_image(image: ArrayLike, saturation: float | None = None) -> NDArray[np.float64]:
    """Return the counts of an image as float64, shape (height, width).

    Args:
        image: counts as the detector gave them.
        saturation: count at which the detector saturates; by default the largest count of the image, if that is 1000 or
            more.

    Raises:
        DiffractionImageError: if this is no image of counts, was scaled to 8 bits, is empty or flat, is saturated in
            more than 0.1 % of the pixels, or has values that are not finite or below zero.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 2 or min(pixels.shape) < 2:
        raise DiffractionImageError(f"the image has the shape {pixels.shape}; one frame is (height, width)")
    if pixels.dtype.kind not in "iuf":
        raise DiffractionImageError(f"the image has the type {pixels.dtype}; counts are integers or floats")
    if pixels.dtype.itemsize == 1:
        raise DiffractionImageError(
            "the image has 8 bits for each pixel, to which counts were scaled; give the detector's own 16 or 32 bits"
        )
    counts = pixels.astype(np.float64)
    if not np.isfinite(counts).all():
        raise DiffractionImageError(
            f"{np.count_nonzero(~np.isfinite(counts))} pixels are not finite; fill masked pixels from their neighbours"
        )
    if counts.min() < 0.0:
        raise DiffractionImageError(
            f"{np.count_nonzero(counts < 0.0)} pixels are below zero; fill masked pixels, and give counts before any "
            "background is removed"
        )
    if counts.min() == counts.max():
        raise DiffractionImageError(f"the image is empty: all pixels are {counts.min():g}")
    if saturation is None and counts.max() >= _MANY_COUNTS:
        saturation = float(counts.max())  # so many counts are equal only where the detector gives no more
    if saturation is not None and np.mean(counts >= saturation) > LARGEST_SATURATED:
        raise DiffractionImageError(
            f"{100.0 * np.mean(counts >= saturation):.1f} % of the pixels are saturated ({saturation:g} counts or "
            "more); expose for a shorter time"
        )
    return counts


def to_size(counts: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return the image with fewer, larger pixels: the mean over blocks.

    Args:
        counts: shape (height, width), the same multiple of ``shape`` along both axes.
        shape: height and width to return.

    Raises:
        DiffractionImageError: if it is no multiple.
    """
    factor = counts.shape[0] // shape[0]
    if factor < 1 or counts.shape != (factor * shape[0], factor * shape[1]):
        raise DiffractionImageError(
            f"the image has {counts.shape[0]} x {counts.shape[1]} pixels, the network needs {shape[0]} x {shape[1]} or "
            "a multiple of that"
        )
    blocks = counts.reshape(shape[0], factor, shape[1], factor)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64))


def check_geometry(given: DetectorGeometry, trained: DetectorGeometry, frame: int) -> None:
    """Check that the pixels are at the scattering angles that they had in training.

    Args:
        given: geometry of the images; may have a multiple of the pixels.
        trained: geometry of the training.
        frame: number of the frame from 0, for the message.

    Raises:
        DiffractionImageError: if they are elsewhere by more than 0.3 degrees, or the wavelength differs by more than
            0.5 %.
    """
    if abs(given.wavelength / trained.wavelength - 1.0) > 0.005:
        raise DiffractionImageError(
            f"frame {frame + 1} was taken at {given.wavelength:g} Angstrom, the network was trained at "
            f"{trained.wavelength:g}; train one for this wavelength"
        )
    factor = given.shape[0] / trained.shape[0]
    if factor < 1 or factor != int(factor) or given.shape[1] != factor * trained.shape[1]:
        raise DiffractionImageError(
            f"the geometry of frame {frame + 1} is of {given.shape[0]} x {given.shape[1]} pixels, the network needs "
            f"{trained.shape[0]} x {trained.shape[1]} or a multiple of that"
        )
    shift = np.abs(given.binned(trained.shape[0]).two_theta() - trained.two_theta()).max()
    if not shift <= LARGEST_SHIFT:
        raise DiffractionImageError(
            f"the detector of frame {frame + 1} is elsewhere than in training: 2 theta differs by up to {shift:.2f} "
            "degrees; train a network for this geometry"
        )

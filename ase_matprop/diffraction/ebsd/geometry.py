"""Where the pixels of a detector lie, seen from the sample.

Frames as in EMsoft, EDAX and kikuchipy: e3 of the sample is the surface normal, e1 points down the tilted surface
(S. Singh et al., Microsc. Microanal. 23, 1 (2017), doi:10.1017/S1431927617000356).  The image is seen from behind the
detector towards the sample: its columns run along e2.  Rows run downwards.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from ase_matprop.diffraction.ebsd.errors import DetectorError


class Detector(BaseModel):
    """A flat detector.

    Attributes:
        shape: pixels (rows, columns).
        pattern_center: (x, y, z) in Bruker's convention: from the left in widths, from the top in heights, and the
            distance to the sample in heights of the detector.
        sample_tilt: tilt of the sample from the horizontal, degrees.
        tilt: tilt of the detector from the vertical, degrees.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: tuple[int, int] = (60, 60)
    pattern_center: tuple[float, float, float] = (0.425, 0.213, 0.501)
    sample_tilt: float = 70.0
    tilt: float = 0.0

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors in the sample frame, shape (3, 3): to the right, downwards, and towards the detector."""
        angle = math.radians(90.0 - self.sample_tilt + self.tilt)
        sine, cosine = math.sin(angle), math.cos(angle)
        return np.array([[0.0, 1.0, 0.0], [cosine, 0.0, -sine], [sine, 0.0, cosine]])

    def directions(self, centers: ArrayLike | None = None, *, oversampling: int = 1) -> NDArray[np.float64]:
        """Return unit vectors from the sample to the pixels, in the sample frame.

        Args:
            centers: pattern centres, shape (3,) or (n, 3); by default the detector's.
            oversampling: points per pixel along each edge, evenly spaced.

        Returns:
            Shape (n_pixels, 3) or (n, n_pixels, 3), row after row.

        Raises:
            DetectorError: if the detector has no pixels, or does not lie in front of the sample.
        """
        rows, columns = self.shape
        chosen = np.asarray(self.pattern_center if centers is None else centers, dtype=np.float64)
        if min(rows, columns) < 1 or oversampling < 1:
            raise DetectorError(f"a detector needs pixels. Got {rows} x {columns}, {oversampling} points per pixel.")
        if chosen.shape[-1:] != (3,) or not np.isfinite(chosen).all() or (chosen[..., 2] <= 0.0).any():
            raise DetectorError(
                f"the pattern centre must be x, y and a positive distance z, as shares of width, height and height. "
                f"Got {np.array2string(chosen, threshold=6)}."
            )
        right = (np.arange(columns * oversampling) + 0.5) / (columns * oversampling)
        down = (np.arange(rows * oversampling) + 0.5) / (rows * oversampling)
        across = (right - chosen[..., 0, None]) * (columns / rows)  # in heights of the detector
        below = down - chosen[..., 1, None]
        across, below = np.broadcast_arrays(across[..., None, :], below[..., :, None])
        distance = np.broadcast_to(chosen[..., 2, None, None], across.shape)
        vectors = np.stack([across, below, distance], axis=-1) @ self.axes
        vectors /= np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
        return vectors.reshape(*vectors.shape[:-3], -1, 3)


def bruker_from_edax(center: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return Bruker's pattern centre of EDAX's (x*, y*, z*), shape (..., 3).

    EDAX counts y from the bottom, in heights, and z in the smaller of height and width.
    """
    x, y, z = np.moveaxis(np.asarray(center, dtype=np.float64), -1, 0)
    return np.stack([x, 1.0 - y, z * (min(shape) / shape[0])], axis=-1)

"""Inverse pole figure colours: which crystal direction a direction of the sample is along."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.symmetry import find_laue_group, get_laue_group

_CORNERS = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
_CORNERS /= np.linalg.norm(_CORNERS, axis=1, keepdims=True)

#: first azimuth and width, in degrees, of the sector that holds each crystal direction once; cubic groups have another
_SECTORS = {
    "-1": (0.0, 360.0), "2/m": (0.0, 180.0), "mmm": (0.0, 90.0), "4/m": (0.0, 90.0), "4/mmm": (0.0, 45.0),
    "-3": (0.0, 120.0), "-3m": (30.0, 60.0), "6/m": (0.0, 60.0), "6/mmm": (0.0, 30.0),
}  # fmt: skip
#: what stands at the sector's pole, first and last azimuth
_LABELS = {
    "-1": ("001", "", ""), "2/m": ("010", "", ""), "mmm": ("001", "100", "010"), "4/m": ("001", "100", "010"),
    "4/mmm": ("001", "100", "110"), "-3": ("0001", "", ""), "-3m": ("0001", "", ""), "6/m": ("0001", "", ""),
    "6/mmm": ("0001", "2-1-10", "10-10"), "m-3": ("001", "101", "111"), "m-3m": ("001", "101", "111"),
}  # fmt: skip


def labels(symmetry: str) -> tuple[str, str, str]:
    """Return the crystal directions that are red, green and blue; empty where it depends on the lattice parameters."""
    return _LABELS[find_laue_group(symmetry)]


def sector(symmetry: str) -> tuple[float, float] | None:
    """Return first azimuth and width of the sector in degrees, None for the triangle of cubic crystals."""
    return _SECTORS.get(find_laue_group(symmetry))


def direction_colors(directions: ArrayLike, symmetry: str) -> NDArray[np.float64]:
    """Return the colours of crystal directions (unit vectors), shape (n, 3) -> (n, 3), red, green and blue in [0, 1].

    Red, green and blue stand at the corners of the sector: 001, 101 and 111 for cubic crystals; the main axis, the
    first and the last azimuth for others.  Colours of m-3 are those of m-3m, so that hkl and khl look the same; in the
    groups without mirror planes through the axis (-1, 2/m, -3, 4/m, 6/m) the colour jumps from the last azimuth to the
    first.

    Raises:
        UnknownNameError: if there is no such Laue group.
    """
    name = find_laue_group(symmetry)
    vectors = np.asarray(directions, dtype=np.float64)
    if name in ("m-3", "m-3m"):
        y, x, z = np.sort(np.abs(vectors), axis=-1).T
        shares = np.stack([x, y, z], axis=-1) @ np.linalg.inv(_CORNERS)
    else:
        polar, azimuth = _polar(vectors, name)
        shares = np.stack([1.0 - polar, polar * (1.0 - azimuth), polar * azimuth], axis=-1)
    shares = np.clip(shares, 0.0, None)
    return np.asarray(np.sqrt(shares / shares.max(axis=-1, keepdims=True)))


def _polar(vectors: NDArray[np.float64], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return angle from the main axis and azimuth, both from 0 to 1 in the sector, of the variant that lies there."""
    start, width = _SECTORS[name]
    rotations = convert.to_matrices(get_laue_group(name).operators)
    variants = np.concatenate([vectors @ rotation.T for rotation in rotations]).reshape(len(rotations), -1, 3)
    variants = np.concatenate([variants, -variants])
    if name == "2/m":  # the main axis is e2
        variants = variants[..., [2, 0, 1]]
    azimuth = (np.degrees(np.arctan2(variants[..., 1], variants[..., 0])) - start) % 360.0
    azimuth = np.where(azimuth > 360.0 - 1e-9, 0.0, azimuth)
    outside = np.maximum(azimuth - width, 0.0) + 1e3 * np.maximum(-variants[..., 2], 0.0)
    best = np.argmin(np.round(outside, 9), axis=0)[None]
    chosen = np.take_along_axis(variants, best[..., None], axis=0)[0]
    angle = np.degrees(np.arccos(np.clip(chosen[:, 2], -1.0, 1.0))) / 90.0
    return np.clip(angle, 0.0, 1.0), np.clip(np.take_along_axis(azimuth, best, axis=0)[0] / width, 0.0, 1.0)


def orientation_colors(
    quaternions: ArrayLike, symmetry: str, *, direction: ArrayLike = (0.0, 0.0, 1.0)
) -> NDArray[np.float64]:
    """Return the inverse pole figure colours of orientations for a direction of the sample.

    Args:
        quaternions: shape (n, 4); rows with NaN get NaN.
        symmetry: name of the Laue group.
        direction: in the sample frame; by default the surface normal.

    Returns:
        Shape (n, 3), red, green and blue in [0, 1].

    Raises:
        UnknownNameError: if there is no such Laue group.
        OrientationError: if these are no quaternions.
    """
    given = np.asarray(quaternions, dtype=np.float64)
    colors = np.full((len(given), 3), np.nan)
    good = np.isfinite(given).all(axis=1)
    axis = np.asarray(direction, dtype=np.float64)
    colors[good] = direction_colors(convert.to_matrices(given[good]) @ (axis / np.linalg.norm(axis)), symmetry)
    return colors


def key_image(symmetry: str, n: int = 256) -> tuple[NDArray[np.float64], tuple[float, float, float, float]]:
    """Return the colour key in stereographic projection, and its extent (left, right, bottom, top).

    Returns:
        Image of shape (n, n, 4), red, green, blue and opacity; the first row is the lowest.
    """
    name = find_laue_group(symmetry)
    if name in ("m-3", "m-3m"):
        extent = (-0.02, math.tan(math.pi / 8.0) + 0.02, -0.02, 0.5)
    else:
        start, width = _SECTORS[name]
        azimuths = np.radians(np.linspace(start, start + width, 100))
        x, y = np.append(np.cos(azimuths), 0.0), np.append(np.sin(azimuths), 0.0)
        extent = (float(x.min()) - 0.02, float(x.max()) + 0.02, float(y.min()) - 0.02, float(y.max()) + 0.02)
    across, up = np.meshgrid(np.linspace(extent[0], extent[1], n), np.linspace(extent[2], extent[3], n))
    square = across**2 + up**2
    vectors = np.stack([2.0 * across, 2.0 * up, 1.0 - square], axis=-1) / (1.0 + square)[..., None]
    flat = vectors.reshape(-1, 3)
    if name in ("m-3", "m-3m"):
        x, y, z = flat.T
        inside = (y >= 0.0) & (x >= y) & (z >= x)
    else:
        azimuth = (np.degrees(np.arctan2(flat[:, 1], flat[:, 0])) - start) % 360.0
        inside = (square.ravel() <= 1.0) & (azimuth <= width)
        flat = flat[:, [1, 2, 0]] if name == "2/m" else flat
    image = np.zeros((n * n, 4))
    image[inside, :3], image[inside, 3] = direction_colors(flat[inside], name), 1.0
    return image.reshape(n, n, 4), extent

"""Crystal orientations: quaternions, Euler angles, disorientations, all in float64.

The convention, here and everywhere in this package: an orientation is the passive rotation g from the sample frame to
the crystal frame, e_crystal = g e_sample (thesis of D. Jha, section 6.2.1).  Euler angles are Bunge's (phi1, Phi, phi2)
in degrees.  A unit quaternion q = (w, x, y, z) stands for g by v_crystal = q v_sample q*, with Hamilton's product, so
that equivalent orientations are S q with S in the Laue group.  This is the convention of orix, EDAX and EMsoft
(D. Rowenhorst et al., Modelling Simul. Mater. Sci. Eng. 23, 083501 (2015), doi:10.1088/0965-0393/23/8/083501).
Degrees are turned into radians here and nowhere else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ase_matprop.diffraction.ebsd.errors import OrientationError
from ase_matprop.diffraction.ebsd.symmetry import LaueGroup, get_laue_group, multiply

_ROWS_AT_ONCE = 1 << 18


def as_quaternions(values: ArrayLike) -> NDArray[np.float64]:
    """Return unit quaternions of shape (..., 4), float64, from such of any length but zero.

    Raises:
        OrientationError: if the shape is another, or a quaternion is zero or not finite.
    """
    quaternions = np.asarray(values, dtype=np.float64)
    if quaternions.ndim == 0 or quaternions.shape[-1] != 4:
        raise OrientationError(f"quaternions must have the shape (..., 4). Got {quaternions.shape}.")
    lengths = np.linalg.norm(quaternions, axis=-1, keepdims=True)
    if not np.all(np.isfinite(lengths) & (lengths > 1e-12)):
        raise OrientationError("quaternions must be finite and not zero; drop the rows that failed before")
    return np.asarray(quaternions / lengths)


def from_euler(angles: ArrayLike) -> NDArray[np.float64]:
    """Return quaternions, shape (..., 4) with w >= 0, of Bunge Euler angles in degrees, shape (..., 3).

    Raises:
        OrientationError: if the shape is another, or an angle is not finite.
    """
    degrees = np.asarray(angles, dtype=np.float64)
    if degrees.ndim == 0 or degrees.shape[-1] != 3:
        raise OrientationError(f"Euler angles must have the shape (..., 3). Got {degrees.shape}.")
    if not np.isfinite(degrees).all():
        raise OrientationError("Euler angles must be finite; drop the rows that failed before")
    phi1, phi, phi2 = np.moveaxis(np.deg2rad(degrees), -1, 0)
    half_sum, half_difference = (phi1 + phi2) / 2.0, (phi1 - phi2) / 2.0
    cosine, sine = np.cos(phi / 2.0), np.sin(phi / 2.0)
    quaternions = np.stack(
        [
            cosine * np.cos(half_sum),
            -sine * np.cos(half_difference),
            -sine * np.sin(half_difference),
            -cosine * np.sin(half_sum),
        ],
        axis=-1,
    )
    return np.where(quaternions[..., :1] < 0.0, -quaternions, quaternions)


def to_euler(quaternions: ArrayLike) -> NDArray[np.float64]:
    """Return Bunge Euler angles in degrees, shape (..., 3): phi1 and phi2 in [0, 360), Phi in [0, 180].

    Where only phi1 + phi2 or phi1 - phi2 is defined (Phi of 0 or 180 degrees), phi2 is zero.

    Raises:
        OrientationError: if these are no quaternions.
    """
    w, x, y, z = np.moveaxis(as_quaternions(quaternions), -1, 0)
    along, across = np.hypot(w, z), np.hypot(x, y)
    phi = 2.0 * np.arctan2(across, along)
    half_sum, half_difference = np.arctan2(-z, w), np.arctan2(-y, -x)
    half_sum = np.where(along < 1e-10, half_difference, half_sum)
    half_difference = np.where(across < 1e-10, half_sum, half_difference)
    degrees = np.rad2deg(np.stack([half_sum + half_difference, phi, half_sum - half_difference], axis=-1))
    degrees[..., ::2] %= 360.0
    degrees[..., ::2] = np.where(degrees[..., ::2] > 360.0 - 1e-10, 0.0, degrees[..., ::2])
    return np.asarray(degrees)


def to_matrices(quaternions: ArrayLike) -> NDArray[np.float64]:
    """Return matrices g, shape (..., 3, 3): g turns sample into crystal coordinates.

    Raises:
        OrientationError: if these are no quaternions.
    """
    w, x, y, z = np.moveaxis(as_quaternions(quaternions), -1, 0)
    rows = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)],
        [2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)],
        [2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def conjugate(quaternions: ArrayLike) -> NDArray[np.float64]:
    """Return the inverse rotations, shape (..., 4)."""
    return np.asarray(np.asarray(quaternions, dtype=np.float64) * np.array([1.0, -1.0, -1.0, -1.0]))


def angles_of(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles of rotation in degrees, in [0, 180], exact for small ones too; shape (...)."""
    lengths = np.linalg.norm(quaternions[..., 1:], axis=-1)
    return np.asarray(np.rad2deg(2.0 * np.arctan2(lengths, np.abs(quaternions[..., 0]))))


def disorientations(first: ArrayLike, second: ArrayLike, symmetry: str | LaueGroup = "m-3m") -> NDArray[np.float64]:
    """Return the disorientation angles in degrees of pairs of orientations.

    Equation 6.4 of the thesis compares all variants of both; as (S_i g1)^-1 (S_j g2) = g1^-1 (S_i^-1 S_j) g2, and
    S_i^-1 S_j is again one of the n operators, these are n angles, each met n times in both of its directions.

    Args:
        first: quaternions, shape (..., 4).
        second: quaternions; the shapes broadcast.
        symmetry: name of the Laue group.

    Raises:
        OrientationError: if these are no quaternions.
        UnknownNameError: if there is no such Laue group.
    """
    difference = multiply(as_quaternions(second), conjugate(as_quaternions(first)))
    return angles_of(reduce(difference, symmetry))


def reduce(quaternions: ArrayLike, symmetry: str | LaueGroup = "m-3m") -> NDArray[np.float64]:
    """Return the equivalent orientations in the fundamental zone, shape (..., 4).

    The convention is the Rodrigues fundamental zone around the identity: of the variants S q the one with the smallest
    angle of rotation, with w >= 0.  On its border the first operator of the group decides.

    Args:
        quaternions: shape (..., 4).
        symmetry: name of the Laue group.

    Raises:
        OrientationError: if these are no quaternions.
        UnknownNameError: if there is no such Laue group.
    """
    group = symmetry if isinstance(symmetry, LaueGroup) else get_laue_group(symmetry)
    given = as_quaternions(quaternions)
    flat = given.reshape(-1, 4)
    signed = group.operators * np.array([1.0, -1.0, -1.0, -1.0])  # the scalar part of S q is S_w q_w - S_v . q_v
    reduced = np.empty_like(flat)
    for start in range(0, len(flat), _ROWS_AT_ONCE):
        part = flat[start : start + _ROWS_AT_ONCE]
        best = np.argmax(np.round(np.abs(part @ signed.T), 12), axis=1)
        reduced[start : start + _ROWS_AT_ONCE] = multiply(group.operators[best], part)
    reduced = np.where(reduced[:, :1] < 0.0, -reduced, reduced)
    return reduced.reshape(given.shape)


def random_orientations(n: int, *, seed: int | np.random.Generator) -> NDArray[np.float64]:
    """Return ``n`` quaternions that are uniformly distributed over all rotations, shape (n, 4), w >= 0.

    A four-dimensional normal distribution has no preferred direction (G. Marsaglia, Ann. Math. Stat. 43, 645 (1972),
    doi:10.1214/aoms/1177692644).
    """
    quaternions = np.random.default_rng(seed).standard_normal((n, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return np.where(quaternions[:, :1] < 0.0, -quaternions, quaternions)


def mean_orientations(
    quaternions: ArrayLike, symmetry: str | LaueGroup = "m-3m", *, weights: ArrayLike | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean of several estimates of each orientation, and how far these lie from it.

    The variants closest to the estimate of the largest weight are averaged (the normalised sum of quaternions, which is
    the mean rotation to second order in their differences).

    Args:
        quaternions: shape (n, k, 4), k estimates of each of n orientations.
        symmetry: name of the Laue group.
        weights: of the estimates, shape (n, k); all the same by default.

    Returns:
        Means in the fundamental zone, shape (n, 4), and the mean disorientations of the estimates from them in degrees,
        shape (n,), both with these weights.
    """
    group = symmetry if isinstance(symmetry, LaueGroup) else get_laue_group(symmetry)
    estimates = as_quaternions(quaternions)
    shares = np.ones(estimates.shape[:2]) if weights is None else np.asarray(weights, dtype=np.float64)
    shares = shares / shares.sum(axis=1, keepdims=True)
    reference = np.take_along_axis(estimates, shares.argmax(axis=1)[:, None, None], axis=1)
    differences = reduce(multiply(estimates, conjugate(reference)), group)
    mean = as_quaternions((shares[..., None] * differences).sum(axis=1, keepdims=True))
    spread = (shares * disorientations(differences, mean, group)).sum(axis=1)
    return reduce(multiply(mean, reference)[:, 0], group), spread

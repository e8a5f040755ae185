"""The proper rotations of the 11 Laue groups, as quaternions.

Axes of the crystal frame: e1 along a, e3 along c* (the frame of EDAX, EMsoft and orix).  Then the threefold axis of -3
and -3m lies along e3, the twofold axes of -3m along a, and the unique axis of 2/m along e2 = b, the usual setting of
monoclinic crystals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.errors import unknown_name

_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
_DIAGONAL = (1.0, 1.0, 1.0)

#: Laue group -> proper point group, generators (axis, n-fold), number of rotations, angle of the pole figure's sector
_GROUPS: dict[str, tuple[str, tuple[tuple[tuple[float, float, float], int], ...], int]] = {
    "-1": ("1", (), 1),
    "2/m": ("2", ((_Y, 2),), 2),
    "mmm": ("222", ((_Z, 2), (_X, 2)), 4),
    "4/m": ("4", ((_Z, 4),), 4),
    "4/mmm": ("422", ((_Z, 4), (_X, 2)), 8),
    "-3": ("3", ((_Z, 3),), 3),
    "-3m": ("32", ((_Z, 3), (_X, 2)), 6),
    "6/m": ("6", ((_Z, 6),), 6),
    "6/mmm": ("622", ((_Z, 6), (_X, 2)), 12),
    "m-3": ("23", ((_Z, 2), (_X, 2), (_DIAGONAL, 3)), 12),
    "m-3m": ("432", ((_Z, 4), (_DIAGONAL, 3)), 24),
}

#: names of the 11 Laue groups
LAUE_GROUPS = tuple(_GROUPS)

#: other usual names of the Laue groups, and the point groups that belong to them
_ALIASES = {
    "1": "-1", "2": "2/m", "m": "2/m", "222": "mmm", "mm2": "mmm", "4": "4/m", "-4": "4/m",
    "422": "4/mmm", "4mm": "4/mmm", "-42m": "4/mmm", "-4m2": "4/mmm", "3": "-3", "32": "-3m", "3m": "-3m",
    "321": "-3m", "3m1": "-3m", "-3m1": "-3m",
    "6": "6/m", "-6": "6/m", "622": "6/mmm", "6mm": "6/mmm", "-6m2": "6/mmm", "-62m": "6/mmm",
    "23": "m-3", "m3": "m-3", "432": "m-3m", "-43m": "m-3m", "m3m": "m-3m",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class LaueGroup:
    """A Laue group.

    Attributes:
        name: such as ``"m-3m"``.
        proper: name of the point group of its rotations, such as ``"432"``.
        operators: unit quaternions (w, x, y, z) with w >= 0, the identity first, shape (n, 4), float64.
    """

    name: str
    proper: str
    operators: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.operators)


def hamilton_product(first: Iterable[Any], second: Iterable[Any]) -> tuple[Any, Any, Any, Any]:
    """Return w, x, y and z of the product of two quaternions, given by theirs: arrays or tensors, which broadcast."""
    a, b, c, d = first
    e, f, g, h = second
    return (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )


def multiply(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Hamilton products of quaternions (w, x, y, z), shapes (..., 4), which broadcast."""
    parts = hamilton_product(np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0))
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def find_laue_group(name: str) -> str:
    """Return the Laue group's name for the name of a Laue or point group.

    Raises:
        UnknownNameError: if there is none; the message names the closest one.
    """
    key = str(name).strip().replace(" ", "")
    key = _ALIASES.get(key, key)
    if key not in _GROUPS:
        raise unknown_name("Laue group", name, _GROUPS)
    return key


def get_laue_group(name: str) -> LaueGroup:
    """Return a Laue group by its name or by that of one of its point groups, such as ``"m-3m"`` or ``"432"``.

    Raises:
        UnknownNameError: if there is none; the message names the closest one.
    """
    return _build(find_laue_group(name))


@cache
def _build(name: str) -> LaueGroup:
    proper, generators, n_rotations = _GROUPS[name]
    rotations = np.array([[1.0, 0.0, 0.0, 0.0]])
    factors = np.array([_rotation(axis, fold) for axis, fold in generators]).reshape(-1, 4)
    while len(rotations) < n_rotations:
        products = multiply(rotations[:, None], factors[None]).reshape(-1, 4)
        for product in products:
            if not np.any(np.abs(np.abs(rotations @ product) - 1.0) < 1e-9):
                rotations = np.concatenate([rotations, _upper(product)[None]])
    rotations.setflags(write=False)
    return LaueGroup(name, proper, rotations)


def _rotation(axis: tuple[float, float, float], fold: int) -> NDArray[np.float64]:
    half = math.pi / fold
    unit = np.asarray(axis) / np.linalg.norm(axis)
    return np.concatenate([[math.cos(half)], math.sin(half) * unit])


def _upper(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the one of q and -q whose first part that is not zero is positive, normalised."""
    quaternion = np.where(np.abs(quaternion) < 1e-12, 0.0, quaternion)
    quaternion = quaternion / np.linalg.norm(quaternion)
    first = quaternion[np.flatnonzero(quaternion)[0]]
    return np.asarray(quaternion if first > 0.0 else -quaternion)

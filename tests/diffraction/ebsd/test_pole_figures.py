from __future__ import annotations

import numpy as np
import pytest

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.pole_figures import direction_colors, key_image, labels, orientation_colors, sector
from ase_matprop.diffraction.ebsd.symmetry import LAUE_GROUPS, get_laue_group


@pytest.mark.parametrize("name", LAUE_GROUPS)
def test_equivalent_directions_have_the_same_colour(name: str) -> None:
    vectors = convert.to_matrices(convert.random_orientations(300, seed=0))[:, 0]
    colors = direction_colors(vectors, name)
    assert ((colors >= 0.0) & (colors <= 1.0)).all()
    assert np.allclose(colors.max(axis=1), 1.0)
    for operator in get_laue_group(name).operators:
        moved = vectors @ convert.to_matrices(operator).T
        assert np.allclose(direction_colors(moved, name), colors, atol=1e-6)
        assert np.allclose(direction_colors(-moved, name), colors, atol=1e-6)


def test_corners_of_the_cubic_triangle() -> None:
    corners = np.array([[0, 0, 1.0], [0, 1, -1], [-1, 1, 1]])
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    assert np.allclose(direction_colors(corners, "m-3m"), np.eye(3), atol=1e-6)
    assert labels("432") == ("001", "101", "111")
    assert sector("m-3m") is None


def test_corners_of_the_hexagonal_sector() -> None:
    angle = np.radians(30.0)
    corners = np.array([[0, 0, 1.0], [1, 0, 0], [np.cos(angle), np.sin(angle), 0]])
    assert np.allclose(direction_colors(corners, "6/mmm"), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("name", ["m-3m", "6/mmm", "4/mmm", "mmm", "-3m"])
def test_no_jumps(name: str) -> None:
    vectors = convert.to_matrices(convert.random_orientations(2000, seed=1))[:, 0]
    step = 1e-6 * convert.to_matrices(convert.random_orientations(2000, seed=2))[:, 0]
    near = (vectors + step) / np.linalg.norm(vectors + step, axis=1, keepdims=True)
    change = np.abs(direction_colors(vectors, name) ** 2 - direction_colors(near, name) ** 2)
    assert change.max() < 1e-3


def test_failed_rows_have_no_colour() -> None:
    quaternions = convert.random_orientations(3, seed=3)
    quaternions[1] = np.nan
    colors = orientation_colors(quaternions, "m-3m")
    assert np.isnan(colors).any(axis=1).tolist() == [False, True, False]
    identity = orientation_colors([[1.0, 0, 0, 0]], "m-3m")
    assert np.allclose(identity, [[1.0, 0.0, 0.0]])


@pytest.mark.parametrize("name", LAUE_GROUPS)
def test_keys(name: str) -> None:
    image, extent = key_image(name, 64)
    assert image.shape == (64, 64, 4)
    assert 0.2 < image[..., 3].mean() < 0.95
    assert extent[0] < extent[1]
    assert extent[2] < extent[3]

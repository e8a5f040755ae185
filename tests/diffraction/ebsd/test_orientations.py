from __future__ import annotations

import numpy as np
import pytest

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.errors import OrientationError
from ase_matprop.diffraction.ebsd.symmetry import LAUE_GROUPS, get_laue_group, multiply
from ase_matprop.errors import UnknownNameError

#: largest disorientation in degrees; A. Morawiec, Orientations and Rotations (Springer, 2004), chapter 8
LARGEST = {
    "-1": 180.0, "2/m": 180.0, "mmm": 120.0, "4/m": 180.0, "4/mmm": 98.421, "-3": 180.0, "-3m": 104.478, "6/m": 180.0,
    "6/mmm": 93.841, "m-3": 90.0, "m-3m": 62.7994,
}  # fmt: skip


def test_bunge_angles_against_their_definition() -> None:
    """g = R_z(phi2) R_x(Phi) R_z(phi1), where R turns the axes and not the vectors (Bunge 1982, equation 2.50)."""
    angles = np.array([[30.0, 50.0, 70.0], [200.0, 10.0, 350.0]])

    def turned(degrees: float, axis: int) -> np.ndarray:
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        matrix = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        return matrix if axis == 2 else np.roll(np.roll(matrix, 1, axis=0), 1, axis=1)

    for row, matrix in zip(angles, convert.to_matrices(convert.from_euler(angles)), strict=True):
        assert np.allclose(matrix, turned(row[2], 2) @ turned(row[1], 0) @ turned(row[0], 2), atol=1e-14)


def test_euler_angles_return() -> None:
    quaternions = convert.random_orientations(2000, seed=0)
    assert np.allclose(convert.from_euler(convert.to_euler(quaternions)), quaternions, atol=1e-12)
    special = np.array([[0.0, 0, 0], [40.0, 0, 0], [40.0, 180, 0], [0.0, 90, 0], [359.0, 1e-7, 0.5]])
    back = convert.to_euler(convert.from_euler(special))
    assert np.abs(convert.disorientations(convert.from_euler(back), convert.from_euler(special), "-1")).max() < 1e-6
    assert np.allclose(back[:4], special[:4], atol=1e-9)
    assert ((back[:, ::2] >= 0) & (back[:, ::2] < 360)).all()


@pytest.mark.parametrize("name", LAUE_GROUPS)
def test_groups_are_groups(name: str) -> None:
    operators = get_laue_group(name).operators
    expected = {"1": 1, "2": 2, "222": 4, "4": 4, "422": 8, "3": 3, "32": 6, "6": 6, "622": 12, "23": 12, "432": 24}
    assert len(operators) == expected[get_laue_group(name).proper]
    assert np.allclose(operators[0], [1, 0, 0, 0])
    products = multiply(operators[:, None], operators[None]).reshape(-1, 4)
    assert np.allclose(np.abs(products @ operators.T).max(axis=1), 1.0)
    overlaps = np.abs(operators @ operators.T) - np.eye(len(operators))
    assert overlaps.max() < 1.0 - 1e-6  # no operator stands twice


@pytest.mark.parametrize("name", LAUE_GROUPS)
def test_disorientation_of_equivalent_and_moved_orientations(name: str) -> None:
    operators = get_laue_group(name).operators
    first, second = convert.random_orientations(200, seed=1), convert.random_orientations(200, seed=2)
    angle = convert.disorientations(first, second, name)
    assert np.allclose(angle, convert.disorientations(second, first, name), atol=1e-9)
    for left in operators:
        assert np.abs(convert.disorientations(multiply(left, first), first, name)).max() < 1e-6
        assert np.allclose(convert.disorientations(multiply(left, first), second, name), angle, atol=1e-9)
    turn = convert.random_orientations(1, seed=3)  # of the sample
    assert np.allclose(convert.disorientations(multiply(first, turn), multiply(second, turn), name), angle, atol=1e-9)
    assert angle.max() <= LARGEST[name] + 1e-3


@pytest.mark.parametrize("name", LAUE_GROUPS)
def test_largest_disorientation(name: str) -> None:
    quaternions = convert.random_orientations(200_000, seed=4)
    largest = convert.angles_of(convert.reduce(quaternions, name)).max()
    assert LARGEST[name] - 4.0 < largest <= LARGEST[name] + 1e-3


def test_corner_of_the_cubic_zone() -> None:
    """The corner of the Rodrigues zone of 432 is at (sqrt2 - 1, sqrt2 - 1, 3 - 2 sqrt2): 62.7994 degrees."""
    root = np.sqrt(2.0)
    corner = np.array([1.0, root - 1.0, root - 1.0, 3.0 - 2.0 * root])
    angle = convert.disorientations(corner, [1.0, 0, 0, 0], "m-3m")
    assert angle == pytest.approx(62.79942961949412, abs=1e-9)


def test_fundamental_zone() -> None:
    quaternions = convert.random_orientations(500, seed=5)
    reduced = convert.reduce(quaternions, "m-3m")
    assert (reduced[:, 0] > 0.0).all()
    assert np.allclose(convert.reduce(reduced, "m-3m"), reduced, atol=1e-12)
    assert np.abs(convert.disorientations(reduced, quaternions, "m-3m")).max() < 1e-6
    for operator in get_laue_group("m-3m").operators:
        assert np.allclose(convert.reduce(multiply(operator, quaternions), "432"), reduced, atol=1e-9)


def test_random_orientations_are_uniform() -> None:
    quaternions = convert.random_orientations(100_000, seed=6)
    # the mean angle of uniform rotations is 90 + 360 / pi^2 = 126.476 degrees, of cubic disorientations 40.736
    assert convert.angles_of(quaternions).mean() == pytest.approx(126.476, abs=0.5)
    angles = convert.angles_of(convert.reduce(quaternions, "m-3m"))
    assert angles.mean() == pytest.approx(40.736, abs=0.2)
    assert np.allclose(convert.to_matrices(quaternions).mean(axis=0), 0.0, atol=0.01)
    assert np.array_equal(quaternions[:10], convert.random_orientations(100_000, seed=6)[:10])


def test_small_angles_are_exact() -> None:
    first = convert.random_orientations(100, seed=7)
    small = np.array([1.0, 0.5e-7, 0.0, 0.0])
    moved = multiply(small, first)
    assert np.allclose(np.radians(convert.disorientations(first, moved, "m-3m")), 1e-7, rtol=1e-6)


def test_mean_orientations() -> None:
    true = convert.random_orientations(50, seed=8)
    random = np.random.default_rng(9)
    operators = get_laue_group("m-3m").operators
    offsets = np.concatenate([np.ones((50, 5, 1)), 0.005 * random.standard_normal((50, 5, 3))], axis=2)
    estimates = multiply(operators[random.integers(24, size=(50, 5))], multiply(offsets, true[:, None]))
    mean, spread = convert.mean_orientations(estimates, "m-3m")
    assert convert.disorientations(mean, true, "m-3m").max() < 1.0
    assert 0.3 < spread.mean() < 1.5
    mean, spread = convert.mean_orientations(true[:, None], "m-3m")
    assert np.allclose(mean, convert.reduce(true, "m-3m"))
    assert np.allclose(spread, 0.0, atol=1e-6)


def test_empty() -> None:
    assert convert.disorientations(np.empty((0, 4)), np.empty((0, 4))).shape == (0,)
    assert convert.to_euler(np.empty((0, 4))).shape == (0, 3)


def test_wrong_input() -> None:
    with pytest.raises(OrientationError, match=r"shape \(\.\.\., 4\)"):
        convert.to_euler(np.zeros((3, 3)))
    with pytest.raises(OrientationError, match="not zero"):
        convert.reduce(np.zeros((2, 4)))
    with pytest.raises(OrientationError, match="finite"):
        convert.from_euler([[0.0, np.nan, 0.0]])
    with pytest.raises(UnknownNameError, match="Laue group 'm-3n'.*Did you mean"):
        convert.disorientations([1.0, 0, 0, 0], [1.0, 0, 0, 0], "m-3n")


def test_against_orix() -> None:
    quaternion = pytest.importorskip("orix.quaternion")
    from orix.quaternion import symmetry

    groups = {
        "-1": symmetry.C1, "mmm": symmetry.D2, "4/m": symmetry.C4, "4/mmm": symmetry.D4, "-3": symmetry.C3,
        "-3m": symmetry.D3, "6/m": symmetry.C6, "6/mmm": symmetry.D6, "m-3": symmetry.T, "m-3m": symmetry.O,
    }  # fmt: skip
    first, second = convert.random_orientations(500, seed=10), convert.random_orientations(500, seed=11)
    for name, group in groups.items():
        pair = [quaternion.Orientation(q, symmetry=group) for q in (first, second)]
        theirs = np.degrees(pair[0].angle_with(pair[1]))
        assert np.abs(convert.disorientations(first, second, name) - theirs).max() < 1e-6, name
    # orix has the twofold axis of 2/m along e3, we along e2: turn one into the other
    turn = np.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])
    pair = [quaternion.Orientation(multiply(turn, q), symmetry=symmetry.C2) for q in (first, second)]
    theirs = np.degrees(pair[0].angle_with(pair[1]))
    assert np.abs(convert.disorientations(first, second, "2/m") - theirs).max() < 1e-6
    angles = convert.to_euler(first)
    assert np.allclose(quaternion.Rotation.from_euler(angles, degrees=True).data, first, atol=1e-12)
    assert np.allclose(quaternion.Rotation(first).to_matrix(), convert.to_matrices(first), atol=1e-12)

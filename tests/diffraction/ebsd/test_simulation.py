from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ase_matprop.diffraction.ebsd import orientations as convert
from ase_matprop.diffraction.ebsd.errors import DetectorError, PatternError
from ase_matprop.diffraction.ebsd.geometry import Detector, bruker_from_edax
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern, to_square
from ase_matprop.diffraction.ebsd.rotations import to_matrices
from ase_matprop.diffraction.ebsd.simulation import Disturbances, Simulator
from ase_matprop.diffraction.ebsd.symmetry import get_laue_group, multiply
from ase_matprop.diffraction.ebsd.warping import pixel_coordinates, warp
from ase_matprop.errors import UnknownNameError


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = (z.reshape(len(z), -1) - z.reshape(len(z), -1).mean(axis=1, keepdims=True) for z in (first, second))
    return (first * second).sum(axis=1) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1))


def test_detector_geometry() -> None:
    """A sample tilted by 70 degrees has its normal 20 degrees above the horizontal, on which the detector lies."""
    detector = Detector(shape=(3, 3), pattern_center=(0.5, 0.5, 0.5))
    directions = detector.directions().reshape(3, 3, 3)
    middle = directions[1, 1]
    assert np.allclose(middle, [np.sin(np.radians(20)), 0.0, np.cos(np.radians(20))])
    assert directions[0, 1, 2] > middle[2] > directions[2, 1, 2]  # the normal points to the upper half
    assert directions[1, 2, 1] > 0.0 > directions[1, 0, 1]
    assert np.allclose(np.linalg.norm(directions, axis=-1), 1.0)
    centers = np.array([[0.5, 0.5, 0.5], [0.4, 0.6, 0.7]])
    both = detector.directions(centers)
    assert both.shape == (2, 9, 3)
    assert np.allclose(both[0], detector.directions())
    assert np.allclose(both[1], Detector(shape=(3, 3), pattern_center=(0.4, 0.6, 0.7)).directions())
    fine = detector.directions(oversampling=3).reshape(9, 9, 3)
    assert np.allclose(fine[4, 4], middle)


def test_pattern_centers_of_edax() -> None:
    """x* in widths, y* in heights from below, z* in the smaller of both: EBSDDetector of kikuchipy 0.13."""
    assert np.allclose(bruker_from_edax([0.4, 0.7, 0.5], (60, 60)), [0.4, 0.3, 0.5])
    assert np.allclose(bruker_from_edax([0.4, 0.7, 0.5], (80, 60)), [0.4, 0.3, 0.375])
    assert np.allclose(bruker_from_edax([0.4, 0.7, 0.5], (60, 80)), [0.4, 0.3, 0.5])


@pytest.mark.parametrize("shape", [(60, 80), (80, 60)])
def test_pattern_centers_of_edax_against_kikuchipy(shape: tuple[int, int]) -> None:
    kikuchipy = pytest.importorskip("kikuchipy")
    theirs = kikuchipy.detectors.EBSDDetector(shape=shape, pc=(0.4, 0.7, 0.5), convention="edax").pc
    assert np.allclose(bruker_from_edax([0.4, 0.7, 0.5], shape), theirs)


@pytest.mark.parametrize(
    "change",
    [{"bits": 0}, {"noise": (1.0, 0.5)}, {"fading": (0.0, 0.0)}, {"gamma": (-1.0, 1.0)}, {"center_spread": -0.1}],
)
def test_impossible_disturbances(change: dict) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        Disturbances(**change)


def test_pixels_return_from_directions() -> None:
    detector = Detector(shape=(4, 6), pattern_center=(0.4, 0.3, 0.6), tilt=5.0)
    places = pixel_coordinates(detector, detector.directions(), np.array([detector.pattern_center]))[0].reshape(4, 6, 2)
    assert np.allclose(places[..., 0], (np.arange(6) + 0.5) / 6)
    assert np.allclose(places[..., 1], ((np.arange(4) + 0.5) / 4)[:, None])


def test_impossible_detectors() -> None:
    with pytest.raises(DetectorError, match="positive distance"):
        Detector(pattern_center=(0.5, 0.5, -0.1)).directions()
    with pytest.raises(DetectorError, match="needs pixels"):
        Detector(shape=(0, 60)).directions()
    with pytest.raises(DetectorError, match="as many pattern centres"):
        warp(torch.zeros(2, 60, 60), Detector(), Detector(), np.ones((3, 3)))


def test_lambert_square_has_equal_areas() -> None:
    vectors = torch.tensor(convert.to_matrices(convert.random_orientations(200_000, seed=0))[:, 0])
    column, row = to_square(*vectors.unbind(-1))
    counts, _, _ = np.histogram2d(column.numpy(), row.numpy(), bins=10, range=[[-1, 1], [-1, 1]])
    assert counts.sum() == 200_000
    assert np.abs(counts / 2000.0 - 1.0).max() < 0.1


def test_sampler_gives_the_points_of_the_square(toy: MasterPattern) -> None:
    sampler = toy.sampler(torch.float64)
    axes = torch.eye(3, dtype=torch.float64)
    half = (toy.squares.shape[1] - 1) // 2
    expected = [toy.squares[0, half, -1], toy.squares[0, -1, half], toy.squares[0, half, half]]
    assert np.allclose(sampler(axes).numpy(), expected, atol=1e-5)
    directions = torch.tensor(convert.to_matrices(convert.random_orientations(100, seed=1))[:, 0])
    for operator in get_laue_group("m-3m").operators:  # the toy pattern has this symmetry
        moved = directions @ torch.tensor(convert.to_matrices(operator)).T
        assert torch.allclose(sampler(moved), sampler(directions), atol=0.35)


def test_equivalent_orientations_give_the_same_pattern(toy: MasterPattern) -> None:
    simulator = Simulator(toy)
    quaternion = convert.random_orientations(1, seed=2)
    variants = multiply(get_laue_group("m-3m").operators, quaternion)
    images = simulator.project(torch.tensor(variants).float()).numpy()
    assert correlation(images, np.repeat(images[:1], 24, axis=0)).min() > 0.995


def test_patterns_are_repeatable_and_recorded(toy: MasterPattern) -> None:
    simulator = Simulator(toy)
    quaternions = convert.random_orientations(200, seed=3)
    images = simulator.patterns(quaternions, seed=4)
    assert images.shape == (200, 60, 60)
    assert torch.equal(images, simulator.patterns(quaternions, seed=4))
    assert not torch.equal(images, simulator.patterns(quaternions, seed=5))
    assert torch.equal(images, images.round())
    assert images.min() >= 0.0
    assert images.max() <= 255.0
    assert (images == 255.0).float().mean() < 0.001


def test_disturbances(toy: MasterPattern) -> None:
    quaternions = convert.random_orientations(20, seed=6)
    clean = Simulator(toy, disturbances=Disturbances.none()).patterns(quaternions, seed=0).numpy()
    exact = Simulator(toy).project(torch.tensor(quaternions).float()).numpy()
    assert correlation(clean, exact).min() > 0.999
    noisy = Disturbances.none().model_copy(update={"noise": (2.0, 2.0)})
    rough = Simulator(toy, disturbances=noisy).patterns(quaternions, seed=0).numpy()
    assert correlation(rough, exact).mean() == pytest.approx(1.0 / np.sqrt(5.0), abs=0.05)


@pytest.mark.parametrize("change", [{"transfer": 0.5}, {"grain": (1.0, 1.0)}, {"ghost": (0.5, 0.5)}])
def test_structured_disturbances(toy: MasterPattern, change: dict) -> None:
    quaternions = convert.random_orientations(20, seed=6)
    exact = Simulator(toy).project(torch.tensor(quaternions).float()).numpy()
    simulator = Simulator(toy, disturbances=Disturbances.none().model_copy(update=change))
    images = simulator.patterns(quaternions, seed=0)
    assert torch.equal(images, simulator.patterns(quaternions, seed=0))
    assert 0.3 < correlation(images.numpy(), exact).mean() < 0.99
    whole = simulator.patterns(quaternions, seed=0, noise_scale=0.0).numpy()
    assert correlation(whole, exact).min() > 0.999


def test_grain(toy: MasterPattern) -> None:
    """White noise has no correlation between neighbours; the grain has some, of another length in each pattern."""
    grain = Simulator(toy)._grain(200, np.random.default_rng(0))
    assert torch.allclose(grain.mean(dim=(1, 2)), torch.zeros(200), atol=1e-4)
    assert torch.allclose(grain.std(dim=(1, 2)), torch.ones(200), atol=1e-3)
    neighbours = (grain[:, :, 1:] * grain[:, :, :-1]).mean(dim=(1, 2))
    assert neighbours.mean() > 0.3
    assert neighbours.std() > 0.1


def test_octaves_add_up(toy: MasterPattern) -> None:
    image = torch.rand(3, 60, 60)
    simulator = Simulator(toy)
    assert torch.allclose(simulator._octaves(image, np.ones((4, 3), np.float32)), image, atol=1e-5)
    coarse = simulator._octaves(image, np.array([[0.0], [0.0], [0.0], [1.0]], np.float32).repeat(3, axis=1))
    assert (coarse - image.mean(dim=(1, 2), keepdim=True)).std() < 0.2 * image.std()
    flat = torch.full((1, 60, 60), 3.0)
    assert torch.allclose(simulator._octaves(flat, np.array([[9.0], [9.0], [9.0], [1.0]], np.float32)), flat, atol=1e-4)


def test_projection_is_differentiable(toy: MasterPattern) -> None:
    simulator = Simulator(toy, Detector(shape=(12, 12)))
    quaternions = torch.tensor(convert.random_orientations(3, seed=7)).float().requires_grad_()
    simulator.project(quaternions).square().mean().backward()
    assert quaternions.grad is not None
    assert torch.isfinite(quaternions.grad).all()
    assert quaternions.grad.abs().max() > 0.0


def test_warping_to_another_detector(toy: MasterPattern) -> None:
    target = Detector()
    quaternions = torch.tensor(convert.random_orientations(10, seed=8)).float()
    wanted = Simulator(toy, target).project(quaternions)
    source = Detector(shape=(240, 240), pattern_center=(0.45, 0.25, 0.45), tilt=3.0)
    found, covered = warp(Simulator(toy, source).project(quaternions), source, target)
    assert found.shape == (10, 60, 60)
    assert covered.min() > 0.8
    directions = target.directions()
    inside = pixel_coordinates(source, directions, np.array([source.pattern_center]))[0]
    kept = ((inside > 0.02) & (inside < 0.98)).all(axis=1)
    assert correlation(found.flatten(1)[:, kept].numpy(), wanted.flatten(1)[:, kept].numpy()).min() > 0.97
    same, covered = warp(wanted, target, target)
    assert torch.allclose(same, wanted, atol=1e-3)
    assert covered.min() == 1.0


def test_bad_master_patterns() -> None:
    arguments = {"symmetry": "m-3m", "phase": "x", "space_group": 225, "lattice": (1.0,) * 6, "source": "test"}
    with pytest.raises(PatternError, match=r"shape \(2, m, m\)"):
        MasterPattern(np.zeros((5, 5), dtype=np.float32), **arguments)  # type: ignore[arg-type]
    with pytest.raises(PatternError, match="differ"):
        MasterPattern(np.zeros((2, 5, 5), dtype=np.float32), **arguments)  # type: ignore[arg-type]


def test_symmetry_of_a_master_pattern(toy: MasterPattern) -> None:
    assert replace(toy, symmetry="432").symmetry == "m-3m"
    with pytest.raises(UnknownNameError, match="unknown Laue group 'm-5'"):
        replace(toy, symmetry="m-5")


def test_against_kikuchipy() -> None:
    kikuchipy = pytest.importorskip("kikuchipy")
    from orix.quaternion import Rotation

    detector = Detector(shape=(50, 60), pattern_center=(0.43, 0.25, 0.55), tilt=5.0)
    quaternions = convert.random_orientations(20, seed=9)
    master = kikuchipy.data.nickel_ebsd_master_pattern_small(projection="lambert", hemisphere="both")
    theirs = master.get_patterns(
        Rotation(quaternions),
        kikuchipy.detectors.EBSDDetector(shape=(50, 60), pc=detector.pattern_center, sample_tilt=70.0, tilt=5.0),
        dtype_out="float32",
        compute=True,
        show_progressbar=False,
    ).data.astype(float)
    directions = torch.tensor(detector.directions()) @ to_matrices(torch.tensor(quaternions)).mT
    ours = MasterPattern.nickel().sampler(torch.float64)(directions).numpy()
    for image, other in zip(ours, theirs.reshape(20, -1), strict=True):  # theirs are scaled to [-1, 1] each
        scaled = np.polyval(np.polyfit(image, other, 1), image)
        assert np.abs(scaled - other).max() < 1e-6

"""Angles of pixels and integrated patterns, against pyFAI where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ase_matprop.diffraction.xrd.errors import DiffractionImageError, DiffractionSettingsError
from ase_matprop.diffraction.xrd.features import integrate, line_background, line_patterns
from ase_matprop.diffraction.xrd.geometry import DetectorGeometry, nist_geometries, slac_geometry

SKEW = DetectorGeometry((32, 48), 1e-3, 0.1, (0.01, 0.02), (0.1, 0.2, 0.3), 1.0)
GEOMETRIES = [slac_geometry(64), *nist_geometries(64), SKEW]


def integrator(geometry: DetectorGeometry):
    azimuthal = pytest.importorskip("pyFAI.integrator.azimuthal")
    return azimuthal.AzimuthalIntegrator(
        dist=geometry.distance,
        poni1=geometry.poni[0],
        poni2=geometry.poni[1],
        rot1=geometry.rotations[0],
        rot2=geometry.rotations[1],
        rot3=geometry.rotations[2],
        pixel1=geometry.pixel,
        pixel2=geometry.pixel,
        wavelength=geometry.wavelength * 1e-10,
    )


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_angles_are_those_of_pyfai(geometry: DetectorGeometry) -> None:
    other = integrator(geometry)
    two_theta = np.degrees(other.center_array(geometry.shape, unit="2th_rad"))
    assert np.allclose(geometry.two_theta(), two_theta, atol=1e-4)
    difference = geometry.azimuth() - np.degrees(other.center_array(geometry.shape, unit="chi_rad"))
    assert np.allclose((difference + 180.0) % 360.0 - 180.0, 0.0, atol=1e-3)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_patterns_are_those_of_pyfai(geometry: DetectorGeometry) -> None:
    image = np.random.default_rng(0).poisson(50.0 + 20.0 * np.sin(geometry.two_theta()))
    limits = (geometry.two_theta().min() + 1.0, geometry.two_theta().max() - 1.0)
    expected = integrator(geometry).integrate1d(
        image, 40, unit="2th_deg", method=("no", "histogram", "cython"), correctSolidAngle=False, radial_range=limits
    )
    two_theta, pattern = integrate(image, geometry, 40, limits)
    assert np.allclose(two_theta, expected.radial, atol=1e-3)
    inner = slice(1, -1)  # a pixel on an edge of the range may be in or out
    close = np.isclose(pattern[inner], expected.intensity[inner], rtol=0.02)
    assert close.mean() > 0.9 and np.corrcoef(pattern[inner], expected.intensity[inner])[0, 1] > 0.99


def test_ranges_are_those_of_the_thesis() -> None:
    two_theta = slac_geometry().two_theta()
    assert two_theta.min() == pytest.approx(5.365, abs=0.03) and two_theta.max() == pytest.approx(58.566, abs=0.03)
    for geometry, limits in zip(nist_geometries(), [(10.0, 40.0), (30.0, 60.0)], strict=True):
        column = geometry.two_theta()[:, 1024]
        assert column.min() == pytest.approx(limits[0], abs=0.02) and column.max() == pytest.approx(limits[1], abs=0.02)


def test_binned_pixels_are_at_the_same_angles() -> None:
    fine, coarse = slac_geometry(256).two_theta(), slac_geometry(128).two_theta()
    assert np.allclose(fine.reshape(128, 2, 128, 2).mean(axis=(1, 3)), coarse, atol=0.02)


def test_tilt_of_the_symmetric_reflection_is_zero() -> None:
    first, second = nist_geometries(65)
    assert first.tilt(12.5)[32, 32] == pytest.approx(0.0, abs=0.01)
    assert second.tilt(22.5)[32, 32] == pytest.approx(0.0, abs=0.01)
    assert first.tilt(12.5)[32, 0] > 10.0


def test_integration_keeps_what_depends_on_two_theta_only() -> None:
    geometry = slac_geometry(128)
    two_theta, pattern = integrate(np.stack([geometry.two_theta(), 2.0 * geometry.two_theta()]), geometry, 60)
    assert pattern.shape == (2, 60)
    assert np.allclose(pattern[0], two_theta, atol=0.5) and np.allclose(pattern[1], 2.0 * pattern[0])
    _, fine = integrate(geometry.two_theta(), geometry, 1000)
    assert np.isfinite(fine).all() and (np.diff(fine) >= 0.0).all()  # also where no pixel is


def test_background_of_lines() -> None:
    two_theta = np.linspace(5.0, 55.0, 501)
    smooth, peak = 100.0 - two_theta, 50.0 * np.exp(-0.5 * ((two_theta - 30.0) / 0.2) ** 2)
    background = line_background(two_theta, smooth + peak)
    assert np.abs(background - smooth).max() < 3.0


def test_features_are_scaled_and_joined() -> None:
    images = np.random.default_rng(0).poisson(30.0, (3, 2, 32, 32)).astype(np.float32)
    for remove in (False, True):
        features = line_patterns(images, nist_geometries(32), remove_background=remove)
        assert features.shape == (3, 64)
        assert np.allclose(features[:, :32].max(axis=1), 1.0) and np.allclose(features[:, 32:].max(axis=1), 1.0)


PONI = (
    "# Nota: C-Order, 1 refers to the Y axis\nponi_version: 2.1\nDetector: Detector\n"
    'Detector_config: {"pixel1": 0.001, "pixel2": 0.001, "max_shape": [32, 48], "orientation": 3}\n'
    "Distance: 0.1\nPoni1: 0.01\nPoni2: 0.02\nRot1: 0.1\nRot2: 0.2\nRot3: 0.3\nWavelength: 1e-10\n"
)


@pytest.mark.parametrize("ending", ["json", "poni"])
def test_geometry_files(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"detector.{ending}"
    if ending == "json":
        SKEW.write(path)
    else:
        path.write_text(PONI)
    assert np.allclose(DetectorGeometry.read(path).two_theta(), SKEW.two_theta())


def test_bad_geometry_and_images(tmp_path: Path) -> None:
    with pytest.raises(DiffractionSettingsError, match=r"geometry .*none.json cannot be read"):
        DetectorGeometry.read(tmp_path / "none.json")
    (tmp_path / "a.poni").write_text("Distance: 0.1\n")
    with pytest.raises(DiffractionSettingsError, match=r"a.poni is incomplete or no geometry .*give a .poni file"):
        DetectorGeometry.read(tmp_path / "a.poni")
    for old, new, message in (
        ('"orientation": 3', '"orientation": 1', "orientation of the detector is 1, only 3"),
        ("Distance: 0.1", "Distance: nan", "finite numbers"),
        ("Rot2: 0.2", "Rot2: inf", "finite numbers"),
        (', "max_shape": [32, 48]', "", "max_shape"),
    ):
        (tmp_path / "a.poni").write_text(PONI.replace(old, new))
        with pytest.raises(DiffractionSettingsError, match=message):
            DetectorGeometry.read(tmp_path / "a.poni")
    (tmp_path / "a.json").write_text('{"shape": [4]}')
    with pytest.raises(DiffractionSettingsError, match="a.json is incomplete or no geometry"):
        DetectorGeometry.read(tmp_path / "a.json")
    with pytest.raises(DiffractionSettingsError, match="distance and wavelength above zero"):
        DetectorGeometry((4, 4), 1e-3, -0.1, (0.0, 0.0), (0.0, 0.0, 0.0), 1.0)
    with pytest.raises(DiffractionImageError, match=r"shape \(8, 8\), its geometry is of 32 x 48 pixels"):
        integrate(np.ones((8, 8)), SKEW)
    with pytest.raises(DiffractionSettingsError, match="no pixel is in the range of 170 to 175"):
        integrate(np.ones(SKEW.shape), SKEW, 10, (170.0, 175.0))

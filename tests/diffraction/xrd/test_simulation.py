"""Simulated images: what is in them is what was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError
from ase_matprop.diffraction.xrd.features import integrate
from ase_matprop.diffraction.xrd.phases import reflections
from ase_matprop.diffraction.xrd.simulation import (
    ImageSet,
    Instrument,
    _fibre,
    _Film,
    _Frame,
    _rings,
    join,
    nist_like,
    simulate,
    slac_like,
    with_background,
)
from ase_matprop.errors import UnknownNameError


@pytest.fixture(scope="module")
def slac() -> ImageSet:
    return simulate("slac", 32, seed=3)


@pytest.fixture(scope="module")
def nist() -> ImageSet:
    return simulate("nist", 32, seed=3)


def test_shapes_and_classes(slac: ImageSet, nist: ImageSet) -> None:
    assert slac.images.shape == slac.backgrounds.shape == (177, 1, 32, 32) and nist.images.shape == (177, 2, 32, 32)
    assert len(slac) == 177 and len(slac.classes) == 8 and len(nist.geometries) == 2
    assert np.bincount(slac.labels).tolist() == [26, 15, 24, 32, 13, 37, 7, 23]
    assert (slac.images >= 0.0).all() and np.allclose(slac.images * 64**2, np.rint(slac.images * 64**2), atol=0.5)


def test_seeds(slac: ImageSet, nist: ImageSet) -> None:
    again = simulate("slac", 32, seed=3)
    assert np.array_equal(slac.images, again.images)
    assert np.array_equal(slac.compositions, nist.compositions), "both sets are of one wafer"
    other = simulate("slac", 32, seed=4)
    assert not np.array_equal(slac.images, other.images) and not np.allclose(slac.compositions, other.compositions)


def test_backgrounds(slac: ImageSet, nist: ImageSet) -> None:
    """At SLAC high and different for each sample, at NIST low and always the same function of 2 theta."""

    def spread(data: ImageSet) -> float:
        shapes = data.backgrounds[:, 0] / data.backgrounds[:, 0].mean(axis=(1, 2), keepdims=True)
        return float((shapes.std(axis=0) / shapes.mean(axis=0)).mean())

    assert spread(slac) > 0.3 > 0.15 > spread(nist)
    share = [1.0 - data.backgrounds.sum() / data.images.sum() for data in (slac, nist)]
    assert share[1] > 3.0 * share[0]


def powder(geometry_of: Instrument, **changes: object) -> tuple[_Frame, np.ndarray]:
    settings = {
        "phase": "SnO2",
        "share": 1.0,
        "stretch": (1.0, 1.0),
        "biaxial": 0.0,
        "texture": 0.0,
        "spread": 10.0,
        "crystallite": 1000.0,
        "seed": 0,
    } | changes
    frame = _Frame(geometry_of.geometries[0], geometry_of.incidence[0])
    return frame, _rings(_Film(**settings), frame, geometry_of)


def without_spots(size: int = 256) -> Instrument:
    instrument = slac_like(size)
    return Instrument(**{**instrument.__dict__, "spots": 0.0})


def test_rings_are_at_the_lines_of_the_powder() -> None:
    instrument = without_spots()
    _, image = powder(instrument)
    two_theta, pattern = integrate(image, instrument.geometries[0], 400)
    lines = reflections("SnO2", instrument.geometries[0].wavelength)
    expected = 2.0 * np.degrees(np.arcsin(instrument.geometries[0].wavelength / 2.0 / lines.spacings()))
    strongest = expected[lines.intensities.argmax()]
    assert two_theta[pattern.argmax()] == pytest.approx(strongest, abs=0.2)
    at_lines = np.min(np.abs(two_theta[:, np.newaxis] - expected), axis=1) < 1.0
    assert pattern[~at_lines].max() < 0.02 * pattern.max()


def test_lattice_parameters_move_rings() -> None:
    instrument = without_spots()
    centres = []
    for stretch in (1.0, 1.02):
        _, image = powder(instrument, stretch=(stretch, stretch))
        two_theta, pattern = integrate(image, instrument.geometries[0], 400)
        near = (two_theta > 14.5) & (two_theta < 18.5)  # 110
        centres.append((two_theta * pattern)[near].sum() / pattern[near].sum())
    assert centres[0] - centres[1] == pytest.approx(0.02 * 2.0 * np.degrees(np.tan(np.radians(16.75 / 2.0))), abs=0.05)


def test_texture_concentrates_rings_and_spots_interrupt_them() -> None:
    instrument = without_spots()

    def contrast(image: np.ndarray, frame: _Frame) -> float:
        ring = image[np.abs(frame.map - 16.75) < 0.1]  # 110, which is the fibre axis
        return float(ring.std() / ring.mean())

    frame, even = powder(instrument)
    _, textured = powder(instrument, texture=0.9)
    assert contrast(even, frame) < 0.15 < 0.5 < contrast(textured, frame)
    spotted = Instrument(**{**instrument.__dict__, "spots": 5.0})
    _, image = powder(spotted, seed=1)
    assert contrast(image, frame) > 2.0 * contrast(even, frame)


def test_smaller_crystallites_widen_rings() -> None:
    instrument = without_spots()
    widths = []
    for crystallite in (50.0, 500.0):
        _, image = powder(instrument, crystallite=crystallite)
        two_theta, pattern = integrate(image, instrument.geometries[0], 400)
        near = (two_theta > 14.0) & (two_theta < 19.0)
        mean = (two_theta * pattern)[near].sum() / pattern[near].sum()
        widths.append(np.sqrt(((two_theta - mean) ** 2 * pattern)[near].sum() / pattern[near].sum()))
    assert widths[0] > 1.8 * widths[1]


def test_other_instruments() -> None:
    dark = simulate("", instrument=with_background(slac_like(32), 0.0), seed=3)
    bright = simulate("slac", 32, seed=3)
    assert dark.backgrounds.mean() < 0.05 * bright.backgrounds.mean()
    assert nist_like(64).geometries[1].shape == (64, 64)


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match="unknown kind of XRD images 'slack'. Did you mean 'slac'"):
        simulate("slack")
    with pytest.raises(DiffractionSettingsError, match="at least 16 pixels. Got 8"):
        simulate("slac", 8)


def test_join(slac: ImageSet, nist: ImageSet) -> None:
    other = simulate("slac", 32, seed=4)
    both = join([slac, other])
    assert len(both) == 354 and both.geometries == slac.geometries and both.classes == slac.classes
    for name in ("images", "compositions", "labels", "backgrounds"):
        assert np.array_equal(getattr(both, name)[177:], getattr(other, name))
    with pytest.raises(DiffractionSettingsError, match="same phase regions and geometries"):
        join([slac, nist])
    with pytest.raises(DiffractionSettingsError, match="same phase regions and geometries"):
        join([])


@pytest.mark.parametrize("spread", [5.0, 8.0, 20.0])
def test_texture_moves_intensity_and_adds_none(spread: float) -> None:
    """The mean over the hemisphere is that of a powder, which is 1, for planes at any tilt to the fibre axis."""
    angles = np.linspace(0.0, 90.0, 4001)
    areas = np.sin(np.radians(angles))
    for tilts in ([0.0], [10.0], [45.0], [70.0], [90.0], [0.0, 33.0, 81.0]):
        shares = np.full(len(tilts), 1.0 / len(tilts))
        density = _fibre(angles, np.array(tilts), shares, spread)
        assert np.trapezoid(density * areas, np.radians(angles)) == pytest.approx(1.0, abs=2e-3)
        if len(tilts) == 1:
            assert density[np.abs(angles - tilts[0]).argmin()] > 1.2

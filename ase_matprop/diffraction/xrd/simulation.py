"""Simulated two-dimensional diffraction images of a composition spread.

Rings of textured polycrystalline films (fibre texture, spots of large grains, strain, crystallite size) on a flat
detector, with the instrument's background and counting noise.  Two kinds of data follow the thesis (section 7.3.2):

- NIST-like: two frames of a laboratory diffractometer; the low background is the same function of 2 theta for all
  samples but for its height.
- SLAC-like: one frame of a beamline; the background is several times as high as the peaks and differs from sample to
  sample: air scattering, amorphous halos, patches, the shadow of an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError
from ase_matprop.diffraction.xrd.geometry import DetectorGeometry, nist_geometries, slac_geometry
from ase_matprop.diffraction.xrd.phases import reflections
from ase_matprop.diffraction.xrd.regions import REGIONS, Sample, draw_samples
from ase_matprop.errors import unknown_name


@dataclass(frozen=True)
class Instrument:
    """How images are made.

    Attributes:
        geometries: one detector position per frame.
        incidence: angle between beam and film in each frame, degrees.
        resolution: full width at half maximum of a line by the instrument alone, degrees of 2 theta.
        counts: counts of the strongest line of a powder of SnO2 in one pixel of a detector of 2048 x 2048, smallest
            and largest.
        smooth: height of the common background relative to ``counts``, smallest and largest.
        irregular: height of the background that differs from sample to sample, likewise.
        texture: share of the grains that have the fibre axis along the normal of the film, smallest and largest.
        spread: half width of the fibre texture, degrees, smallest and largest.
        crystallites: size in Angstrom, smallest and largest (Scherrer's equation with K = 0.9).
        spots: mean number of spots of large grains on each ring.
        strain: standard deviation of the lattice strain, also of its part that goes with sin^2 of the tilt.
    """

    geometries: tuple[DetectorGeometry, ...]
    incidence: tuple[float, ...]
    resolution: float
    counts: tuple[float, float]
    smooth: tuple[float, float]
    irregular: tuple[float, float]
    texture: tuple[float, float] = (0.2, 0.9)
    spread: tuple[float, float] = (8.0, 20.0)
    crystallites: tuple[float, float] = (60.0, 200.0)
    spots: float = 3.0
    strain: float = 0.003


def slac_like(size: int = 128) -> Instrument:
    """Return a beamline: one frame, strong irregular background; ``size`` pixels along each edge of the image."""
    return Instrument(
        (slac_geometry(size),), (3.0,), 0.3, counts=(30.0, 150.0), smooth=(0.33, 0.67), irregular=(0.67, 2.67)
    )


def nist_like(size: int = 128) -> Instrument:
    """Return a laboratory diffractometer: two frames, low smooth background; ``size`` as for :func:`slac_like`."""
    return Instrument(
        nist_geometries(size), (12.5, 22.5), 0.25, counts=(0.6, 1.8), smooth=(0.1, 0.17), irregular=(0.0, 0.0)
    )


INSTRUMENTS = {"slac": slac_like, "nist": nist_like}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one composition spread.

    Attributes:
        images: mean counts of the detector's 2048 x 2048 pixels in each larger pixel, shape (n, frames, height, width).
        compositions: cation fractions of Sn, Ti, Zn, shape (n, 3).
        labels: number of the phase region, shape (n,).
        classes: names of the regions.
        geometries: detector position of each frame.
        backgrounds: expected counts of the background alone, shape as ``images``; what a perfect removal would take.
    """

    images: NDArray[np.float32]
    compositions: NDArray[np.float64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    geometries: tuple[DetectorGeometry, ...]
    backgrounds: NDArray[np.float32] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)


def simulate(kind: str, size: int = 128, *, seed: int = 0, instrument: Instrument | None = None) -> ImageSet:
    """Return 177 simulated images of eight phase regions of Sn-Ti-Zn-O.

    Args:
        kind: ``"slac"`` or ``"nist"``.
        size: height and width of the images in pixels.  The thesis has 2048; fewer pixels are larger ones, which
            collect as many counts as the pixels in their place, and have the mean of these as their value.
        seed: seed of everything that is random: samples, films, backgrounds, noise.  The same seed gives the same
            samples (phases and compositions) for both kinds, as the thesis's two sets are of the same wafer.
        instrument: in place of that of ``kind`` and ``size``.

    Raises:
        UnknownNameError: for an unknown kind.
        DiffractionSettingsError: for a size below 16.
    """
    if instrument is None:
        if kind not in INSTRUMENTS:
            raise unknown_name("kind of XRD images", kind, INSTRUMENTS)
        if size < 16:
            raise DiffractionSettingsError(f"the size of images must be at least 16 pixels. Got {size}.")
        instrument = INSTRUMENTS[kind](size)
    samples = draw_samples(np.random.default_rng(seed))
    frames = [_Frame(*pair) for pair in zip(instrument.geometries, instrument.incidence, strict=True)]
    noise = np.random.default_rng([seed, 1])
    area = (2048.0 / instrument.geometries[0].shape[0]) ** 2
    drawn = [_draw_images(sample, instrument, frames, noise) for sample in samples]
    return ImageSet(
        np.stack([noise.poisson(area * (peaks + below)) / area for peaks, below in drawn]).astype(np.float32),
        np.stack([sample.composition for sample in samples]),
        np.array([sample.region for sample in samples]),
        tuple(region.name for region in REGIONS),
        instrument.geometries,
        np.stack([background for _, background in drawn]).astype(np.float32),
    )


def join(sets: Sequence[ImageSet]) -> ImageSet:
    """Return several sets from the same detector positions as one.

    Raises:
        DiffractionSettingsError: if there is no set, or classes or geometries differ.
    """
    if len({(each.classes, each.geometries) for each in sets}) != 1:
        raise DiffractionSettingsError("image sets can be joined if they have the same phase regions and geometries")
    return replace(
        sets[0],
        images=np.concatenate([each.images for each in sets]),
        compositions=np.concatenate([each.compositions for each in sets]),
        labels=np.concatenate([each.labels for each in sets]),
        backgrounds=np.concatenate([each.backgrounds for each in sets]),
    )


class _Frame:
    """The pixels of one detector position, sorted by 2 theta so that a ring is found by bisection."""

    def __init__(self, geometry: DetectorGeometry, incidence: float) -> None:
        self.shape = geometry.shape
        self.wavelength = geometry.wavelength
        two_theta = geometry.two_theta().ravel()
        self.order = np.argsort(two_theta, kind="stable")
        self.two_theta = two_theta[self.order]
        self.tilt = geometry.tilt(incidence).ravel()[self.order]
        self.azimuth = geometry.azimuth().ravel()[self.order]
        self.map = two_theta.reshape(self.shape)
        self.pixel = float(np.median(np.abs(np.diff(self.map, axis=0))))  # degrees of 2 theta that a pixel covers
        self.azimuth_map = geometry.azimuth()

    def image(self, sorted_pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        pixels = np.empty_like(sorted_pixels)
        pixels[self.order] = sorted_pixels
        return pixels.reshape(self.shape)


@dataclass(frozen=True)
class _Film:
    """What one sample is like, in all of its frames."""

    phase: str
    share: float
    stretch: tuple[float, float]
    biaxial: float
    texture: float
    spread: float
    crystallite: float
    seed: int


def _draw_images(
    sample: Sample, instrument: Instrument, frames: list[_Frame], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return expected counts of peaks and background of one sample, each of shape (frames, height, width)."""
    films = [_draw_film(phase, share, sample, instrument, rng) for phase, share in sample.shares.items()]
    exposure = np.exp(rng.uniform(*np.log(instrument.counts)))
    strongest = reflections("SnO2", frames[0].wavelength).intensities.max()
    scale = exposure * (1.0 - sample.amorphous) / strongest
    peaks = [scale * sum(film.share * _rings(film, frame, instrument) for film in films) for frame in frames]
    backgrounds = []
    smooth, irregular = rng.uniform(*instrument.smooth), rng.uniform(*instrument.irregular)
    for frame in frames:
        background = exposure * smooth * _smooth_background(frame)
        halo = 0.1 * exposure * sample.amorphous * np.exp(-0.5 * ((frame.map - _halo(frame)) / 3.0) ** 2)
        background = background + halo
        if irregular > 0.0:
            background = background + exposure * irregular * _irregular_background(frame, rng)
        backgrounds.append(background)
    return np.stack(peaks), np.stack(backgrounds)


def _draw_film(phase: str, share: float, sample: Sample, instrument: Instrument, rng: np.random.Generator) -> _Film:
    a, c = 1.0 + rng.normal(0.0, instrument.strain, 2)
    if phase in ("SnO2", "TiO2-rutile"):  # Vegard's law between the two rutiles
        towards = 1.0 if phase == "TiO2-rutile" else -1.0
        a *= 1.0 + towards * sample.dissolved * (4.737 - 4.594) / 4.6
        c *= 1.0 + towards * sample.dissolved * (3.186 - 2.959) / 3.1
    return _Film(
        phase,
        share,
        (float(a), float(c)),
        float(rng.normal(0.0, instrument.strain)),
        rng.uniform(*instrument.texture),
        rng.uniform(*instrument.spread),
        rng.uniform(*instrument.crystallites),
        int(rng.integers(2**31)),
    )


def _rings(film: _Film, frame: _Frame, instrument: Instrument) -> NDArray[np.float64]:
    """Return the rings of one phase; a line of the intensity 1 without texture has the height 1."""
    family = reflections(film.phase, frame.wavelength)
    spacings = family.spacings(film.stretch)
    pixels = np.zeros(frame.two_theta.size)
    rng = np.random.default_rng(film.seed)
    for spacing, intensity, tilts in zip(spacings, family.intensities, family.tilts, strict=True):
        n_spots = rng.poisson(instrument.spots)
        places, strengths = rng.uniform(-180.0, 180.0, n_spots), rng.gamma(0.7, 1.0, n_spots)
        sine = frame.wavelength / (2.0 * spacing)
        if sine >= 1.0:
            continue
        theta = np.arcsin(sine)
        centre = np.degrees(2.0 * theta)
        scherrer = np.degrees(0.9 * frame.wavelength / (film.crystallite * np.cos(theta)))
        width = np.linalg.norm([instrument.resolution, scherrer, 0.68 * frame.pixel]) / 2.355  # 0.68: 2.355 / sqrt(12)
        start, stop = np.searchsorted(frame.two_theta, [centre - 5.0 * width - 0.5, centre + 5.0 * width + 0.5])
        if start == stop:
            continue
        tilt, azimuth = frame.tilt[start:stop], frame.azimuth[start:stop]
        shift = -2.0 * np.degrees(np.tan(theta)) * film.biaxial * np.sin(np.radians(tilt)) ** 2
        profile = np.exp(-0.5 * ((frame.two_theta[start:stop] - centre - shift) / width) ** 2)
        around = (1.0 - film.texture) + film.texture * _fibre(tilt, *tilts, film.spread)
        if n_spots:
            apart = (azimuth[:, np.newaxis] - places + 180.0) % 360.0 - 180.0
            around = around + np.exp(-0.5 * (apart / 1.5) ** 2) @ strengths
        pixels[start:stop] += intensity * instrument.resolution / (2.355 * width) * profile * around
    return frame.image(pixels)


def _fibre(
    tilt: NDArray[np.float64], tilts: NDArray[np.float64], shares: NDArray[np.float64], spread: float
) -> NDArray[np.float64]:
    """Return how often planes of a family are at a tilt, relative to a powder, for grains round a fibre axis.

    Grains at the angle s from the ideal orientation have the density exp(-s^2 / 2 spread^2); each equivalent of the
    family is on a cone round the normal of the film, and so is its opposite.  The mean over the hemisphere is 1:
    texture moves intensity from some tilts to others.
    """
    middles = np.arange(0.25, 90.0, 0.5)
    areas = np.sin(np.radians(middles)) * np.radians(0.5)

    def cones(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        away = [angles[:, np.newaxis] - each for each in (tilts, 180.0 - tilts)]
        return np.asarray(sum(np.exp(-0.5 * (each / spread) ** 2) for each in away))

    return np.asarray(cones(tilt) @ (shares / (areas @ cones(middles))))


def _smooth_background(frame: _Frame) -> NDArray[np.float64]:
    """Return the common function of 2 theta: scattering by air near the beam, and a level."""
    return np.asarray(0.4 + np.exp(-(frame.map - 5.0) / 12.0))


def _halo(frame: _Frame) -> float:
    """Return where amorphous oxides scatter most: at a spacing of 3 Angstrom, degrees of 2 theta."""
    return float(np.degrees(2.0 * np.arcsin(frame.wavelength / 6.0)))


def _irregular_background(frame: _Frame, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a background of mean height 1 that is different for each sample.

    Diffuse halos of random position and width with a random dependence on the azimuth, patches that follow no ring, and
    the soft shadow of a straight edge of the sample stage.
    """
    height, width = frame.shape
    rows, columns = np.meshgrid(np.linspace(0.0, 1.0, height), np.linspace(0.0, 1.0, width), indexing="ij")
    total = 0.3 + rng.uniform(0.5, 3.0) * np.exp(-(frame.map - 5.0) / rng.uniform(4.0, 15.0))
    azimuth = np.radians(frame.azimuth_map)
    for _ in range(rng.integers(1, 4)):
        ring = np.exp(-0.5 * ((frame.map - rng.uniform(8.0, 50.0)) / rng.uniform(4.0, 10.0)) ** 2)
        total += rng.gamma(1.5, 0.6) * ring * (1.0 + 0.8 * np.cos(rng.integers(1, 4) * azimuth + rng.uniform(0.0, 6.3)))
    for _ in range(rng.integers(4, 10)):
        away = ((rows - rng.uniform()) / rng.uniform(0.1, 0.4)) ** 2
        away += ((columns - rng.uniform()) / rng.uniform(0.1, 0.4)) ** 2
        total += rng.gamma(1.5, 0.6) * np.exp(-0.5 * away)
    direction, softness = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.04, 0.1)
    edge = np.cos(direction) * (rows - 0.5) + np.sin(direction) * (columns - 0.5) - rng.uniform(0.1, 0.5)
    total *= 1.0 - rng.uniform(0.2, 0.8) / (1.0 + np.exp(-edge / softness))
    return np.asarray(total / total.mean())


def with_background(instrument: Instrument, factor: float) -> Instrument:
    """Return the instrument with a background ``factor`` times as high."""
    smooth, irregular = (
        (factor * bounds[0], factor * bounds[1]) for bounds in (instrument.smooth, instrument.irregular)
    )
    return replace(instrument, smooth=smooth, irregular=irregular)

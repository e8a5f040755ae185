"""Patterns as a detector would record them, made from a master pattern, thousands in a second on one core."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from ase_matprop.diffraction.ebsd.geometry import Detector
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.rotations import to_matrices

_AT_ONCE = 128
_OCTAVES = (1.0, 2.0, 4.0)  # standard deviations of Gaussians that part them, in pixels


class Disturbances(BaseModel):
    """What lies between the yield and the record.  Ranges are those of uniform distributions, over patterns.

    Attributes:
        center_spread: standard deviation of the pattern centre's x, y and z, in the units of these.
        noise: standard deviation of the noise of a pixel, in those of the undisturbed pattern.
        background: height of a smooth background at its brightest, in the same unit.
        fading: half width, in widths of the pattern, of the bell by which the contrast fades to the edges.
        gamma: exponent of the yields between their smallest (0) and largest value (1).
        bits: depth of the record.
        transfer: standard deviation of the logarithm of the gain of each octave of lengths in the pattern, from finer
            than one pixel to coarser than four: master pattern and camera are never as sharp as the real ones.
        grain: standard deviation of a texture of random lengths that fades as the contrast does, in the unit of
            ``noise``: what a camera, or the simulation's errors, add where the pattern is bright.
        ghost: share of a pattern of another orientation that lies over this one, as at a grain boundary.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    center_spread: float = Field(default=0.002, ge=0.0)
    noise: tuple[float, float] = (0.0, 1.0)
    background: tuple[float, float] = (0.0, 10.0)
    fading: tuple[float, float] = (0.25, 1.5)
    gamma: tuple[float, float] = (0.7, 1.3)
    bits: int = Field(default=8, ge=1, le=16)
    transfer: float = Field(default=0.0, ge=0.0)
    grain: tuple[float, float] = (0.0, 0.0)
    ghost: tuple[float, float] = (0.0, 0.0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name in ("noise", "background", "fading", "gamma", "grain", "ghost"):
            lower, upper = getattr(self, name)
            if not 0.0 <= lower <= upper or (name in ("fading", "gamma") and lower == 0.0):
                raise ValueError(f"{name} must be a range of positive numbers, the smaller one first")
        return self

    @classmethod
    def none(cls) -> Disturbances:
        """Return what leaves the patterns as they are, but for the depth of the record."""
        zero = (0.0, 0.0)
        return cls(center_spread=0.0, noise=zero, background=zero, fading=(math.inf, math.inf), gamma=(1.0, 1.0))


class Simulator:
    """Makes patterns of a phase on a detector.

    Args:
        master_pattern: of the phase.
        detector: its pixels and pattern centre.
        disturbances: by default moderate ones.
    """

    def __init__(
        self, master_pattern: MasterPattern, detector: Detector | None = None, disturbances: Disturbances | None = None
    ) -> None:
        self.detector = detector or Detector()
        self.disturbances = disturbances or Disturbances()
        self._sampler = master_pattern.sampler()
        rows, columns = self.detector.shape
        self._right = ((torch.arange(columns) + 0.5) / columns)[None]
        self._down = ((torch.arange(rows) + 0.5) / rows)[:, None]
        self._blurs = [(_gaussian(rows, width), _gaussian(columns, width)) for width in _OCTAVES]

    def project(self, quaternions: Tensor, centers: ArrayLike | None = None) -> Tensor:
        """Return yields at the pixels, shape (n, rows, columns); differentiable in the orientations.

        Args:
            quaternions: unit quaternions, shape (n, 4), float32.
            centers: pattern centres, shape (3,) or (n, 3); the detector's by default.
        """
        chosen = np.asarray(self.detector.pattern_center if centers is None else centers)
        x, y, z = torch.from_numpy(chosen).to(quaternions).unbind(-1)
        rows, columns = self.detector.shape
        across = (self._right - x[..., None, None]) * (columns / rows)
        parts = torch.broadcast_tensors(across, self._down - y[..., None, None], z[..., None, None])
        points = torch.stack(parts, dim=-1).flatten(-3, -2)
        points = points / points.square().sum(dim=-1, keepdim=True).sqrt()
        axes = torch.from_numpy(self.detector.axes).to(quaternions)
        directions = points @ (axes @ to_matrices(quaternions).mT)
        return self._sampler(directions).reshape(-1, rows, columns)

    @torch.no_grad()
    def patterns(
        self, quaternions: NDArray[np.float64], *, seed: int | np.random.Generator, noise_scale: float = 1.0
    ) -> Tensor:
        """Return disturbed patterns as they would be recorded, shape (n, rows, columns), whole numbers as float32.

        Args:
            quaternions: orientations, shape (n, 4).
            seed: of the disturbances; the order of the patterns matters to what each gets.
            noise_scale: factor of noise, grain and ghost, and of the logarithms of the gains.
        """
        random = np.random.default_rng(seed)
        parts = [
            self._record(part.astype(np.float32), random, noise_scale)
            for part in np.split(quaternions, range(_AT_ONCE, len(quaternions), _AT_ONCE))
        ]
        return torch.cat(parts)

    def _record(self, quaternions: NDArray[np.float32], random: np.random.Generator, noise_scale: float) -> Tensor:
        settings, n = self.disturbances, len(quaternions)

        def draw(between: tuple[float, float]) -> Tensor:
            lower, upper = between
            values = np.full(n, lower) if lower == upper else random.uniform(lower, upper, n)
            return torch.from_numpy(values.astype(np.float32))[:, None, None]

        centers: NDArray[np.float64] | None = None
        if settings.center_spread:
            shifts = random.standard_normal((n, 3)) * settings.center_spread
            centers = np.asarray(self.detector.pattern_center) + shifts
        image = self.project(torch.from_numpy(quaternions), centers)
        low, high = image.amin(dim=(1, 2), keepdim=True), image.amax(dim=(1, 2), keepdim=True)
        image = ((image - low) / (high - low).clamp_min(1e-6)).pow(draw(settings.gamma))
        image = _standardize(image)
        if settings.transfer:
            gains = np.exp(noise_scale * settings.transfer * random.standard_normal((len(_OCTAVES) + 1, n))).astype(
                np.float32
            )
            image = _standardize(self._octaves(image, gains))
        if settings.ghost[1]:
            image = image + noise_scale * draw(settings.ghost) * image.roll(1, dims=0)
        if settings.grain[1]:
            image = image + noise_scale * draw(settings.grain) * self._grain(n, random)
        if math.isfinite(settings.fading[1]):
            image = image * self._bell(draw((0.3, 0.7)), draw((0.25, 0.65)), draw(settings.fading))
        if settings.background[1]:
            image = image + draw(settings.background) * self._bell(draw((0.3, 0.7)), draw((0.3, 0.7)), draw((0.4, 1.0)))
        if settings.noise[1]:
            generator = _generator(random)
            image = image + noise_scale * draw(settings.noise) * torch.randn(image.shape, generator=generator)
        return _digitize(image, settings.bits)

    def _octaves(self, image: Tensor, gains: NDArray[np.float32], *, alike: bool = False) -> Tensor:
        """Return the sum of an image's octaves, the finest first, each times its gain, shape (octaves, n)."""
        total, rest = torch.zeros_like(image), image
        for number, gain in enumerate(torch.from_numpy(gains)):
            last = number == len(self._blurs)
            coarse = torch.zeros_like(image) if last else self._blurs[number][0] @ image @ self._blurs[number][1].T
            octave = _standardize(rest - coarse) if alike else rest - coarse
            total, rest = total + gain[:, None, None] * octave, coarse
        return total

    def _grain(self, n: int, random: np.random.Generator) -> Tensor:
        """Return textures with a standard deviation of 1, shape (n, rows, columns)."""
        noise = torch.randn((n, *self.detector.shape), generator=_generator(random))
        gains = np.exp(random.standard_normal((len(_OCTAVES) + 1, n))).astype(np.float32)
        return _standardize(self._octaves(noise, gains, alike=True))

    def _bell(self, x: Tensor, y: Tensor, width: Tensor) -> Tensor:
        """Return bells with a maximum of 1 around (x, y); ``width``: where they have fallen to a half."""
        factor = -math.log(2.0) / width.square()
        return torch.exp(factor * (self._right - x).square()) * torch.exp(factor * (self._down - y).square())


def _generator(random: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(random.integers(2**62)))


def _gaussian(n: int, width: float) -> Tensor:
    """Return the matrix that smooths n points by a Gaussian of a standard deviation, in points."""
    distance = torch.arange(n, dtype=torch.float32) - torch.arange(n, dtype=torch.float32)[:, None]
    weights = torch.exp(-0.5 * (distance / width).square())
    return weights / weights.sum(dim=1, keepdim=True)


def _standardize(image: Tensor) -> Tensor:
    """Give each pattern a mean of 0 and a standard deviation of 1."""
    image = image - image.mean(dim=(1, 2), keepdim=True)
    return image / image.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)  # std() is slower


def _digitize(image: Tensor, bits: int) -> Tensor:
    """Scale each pattern to the range of the detector, a little from its ends, and round."""
    low, high = image.amin(dim=(1, 2), keepdim=True), image.amax(dim=(1, 2), keepdim=True)
    full = 2.0**bits - 1.0
    return torch.round(full * (0.02 + 0.96 * (image - low) / (high - low).clamp_min(1e-6)))

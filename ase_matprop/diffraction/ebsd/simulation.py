"""Patterns as a detector would record them, made from a master pattern, thousands in a second on one core."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from ase_matprop.diffraction.ebsd.geometry import Detector
from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern
from ase_matprop.diffraction.ebsd.rotations import to_matrices

_AT_ONCE = 128


class Disturbances(BaseModel):
    """What lies between the yield and the record.  Ranges are those of uniform distributions, over patterns.

    Attributes:
        center_spread: standard deviation of the pattern centre's x, y and z, in the units of these.
        noise: standard deviation of the noise of a pixel, in those of the undisturbed pattern.
        background: height of a smooth background at its brightest, in the same unit.
        fading: half width, in widths of the pattern, of the bell by which the contrast fades to the edges.
        gamma: exponent of the yields between their smallest (0) and largest value (1).
        bits: depth of the record.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    center_spread: float = 0.002
    noise: tuple[float, float] = (0.0, 1.0)
    background: tuple[float, float] = (0.0, 10.0)
    fading: tuple[float, float] = (0.25, 1.5)
    gamma: tuple[float, float] = (0.7, 1.3)
    bits: int = 8

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
            noise_scale: factor of the noise.
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
        image = (image - image.mean(dim=(1, 2), keepdim=True)) / image.std(dim=(1, 2), keepdim=True).clamp_min(1e-6)
        if math.isfinite(settings.fading[1]):
            image = image * self._bell(draw((0.3, 0.7)), draw((0.25, 0.65)), draw(settings.fading))
        if settings.background[1]:
            image = image + draw(settings.background) * self._bell(draw((0.3, 0.7)), draw((0.3, 0.7)), draw((0.4, 1.0)))
        if settings.noise[1]:
            generator = torch.Generator().manual_seed(int(random.integers(2**62)))
            image = image + noise_scale * draw(settings.noise) * torch.randn(image.shape, generator=generator)
        return _digitize(image, settings.bits)

    def _bell(self, x: Tensor, y: Tensor, width: Tensor) -> Tensor:
        """Return bells with a maximum of 1 around (x, y); ``width``: where they have fallen to a half."""
        factor = -math.log(2.0) / width.square()
        return torch.exp(factor * (self._right - x).square()) * torch.exp(factor * (self._down - y).square())


def _digitize(image: Tensor, bits: int) -> Tensor:
    """Scale each pattern to the range of the detector, a little from its ends, and round."""
    low, high = image.amin(dim=(1, 2), keepdim=True), image.amax(dim=(1, 2), keepdim=True)
    full = 2.0**bits - 1.0
    return torch.round(full * (0.02 + 0.96 * (image - low) / (high - low).clamp_min(1e-6)))

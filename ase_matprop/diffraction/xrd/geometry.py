"""Where the pixels of a flat detector are: scattering angles and azimuths, in the convention of pyFAI.

G. Ashiotis et al., J. Appl. Cryst. 48, 510 (2015), doi:10.1107/S1600576715004306.  Axis 1 points up along the rows of
the image, axis 2 along its columns, axis 3 along the beam.  The point of normal incidence (PONI) is where the normal of
the detector through the sample meets it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ase_matprop.diffraction.xrd.errors import DiffractionSettingsError


@dataclass(frozen=True)
class DetectorGeometry:
    """A flat detector.

    Attributes:
        shape: numbers of rows and columns of pixels.
        pixel: edge of the square pixels, m.
        distance: from the sample to the point of normal incidence, m.
        poni: position of that point along the rows and columns, m from the outer edge of pixel (0, 0).
        rotations: rot1, rot2, rot3 of pyFAI, radians.
        wavelength: Angstrom.
    """

    shape: tuple[int, int]
    pixel: float
    distance: float
    poni: tuple[float, float]
    rotations: tuple[float, float, float]
    wavelength: float

    def __post_init__(self) -> None:
        numbers = (self.pixel, self.distance, self.wavelength, *self.poni, *self.rotations)
        if min(self.shape) < 1 or not min(numbers[:3]) > 0.0 or not np.isfinite(numbers).all():
            raise DiffractionSettingsError(
                "a detector needs at least one pixel, pixel, distance and wavelength above zero, and finite numbers. "
                f"Got {self.shape}, {self.pixel} m, {self.distance} m, {self.wavelength} Angstrom, poni {self.poni} m, "
                f"rotations {self.rotations}."
            )

    def binned(self, size: int) -> DetectorGeometry:
        """Return the same detector with ``size`` rows of larger pixels."""
        factor = self.shape[0] / size
        return replace(self, shape=(size, round(self.shape[1] / factor)), pixel=self.pixel * factor)

    def directions(self) -> NDArray[np.float64]:
        """Return unit vectors from the sample to the centres of the pixels, shape (rows, columns, 3)."""
        rows, columns = (np.arange(n) + 0.5 for n in self.shape)
        p1, p2 = np.meshgrid(rows * self.pixel - self.poni[0], columns * self.pixel - self.poni[1], indexing="ij")
        (c1, c2, c3), (s1, s2, s3) = np.cos(self.rotations), np.sin(self.rotations)
        length = self.distance
        t1 = p1 * c2 * c3 + p2 * (c3 * s1 * s2 - c1 * s3) - length * (c1 * c3 * s2 + s1 * s3)
        t2 = p1 * c2 * s3 + p2 * (c1 * c3 + s1 * s2 * s3) - length * (c1 * s2 * s3 - c3 * s1)
        t3 = p1 * s2 - p2 * c2 * s1 + length * c1 * c2
        vectors = np.stack([t1, t2, t3], axis=-1)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))

    def two_theta(self) -> NDArray[np.float64]:
        """Return the scattering angle of each pixel, degrees, shape (rows, columns)."""
        vectors = self.directions()
        return np.asarray(np.degrees(np.arctan2(np.hypot(vectors[..., 0], vectors[..., 1]), vectors[..., 2])))

    def azimuth(self) -> NDArray[np.float64]:
        """Return the azimuth of each pixel from axis 2 towards axis 1, degrees, shape (rows, columns)."""
        vectors = self.directions()
        return np.asarray(np.degrees(np.arctan2(vectors[..., 0], vectors[..., 1])))

    def tilt(self, incidence: float) -> NDArray[np.float64]:
        """Return the angle between scattering vector and normal of the sample, degrees, shape (rows, columns).

        Args:
            incidence: angle between the beam and the surface of the sample, which faces upwards, degrees.
        """
        angle = np.radians(incidence)
        scattering = self.directions() - np.array([0.0, 0.0, 1.0])
        scattering /= np.maximum(np.linalg.norm(scattering, axis=-1, keepdims=True), 1e-12)
        return np.asarray(np.degrees(np.arccos(np.clip(scattering @ [np.cos(angle), 0.0, -np.sin(angle)], -1.0, 1.0))))

    @classmethod
    def read(cls, path: Path) -> DetectorGeometry:
        """Read a geometry from a ``.poni`` file of pyFAI, or from JSON with the attributes of this class.

        Raises:
            DiffractionSettingsError: if the file cannot be read or is incomplete.
        """
        try:
            text = path.read_text(encoding="utf-8")
            return cls._from_json(text) if path.suffix == ".json" else cls._from_poni(text)
        except OSError as error:
            raise DiffractionSettingsError(f"the geometry {path} cannot be read: {error.strerror}") from None
        except (LookupError, ValueError, TypeError) as error:
            raise DiffractionSettingsError(
                f"the geometry {path} is incomplete or no geometry ({type(error).__name__}: {error}); give a .poni "
                "file that pyFAI-calib2 wrote, or JSON with shape, pixel, distance, poni, rotations, wavelength"
            ) from None

    def write(self, path: Path) -> None:
        """Write the geometry as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def _from_json(cls, text: str) -> DetectorGeometry:
        content = json.loads(text)
        return cls(
            (int(content["shape"][0]), int(content["shape"][1])),
            float(content["pixel"]),
            float(content["distance"]),
            (float(content["poni"][0]), float(content["poni"][1])),
            (float(content["rotations"][0]), float(content["rotations"][1]), float(content["rotations"][2])),
            float(content["wavelength"]),
        )

    @classmethod
    def _from_poni(cls, text: str) -> DetectorGeometry:
        lines = (line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
        fields = {key.strip().lower(): value.strip() for key, value in lines}
        detector = json.loads(fields["detector_config"])
        if int(detector.get("orientation", 3)) != 3:
            raise ValueError(
                f"the orientation of the detector is {detector['orientation']}, only 3 (pyFAI's default) is known here"
            )
        pixels, shape = (float(detector["pixel1"]), float(detector["pixel2"])), detector["max_shape"]
        if abs(pixels[0] - pixels[1]) > 1e-9:
            raise ValueError(f"the pixels are not square: {pixels[0]} m and {pixels[1]} m")
        return cls(
            (int(shape[0]), int(shape[1])),
            pixels[0],
            float(fields["distance"]),
            (float(fields["poni1"]), float(fields["poni2"])),
            (float(fields["rot1"]), float(fields["rot2"]), float(fields["rot3"])),
            float(fields["wavelength"]) * 1e10,
        )


def slac_geometry(size: int = 2048) -> DetectorGeometry:
    """Return a detector whose range is that of the thesis at SLAC: 2 theta from 5.365 to 58.566 degrees in one frame.

    The thesis gives the range and the number of pixels; that the beam (12.7 keV, 0.9762 Angstrom) passes below the
    middle of the detector, and pixels of 79 micrometres, are assumptions, from which the distance follows.
    """
    full = DetectorGeometry((2048, 2048), 79e-6, 0.11647, (-0.010938, 1024 * 79e-6), (0.0, 0.0, 0.0), 0.9762)
    return full.binned(size)


def nist_geometries(size: int = 2048) -> tuple[DetectorGeometry, DetectorGeometry]:
    """Return the two frames of the thesis at NIST: 2 theta of 10 to 40 and 30 to 60 degrees in the middle column.

    Copper radiation (1.5418 Angstrom), pixels of 68 micrometres; the detector is turned upwards by 25 and 45 degrees.
    """
    centre = (1024 * 68e-6, 1024 * 68e-6)
    distance = float(centre[0] / np.tan(np.radians(15.0)))
    first, second = (
        DetectorGeometry((2048, 2048), 68e-6, distance, centre, (0.0, -float(np.radians(swing)), 0.0), 1.5418)
        for swing in (25.0, 45.0)
    )
    return first.binned(size), second.binned(size)

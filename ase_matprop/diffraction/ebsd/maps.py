"""Results of a scan: files for EBSD programs, and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ase_matprop.diffraction.ebsd.card import PhaseSpec
from ase_matprop.diffraction.ebsd.errors import PatternError
from ase_matprop.diffraction.ebsd.pole_figures import key_image, labels, orientation_colors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ase_matprop.diffraction.ebsd.predictor import OrientationPredictions

#: numbers of Laue groups in files of Oxford Instruments, and of their symmetry in those of EDAX
_CTF_LAUE = {
    "-1": 1, "2/m": 2, "mmm": 3, "4/m": 4, "4/mmm": 5, "-3": 6, "-3m": 7, "6/m": 8, "6/mmm": 9, "m-3": 10, "m-3m": 11,
}  # fmt: skip
_ANG_SYMMETRY = {
    "-1": 1, "2/m": 20, "mmm": 22, "4/m": 4, "4/mmm": 42, "-3": 3, "-3m": 32, "6/m": 6, "6/mmm": 62, "m-3": 23,
    "m-3m": 43,
}  # fmt: skip
_NOT_INDEXED = 4.0 * np.pi
_OXFORD_FROM_EDAX = -90.0  # degrees of phi1: e1 of Oxford's sample frame points along the tilt axis, not down the slope


@dataclass(frozen=True)
class ScanGrid:
    """A rectangular scan: points (rows, columns) and steps in micrometres."""

    rows: int
    columns: int
    step_x: float = 1.0
    step_y: float = 1.0

    @classmethod
    def line(cls, n: int) -> ScanGrid:
        """Return n points in a row, one micrometre apart, for patterns without a known place."""
        return cls(1, n)

    def positions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y of the points in micrometres, row after row."""
        y, x = np.divmod(np.arange(self.rows * self.columns), self.columns)
        return x * self.step_x, y * self.step_y

    def check(self, n: int) -> None:
        """Raise unless there are n points.

        Raises:
            PatternError: if there are more or fewer.
        """
        if self.rows * self.columns != n:
            raise PatternError(
                f"a scan of {self.rows} x {self.columns} points needs {self.rows * self.columns} patterns. Got {n}."
            )


def write_ang(path: Path, predictions: OrientationPredictions, phase: PhaseSpec, grid: ScanGrid | None = None) -> None:
    """Write a file for EDAX OIM, MTEX and orix: angles in radians, CI is the confidence, failed points have CI -1.

    Raises:
        PatternError: if the grid has another number of points.
    """
    n = len(predictions)
    grid = grid or ScanGrid.line(n)
    grid.check(n)
    a, b, c, alpha, beta, gamma = phase.lattice
    header = [
        "TEM_PIXperUM          1.000000",
        "x-star                0.000000",
        "y-star                0.000000",
        "z-star                0.000000",
        "WorkingDistance       0.000000",
        "",
        "Phase 1",
        f"MaterialName  \t{phase.name}",
        f"Formula     \t{phase.name}",
        "Info \t\t",
        f"Symmetry              {_ANG_SYMMETRY[phase.symmetry]}",
        f"LatticeConstants      {a:.3f} {b:.3f} {c:.3f}  {alpha:.3f}  {beta:.3f}  {gamma:.3f}",
        "NumberFamilies        0",
        "",
        "GRID: SqrGrid",
        f"XSTEP: {grid.step_x:.6f}",
        f"YSTEP: {grid.step_y:.6f}",
        f"NCOLS_ODD: {grid.columns}",
        f"NCOLS_EVEN: {grid.columns}",
        f"NROWS: {grid.rows}",
        "",
        f"OPERATOR: \tase_matprop, model {predictions.model}",
        "SAMPLEID: \t",
        "SCANID: \t",
        "",
    ]
    x, y = grid.positions()
    good = predictions.succeeded
    angles = np.where(good[:, None], np.radians(predictions.euler), _NOT_INDEXED)
    confidence = np.where(good, predictions.confidence, -1.0)
    fit = np.where(good, np.nan_to_num(predictions.spread), 180.0)
    with Path(path).open("w", encoding="utf-8") as stream:
        stream.writelines(f"# {line}\n" for line in header)
        for values in zip(*angles.T, x, y, np.zeros(n), confidence, good.astype(int), fit, strict=True):
            stream.write(
                "%9.5f %9.5f %9.5f %12.5f %12.5f %7.1f %6.3f %2d %6d %6.3f\n" % (*values[:8], 1, values[8])  # noqa: UP031
            )


def write_ctf(path: Path, predictions: OrientationPredictions, phase: PhaseSpec, grid: ScanGrid | None = None) -> None:
    """Write a file for Oxford's HKL Channel 5, MTEX and orix: angles in degrees, MAD is the spread, BC 255 x
    confidence.

    The angles are in Oxford's sample frame: phi1 is 90 degrees less than in EDAX's, as EMsoft writes it (EMsoft issue
    155).  Failed points have phase 0 and Error 3.

    Raises:
        PatternError: if the grid has another number of points, or the axes of the lattice are not orthogonal: Oxford's
            crystal frame is another one then.
    """
    if phase.lattice[3:] != (90.0, 90.0, 90.0):
        raise PatternError(
            f"{path}: Oxford's files have another crystal frame for lattices whose axes are not orthogonal, as "
            f"those of {phase.name}; write an .ang file"
        )
    n = len(predictions)
    grid = grid or ScanGrid.line(n)
    grid.check(n)
    a, b, c, alpha, beta, gamma = phase.lattice
    cell = f"{a:.3f};{b:.3f};{c:.3f}\t{alpha:.3f};{beta:.3f};{gamma:.3f}"
    header = [
        "Channel Text File",
        f"Prj\tase_matprop, model {predictions.model}",
        "Author\t",
        "JobMode\tGrid",
        f"XCells\t{grid.columns}",
        f"YCells\t{grid.rows}",
        f"XStep\t{grid.step_x:.4f}",
        f"YStep\t{grid.step_y:.4f}",
        "AcqE1\t0",
        "AcqE2\t0",
        "AcqE3\t0",
        "Euler angles refer to Sample Coordinate system (CS0)!\tMag\t0\tCoverage\t100\tDevice\t0\tKV\t0\t"
        "TiltAngle\t70\tTiltAxis\t0",
        "Phases\t1",
        f"{cell}\t{phase.name}\t{_CTF_LAUE[phase.symmetry]}\t{phase.space_group}\t\t\tase_matprop",
        "Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS",
    ]
    x, y = grid.positions()
    good = predictions.succeeded
    angles = np.where(good[:, None], predictions.euler, 0.0)
    contrast = np.round(255.0 * predictions.confidence).astype(int)
    spread = np.nan_to_num(predictions.spread)
    with Path(path).open("w", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in header)
        for i in range(n):
            phi1, phi, phi2 = angles[i]
            phi1 = (phi1 + _OXFORD_FROM_EDAX) % 360.0 if good[i] else 0.0
            state = "8\t0" if good[i] else "0\t3"
            stream.write(
                f"{int(good[i])}\t{x[i]:.4f}\t{y[i]:.4f}\t{state}\t{phi1:.4f}\t{phi:.4f}\t{phi2:.4f}\t{spread[i]:.4f}\t"
                f"{contrast[i]}\t0\n"
            )


def draw_map(
    predictions: OrientationPredictions,
    phase: PhaseSpec,
    grid: ScanGrid,
    *,
    direction: ArrayLike = (0.0, 0.0, 1.0),
    label: str = "surface normal",
) -> Figure:
    """Draw inverse pole figure colours of a scan with their key; points that failed are grey, doubtful ones darker.

    Args:
        predictions: of the scan, row after row.
        phase: of the crystal.
        grid: of the scan.
        direction: of the sample, whose crystal direction the colours show.
        label: what this direction is called.

    Raises:
        PatternError: if the grid has another number of points.
    """
    from matplotlib.figure import Figure

    grid.check(len(predictions))
    colors = orientation_colors(predictions.quaternions, phase.symmetry, direction=direction)
    doubtful = np.array([warning is not None for warning in predictions.warnings], dtype=bool)
    colors[doubtful] *= 0.5
    colors = np.where(np.isnan(colors), 0.8, colors).reshape(grid.rows, grid.columns, 3)
    size = (grid.columns * grid.step_x, grid.rows * grid.step_y)
    figure = Figure(figsize=(7.0, float(np.clip(5.0 * size[1] / size[0], 2.6, 12.0)) + 0.4), layout="constrained")
    axes, key = figure.subplots(1, 2, width_ratios=[4, 1])
    axes.imshow(colors, extent=(0.0, size[0], size[1], 0.0), interpolation="nearest")
    axes.set_xlabel("x (micrometres)")
    axes.set_ylabel("y (micrometres)")
    notes = [f"{int((~predictions.succeeded).sum())} failed", f"{int(doubtful.sum())} doubtful"]
    axes.set_title(f"{phase.name}: crystal direction along the {label}\n{', '.join(notes)}", fontsize=9)
    image, extent = key_image(phase.symmetry)
    key.imshow(image, extent=extent, origin="lower")
    key.set_axis_off()
    key.set_title(f"{phase.symmetry}\n" + _describe(phase.symmetry), fontsize=8)
    return figure


def _describe(symmetry: str) -> str:
    names = zip(("red", "green", "blue"), labels(symmetry), strict=True)
    return "\n".join(f"{color}: {name}" for color, name in names if name)

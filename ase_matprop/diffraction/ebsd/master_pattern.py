"""Master patterns: the backscattered yield of a crystal in all directions, on modified Lambert squares.

The equal-area map of a hemisphere on a square: D. Rosca, Astron. Astrophys. 520, A63 (2010),
doi:10.1051/0004-6361/201015278; for EBSD: P. G. Callahan and M. De Graef, Microsc. Microanal. 19, 1255 (2013),
doi:10.1017/S1431927613001840.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ase_matprop.diffraction.ebsd.errors import PatternError
from ase_matprop.diffraction.ebsd.symmetry import find_laue_group
from ase_matprop.errors import missing_dependency

_ROUND = 4.0 / math.pi


@dataclass(frozen=True, eq=False)
class MasterPattern:
    """A master pattern.

    Attributes:
        squares: yields, shape (2, m, m), float32: upper and lower hemisphere; the columns run along the crystal's e1,
            the rows along e2, and m is odd.
        symmetry: name of the Laue group; that of a point group or space group is replaced by its Laue group's.
        phase: name of the phase.
        lattice: cell parameters a, b, c in Angstrom and alpha, beta, gamma in degrees.
        space_group: its number in the International Tables.
        source: where it came from.
    """

    squares: NDArray[np.float32]
    symmetry: str
    phase: str
    lattice: tuple[float, float, float, float, float, float]
    space_group: int
    source: str

    def __post_init__(self) -> None:
        shape = self.squares.shape
        if len(shape) != 3 or shape[0] != 2 or shape[1] != shape[2] or shape[1] < 3:
            raise PatternError(f"a master pattern must have the shape (2, m, m), m of 3 or more. Got {shape}.")
        if not np.isfinite(self.squares).all() or np.ptp(self.squares) == 0.0:
            raise PatternError("a master pattern must have finite values that differ")
        object.__setattr__(self, "symmetry", find_laue_group(self.symmetry))

    @classmethod
    def nickel(cls) -> MasterPattern:
        """Return the master pattern of nickel at 20 kV that comes with kikuchipy: 401 x 401, by EMsoft.

        Raises:
            MissingDependencyError: if kikuchipy is not installed.
        """
        try:
            import kikuchipy  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise missing_dependency("kikuchipy", "the master pattern of nickel", extra="ebsd") from None
        signal = kikuchipy.data.nickel_ebsd_master_pattern_small(projection="lambert", hemisphere="both")
        return cls(
            np.asarray(signal.data, dtype=np.float32),
            symmetry="m-3m",
            phase="nickel",
            lattice=(3.5236, 3.5236, 3.5236, 90.0, 90.0, 90.0),
            space_group=225,
            source=f"kikuchipy {kikuchipy.__version__}, {signal.metadata.General.title}",
        )

    def sampler(self, dtype: torch.dtype = torch.float32) -> MasterPatternSampler:
        """Return the function that looks up yields."""
        return MasterPatternSampler(torch.from_numpy(self.squares).to(dtype))


class MasterPatternSampler:
    """Bilinear interpolation between the points of a master pattern's Lambert squares.

    Args:
        squares: shape (2, m, m).
    """

    def __init__(self, squares: Tensor) -> None:
        self.size = squares.shape[-1]
        self.half = (self.size - 1) / 2.0
        # of each point also what is added on the way to the next column, row and corner, in one row of the table
        padded = torch.nn.functional.pad(squares[None], (0, 1, 0, 1), mode="replicate")[0]
        here, right = padded[:, :-1, :-1], padded[:, :-1, 1:]
        below, corner = padded[:, 1:, :-1], padded[:, 1:, 1:]
        parts = (here, right - here, below - here, corner - right - below + here)
        self.table = torch.stack(parts, dim=-1).reshape(-1, 4).contiguous()

    def __call__(self, directions: Tensor) -> Tensor:
        """Return the yields in crystal directions (unit vectors), shape (..., 3) -> (...); differentiable."""
        x, y, z = directions.unbind(-1)
        column, row = to_square(x, y, z)
        column, row = self.half * (1.0 + column), self.half * (1.0 + row)
        first_column, first_row = column.detach().floor(), row.detach().floor()
        lower = (z.detach() < 0.0).to(first_row)
        index = (first_column + self.size * (first_row + self.size * lower)).long()  # exact below 2**24 points
        index = index.clamp_(0, len(self.table) - 1)
        base, to_right, down, twist = self.table[index].unbind(-1)
        u, v = column - first_column, row - first_row
        return base + u * to_right + v * (down + u * twist)


def to_square(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return column and row, both in [-1, 1], of unit vectors on the Lambert square of their hemisphere."""
    far, near = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    radius = (1.0 - z.abs()).clamp_min(0.0).sqrt()
    angle = _ROUND * torch.atan(near / far.clamp_min(1e-12)) * radius
    along_x = x.abs() >= y.abs()
    return torch.copysign(torch.where(along_x, radius, angle), x), torch.copysign(
        torch.where(along_x, angle, radius), y
    )

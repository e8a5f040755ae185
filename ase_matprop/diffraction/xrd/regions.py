"""Eight phase regions of Sn-Ti-Zn-O, and samples of a composition spread in them.

The thesis names the system, the number of regions and their sizes (section 7.3.2, Figure 7.2), but not their phases:
these are chosen here.  Some regions differ in composition, others (rutile and anatase, ilmenite and a mixture with the
same cations) only in their patterns, as on real wafers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: the order of the columns of compositions
METALS = ("Sn", "Ti", "Zn")

_CATIONS = {
    "SnO2": (1.0, 0.0, 0.0),
    "SnO": (1.0, 0.0, 0.0),
    "TiO2-rutile": (0.0, 1.0, 0.0),
    "TiO2-anatase": (0.0, 1.0, 0.0),
    "ZnO": (0.0, 0.0, 1.0),
    "Zn2TiO4": (0.0, 1.0, 2.0),
    "Zn2SnO4": (1.0, 0.0, 2.0),
    "ZnTiO3": (0.0, 1.0, 1.0),
    "ZnSnO3": (1.0, 0.0, 1.0),
}


@dataclass(frozen=True)
class Region:
    """A phase region.

    Attributes:
        name: its phases, joined by "+".
        size: number of samples of the thesis's data in a region of that rank (Figure 7.2).
        shares: smallest and largest share of each phase in the crystalline volume, before normalisation.
    """

    name: str
    size: int
    shares: Mapping[str, tuple[float, float]]


REGIONS: tuple[Region, ...] = (
    Region("SnO2", 26, {"SnO2": (1.0, 1.0)}),
    Region("SnO2+SnO", 15, {"SnO2": (0.4, 0.8), "SnO": (0.2, 0.6)}),
    Region("TiO2-anatase", 24, {"TiO2-anatase": (1.0, 1.0)}),
    Region("SnO2+TiO2-rutile", 32, {"SnO2": (0.2, 0.8), "TiO2-rutile": (0.2, 0.8)}),
    Region("ZnTiO3", 13, {"ZnTiO3": (1.0, 1.0)}),
    Region("SnO2+Zn2SnO4", 37, {"SnO2": (0.2, 0.8), "Zn2SnO4": (0.2, 0.8)}),
    Region("ZnSnO3", 7, {"ZnSnO3": (1.0, 1.0)}),
    Region("ZnO+Zn2TiO4", 23, {"ZnO": (0.2, 0.8), "Zn2TiO4": (0.2, 0.8)}),
)


@dataclass(frozen=True, eq=False)
class Sample:
    """One point of the composition spread.

    Attributes:
        region: number of its region in :data:`REGIONS`.
        shares: share of each phase in the crystalline volume; they sum to 1.
        amorphous: share of the volume that is not crystalline.
        dissolved: share of Ti among the cations of SnO2 (and of Sn in TiO2), which moves the lattice parameters.
        composition: measured cation fractions of Sn, Ti, Zn, shape (3,).
    """

    region: int
    shares: Mapping[str, float]
    amorphous: float
    dissolved: float
    composition: NDArray[np.float64]


def draw_samples(rng: np.random.Generator, *, largest_amorphous: float = 0.6, noise: float = 0.02) -> list[Sample]:
    """Draw the 177 samples of a composition spread, region by region in the order of :data:`REGIONS`.

    Args:
        rng: source of randomness.
        largest_amorphous: the amorphous share of a sample is between 0.1 and this.  The amorphous part has a
            composition of its own, anywhere in the system, so that composition alone does not tell the region.
        noise: standard deviation of the measured cation fractions.
    """
    return [
        _draw(number, region, rng, largest_amorphous, noise)
        for number, region in enumerate(REGIONS)
        for _ in range(region.size)
    ]


def _draw(number: int, region: Region, rng: np.random.Generator, largest: float, noise: float) -> Sample:
    drawn = {phase: rng.uniform(*bounds) for phase, bounds in region.shares.items()}
    total = sum(drawn.values())
    shares = {phase: share / total for phase, share in drawn.items()}
    amorphous, dissolved = rng.uniform(0.1, largest), rng.uniform(0.0, 0.12)
    cations = np.zeros(3)
    for phase, share in shares.items():
        each = np.array(_CATIONS[phase])
        if phase in ("SnO2", "TiO2-rutile"):
            each = (1.0 - dissolved) * each + dissolved * each[[1, 0, 2]]
        cations += share * each / each.sum()
    cations = (1.0 - amorphous) * cations + amorphous * rng.dirichlet(np.ones(3))
    cations = np.clip(cations + rng.normal(0.0, noise, 3), 0.0, None)
    return Sample(number, shares, amorphous, dissolved, cations / cations.sum())

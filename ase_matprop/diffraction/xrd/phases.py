"""Crystal structures of the Sn-Ti-Zn-O system, and their reflections.

Lattice parameters (room temperature) and positions are those of the publications named with each phase; where only the
lattice was published for a compound, the positions of its structure type are used, and the entry says so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.errors import unknown_name

#: smallest spacing of lattice planes that is of interest, Angstrom
D_MIN = 0.98


@dataclass(frozen=True)
class Phase:
    """A crystal structure.

    Attributes:
        name: name in this package.
        space_group: international number.
        lattice: a and c in Angstrom (equal for cubic crystals).
        sites: occupancies by element and fractional coordinates of one position of each orbit, in the standard setting
            (origin choice 1, hexagonal axes).
        fibre_axis: direction (of the reciprocal lattice) that grains of films turn towards the normal of the film.
        source: where lattice and positions come from.
    """

    name: str
    space_group: int
    lattice: tuple[float, float]
    sites: tuple[tuple[Mapping[str, float], tuple[float, float, float]], ...]
    fibre_axis: tuple[int, int, int]
    source: str

    def structure(self) -> Any:
        """Return the conventional cell as a pymatgen ``Structure``."""
        from pymatgen.core import Lattice, Structure
        from pymatgen.symmetry.groups import SpaceGroup

        a, c = self.lattice
        kinds = {"tetragonal": Lattice.tetragonal, "trigonal": Lattice.hexagonal, "hexagonal": Lattice.hexagonal}
        group = SpaceGroup.from_int_number(self.space_group)
        lattice = Lattice.cubic(a) if group.crystal_system == "cubic" else kinds[group.crystal_system](a, c)
        species, positions = zip(*self.sites, strict=True)
        return Structure.from_spacegroup(group.symbol, lattice, [dict(each) for each in species], positions)


def _phase(name: str, group: int, a: float, c: float, sites: Any, axis: tuple[int, int, int], source: str) -> Phase:
    return Phase(name, group, (a, c), tuple(sites), axis, source)


def _rutile(metal: str, u: float) -> list[Any]:
    return [({metal: 1.0}, (0.0, 0.0, 0.0)), ({"O": 1.0}, (u, u, 0.0))]


def _inverse_spinel(metal: str, u: float) -> list[Any]:
    octahedral = {"Zn": 0.5, metal: 0.5}
    return [({"Zn": 1.0}, (0.0, 0.0, 0.0)), (octahedral, (0.625, 0.625, 0.625)), ({"O": 1.0}, (u, u, u))]


def _ilmenite(metal: str) -> list[Any]:
    return [
        ({"Zn": 1.0}, (0.0, 0.0, 0.357)),
        ({metal: 1.0}, (0.0, 0.0, 0.145)),
        ({"O": 1.0}, (0.315, 0.020, 0.245)),
    ]


_RUTILE_SOURCE = "A. A. Bolzan et al., Acta Cryst. B53, 373 (1997), doi:10.1107/S0108768197001468"
_TITANIA_SOURCE = "J. K. Burdett et al., J. Am. Chem. Soc. 109, 3639 (1987), doi:10.1021/ja00246a021"
_TYPE = "; positions of the structure type"

PHASES: dict[str, Phase] = {
    phase.name: phase
    for phase in (
        _phase("SnO2", 136, 4.737, 3.186, _rutile("Sn", 0.306), (1, 1, 0), _RUTILE_SOURCE),
        _phase("TiO2-rutile", 136, 4.594, 2.959, _rutile("Ti", 0.305), (1, 1, 0), _TITANIA_SOURCE),
        _phase(
            "TiO2-anatase",
            141,
            3.784,
            9.515,
            [({"Ti": 1.0}, (0.0, 0.0, 0.0)), ({"O": 1.0}, (0.0, 0.0, 0.208))],
            (1, 0, 1),
            _TITANIA_SOURCE,
        ),
        _phase(
            "ZnO",
            186,
            3.250,
            5.207,
            [({"Zn": 1.0}, (1 / 3, 2 / 3, 0.0)), ({"O": 1.0}, (1 / 3, 2 / 3, 0.382))],
            (0, 0, 1),
            "E. H. Kisi, M. M. Elcombe, Acta Cryst. C45, 1867 (1989), doi:10.1107/S0108270189004269",
        ),
        _phase(
            "Zn2TiO4",
            227,
            8.460,
            8.460,
            _inverse_spinel("Ti", 0.385),
            (1, 1, 1),
            "R. L. Millard, R. C. Peterson, B. K. Hunter, Am. Mineral. 80, 885 (1995)",
        ),
        _phase(
            "Zn2SnO4",
            227,
            8.657,
            8.657,
            _inverse_spinel("Sn", 0.385),
            (1, 1, 1),
            "ICDD 24-1470 (lattice)" + _TYPE,
        ),
        _phase(
            "ZnTiO3",
            148,
            5.079,
            13.927,
            _ilmenite("Ti"),
            (1, 0, 4),
            "S. F. Bartram, R. A. Slepetys, J. Am. Ceram. Soc. 44, 493 (1961) (lattice)" + _TYPE,
        ),
        _phase(
            "ZnSnO3",
            148,
            5.284,
            14.091,
            _ilmenite("Sn"),
            (1, 0, 4),
            "D. Kovacheva, K. Petrov, Solid State Ionics 109, 327 (1998) (lattice)" + _TYPE,
        ),
        _phase(
            "SnO",
            129,
            3.803,
            4.838,
            [({"Sn": 1.0}, (0.0, 0.5, 0.2383)), ({"O": 1.0}, (0.0, 0.0, 0.0))],
            (0, 0, 1),
            "J. Pannetier, G. Denes, Acta Cryst. B36, 2763 (1980), doi:10.1107/S0567740880009934",
        ),
    )
}


@dataclass(frozen=True, eq=False)
class Reflections:
    """Reflections of a phase, one row per family of equivalent planes.

    Attributes:
        hkl: one member of each family, shape (n, 3).
        intensities: of a powder that has the unit volume, relative to each other and to other phases, with Lorentz and
            polarisation factors, shape (n,).
        tilts: angles in degrees between the planes of a family and the fibre axis, and the share of the family that is
            at each of them; one pair of arrays per family.
        reciprocal: reciprocal lattice vectors as rows, without the factor 2 pi, 1/Angstrom, shape (3, 3).
    """

    hkl: NDArray[np.int64]
    intensities: NDArray[np.float64]
    tilts: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = field(repr=False)
    reciprocal: NDArray[np.float64] = field(repr=False)

    def spacings(self, stretch: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float64]:
        """Return the spacings of the planes in Angstrom, shape (n,).

        Args:
            stretch: factors of the axes a (and b) and c, for solid solutions and strain.
        """
        scale = np.array([stretch[0], stretch[0], stretch[1]])
        # a and c are at right angles in all of these lattices: reciprocal axes shrink as the axes grow
        return np.asarray(1.0 / np.linalg.norm(self.hkl @ (self.reciprocal / scale[:, np.newaxis]), axis=1))


def reflections(phase: str, wavelength: float) -> Reflections:
    """Return the reflections of a phase down to spacings of 0.98 Angstrom, the weakest (below 0.5 %) left out.

    Args:
        phase: a name of :data:`PHASES`.
        wavelength: in Angstrom.

    Raises:
        UnknownNameError: for an unknown phase.
    """
    if phase not in PHASES:
        raise unknown_name("phase", phase, PHASES)
    return _reflections(phase, wavelength)


@functools.lru_cache(maxsize=64)
def _reflections(name: str, wavelength: float) -> Reflections:
    from pymatgen.analysis.diffraction.xrd import XRDCalculator

    phase = PHASES[name]
    structure = phase.structure()
    largest = np.degrees(2.0 * np.arcsin(min(1.0, wavelength / (2.0 * D_MIN))))
    pattern = XRDCalculator(wavelength).get_pattern(structure, scaled=False, two_theta_range=(1.0, largest))
    reciprocal = structure.lattice.reciprocal_lattice_crystallographic.matrix
    axis = np.asarray(phase.fibre_axis) @ reciprocal
    rows, intensities, tilts = [], [], []
    for families, intensity in zip(pattern.hkls, pattern.y, strict=True):
        # of planes that coincide in spacing, all count as those of the most numerous family
        family = max(families, key=lambda each: each["multiplicity"])["hkl"]
        hkl = np.array([family[0], family[1], family[-1]])
        rows.append(hkl)
        intensities.append(intensity / structure.volume**2)
        normals = _equivalents(structure, hkl) @ reciprocal
        cosines = normals @ axis / np.linalg.norm(normals, axis=1) / np.linalg.norm(axis)
        angles = np.degrees(np.arccos(np.clip(np.abs(cosines), 0.0, 1.0)))
        different, n_planes = np.unique(np.round(angles, 2), return_counts=True)
        tilts.append((different, n_planes / n_planes.sum()))
    strong = np.asarray(intensities) > 0.005 * max(intensities)
    return Reflections(
        np.array(rows)[strong],
        np.array(intensities)[strong],
        [each for each, kept in zip(tilts, strong, strict=True) if kept],
        np.asarray(reciprocal),
    )


def _equivalents(structure: Any, hkl: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all planes that the point group makes of one, shape (n, 3)."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    operations = SpacegroupAnalyzer(structure).get_point_group_operations(cartesian=False)
    matrices = np.array([operation.rotation_matrix for operation in operations])
    return np.unique(np.rint(np.einsum("i,nij->nj", hkl, matrices)).astype(np.int64), axis=0)

"""Volumes for crystals that nobody has relaxed, from their geometry and elements, for many decorations at once.

How far they are off, measured on relaxed structures of the Materials Project (2018, GGA): the relative error of the
volume, median / 90th percentile in percent, where the prototype has the shape of the shipped representative.

    ==========  =========  =======  ========  ==========  =======  ============  ========  =========================
    method      rock salt  B2       L1_2      perovskite  Heusler  half Heusler  spinel    15 prototypes, the mean
    ==========  =========  =======  ========  ==========  =======  ============  ========  =========================
    structures  231        279      400       468         1549     292           83        3792
    combined    6 / 17     5 / 14   6 / 13    8 / 22      4 / 10   6 / 21        5 / 16    7 / 17
    dls         15 / 34    10 / 20  11 / 21   14 / 29     5 / 12   9 / 30        9 / 29    11 / 24
    elements    17 / 54    6 / 30   5 / 18    22 / 74     7 / 19   8 / 21        9 / 23    11 / 30
    radii       8 / 25     9 / 33   13 / 34   16 / 45     18 / 39  28 / 68       9 / 22    16 / 37
    ==========  =========  =======  ========  ==========  =======  ============  ========  =========================

One percent of the volume is a third of a percent of a bond length.  A model that reacts to volumes (SchNet) sees these
errors; one that looks at the tessellation alone, with elemental properties, hardly does.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from ase_matprop.errors import MatPropError, unknown_name

__all__ = ["VOLUME_METHODS", "Geometry", "VolumeModel", "positive_number"]

#: ways to a volume, the default first
VOLUME_METHODS = ("combined", "dls", "elements", "radii")

#: neighbours are searched up to this many cube roots of the volume per atom
_REACH = 2.5


@dataclass(frozen=True, eq=False)
class Geometry:
    """What a volume depends on besides the elements.

    Attributes:
        counts: number of sites of each species in the cell, shape (m,).
        volume: of the cell, Angstrom^3.
        distances: shortest distance between sites of two species, Angstrom, shape (m, m); infinite where it is more
            than 2.5 cube roots of the volume per atom.
    """

    counts: NDArray[np.int64]
    volume: float
    distances: NDArray[np.float64]

    @classmethod
    def of(cls, atoms: Atoms, species: NDArray[Any]) -> Geometry:
        """Return the geometry of a periodic cell whose sites belong to the species 0, 1 ... of ``species``."""
        volume = float(atoms.get_volume())
        size = int(species.max()) + 1
        distances = np.full((size, size), np.inf)
        first, second, lengths = neighbor_list("ijd", atoms, _REACH * (volume / len(atoms)) ** (1 / 3))
        np.minimum.at(distances, (species[first], species[second]), lengths)
        return cls(np.bincount(species, minlength=size), volume, distances)


class VolumeModel:
    """The volume of a cell of known shape with given elements.

    Args:
        method: one of

            - ``"combined"``, the default: the geometric mean of the next two, whose errors are of opposite sign more
              often than not, and which is the most accurate of all that were measured (see the module's text).
            - ``"dls"``: data-mined lattice scaling (Chu, Hegde, Jain et al., Comput. Mater. Sci. 146, 184 (2018), DOI
              10.1016/j.commatsci.2018.01.010) with the parameters of pymatgen's ``DLSVolumePredictor``: bond lengths
              from radii that depend on how much the electronegativities of the compound differ; no bond is shorter
              than expected, and one has just that length.  Without pymatgen's limits of 0.5 and 1.5 times the volume
              of the representative, which are there for structures whose volume is nearly right.
            - ``"elements"``: the mean of the volumes per atom of the elements (Zen's law), from their ground states
              in DFT (Magpie).
            - ``"radii"``: no bond is shorter than the sum of the atomic radii of Slater (J. Chem. Phys. 41, 3199
              (1964), DOI 10.1063/1.1725697), and one has just that length.  These are one set for metals, oxides and
              covalent solids; covalent radii (Cordero) gave 31 / 57 percent, metallic ones are missing for
              nonmetals, and ionic ones need charges.
            - a mapping of element symbol -> volume per atom in Angstrom^3, for the mean over the sites.
        factor: multiplies every volume, for example 1.03 for PBE where GGA expands.

    Raises:
        UnknownNameError: if there is no such method.
        MatPropError: if a volume or the factor is not a positive number.
    """

    def __init__(self, method: str | Mapping[str, float] = "combined", factor: float = 1.0) -> None:
        if isinstance(method, Mapping):
            for symbol, volume in method.items():
                if atomic_numbers.get(symbol, 0) == 0:
                    raise MatPropError(f"volume: {symbol!r} is not an element symbol; correct it")
                positive_number(volume, f"volume of {symbol}")
            self.method: str | dict[str, float] = {symbol: float(volume) for symbol, volume in method.items()}
        elif method in VOLUME_METHODS:
            self.method = method
        else:
            raise unknown_name("volume method", method, VOLUME_METHODS)
        self.factor = positive_number(factor, "volume_factor")

    def check(self, numbers: Iterable[int]) -> None:
        """Raise a MatPropError that names the elements for which this method has no volume, if there are any."""
        wanted = np.array(sorted(set(numbers)), dtype=np.int64)
        missing = wanted[~np.isfinite(self._known()[wanted])]
        if len(missing):
            names = ", ".join(chemical_symbols[number] for number in missing)
            raise MatPropError(
                f"the volume method {self._name()} knows nothing of {names}; leave them out, choose another of "
                f"{', '.join(VOLUME_METHODS)}, or give volumes per atom of all elements as a mapping"
            )

    def __call__(self, geometry: Geometry, numbers: NDArray[Any]) -> NDArray[np.float64]:
        """Return the volumes of decorations.

        Args:
            geometry: of the structure, at any volume.
            numbers: atomic number of each species, shape (n, m).

        Returns:
            Volumes of the cell in Angstrom^3, shape (n,), NaN where an element is not known.
        """
        if self.method == "radii":
            volumes = _touching(geometry, _radii()[numbers])
        elif self.method == "dls":
            volumes = _data_mined(geometry, numbers)
        elif self.method == "combined":
            volumes = np.sqrt(_data_mined(geometry, numbers) * (_element_volumes()[numbers] @ geometry.counts))
        else:
            volumes = self._known()[numbers] @ geometry.counts
        return volumes * self.factor

    def describe(self) -> dict[str, Any]:
        """Return method and factor in JSON's types."""
        method = dict(sorted(self.method.items())) if isinstance(self.method, dict) else self.method
        return {"method": method, "factor": self.factor}

    def _name(self) -> str:
        return "of a mapping" if isinstance(self.method, dict) else repr(self.method)

    def _known(self) -> NDArray[np.float64]:
        """Return by atomic number something that is finite where the method can do with the element."""
        if isinstance(self.method, dict):
            own = self.method
            return np.array([own.get(symbol, np.nan) for symbol in chemical_symbols])
        if self.method == "radii":
            return _radii()
        if self.method == "elements":
            return _element_volumes()
        radii, slopes, negativities = _bond_parameters()
        known = radii + slopes + negativities
        return known + _element_volumes() if self.method == "combined" else known


def positive_number(value: Any, name: str) -> float:
    """Return a finite positive number.

    Raises:
        MatPropError: if it is none.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and 0.0 < float(value) < math.inf:
        return float(value)
    raise MatPropError(f"{name} must be a positive number. Got {value!r}.")


def _touching(geometry: Geometry, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the smallest volumes at which no bond is shorter than the sum of the radii, of shape (n, m)."""
    scales = np.zeros(len(radii))
    size = len(geometry.counts)
    for first in range(size):
        for second in range(first, size):
            sums = radii[:, first] + radii[:, second]
            scales = np.maximum(scales, sums / geometry.distances[first, second])
    return geometry.volume * scales**3


def _data_mined(geometry: Geometry, numbers: NDArray[Any]) -> NDArray[np.float64]:
    radii, slopes, negativities = _bond_parameters()
    weights = geometry.counts / geometry.counts.sum()
    values = negativities[numbers]
    centred = values - (values @ weights)[:, None]
    spread = np.sqrt(centred**2 @ weights)
    return _touching(geometry, radii[numbers] + slopes[numbers] * spread[:, None])


@functools.cache
def _element_volumes() -> NDArray[np.float64]:
    from ase_matprop.descriptors.elements import ground_state_volumes

    volumes = ground_state_volumes()
    return np.array([volumes.get(symbol, np.nan) for symbol in chemical_symbols])


@functools.cache
def _radii() -> NDArray[np.float64]:
    return _of_elements(lambda element: float(element.atomic_radius))


@functools.cache
def _bond_parameters() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return radius (Angstrom), its change with the spread of electronegativity, and electronegativity, by number."""
    from pymatgen.analysis.structure_prediction import volume_predictor

    parameters: dict[str, dict[str, Any]] = volume_predictor.bond_params
    return (
        _of_elements(lambda element: float(parameters[element.symbol]["r"])),
        _of_elements(lambda element: float(parameters[element.symbol]["k"])),
        _of_elements(lambda element: float(element.X)),
    )


def _of_elements(value: Any) -> NDArray[np.float64]:
    from pymatgen.core import Element

    values = np.full(len(chemical_symbols), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen's, for elements without the property
        for number in range(1, len(chemical_symbols)):
            try:
                values[number] = value(Element.from_Z(number))
            except (TypeError, KeyError, ValueError):
                continue
    return values

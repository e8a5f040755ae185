"""Prototypes: crystal structures without their elements, from a library that users can extend.

    >>> from ase_matprop.structures.prototypes import get_prototype
    >>> sigma = get_prototype("sigma")
    >>> sigma.multiplicities
    {'A': 2, 'B': 4, 'C': 8, 'D': 8, 'E': 8}
    >>> atoms = sigma.decorate({"A": "Fe", "B": "Cr", "C": "Cr", "D": "Fe", "E": "Ni"}, volume=11.7)

The library is a YAML file, ``data/prototypes.yaml``, with the structure types of the Strukturbericht; further files in
the same format, or in that of pySIPFENN, are read by :func:`load_prototypes`.  Lengths are in Angstrom throughout.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ase_matprop.errors import StructureError, unknown_name

logger = logging.getLogger(__name__)

__all__ = ["Prototype", "PrototypeLibrary", "Sublattice", "get_prototype", "list_prototypes", "load_prototypes"]


@dataclass(frozen=True)
class Sublattice:
    """Sites that symmetry makes equivalent.

    Attributes:
        name: "A", "B" ... in the order of the library.
        wyckoff: multiplicity in the conventional cell and Wyckoff letter, "8i"; empty where it is not known.
        element: what the representative has there.
    """

    name: str
    wyckoff: str
    element: str


@dataclass(frozen=True, eq=False)
class Prototype:
    """A structure type.

    Attributes:
        name: name in the library.
        aliases: other names of the same.
        representative: formula of the compound that gives the geometry.
        pearson: Pearson symbol, empty where it is not known.
        space_group: number in the International Tables, None where it is not known.
        source: where the geometry comes from.
        sublattices: in the order of the library.
        site_sublattices: name of the sublattice of each site of the primitive cell.
    """

    name: str
    aliases: tuple[str, ...]
    representative: str
    pearson: str
    space_group: int | None
    source: str
    sublattices: tuple[Sublattice, ...]
    site_sublattices: tuple[str, ...]
    _primitive: Atoms = field(repr=False)
    _conventional: Atoms = field(repr=False)

    @property
    def multiplicities(self) -> dict[str, int]:
        """Number of sites of each sublattice in the primitive cell."""
        return {sublattice.name: self.site_sublattices.count(sublattice.name) for sublattice in self.sublattices}

    def __len__(self) -> int:
        """Number of sites of the primitive cell."""
        return len(self.site_sublattices)

    def atoms(self, *, conventional: bool = False) -> Atoms:
        """Return the representative as new ASE Atoms; the array ``sublattice`` has the index of each site's sublattice.

        Args:
            conventional: the conventional cell of the space group in place of the primitive one.
        """
        return (self._conventional if conventional else self._primitive).copy()

    def structure(self, *, conventional: bool = False) -> Any:
        """Return the representative as a new pymatgen ``Structure``, with the site property ``sublattice``.

        Args:
            conventional: the conventional cell of the space group in place of the primitive one.
        """
        from pymatgen.core import Structure

        atoms = self.atoms(conventional=conventional)
        names = [self.sublattices[index].name for index in atoms.arrays["sublattice"]]
        return Structure(
            atoms.cell.array,
            atoms.get_chemical_symbols(),
            atoms.get_scaled_positions(),
            site_properties={"sublattice": names},
        )

    def decorate(
        self,
        elements: Mapping[str, str],
        *,
        volume: float | Mapping[str, float] | None = None,
        conventional: bool = False,
    ) -> Atoms:
        """Return the prototype with other elements on its sublattices.

        Args:
            elements: sublattice -> element symbol.  A sublattice is named by its own name ("A") or by its Wyckoff
                position ("2a") where only one has it.  Sublattices that are left out keep the representative's element.
            volume: None for the representative's cell; a number for the volume per atom in Angstrom^3; a mapping of
                element -> volume per atom in Angstrom^3 for the mean over the sites (for example
                :func:`ase_matprop.descriptors.elements.ground_state_volumes`).  The cell is scaled uniformly.
            conventional: the conventional cell of the space group in place of the primitive one.

        Returns:
            Atoms with the array ``sublattice``, the index of each site's sublattice in :attr:`sublattices`.

        Raises:
            StructureError: if a sublattice or element does not exist, a volume is missing or no positive number, or
                ``elements`` is no mapping.
        """
        if not isinstance(elements, Mapping):
            got = "None was given" if elements is None else f"Got {elements!r}"
            raise StructureError(
                f"prototype {self.name}: elements must map sublattices to element symbols, for example "
                f"{ {self.sublattices[0].name: self.sublattices[0].element} }; it has {self._positions()}. {got}."
            )
        chosen = {sublattice.name: sublattice.element for sublattice in self.sublattices}
        assigned: dict[str, str] = {}
        for key, symbol in elements.items():
            name = self._sublattice(str(key))
            if name in assigned:
                raise StructureError(
                    f"prototype {self.name}: {assigned[name]!r} and {key!r} are the same sublattice; give it once"
                )
            if not isinstance(symbol, str) or symbol not in atomic_numbers or symbol == "X":
                raise StructureError(
                    f"prototype {self.name}: {symbol!r}, for sublattice {key}, is not an element symbol"
                )
            assigned[name], chosen[name] = str(key), symbol
        symbols = np.array([chosen[sublattice.name] for sublattice in self.sublattices])
        atoms = self.atoms(conventional=conventional)
        atoms.set_chemical_symbols(symbols[atoms.arrays["sublattice"]].tolist())
        if volume is None and set(atoms.symbols) - {sublattice.element for sublattice in self.sublattices}:
            logger.warning(
                "prototype %s: %s has the cell of %s; give volume=, such as ground_state_volumes() of the elements",
                self.name,
                atoms.get_chemical_formula(mode="metal"),
                self.representative,
            )
        if volume is not None:
            wanted = self._volume_per_atom(atoms, volume)
            atoms.set_cell(atoms.cell * np.cbrt(wanted * len(atoms) / atoms.get_volume()), scale_atoms=True)
        return atoms

    def _sublattice(self, key: str) -> str:
        for sublattice in self.sublattices:
            if key == sublattice.name:
                return sublattice.name
        matching = [sublattice.name for sublattice in self.sublattices if sublattice.wyckoff == key]
        if len(matching) == 1:
            return matching[0]
        reason = f"several sublattices have the position {key!r}" if matching else f"there is no sublattice {key!r}"
        raise StructureError(f"prototype {self.name}: {reason}; it has {self._positions()}")

    def _positions(self) -> str:
        return ", ".join(f"{entry.name} ({entry.wyckoff})" for entry in self.sublattices)

    def _volume_per_atom(self, atoms: Atoms, volume: float | Mapping[str, float]) -> float:
        if isinstance(volume, Mapping):
            missing = sorted({symbol for symbol in atoms.symbols if symbol not in volume})
            if missing:
                raise StructureError(f"prototype {self.name}: no volume is given for {', '.join(missing)}; add it")
            each = {symbol: self._positive(volume[symbol], f" of {symbol}") for symbol in sorted(set(atoms.symbols))}
            return float(np.mean([each[symbol] for symbol in atoms.symbols]))
        return self._positive(volume)

    def _positive(self, volume: Any, of_what: str = "") -> float:
        if isinstance(volume, Real) and not isinstance(volume, bool) and 0.0 < float(volume) < np.inf:
            return float(volume)
        got = "None was given" if volume is None else f"Got {volume!r}"
        raise StructureError(
            f"prototype {self.name}: the volume per atom{of_what} must be positive, a number in Angstrom^3. {got}."
        )


class PrototypeLibrary(Mapping[str, Prototype]):
    """Prototypes by name; aliases are found as well, and case, blanks, ``_`` and ``-`` do not count.

    Where two prototypes share a name or an alias the later one is found by it, and its name wins over aliases.
    """

    def __init__(self, prototypes: Iterable[Prototype]) -> None:
        self._prototypes: dict[str, Prototype] = {}
        for prototype in prototypes:
            self._prototypes.pop(prototype.name, None)
            self._prototypes[prototype.name] = prototype
        self._keys = {
            _key(alias): prototype.name for prototype in self._prototypes.values() for alias in prototype.aliases
        }
        self._keys |= {_key(name): name for name in self._prototypes}

    def __getitem__(self, name: str) -> Prototype:
        """Return one prototype.

        Raises:
            UnknownNameError: if there is none of this name; the message has the closest one.
        """
        if not isinstance(name, str) or _key(name) not in self._keys:
            aliases = [alias for prototype in self._prototypes.values() for alias in prototype.aliases]
            raise unknown_name("prototype", name, [*self._prototypes, *aliases])
        return self._prototypes[self._keys[_key(name)]]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _key(name) in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._prototypes)

    def __len__(self) -> int:
        return len(self._prototypes)


def _key(name: str) -> str:
    return "".join(character for character in name.casefold() if character not in " _-")


@functools.cache
def _shipped() -> PrototypeLibrary:
    from ase_matprop.structures.prototype_files import parse_prototypes

    text = files("ase_matprop.structures").joinpath("data/prototypes.yaml").read_text(encoding="utf-8")
    return PrototypeLibrary(parse_prototypes(text, "the shipped library"))


def list_prototypes() -> list[str]:
    """Return the names of the shipped prototypes, a fresh list."""
    return list(_shipped())


def get_prototype(name: str) -> Prototype:
    """Return a shipped prototype by its name or by one of its aliases, "FCC", "A1", "L1_2", "rock salt".

    Raises:
        UnknownNameError: if there is none of this name; the message has the closest one.
    """
    return _shipped()[name]


def load_prototypes(path: str | os.PathLike[str], *, with_shipped: bool = True) -> PrototypeLibrary:
    """Read a library of prototypes from a YAML file.

    The file is a list of entries in the format of the shipped library (``data/prototypes.yaml`` in this folder, with
    an explanation at its top), or in that of pySIPFENN: ``name``, ``origin`` and ``POSCAR``, the text of such a file.
    A prototype from a POSCAR gets one sublattice for each orbit of equivalent sites, found by spglib.

    Args:
        path: the file.
        with_shipped: put the entries on top of the shipped ones, which they replace where names are the same.

    Raises:
        StructureError: if the file cannot be read, or an entry is wrong; the message names it.
    """
    from ase_matprop.structures.prototype_files import parse_prototypes

    if not isinstance(path, str | os.PathLike):
        got = "None was given" if path is None else f"Got {path!r}"
        raise StructureError(f"the prototype library must be the path of a YAML file. {got}.")
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StructureError(f"the prototype library {os.fspath(path)!r} cannot be read: {error}") from None
    own = parse_prototypes(text, os.fspath(path))
    return PrototypeLibrary([*_shipped().values(), *own] if with_shipped else own)

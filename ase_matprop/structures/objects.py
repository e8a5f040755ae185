"""Conversion of structure objects to ASE Atoms; private part of :mod:`ase_matprop.structures`.

pymatgen is not imported here: an object that comes from it brings all that is needed.  Messages here do not name the
object: the caller does.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import cellpar_to_cell

from ase_matprop.errors import StructureError
from ase_matprop.structures.checks import DISORDER_REMEDY, OCCUPANCY_TOLERANCE, disorder, find_disorder
from ase_matprop.structures.files import COMPRESSIONS

#: keys of ``Atoms.info`` that identify a structure, the first one that is there counts
_LABELS = ("name", "material_id", "label")
_ISOTOPES = {"D": 1, "T": 1}


def is_single(obj: object) -> bool:
    """Return whether ``obj`` stands for itself, although it may be iterable."""
    return isinstance(obj, (str, os.PathLike, Atoms, Mapping)) or _is_row(obj) or _is_from_pymatgen(obj)


def label(obj: object) -> str | None:
    """Return the name that a structure carries, or None."""
    info = getattr(obj, "key_value_pairs", None) if _is_row(obj) else getattr(obj, "info", None)
    if isinstance(info, Mapping):
        for key in _LABELS:
            if isinstance(info.get(key), str) and info[key].strip():
                return str(info[key])
    return None


def path_name(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be written anywhere: bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def name_keys(name: str, *, folder: bool = False) -> list[str]:
    """Return what a table may call an input, the full name first.

    These are its path and every tail of it, as they are, without a packed ending, and without one more ending; a frame
    (``a.xyz#2``) with its number and without.

    Args:
        name: of the input.
        folder: whether the name of its folder counts too, the last one: that says what a CONTCAR is.
    """
    path, mark, frame = name.rpartition("#")
    if not (mark and frame.isdecimal()):
        path, mark, frame = name, "", ""
    plain = PurePath(path)
    if not plain.name.strip("."):
        return [name] if name else []
    keys = [name]
    for suffix in dict.fromkeys((mark + frame, "")):
        bare = plain.with_suffix("") if plain.suffix.lower() in COMPRESSIONS else plain
        for each in (plain, bare, bare.with_suffix("")):
            keys += ["/".join(each.parts[part:]) + suffix for part in range(len(each.parts))]
    return [key for key in dict.fromkeys([*keys, plain.parent.name if folder else ""]) if key]


def shared_keys(names: Iterable[str], *, folder: bool = False) -> set[str]:
    """Return the :func:`name_keys` that fit more than one of some inputs, and so name none but by its full name."""
    counts = Counter(key for name in set(names) for key in name_keys(name, folder=folder))
    return {key for key, count in counts.items() if count > 1}


def unsupported(obj: object) -> str:
    """Return the message for an object that is no structure."""
    several = "; for several structures use read_structures" if isinstance(obj, (list, tuple)) else ""
    known = "give ASE Atoms, a pymatgen Structure, or the path of a file"
    given = "is None" if obj is None else f"is a {type(obj).__name__}"
    return f"{given}, not a structure; {known}{several}"


def convert(obj: object) -> Atoms:
    """Return new Atoms with the numbers, positions, cell and periodicity of ``obj``; they are not checked yet.

    Raises:
        StructureError: if ``obj`` is no structure, or has sites that Atoms cannot describe.
    """
    if isinstance(obj, Atoms) or _is_row(obj):
        return _from_atoms(obj)
    if _is_from_pymatgen(obj):
        return _from_pymatgen(obj)
    if isinstance(obj, Mapping):
        return _from_dictionary(obj)
    raise StructureError(unsupported(obj))


def _is_row(obj: object) -> bool:
    return any(base.__module__ == "ase.db.row" for base in type(obj).__mro__)


def _is_from_pymatgen(obj: object) -> bool:
    return any(base.__module__.partition(".")[0] == "pymatgen" for base in type(obj).__mro__)


def _from_atoms(obj: Any) -> Atoms:
    """Convert ASE Atoms or a database row."""
    if isinstance(obj, Atoms):
        problem = find_disorder(obj)
        if problem:
            raise StructureError(problem)
    return Atoms(numbers=obj.numbers, positions=obj.positions, cell=obj.cell, pbc=obj.pbc)


def _from_pymatgen(obj: Any) -> Atoms:
    if not hasattr(obj, "sites") and hasattr(obj, "structure"):
        obj = obj.structure  # a ComputedStructureEntry and the like
    if not hasattr(obj, "sites"):
        raise StructureError(unsupported(obj))
    if not hasattr(obj, "lattice"):
        raise StructureError(
            f"is a {type(obj).__name__}, which has no cell; put it into a Structure with vacuum around it"
        )
    numbers = []
    for site in obj.sites:
        species: dict[str, float] = {}
        for entry, amount in site.species.items():  # Fe2+ and Fe3+ are both Fe
            species[entry.symbol] = species.get(entry.symbol, 0.0) + amount
        numbers.append(_site_number(species))
    lattice = obj.lattice
    positions = np.array([site.coords for site in obj.sites], dtype=np.float64).reshape(-1, 3)
    return Atoms(numbers=numbers, positions=positions, cell=lattice.matrix, pbc=getattr(lattice, "pbc", True))


def _from_dictionary(data: Mapping[Any, Any]) -> Atoms:
    """Convert the dictionary of a pymatgen structure (MSON), of something that has one, or of ASE Atoms."""
    try:
        if "structure" in data and "sites" not in data:
            return _from_dictionary(data["structure"])
        if "sites" in data and "lattice" in data:
            return _from_mson(data)
        if {"numbers", "positions"} <= data.keys():
            pbc = data.get("pbc", False)
            return Atoms(numbers=data["numbers"], positions=data["positions"], cell=data.get("cell"), pbc=pbc)
    except StructureError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StructureError(f"is not a complete structure dictionary ({reason}); give Structure.as_dict()") from None
    if "sites" in data:
        kind = data.get("@class", "set of sites")
        raise StructureError(f"is a {kind} without a lattice; put it into a Structure with vacuum around it")
    raise StructureError("is a dictionary without a structure; give Structure.as_dict() or Atoms.todict()")


def _from_mson(data: Mapping[Any, Any]) -> Atoms:
    lattice, sites = data["lattice"], data["sites"]
    if "matrix" in lattice:
        cell = np.asarray(lattice["matrix"], dtype=np.float64)
    else:
        cell = cellpar_to_cell([lattice[key] for key in ("a", "b", "c", "alpha", "beta", "gamma")])
    numbers = []
    for site in sites:
        species: dict[str, float] = {}
        for entry in site["species"]:
            symbol = str(entry["element"])
            if entry.get("@class") != "DummySpecies":
                symbol = re.sub(r"[^A-Za-z].*", "", symbol)  # old files have charges here, as in Fe3+
            species[symbol] = species.get(symbol, 0.0) + float(entry.get("occu", 1.0))
        numbers.append(_site_number(species))
    atoms = Atoms(numbers=numbers, cell=cell, pbc=lattice.get("pbc", True))
    if all("abc" in site for site in sites):
        atoms.set_scaled_positions(np.array([site["abc"] for site in sites], dtype=np.float64).reshape(-1, 3))
    else:
        atoms.positions[:] = np.array([site["xyz"] for site in sites], dtype=np.float64)
    return atoms


def _site_number(species: dict[str, float]) -> int:
    """Return the atomic number of the element on a site, from the occupancy of each species there."""
    if len(species) != 1 or abs(next(iter(species.values())) - 1.0) > OCCUPANCY_TOLERANCE:
        raise StructureError(f"{disorder(species)}; {DISORDER_REMEDY}")
    symbol = next(iter(species))
    number = atomic_numbers.get(symbol) or _ISOTOPES.get(symbol)
    if not number:
        raise StructureError(f"has the dummy species {symbol!r} on a site; replace it by an element or delete the site")
    return number

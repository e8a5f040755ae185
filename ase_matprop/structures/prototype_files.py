"""Reads libraries of prototypes; private part of :mod:`ase_matprop.structures.prototypes`."""

from __future__ import annotations

import io
import string
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.io.vasp import read_vasp
from ase.spacegroup import crystal

from ase_matprop.errors import StructureError
from ase_matprop.structures.checks import find_problem
from ase_matprop.structures.prototypes import Prototype, Sublattice

_TEXTS = ("name", "representative", "pearson", "source", "origin", "POSCAR")
_KEYS = {*_TEXTS, "aliases", "space_group", "lattice", "sublattices"}
_HEXAGONAL = range(143, 195)
_CUBIC = range(195, 231)
_TETRAGONAL = range(75, 143)
_SYMMETRY_PRECISION = 1e-3  # Angstrom


def parse_prototypes(text: str, source: str) -> list[Prototype]:
    """Return the prototypes of a library.

    Args:
        text: of the YAML file.
        source: what to call the file in messages.

    Raises:
        StructureError: if the text is no list of prototypes, or one of them is wrong.
    """
    import yaml

    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StructureError(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list):
        got = "It is empty" if entries is None else f"Got {type(entries).__name__}"
        raise StructureError(f"{source} must be a list of prototypes, each with a name. {got}.")
    prototypes = []
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        try:
            prototypes.append(_prototype(entry))
        except StructureError as error:
            raise StructureError(f"{source}: prototype {name or index}: {error}") from None
        except Exception as error:  # ASE raises all kinds on wrong lattices, positions and POSCARs
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise StructureError(f"{source}: prototype {name or index} cannot be built ({reason})") from error
    return prototypes


def _prototype(entry: Any) -> Prototype:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or not entry["name"].strip():
        raise StructureError("each entry must be a mapping with a name")
    unknown = sorted(str(key) for key in entry if key not in _KEYS)
    if unknown:
        raise StructureError(f"has the unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    aliases = entry.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise StructureError("aliases must be a list of texts; put quotes around them")
    if "POSCAR" in entry:
        conventional, sublattices, space_group = _from_poscar(entry["POSCAR"])
        primitive = conventional
        source = entry.get("source", entry.get("origin", ""))
    elif {"space_group", "lattice", "sublattices"} <= entry.keys():
        conventional, primitive, sublattices = _from_space_group(entry)
        space_group, source = entry["space_group"], entry.get("source", "")
    else:
        raise StructureError("needs space_group, lattice and sublattices, or a POSCAR")
    for atoms in (primitive, conventional):
        problem = find_problem(atoms)
        if problem:
            raise StructureError(problem)
    return Prototype(
        name=entry["name"].strip(),
        aliases=tuple(aliases),
        representative=str(entry.get("representative", primitive.get_chemical_formula(empirical=True))),
        pearson=str(entry.get("pearson", "")),
        space_group=space_group,
        source=str(source),
        sublattices=sublattices,
        site_sublattices=tuple(sublattices[index].name for index in primitive.arrays["sublattice"]),
        _primitive=primitive,
        _conventional=conventional,
    )


def _from_space_group(entry: Mapping[str, Any]) -> tuple[Atoms, Atoms, tuple[Sublattice, ...]]:
    number = entry["space_group"]
    if not isinstance(number, int) or not 1 <= number <= 230:
        raise StructureError(f"space_group must be a number from 1 to 230. Got {number!r}.")
    if not isinstance(entry["sublattices"], Mapping) or not entry["sublattices"]:
        raise StructureError("sublattices must map a name to [Wyckoff position, element, x, y, z]")
    sublattices, basis = [], []
    for name, value in entry["sublattices"].items():
        if not isinstance(value, list) or len(value) != 5:
            raise StructureError(f"sublattice {name}: must be [Wyckoff position, element, x, y, z]. Got {value!r}.")
        wyckoff, element, *position = value
        if element not in atomic_numbers or element == "X":
            raise StructureError(f"sublattice {name}: {element!r} is not an element symbol (put quotes around No)")
        sublattices.append(Sublattice(str(name), str(wyckoff), element))
        basis.append([float(Fraction(str(coordinate))) for coordinate in position])
    settings = {
        "symbols": [sublattice.element for sublattice in sublattices],
        "basis": basis,
        "spacegroup": number,
        "setting": entry.get("origin", 1),
        "cellpar": _cell_parameters(entry["lattice"], number),
        "onduplicates": "error",
    }
    cells = []
    for primitive in (False, True):
        atoms = crystal(**settings, primitive_cell=primitive)
        kinds = np.asarray(atoms.arrays["spacegroup_kinds"], dtype=np.int64)
        plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)
        plain.set_array("sublattice", kinds)
        plain.wrap(eps=1e-6)
        cells.append(plain)
    counts = np.bincount(cells[0].arrays["sublattice"], minlength=len(sublattices))
    for sublattice, count in zip(sublattices, counts.tolist(), strict=True):
        stated = sublattice.wyckoff.rstrip(string.ascii_letters + "'")
        if stated and stated != str(count):
            raise StructureError(
                f"sublattice {sublattice.name}: the coordinates give {count} sites in the conventional cell, not the "
                f"{stated} of {sublattice.wyckoff}; correct the coordinates, the space group or the origin"
            )
    return cells[0], cells[1], tuple(sublattices)


def _cell_parameters(lattice: Any, space_group: int) -> list[float]:
    """Return a, b, c (Angstrom) and alpha, beta, gamma (degrees), with what the crystal system fixes filled in."""
    known = ("a", "b", "c", "alpha", "beta", "gamma")
    if not isinstance(lattice, Mapping) or not set(lattice) <= set(known) or "a" not in lattice:
        raise StructureError(f"lattice must have a, and those of {', '.join(known[1:])} that are free")
    given = {key: float(value) for key, value in lattice.items()}
    hexagonal = space_group in _HEXAGONAL
    if space_group in _CUBIC:
        given.setdefault("c", given["a"])
    if hexagonal or space_group in _CUBIC or space_group in _TETRAGONAL:
        given.setdefault("b", given["a"])
    given = {"alpha": 90.0, "beta": 90.0, "gamma": 120.0 if hexagonal else 90.0, **given}
    missing = [key for key in known if key not in given]
    if missing:
        raise StructureError(f"lattice: {missing[0]} is missing, which space group {space_group} leaves free")
    _check_crystal_system(given, space_group)
    return [given[key] for key in known]


def _check_crystal_system(given: Mapping[str, float], space_group: int) -> None:
    """Refuse lattice parameters that the crystal system of the space group does not have."""
    wanted: dict[str, float] = {}
    if space_group in _CUBIC:
        wanted["c"] = given["a"]
    if space_group in _CUBIC or space_group in _TETRAGONAL or space_group in _HEXAGONAL:
        wanted["b"] = given["a"]
    if space_group >= 16:  # no longer triclinic or monoclinic
        wanted |= {"alpha": 90.0, "beta": 90.0, "gamma": 120.0 if space_group in _HEXAGONAL else 90.0}
    for key, value in wanted.items():
        if abs(given[key] - value) > 1e-6 * value:
            raise StructureError(
                f"lattice: {key} is {given[key]:g}, but space group {space_group} wants {value:g}; leave it out"
            )
    if 3 <= space_group <= 15 and sum(given[key] != 90.0 for key in ("alpha", "beta", "gamma")) > 1:
        raise StructureError(f"lattice: space group {space_group} leaves only one angle free; give one")


def _from_poscar(text: Any) -> tuple[Atoms, tuple[Sublattice, ...], int | None]:
    import spglib

    if not isinstance(text, str):
        raise StructureError("POSCAR must be text; begin it with '|' and indent it")
    atoms = read_vasp(io.StringIO(text))
    problem = find_problem(atoms)
    if problem:
        raise StructureError(problem)
    try:
        dataset = spglib.get_symmetry_dataset(
            (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=_SYMMETRY_PRECISION
        )
    except Exception:  # SpglibError, in new versions
        dataset = None
    orbits = np.arange(len(atoms)) if dataset is None else np.asarray(dataset.equivalent_atoms)
    first, index = np.unique(orbits, return_inverse=True)
    letters = string.ascii_uppercase if len(first) <= 26 else [f"S{position + 1}" for position in range(len(first))]
    sublattices = tuple(
        Sublattice(letters[position], "" if dataset is None else str(dataset.wyckoffs[site]), str(atoms.symbols[site]))
        for position, site in enumerate(first.tolist())
    )
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=True)
    plain.set_array("sublattice", index.astype(np.int64))
    return plain, sublattices, None if dataset is None else int(dataset.number)

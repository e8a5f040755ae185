"""Crystals from CIF text; private part of :mod:`ase_matprop.structures`.

ASE's parser reads the data blocks (in trials on CIF files written with 4 and 8 digits it agreed with pymatgen's on
every structure, in less time); what it accepts in silence is checked here: elements that are misread from upper-case
symbols, partly occupied sites, sites split by rounded coordinates, symmetry operations that do not fit the cell, and
atoms that do not add up to the stated formula.  A block that fails is given to pymatgen, if that is installed.
"""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.io.cif import CIFBlock, parse_cif
from ase.spacegroup import Spacegroup

from ase_matprop.errors import StructureError
from ase_matprop.structures.checks import DISORDER_REMEDY, OCCUPANCY_TOLERANCE, Floats, close_pairs, disorder

#: sites that symmetry makes from one listed site and that lie closer than this (Angstrom) differ by rounding only
_ROUNDING_DISTANCE = 0.1
_ISOTOPES = {"D": "H", "T": "H"}
#: tags that hold the two kinds of description of a site
_TYPE, _LABEL = "_atom_site_type_symbol", "_atom_site_label"
_GROUP_NAMES = ("_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt")
_GROUP_NUMBERS = ("_symmetry_int_tables_number", "_space_group_it_number", "_space_group.it_number")
#: space groups with an R lattice, which have a hexagonal and a rhombohedral setting
_RHOMBOHEDRAL = {146, 148, 155, 160, 161, 166, 167}
#: space groups whose symbols have a short form, and those whose symbols have lost a sign in older files
_MONOCLINIC, _CUBIC = range(3, 16), (*range(200, 207), *range(221, 231))
_OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_space_group_symop.operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
)


class _RefusedError(StructureError):
    """The block was understood, and is not an ordered crystal: another parser would not help."""


def read_cif(text: str) -> Iterator[object]:
    """Yield one structure, or the StructureError in its place, for each data block of ``text`` that has atom sites."""
    for part in re.split(r"(?im)^(?=data_)", text.lstrip("\ufeff")):
        if not re.search(r"(?i)_atom_site[_.](fract_|cartn_)x", part):
            continue
        block = part if part[:5].lower() == "data_" else f"data_unnamed\n{part}"
        try:
            yield _read_block(block)
        except _RefusedError as error:
            yield error
        except Exception as error:  # whatever a parser trips over
            yield _with_pymatgen(block, error)


def _read_block(text: str) -> Atoms:
    with warnings.catch_warnings():
        # ASE drops a row with too many or too few columns, which is an atom lost
        warnings.filterwarnings("error", message="Wrong number")
        block = next(parse_cif(io.BytesIO(text.encode("latin-1", "replace"))))
    tags: dict[str, Any] = {tag: block[tag] for tag in block}
    formula = _formula(tags.get("_chemical_formula_sum"))
    symbols = _symbols(tags, formula)
    tags[_TYPE] = symbols
    _check_occupancies(tags, symbols)
    _set_space_group(tags)
    atoms = CIFBlock("", tags).get_atoms(fractional_occupancies=False)
    atoms.pbc = True
    if atoms.cell.rank != 3:
        raise _RefusedError("has no complete unit cell; add _cell_length_a to _cell_angle_gamma")
    _check_symmetry(atoms)
    _check_shared_sites(tags, symbols, atoms)
    atoms = _merge_rounded(atoms)
    if formula and not _same_ratio(formula, Counter(atoms.get_chemical_symbols())):
        raise StructureError(
            f"has the formula {atoms.get_chemical_formula('hill')} from its sites and symmetry, but "
            f"_chemical_formula_sum says {tags['_chemical_formula_sum']!r}; add the missing sites or correct that line"
        )
    return atoms


def _with_pymatgen(text: str, error: Exception) -> object:
    """Return pymatgen's reading of a block that failed with ``error``, or the error for the user."""
    reason = error if isinstance(error, StructureError) else None
    try:
        from pymatgen.io.cif import CifParser

        # a number would hide the setting that a symbol means, and without either pymatgen leaves out the symmetry
        text = re.sub(r"(?im)^_(symmetry_Int_Tables_number|space_group_IT_number)\s.*$", "", text)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*Defaulting to P1")
            structure = CifParser(io.StringIO(text)).parse_structures(primitive=False)[0]
        formula = _formula(_raw_formula(text))
        elements: Counter[str] = Counter()
        for species, amount in structure.composition.items():
            elements[_ISOTOPES.get(species.symbol, species.symbol)] += amount
        if (formula and _same_ratio(formula, elements)) or (reason is None and not formula):
            return structure
    except Exception:  # neither parser can read it, or pymatgen is not installed: the first one's reason stands
        pass
    if reason is not None:
        return reason
    detail = " ".join(str(error).split())[:120] or type(error).__name__
    return StructureError(f"is no CIF data block that can be read ({detail}); write the file again, e.g. with VESTA")


def _raw_formula(text: str) -> str | None:
    found = re.search(r"(?im)^_chemical_formula_sum\s+(?:'([^']*)'|\"([^\"]*)\"|(\S+))", text)
    return next((group for group in found.groups() if group), None) if found else None


def _formula(text: object) -> Counter[str]:
    """Return the amounts in a formula such as ``"Fe2 O3"``; empty if it is missing or not a plain formula."""
    words = str(text or "").strip("'\" ").split()
    amounts: Counter[str] = Counter()
    for word in words:
        found = re.fullmatch(r"([A-Z][a-z]?)(\d*\.?\d*)", word)
        if not found or _ISOTOPES.get(found[1], found[1]) not in atomic_numbers:
            return Counter()
        amounts[_ISOTOPES.get(found[1], found[1])] += float(found[2] or 1)  # type: ignore[assignment]
    return amounts


def _same_ratio(first: Counter[str], second: Counter[str]) -> bool:
    if set(first) != set(second):
        return False
    ratios = [first[symbol] / second[symbol] for symbol in first]
    return max(ratios) <= 1.01 * min(ratios)


def _symbols(tags: dict[str, Any], formula: Counter[str]) -> list[str]:
    """Return the element symbol of each listed site."""
    typed = _TYPE in tags
    texts = tags.get(_TYPE, tags.get(_LABEL))
    if texts is None:
        raise _RefusedError("has atom sites without elements; add the column _atom_site_type_symbol")
    texts = [str(text).strip("'\"") for text in (texts if isinstance(texts, list) else [texts])]
    symbols = []
    for text in texts:
        found = re.match(r"[A-Za-z]{1,2}", text)
        letters = found[0] if found else ""
        two, one = letters.capitalize(), letters[:1].upper()
        candidates = [symbol for symbol in dict.fromkeys((two, one)) if symbol in atomic_numbers or symbol in _ISOTOPES]
        candidates = [symbol for symbol in candidates if symbol != "X"]
        if len(candidates) == 2 and letters[1].isupper():
            # CL, CA1, HO2: a type symbol has one element and perhaps a charge, a label may have further letters
            stated = [symbol for symbol in candidates if _ISOTOPES.get(symbol, symbol) in formula]
            candidates = stated if len(stated) == 1 else candidates if typed else []
        elif typed and two not in candidates and letters[1:].isupper():
            candidates = []  # OH, OW: a group, not an element
        if not candidates or text.lower().startswith("wat"):
            raise _RefusedError(
                f"has the atom site {text!r}, which is not clearly one chemical element; "
                "give element symbols in _atom_site_type_symbol"
            )
        symbols.append(_ISOTOPES.get(candidates[0], candidates[0]))
    return symbols


def _check_occupancies(tags: dict[str, Any], symbols: list[str]) -> None:
    occupancies = tags.get("_atom_site_occupancy")
    if occupancies is None:
        return
    labels = tags.get(_LABEL) or symbols
    for label, symbol, part in zip(labels, symbols, occupancies, strict=True):
        if isinstance(part, (int, float)) and abs(part - 1.0) > OCCUPANCY_TOLERANCE:
            raise _RefusedError(f"{disorder({symbol: part})} at {label}; {DISORDER_REMEDY}")


def _set_space_group(tags: dict[str, Any]) -> None:
    """Leave only what decides: the listed operations, or else the number and the setting of the space group."""
    names = [str(tags.pop(tag)) for tag in _GROUP_NAMES if tag in tags]
    numbers = [tags.pop(tag) for tag in _GROUP_NUMBERS if tag in tags]
    for tag in ("_symmetry_cell_setting", "_space_group_crystal_system"):
        tags.pop(tag, None)
    if any(tag in tags for tag in _OPERATIONS):
        tags.pop("_symmetry_space_group_setting", None)
        tags[_GROUP_NUMBERS[0]] = 1  # ASE wants a number, and takes the operations
        return
    name = next((name for name in names if name not in ("", "?", ".")), "")
    if any(tag.startswith("_space_group_symop_magn") for tag in tags):
        raise StructureError("has magnetic symmetry operations only; write it as a CIF with ordinary ones")
    if not name and not numbers:
        name = "P 1"  # as other programs take it; the formula tells if that is wrong
    plain = re.sub(r"\s*(:\s*[12HRSZ]|\s[HRSZ])\s*$", "", name)
    # a number means the standard setting, a symbol may mean another one (P 21/n for 14), so the symbol goes first
    number = _group_number(plain) if plain else next((int(number) for number in numbers if str(number).isdigit()), 0)
    if not number:
        raise StructureError(
            f"has no symmetry operations and the unknown space group {name!r}; list the operations in the file "
            "(_space_group_symop_operation_xyz)"
        )
    tags[_GROUP_NUMBERS[0]] = number
    if number in _RHOMBOHEDRAL:
        hexagonal = abs(float(tags.get("_cell_angle_gamma", 90)) - 120) < 0.5
        tags["_symmetry_space_group_setting"] = 1 if hexagonal else 2
    elif re.search(r"(:\s*[2Z]|\sZ)\s*$", name):
        tags["_symmetry_space_group_setting"] = 2


def _group_number(name: str) -> int:
    """Return the number of a space group from its Hermann-Mauguin symbol, however it is spaced; 0 if it is unknown."""
    return _group_numbers().get(re.sub(r"[\s_]", "", name), 0)


@functools.cache
def _group_numbers() -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number in range(1, 231):
        symbol = Spacegroup(number).symbol
        numbers[symbol.replace(" ", "")] = number
        if number in _MONOCLINIC:  # P21/c for P 1 21/c 1
            numbers["".join(word for word in symbol.split() if word != "1")] = number
        if number in _CUBIC:  # Fm3m for Fm-3m, as it was before 1983
            numbers[symbol.replace(" ", "").replace("-3", "3")] = number
    return numbers


def _check_symmetry(atoms: Atoms) -> None:
    """Raise if a symmetry operation does not map the lattice onto itself: the setting of the space group is wrong."""
    metric = atoms.cell.array @ atoms.cell.array.T
    for rotation in np.unique(atoms.info["spacegroup"].get_rotations(), axis=0):
        if np.abs(rotation.T @ metric @ rotation - metric).max() > 0.02 * metric.max():
            raise _RefusedError(
                "has a space group that does not fit its cell; list the symmetry operations in the file "
                "(_space_group_symop_operation_xyz)"
            )


def _check_shared_sites(tags: dict[str, Any], symbols: list[str], atoms: Atoms) -> None:
    """Raise if two elements are listed on one site, of which ASE keeps the first only."""
    columns = [tags.get(f"_atom_site_fract_{axis}") for axis in "xyz"]
    if any(column is None for column in columns):
        return
    listed: Floats = np.array(columns, dtype=np.float64).T
    scaled = atoms.get_scaled_positions(wrap=False)
    for site, symbol in zip(listed, symbols, strict=True):
        difference = scaled - site
        difference -= np.rint(difference)
        nearest = int(np.argmin(np.square(difference @ atoms.cell.array).sum(axis=1)))
        if atoms.symbols[nearest] != symbol:
            raise _RefusedError(f"{disorder({atoms.symbols[nearest]: 1.0, symbol: 1.0})}; {DISORDER_REMEDY}")


def _merge_rounded(atoms: Atoms) -> Atoms:
    """Return ``atoms`` without the copies of a site that differ from it by the rounding of its coordinates."""
    first, second, _ = close_pairs(atoms.positions, atoms.cell.array, _ROUNDING_DISTANCE)
    if not len(first):
        return atoms
    kinds = atoms.arrays["spacegroup_kinds"]
    same = (kinds[first] == kinds[second]) & (first != second)
    dropped = np.unique(np.maximum(first[same], second[same]))
    return atoms[np.setdiff1d(np.arange(len(atoms)), dropped)]

"""The 288 prototypes of the AFLOW encyclopedia (parts 1 and 2) that pymatgen carries, as our prototypes.

    >>> from ase_matprop.screening.spaces.aflow import get_aflow_prototype
    >>> get_aflow_prototype("A2BC4_cF56_227_d_a_e").name, get_aflow_prototype("Spinel").multiplicities
    ('A2BC4_cF56_227_d_a_e', {'A': 4, 'B': 2, 'C': 8})

A label reads: stoichiometry, Pearson symbol, space group, and the Wyckoff positions of each species.  The sublattices
are the species, A, B ... in alphabetical order of the elements of the representative, as AFLOW has them; so
A2B_tP6_136_f_a, rutile, has O on A and Ti on B.

Three structures have another space group in pymatgen's file than in their label, and are used as they are:
AB3_tI16_140_b_ah (U3Si, 123 with 4 atoms), AB_oP8_33_a_a (CoAs, 62 within 0.01 Angstrom), A2B_oC12_38_de_ab (VAu2, 63).

Sources: Mehl et al., Comput. Mater. Sci. 136, S1 (2017), DOI 10.1016/j.commatsci.2017.01.017; Hicks et al., Comput.
Mater. Sci. 161, S1 (2019), DOI 10.1016/j.commatsci.2018.10.043.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from ase_matprop.errors import UnknownNameError
from ase_matprop.structures.prototypes import Prototype, PrototypeLibrary, Sublattice

__all__ = ["aflow_prototypes", "get_aflow_prototype"]

#: names in the column of minerals that say nothing without the element
_NO_NAMES = {"alpha", "beta", "graphite", "clathrate", "i4/mcm"}

_LABEL = re.compile(r"(?P<species>[A-Za-z0-9]+)_(?P<pearson>[a-z][A-Z]\d+)_(?P<group>\d+)_(?P<positions>\w+)")


@functools.cache
def aflow_prototypes() -> PrototypeLibrary:
    """Return all of them, read once, in pymatgen's order.

    Each is named by its label, and where several have the same label by label and formula, "A_hR2_166_c:As".  Aliases
    are the name of the mineral and the Strukturbericht symbol where only one prototype has it.
    """
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    entries: list[tuple[dict[str, str], Any]] = [
        (item["tags"], item["snl"].structure) for item in AFLOW_PROTOTYPE_LIBRARY
    ]
    labels = Counter(tags["aflow"] for tags, _ in entries)
    aliases = [_aliases(tags) for tags, _ in entries]
    uses = Counter(alias.casefold() for own in aliases for alias in set(own))
    prototypes = []
    for (tags, structure), own in zip(entries, aliases, strict=True):
        formula = structure.composition.reduced_formula
        name = tags["aflow"] if labels[tags["aflow"]] == 1 else f"{tags['aflow']}:{formula}"
        unique = tuple(alias for alias in own if uses[alias.casefold()] == 1)
        prototypes.append(_prototype(name, unique, tags["aflow"], formula, structure))
    return PrototypeLibrary(prototypes)


def get_aflow_prototype(name: str) -> Prototype:
    """Return one by its label, the name of its mineral, or its Strukturbericht symbol.

    Raises:
        UnknownNameError: if there is none of this name, with close ones; or if it is the label of several, with these.
    """
    library = aflow_prototypes()
    if name in library:
        return library[name]
    several = [known for known in library if known.split(":")[0] == name]
    if several:
        raise UnknownNameError(f"several prototypes have the AFLOW label {name!r}; name one of {', '.join(several)}")
    known = [key for prototype in library.values() for key in (prototype.name, *prototype.aliases)]
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise UnknownNameError(f"unknown AFLOW prototype {name!r}.{hint} list(aflow_prototypes()) has all {len(library)}.")


def _aliases(tags: Mapping[str, str]) -> list[str]:
    """Return the names of the mineral and the Strukturbericht symbol as they would be written."""
    names = [part.strip() for part in tags["mineral"].split(",")] if "different elements" not in tags["mineral"] else []
    symbol = tags["strukturbericht"].replace("\\", "")
    if re.fullmatch(r"[A-L]'?\d*'?(_[0-9a-z]+)?", symbol):
        names.append(symbol)
    return [name for name in names if len(name) > 1 and name.casefold() not in _NO_NAMES and "\\" not in name]


def _prototype(name: str, aliases: tuple[str, ...], label: str, formula: str, structure: Any) -> Prototype:
    import spglib

    parts = _LABEL.fullmatch(label)
    assert parts is not None
    elements = sorted(element.symbol for element in structure.composition.elements)
    positions = parts["positions"].split("_")
    if len(positions) != len(elements):  # the sigma phase, with an element for each Wyckoff position
        positions = [""] * len(elements)
    letters = [chr(ord("A") + index) for index in range(len(elements))]
    species = np.array([elements.index(site.specie.symbol) for site in structure])
    cell = (structure.lattice.matrix, structure.frac_coords, species + 1)
    standard = spglib.standardize_cell(cell, to_primitive=False, no_idealize=True, symprec=1e-3)
    return Prototype(
        name=name,
        aliases=aliases,
        representative=formula,
        pearson=parts["pearson"],
        space_group=int(parts["group"]),
        source="AFLOW library of crystallographic prototypes, as pymatgen has it",
        sublattices=tuple(Sublattice(*entry) for entry in zip(letters, positions, elements, strict=True)),
        site_sublattices=tuple(letters[index] for index in species),
        _primitive=_atoms(elements, *cell),
        _conventional=_atoms(elements, *(cell if standard is None else standard)),
    )


def _atoms(elements: list[str], lattice: Any, scaled: Any, numbers: Any) -> Atoms:
    species = np.asarray(numbers, dtype=np.int64) - 1
    atoms = Atoms([elements[index] for index in species], cell=lattice, scaled_positions=np.mod(scaled, 1.0), pbc=True)
    atoms.set_array("sublattice", species)
    return atoms

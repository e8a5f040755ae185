"""The order of the elements in a formula."""

from __future__ import annotations

from ase.data import atomic_numbers, chemical_symbols

#: Table VI of the red book of IUPAC (2005), and germanium: from the least to the most electronegative
_NONMETALS = [
    "Rn", "Xe", "Kr", "Ar", "Ne", "He", "B", "Ge", "Si", "C", "Sb", "As", "P", "N", "H", "Te", "Se", "S", "Po", "At",
    "I", "Br", "Cl", "O", "F",
]  # fmt: skip
_METALS = sorted(set(chemical_symbols[1:]) - set(_NONMETALS))

#: atomic number -> place in a formula: metals by symbol, then the others
PLACE = {atomic_numbers[symbol]: place for place, symbol in enumerate([*_METALS, *_NONMETALS])}

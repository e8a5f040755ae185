"""Formulas as text: LiFeO2, CaAl2O4, SiO2."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

from ase.data import atomic_numbers, chemical_symbols

#: by Pauling's electronegativity, the least first; those without one, all beyond No, by atomic number
_METALS = [
    "Fr", "Cs", "K", "Rb", "Ba", "Ra", "Na", "Sr", "Li", "Ca", "La", "Tb", "Yb", "Ac", "Ce", "Pr", "Pm", "Nd", "Sm",
    "Eu", "Gd", "Y", "Dy", "Ho", "Er", "Tm", "Lu", "Pu", "Hf", "Th", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No",
    "Lr", "Mg", "Zr", "Sc", "Np", "U", "Ta", "Pa", "Ti", "Mn", "Be", "Nb", "Al", "Tl", "V", "Zn", "Cr", "Cd", "In",
    "Ga", "Fe", "Co", "Cu", "Tc", "Re", "Ni", "Ag", "Sn", "Hg", "Bi", "Mo", "Ru", "Pd", "Os", "Ir", "Rh", "Pt",
    "Pb", "W", "Au", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
]  # fmt: skip
#: Table VI of the red book of IUPAC (2005), and germanium: from the least to the most electronegative
_NONMETALS = [
    "Rn", "Xe", "Kr", "Ar", "Ne", "He", "B", "Ge", "Si", "C", "Sb", "As", "P", "N", "H", "Te", "Se", "S", "Po", "At",
    "I", "Br", "Cl", "O", "F",
]  # fmt: skip

#: atomic number -> place in a formula
_PLACE = {atomic_numbers[symbol]: place for place, symbol in enumerate([*_METALS, *_NONMETALS])}


def format_formula(amounts: Mapping[int, float]) -> str:
    """Return amounts as a formula with metals first: ``{8: 3, 26: 2}`` gives ``"Fe2O3"``.

    Whole amounts are written in full, others with six digits.
    """
    return "".join(
        [
            chemical_symbols[number] + _format_amount(amounts[number])
            for number in sorted(amounts, key=_PLACE.__getitem__)
        ]
    )


def reduced_formula(amounts: Mapping[int, float]) -> str:
    """Return the formula of the smallest whole amounts, metals first; broken ones are left as they are."""
    whole = all(amount % 1 == 0 for amount in amounts.values())
    divisor = gcd(*map(int, amounts.values())) if whole else 1
    return format_formula({number: amount / divisor for number, amount in amounts.items()})


def _format_amount(amount: float) -> str:
    text = f"{amount:.6g}" if amount % 1 else f"{amount:.15g}"
    return "" if text == "1" else text

"""Formulas as text: reading and writing; private part of :mod:`ase_matprop.compositions`.

pymatgen is not imported here: its parser takes five times as long, and its import a second.
"""

from __future__ import annotations

import math
import re

from ase.data import chemical_symbols

from ase_matprop.errors import CompositionError

Amounts = dict[int, float]

#: symbol -> atomic number; deuterium and tritium are hydrogen
ELEMENTS = {symbol: number for number, symbol in enumerate(chemical_symbols) if number} | {"D": 1, "T": 1}

_AMOUNT = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?"
#: an element or a bracket, with the amount behind it; the @ of an endohedral fullerene (Y3N@C80) counts as a space
_TERM = re.compile(rf"[\s@]*(?:([A-Z][a-z]*)|([(\[{{])|[)\]}}])\s*({_AMOUNT})?[\s@]*")
_LEADING_AMOUNT = re.compile(rf"\s*({_AMOUNT})")
#: what separates the parts of an adduct such as CuSO4·5H2O
_ADDUCT = re.compile("[·•⋅∙‧*]")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_LONGEST_SHOWN = 60


def parse_formula(formula: str) -> Amounts:
    """Return the amounts of the elements in a formula.

    Understood is what pymatgen understands (brackets of all kinds, broken amounts, spaces), and besides adducts
    (``CuSO4·5H2O``), a factor in front (``2NaCl``) and subscript digits.  Deuterium and tritium count as hydrogen; an
    element with the amount zero is left out.

    Args:
        formula: for example ``"Fe2O3"``, ``"Lu(MnGe)6"`` or ``"Ag0.48Mg0.52"``.

    Returns:
        Atomic number -> number of atoms in the formula unit, each positive.

    Raises:
        CompositionError: if the formula does not parse, has an unknown element or no element at all.
    """
    text = formula if formula.isascii() else formula.translate(_SUBSCRIPTS)
    if not text or text.isspace():
        raise CompositionError("the formula is empty; give one such as 'Fe2O3'")
    amounts: Amounts = {}
    try:
        for part in _ADDUCT.split(text):
            _add_part(part, amounts)
        return sound_amounts(amounts)
    except CompositionError as error:
        shown = formula if len(formula) <= _LONGEST_SHOWN else f"{formula[:_LONGEST_SHOWN]}..."
        raise CompositionError(f"{shown!r} is no formula: {error}; write it as in 'Fe2O3'") from None


def is_formula(text: str) -> bool:
    """Whether a text is a formula that :func:`parse_formula` understands."""
    try:
        parse_formula(text)
    except CompositionError:
        return False
    return True


def _add_part(text: str, amounts: Amounts) -> None:
    """Add the elements of a formula without adducts; a message says what is wrong with it, not with which formula."""
    position, factor = 0, 1.0
    if leading := _LEADING_AMOUNT.match(text):
        position, factor = leading.end(), float(leading[1])
    terms: list[tuple[int, float]] = []
    opened: list[int] = []  # for each open bracket the number of terms before it
    while position < len(text) or not terms:
        match = _TERM.match(text, position)
        if match is None:
            raise CompositionError(_unreadable(text[position:]))
        position = match.end()
        symbol, opening, digits = match.groups()
        amount = float(digits) if digits else 1.0
        if symbol:
            if symbol not in ELEMENTS:
                raise CompositionError(f"{symbol} is no element")
            terms.append((ELEMENTS[symbol], amount))
        elif opening:
            if digits:
                raise CompositionError(f"the amount {digits} stands behind an opening bracket")
            opened.append(len(terms))
        else:
            if not opened:
                raise CompositionError("a bracket is closed that was not opened")
            start = opened.pop()
            if start == len(terms):
                raise CompositionError("a bracket has nothing in it")
            terms[start:] = [(number, amount * inner) for number, inner in terms[start:]]
    if opened:
        raise CompositionError("a bracket is not closed")
    for number, amount in terms:
        amounts[number] = amounts.get(number, 0.0) + factor * amount


def _unreadable(rest: str) -> str:
    rest = rest.strip()
    if not rest:
        return "a part of it is missing"
    if rest[0] in "+-^":
        return "it has a sign, and charges have no place in it"
    if rest[0].islower():
        return f"{rest[:12]!r} does not begin with an element, which has a capital letter"
    return f"{rest[:12]!r} cannot be read"


def sound_amounts(amounts: Amounts) -> Amounts:
    """Return amounts, none of them negative, without those that are zero.

    Raises:
        CompositionError: if none is left, or they are too large to be added up.
    """
    if not math.isfinite(sum(amounts.values())):
        raise CompositionError("its amounts are too large")
    if not all(amounts.values()):
        amounts = {number: amount for number, amount in amounts.items() if amount}
    if not amounts:
        raise CompositionError("it has no element with a positive amount")
    return amounts

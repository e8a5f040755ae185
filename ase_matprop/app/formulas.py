"""Formulas that a person types."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ase_matprop.compositions import CompositionEntry, parse_formula
from ase_matprop.errors import CompositionError

#: characters of one formula; a longer text is something else
LONGEST = 200


def split_formulas(text: str) -> list[str]:
    """Return the formulas of a text, one on each line, or with commas or semicolons between them."""
    return [part.strip() for part in re.split(r"[\n,;]+", text) if part.strip()]


def formula_entry(text: str) -> CompositionEntry:
    """Return the entry of a formula.

    A text is never taken as the path of a file, as :func:`ase_matprop.compositions.composition_entries` would.
    """
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    if len(text) > LONGEST:
        return CompositionEntry(shown, None, f"has more than {LONGEST} characters; give a formula such as 'Fe2O3'")
    try:
        return CompositionEntry(shown, parse_formula(text), None)
    except (CompositionError, OverflowError, ValueError) as error:
        return CompositionEntry(shown, None, str(error))


def formula_entries(text: str, *, room: int) -> Iterator[CompositionEntry]:
    """Yield an entry for each formula of a text, up to ``room`` of them and one that says that others were left out."""
    for number, part in enumerate(split_formulas(text)):
        if number >= room:
            full = "and what follows it was left out: the session is full; clear it, or use matprop predict"
            yield CompositionEntry(part[:LONGEST], None, full)
            return
        yield formula_entry(part)

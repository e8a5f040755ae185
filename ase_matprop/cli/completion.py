"""What the shell offers at the tab key; nothing heavy is imported for it."""

from __future__ import annotations

from pathlib import Path

import ase_matprop


def model_names(incomplete: str) -> list[str]:
    """Return the shipped models for structures and formulas whose names start with what was typed, sorted.

    The names are those of folders: to read the cards would take longer than one waits for a tab.  Where none fits, the
    shell offers files and folders, as for any argument.
    """
    zoo = Path(ase_matprop.__file__).parent / "models" / "zoo"
    return sorted(card.parent.name for card in zoo.glob("*/card.json") if card.parent.name.startswith(incomplete))

"""Why rows cannot be used: many reasons in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SHOWN = 4
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


def grouped(rejected: Mapping[str, str], *, short: bool = False) -> str:
    """Return the reasons with how many rows each has, the most frequent one first.

    Reasons that differ in numbers only are one; its first row stands for it by name where there are several.

    Args:
        rejected: name -> reason.
        short: whether to leave out what each reason says to do.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, reason in rejected.items():
        text = reason.removeprefix(f"{name}: ").removeprefix(f"{name} ")
        text = re.split(r"; |\. ", text)[0] if short else text
        groups.setdefault(_NUMBER.sub("#", text.replace(name, "")), []).append((name, text))
    largest = sorted(groups.values(), key=len, reverse=True)
    parts = [
        f"{name}: {text}" if len(rows) == 1 else f"{len(rows)} rows such as {name}: {text}"
        for rows in largest[:_SHOWN]
        for name, text in rows[:1]
    ]
    if len(largest) > _SHOWN:
        n_rows = sum(map(len, largest[_SHOWN:]))
        parts.append(f"{n_rows} more row{'s' if n_rows > 1 else ''} for other reasons")
    return " | ".join(parts)


def used(n_used: int, rejected: Mapping[str, str]) -> str:
    """Return in one line how many rows are used, and why others are not."""
    n_rows = n_used + len(rejected)
    line = f"{n_used} of {n_rows} row{'s' if n_rows != 1 else ''} used"
    return f"{line}, {len(rejected)} rejected: {grouped(rejected, short=True)}" if rejected else line

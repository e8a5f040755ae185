"""Checks of extended XYZ before ASE reads it; private part of :mod:`ase_matprop.structures`.

ASE makes room for as many columns as a frame's ``Properties=`` announce, before it looks at a line of atoms: a file of
90 bytes could take all memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

from ase.io.extxyz import key_val_str_to_dict

from ase_matprop.errors import StructureError

_MOST = 99  # columns of one property


def checked_parser(atom_line: str) -> Callable[[str], dict[str, Any]]:
    """Return a parser of the comment line of a frame that takes no more columns than there are.

    It raises StructureError where a property has not 1 to 99 columns, or all of them more than the line has fields.

    Args:
        atom_line: the first atom of the frame; ``""`` where it has none.
    """

    def parse(comment: str) -> dict[str, Any]:
        found: dict[str, Any] = key_val_str_to_dict(comment)
        _check_columns(found.get("Properties"), len(atom_line.split()))
        return found

    return parse


def check_lines(lines: Iterable[str]) -> None:
    """Check all lines of a file that a parser might take for comment lines.

    Raises:
        StructureError: if one of them announces columns that are not there.
    """
    for line, following in pairwise(lines):
        if "=" in line:
            try:
                checked_parser(following)(line.strip())
            except StructureError:
                raise
            except Exception:  # not to be parsed: whoever reads the file says so
                continue


def _check_columns(properties: object, n_fields: int) -> None:
    if not isinstance(properties, str):
        return
    fields = properties.split(":")
    total = 0
    for name, count in zip(fields[::3], fields[2::3], strict=False):
        number = 0
        with suppress(ValueError):
            number = int(count)
        if not 1 <= number <= _MOST:
            raise StructureError(
                f"has a frame whose Properties give {name[:40]!r} {count[:20]!r} columns, not 1 to {_MOST}; "
                "correct its comment line"
            )
        total += number
    if total > n_fields > 0:
        raise StructureError(
            f"has a frame whose Properties have {total} columns, but its first atom has {n_fields}; "
            "correct its comment line"
        )

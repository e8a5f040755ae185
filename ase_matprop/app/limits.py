"""What the page takes, and no more: one table of limits."""

from __future__ import annotations

from dataclasses import dataclass, field

MB = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits of one session; sizes in bytes.

    Attributes:
        upload: one file as it is sent, an archive among them.
        largest: one file once it is unpacked, by the reader that takes it.
        expanded: everything that one archive unpacks to.
        ratio: how many times larger than its packed form a file of an archive may be; small files are free.
        members: number of files in an archive.
        directory: the table of contents of an archive.
        session: everything that a session has on disk.
        entries: structures and formulas of a session.
        atoms: atoms of one structure.
        sessions: sessions, which are tabs, at a time.
        idle: seconds without a sign of the page, which gives one each minute, after which a session is deleted.
        forgotten: the same, where there are too many sessions.
    """

    upload: int = 100 * MB
    largest: dict[str, int] = field(
        default_factory=lambda: {
            "poscar": 5 * MB,
            "cif": 5 * MB,
            "extxyz": 50 * MB,
            "vasprun": 100 * MB,
            "outcar": 100 * MB,
            "table": 5 * MB,
        }
    )
    expanded: int = 500 * MB
    ratio: int = 100
    members: int = 5_000
    directory: int = 2 * MB
    session: int = 1_000 * MB
    entries: int = 2_000
    atoms: int = 500
    sessions: int = 20
    idle: float = 3 * 3600.0
    forgotten: float = 900.0


def in_words(size: float) -> str:
    """Return a number of bytes as a person writes it: ``"2.5 MB"``."""
    for unit, factor in (("GB", 1_000 * MB), ("MB", MB), ("kB", 1_000)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"

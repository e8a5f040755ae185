"""What a person drops on the page: files into structures, each with a reason where it is refused.

Four readers of :mod:`ase_matprop.structures` are used, and no other: POSCAR, CIF, extxyz and vasprun.xml, all of which
are text.  Formats that hold objects of Python (ASE trajectories and databases, JSON) are refused by their names, before
a byte of them is read.  The files lie under numbers in the folder of the session, never under the names that they came
with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO

from ase_matprop.app.archives import PACKED, Archive, Member, UploadError, unpack_file
from ase_matprop.app.limits import Limits, in_words
from ase_matprop.structures import StructureEntry, iter_structures
from ase_matprop.structures.files import file_kind, looks_like_poscar

TAKEN = "POSCAR, CIF, extxyz and vasprun.xml (plain or .gz, .xz, .bz2), and zip files of these"

#: what a file is called on disk, by the reader that it is for
_ON_DISK = {"poscar": "{}.poscar", "cif": "{}.cif", "extxyz": "{}.extxyz", "vasprun": "vasprun_{}.xml"}
_REFUSED = {"traj": ".extxyz", "json": ".cif", "db": ".extxyz"}
_CHUNK = 1 << 16
_LONGEST_NAME = 120


@dataclass
class Shelf:
    """The folder of a session, in which files get numbers.

    Attributes:
        folder: the folder.
        limits: what may be in it.
        n_files: how many files there were so far.
        size: bytes of all of them.
    """

    folder: Path
    limits: Limits
    n_files: int = 0
    size: int = 0

    def place(self, pattern: str = "{}") -> Path:
        """Return the path of a new file, named after ``pattern`` with its number.

        Raises:
            UploadError: if the folder is full.
        """
        if self.size >= self.limits.session:
            raise UploadError(f"is too much: a session may have {in_words(self.limits.session)}; reload the page")
        self.n_files += 1
        return self.folder / pattern.format(self.n_files)

    def keep(self, path: Path) -> Path:
        """Count a file that was written."""
        self.size += path.stat().st_size
        return path


def receive(stream: IO[bytes], shelf: Shelf, *, announced: int | None = None) -> Path:
    """Write what a browser sends to a file of the session.

    Args:
        stream: the body of the request.
        shelf: where it goes.
        announced: its length in bytes, as the browser says.

    Raises:
        UploadError: if it is too large; nothing is left behind.
    """
    most = shelf.limits.upload
    if announced is not None and announced > most:
        raise UploadError(_too_large(announced, most))
    target = shelf.place("upload_{}")
    done = 0
    try:
        with target.open("wb") as file:
            while chunk := stream.read(_CHUNK):
                done += len(chunk)
                if done > most:
                    raise UploadError(_too_large(None, most))
                file.write(chunk)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def read_upload(path: Path, name: str, shelf: Shelf, *, room: int) -> list[StructureEntry]:
    """Return the structures of an uploaded file or archive; it is deleted afterwards.

    Args:
        path: the file, as :func:`receive` wrote it.
        name: what the browser calls it.
        shelf: where unpacked files go.
        room: how many structures there may be; one entry more says that the others were left out.

    Returns:
        At least one entry; a bad file or structure is an entry with the reason.
    """
    shown = display_name(name)
    try:
        if path.stat().st_size == 0:
            return [StructureEntry(shown, None, "is an empty file; write it again")]
        found = _of_archive(path, shown, shelf) if shown.lower().endswith(".zip") else _of_file(path, shown, shelf)
        entries = list(islice(found, max(room, 0) + 1))
    except UploadError as error:
        return [StructureEntry(shown, None, str(error))]
    finally:
        path.unlink(missing_ok=True)
    if len(entries) > room:
        most = shelf.limits.entries
        full = f"and what follows it was left out: a session takes {most} entries; use matprop predict for more"
        entries[max(room, 0) :] = [StructureEntry(shown, None, full)]
    return entries


def display_name(name: str) -> str:
    """Return the name of an upload as it is shown: one line of printable characters, not too long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name.replace("\\", "/")).strip("/ ")
    return (text if len(text) <= _LONGEST_NAME else f"...{text[-_LONGEST_NAME:]}") or "file without a name"


def reader_of(name: str) -> str | None:
    """Return the reader that the name of a file calls for: a key of the limits, ``""`` for one that tells nothing.

    Raises:
        UploadError: for a format that is not taken.
    """
    bare, _ = _split(name)
    kind = file_kind(Path(PurePosixPath(bare).name or "file"))
    if kind in _ON_DISK:
        return kind
    ending = PurePosixPath(bare).suffix.lower()
    if kind in _REFUSED:
        raise UploadError(f"is a {ending} file, which the page does not take; save it as {_REFUSED[kind]}")
    if kind is not None or (ending and ending != ".txt" and not ending[1:].isdigit()):
        raise UploadError(f"is a {ending} file; the page takes {TAKEN}")
    return ""


def _split(name: str) -> tuple[str, str]:
    ending = PurePosixPath(name).suffix.lower()
    return (name[: -len(ending)], ending) if ending in PACKED else (name, "")


def _too_large(size: int | None, most: int) -> str:
    has = f"has {in_words(size)}, and" if size is not None else "is too large:"
    return f"{has} the page takes {in_words(most)} at a time; use matprop predict for larger files"


def _of_archive(path: Path, shown: str, shelf: Shelf) -> Iterator[StructureEntry]:
    empty = True
    with Archive(path, shelf.limits) as archive:
        for member in archive.members():
            empty = False
            yield from _of_member(archive, member, f"{shown}/{display_name(member.name)}", shelf)
    if empty:
        raise UploadError("is an archive without files; pack it again")


def _of_member(archive: Archive, member: Member, shown: str, shelf: Shelf) -> Iterator[StructureEntry]:
    try:
        if member.fault is not None:
            raise UploadError(member.fault)
        reader_of(member.name)  # what is not taken is not unpacked
        plain = shelf.place("member_{}")
        archive.unpack(member, plain, shelf.limits.upload)
    except UploadError as error:
        yield StructureEntry(shown, None, str(error))
        return
    yield from _of_file(plain, shown, shelf)
    plain.unlink(missing_ok=True)


def _of_file(path: Path, shown: str, shelf: Shelf) -> Iterator[StructureEntry]:
    """Yield the structures of one file under the name that people know."""
    try:
        kind = reader_of(shown)
        ending = _split(shown)[1]
        if kind == "":
            kind = _sniffed(path, ending, shelf)
        assert kind is not None
        target = shelf.place(_ON_DISK[kind])
        largest = shelf.limits.largest[kind]
        if ending:
            unpack_file(path, target, ending, largest, shelf.limits.ratio)
        elif path.stat().st_size > largest:
            raise UploadError(f"is larger than {in_words(largest)}, the limit for such a file")
        else:
            target.write_bytes(path.read_bytes())
    except UploadError as error:
        yield StructureEntry(shown, None, str(error))
        return
    try:
        for entry in iter_structures(shelf.keep(target)):
            yield _checked(entry, shown, target, shelf.limits)
    finally:
        target.unlink(missing_ok=True)


def _sniffed(path: Path, ending: str, shelf: Shelf) -> str:
    """Return the reader of a file whose name tells nothing: VASP users name a POSCAR after its compound."""
    if ending or path.stat().st_size > shelf.limits.largest["poscar"] or not looks_like_poscar(path):
        raise UploadError(f"does not say what it is; the page takes {TAKEN}: name it so")
    return "poscar"


def _checked(entry: StructureEntry, shown: str, path: Path, limits: Limits) -> StructureEntry:
    """Return an entry under the name that people know, without atoms where there are too many."""
    frame = entry.name.removeprefix(str(path))
    name = shown + frame if frame.startswith("#") else shown
    if entry.atoms is not None and len(entry.atoms) > limits.atoms:
        many = (
            f"has {len(entry.atoms):,} atoms, and the page takes {limits.atoms}; use matprop predict for larger cells"
        )
        return StructureEntry(name, None, many)
    if entry.atoms is not None:
        entry.atoms.info["name"] = name
    return replace(entry, name=name)

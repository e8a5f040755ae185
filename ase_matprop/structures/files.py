"""Readers of structure files; private part of :mod:`ase_matprop.structures`.

A reader yields, frame by frame, what :func:`ase_matprop.structures.as_atoms` converts, or a StructureError in the place
of a frame that cannot be read.  Messages here do not name the file: the caller does.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import shutil
import sqlite3
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast
from xml.etree import ElementTree

from ase import Atoms
from ase.data import atomic_numbers
from ase.io import iread
from ase.io.extxyz import read_xyz
from ase.io.formats import UnknownFileTypeError, filetype
from ase.io.jsonio import decode
from ase.io.vasp import read_vasp

from ase_matprop.errors import StructureError
from ase_matprop.structures.cif import read_cif
from ase_matprop.structures.extxyz import checked_parser

COMPRESSIONS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
#: file name extensions, and the reader for each: a name of this module, or "ase:" and a format of ase.io
_EXTENSIONS = {
    ".poscar": "poscar",
    ".contcar": "poscar",
    ".vasp": "poscar",
    ".cif": "cif",
    ".mcif": "cif",
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".traj": "traj",
    ".json": "json",
    ".db": "db",
    ".cfg": "ase:cfg",
    ".res": "ase:res",
    ".xsf": "ase:xsf",
    ".gen": "ase:gen",
    ".xsd": "ase:xsd",
    ".pwi": "ase:espresso-in",
    ".pwo": "ase:espresso-out",
    ".abi": "ase:abinit-in",
    ".rmc6f": "ase:rmc6f",
}
#: endings that are never a structure, whatever the rest of the name
_NEVER = re.compile(
    r"(?i).*\.(md|rst|csv|tsv|log|py|ipynb|sh|png|jpg|pdf|svg|html|ya?ml|toml|ini|parquet|pkl|np[yz]|h5|hdf5|zip|tar|tgz|7z|"
    r"lock|bak|swp)"
)
#: files that stand beside structures in a folder of calculations
_COMPANIONS = re.compile(
    r"(?i)(INCAR|KPOINTS|POTCAR|OSZICAR|DOSCAR|EIGENVAL|PROCAR|IBZKPT|WAVECAR|CHG|CHGCAR|README|LICENSE)(\b|_).*"
)
#: formats of ase.io that are other than a file with structures, or that do more than read one
_REFUSED_FORMATS = {"bundletrajectory", "mysql", "postgresql", "db", "json", "py", "castep-cell"}
SUPPORTED = "POSCAR, CONTCAR, CIF, vasprun.xml, extxyz, ASE traj/json/db, pymatgen json"


class NoStructureError(StructureError):
    """The file is sound, but holds no structure."""


def file_kind(path: Path) -> str | None:
    """Return which reader the name of a file calls for, or None if its name does not say that it has structures."""
    bare = _split_compression(path)[0]
    name, extension = bare.name.lower(), bare.suffix.lower()
    if name.endswith("vasprun.xml") or (name.startswith("vasprun") and extension == ".xml"):
        return "vasprun"
    if extension in _EXTENSIONS:
        return None if name == "thumbs.db" else _EXTENSIONS[extension]
    if re.search(r"poscar|contcar", name) and not (_NEVER.fullmatch(name) or _COMPANIONS.fullmatch(name)):
        return "poscar"
    return None


def is_companion(path: Path) -> bool:
    """Return whether the name of a file says that it is something other than a structure."""
    name = _split_compression(path)[0].name
    if file_kind(path) is not None:
        return False
    return bool(_COMPANIONS.fullmatch(name) or _NEVER.fullmatch(name)) or name.lower().endswith(".txt")


def read_file(path: Path) -> Iterator[object]:
    """Yield the structures of a file in order, as objects to convert; a StructureError stands for one that is bad."""
    frames = _read(path)
    while True:
        try:
            # set and reset for each frame: the code that uses the frames has its own filters
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frame = next(frames)
        except StopIteration:
            return
        except StructureError as error:
            frame = error
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            frame = StructureError(_io_reason(path, error))
        except MemoryError:
            raise
        except Exception as error:  # whatever a parser trips over is about this file, not about the batch
            frame = StructureError(f"cannot be read ({_one_line(error)}); check the file, or write it again")
        yield frame


def _read(path: Path) -> Iterator[object]:
    if path.is_file() and path.stat().st_size == 0:
        raise StructureError("is an empty file; write it again")
    kind = file_kind(path) or "other"
    compression = _split_compression(path)[1]
    if kind in ("traj", "db", "other") or kind.startswith("ase:"):
        with _on_disk(path) as plain:
            if kind == "db":
                yield from _read_db(plain)
            elif kind == "other":
                yield from _read_other(plain)
            elif kind == "ase:cfg" and b"Number of particles" not in plain.read_bytes()[:4096]:
                raise NoStructureError("is no AtomEye configuration; check the file")
            else:
                yield from _iread(plain, kind.removeprefix("ase:"))
        return
    opener = COMPRESSIONS.get(compression, open)
    with opener(path, "rb") as stream:
        head = stream.peek(4096)[:4096]
        if not head.strip():
            raise StructureError("is an empty file; write it again")
        if b"\0" in head:
            raise StructureError("holds binary data instead of text; check the file, or save it as UTF-8 text")
        if kind == "extxyz":
            yield from _read_extxyz(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace"))
        elif kind == "vasprun":
            yield _read_vasprun(stream)
        else:
            text = stream.read().decode("utf-8-sig", errors="replace")
            reader = {"poscar": _read_poscar, "cif": _read_cif, "json": _read_json}[kind]
            yield from reader(text)


def _read_cif(text: str) -> Iterator[object]:
    empty = True
    for item in read_cif(text):
        empty = False
        yield item
    if empty:
        raise StructureError("has no CIF data block with atom sites; check that the file is a complete CIF")


def _read_poscar(text: str) -> Iterator[object]:
    lines = text.splitlines()
    if len(lines) < 8:
        raise StructureError(f"ends after {len(lines)} lines, a POSCAR has 8 or more; write the file again")
    names, counts_line = lines[5].split(), 6
    if names and names[0].isdigit():
        # VASP 4 has no line with species; ASE would search the comment for anything that looks like an element
        names, counts_line = lines[0].split(), 5
        if len(names) != len(_counts(lines[5])) or any(name not in atomic_numbers for name in names):
            raise StructureError("has no line with element symbols (VASP 4 format); add one above the numbers of atoms")
    symbols = [re.split(r"[_/.]", name)[0] for name in names]
    for name, symbol in zip(names, symbols, strict=True):
        if symbol not in atomic_numbers:
            raise StructureError(f"has {name!r} in its line of element symbols, which is no element; correct that line")
    counts = _counts(lines[counts_line])
    if len(counts) != len(symbols):
        raise StructureError(
            f"has {len(symbols)} element symbols but {len(counts)} numbers of atoms; correct lines 6 and 7 of the file"
        )
    start = counts_line + (3 if lines[counts_line + 1].strip()[:1].lower() == "s" else 2)
    found = len([line for line in lines[start : start + sum(counts)] if len(line.split()) >= 3])
    if found < sum(counts):
        raise StructureError(f"ends after {found} of {sum(counts)} atoms; write the file again")
    lines[5 if counts_line == 6 else 0] = " ".join(symbols)
    lines[counts_line] = " ".join(map(str, counts))
    # what follows the coordinates (velocities, the state of a molecular dynamics run) is not needed
    yield cast(Atoms, read_vasp(io.StringIO("\n".join(lines[: start + sum(counts)]) + "\n")))


def _counts(line: str) -> list[int]:
    counts = []
    for word in line.split():
        if not word.isdigit():
            break
        counts.append(int(word))
    return counts


def _read_vasprun(stream: IO[bytes]) -> Atoms:
    """Return the last ionic step."""
    symbols: list[str] = []
    cell: list[list[float]] = []
    scaled: list[list[float]] = []
    try:
        for _, element in ElementTree.iterparse(stream):
            if element.tag == "atominfo":
                symbols = [(row.findtext("c") or "").strip() for row in element.findall("array[@name='atoms']/set/rc")]
            elif element.tag == "structure":
                cell = [_numbers(row) for row in element.findall("crystal/varray[@name='basis']/v")]
                scaled = [_numbers(row) for row in element.findall("varray[@name='positions']/v")]
            elif element.tag in ("scstep", "calculation", "dos", "eigenvalues", "projected", "kpoints"):
                element.clear()  # these are nearly all of a large file
    except ElementTree.ParseError as error:
        raise StructureError(
            f"is no complete vasprun.xml ({error}); the run was interrupted or the copy is cut off: "
            "finish the run, or use its CONTCAR"
        ) from None
    if not symbols or len(scaled) != len(symbols) or len(cell) != 3:
        raise StructureError("has no structure of a VASP run; check that it is a vasprun.xml, or use the CONTCAR")
    legacy = {"r": "Zr", "X": "Xe"}  # as some versions of VASP write them
    return Atoms([legacy.get(symbol, symbol) for symbol in symbols], cell=cell, scaled_positions=scaled, pbc=True)


def _numbers(row: ElementTree.Element) -> list[float]:
    return [float(word) for word in (row.text or "").split()]


def _read_extxyz(stream: IO[str]) -> Iterator[object]:
    """Read frame by frame without seeking, so that a damaged frame costs no other and a file of any size will do."""
    line = stream.readline()
    while line:
        if not line.strip():
            line = stream.readline()
            continue
        try:
            count = int(line)
        except ValueError:
            raise StructureError(
                f"has {line.strip()[:40]!r} where a frame's number of atoms should be; check the lines before it"
            ) from None
        frame = [line, *islice(stream, min(max(count + 1, 0), sys.maxsize))]  # ends with the file, whatever the count
        if len(frame) < count + 2:
            raise StructureError(
                f"ends after {max(len(frame) - 2, 0)} of {count} atoms of a frame; write the file again"
            )
        line = stream.readline()
        while line.lstrip().startswith("VEC"):
            frame.append(line)
            line = stream.readline()
        try:
            parser = checked_parser(frame[2] if count > 0 else "")
            yield next(read_xyz(io.StringIO("".join(frame)), index=0, properties_parser=parser))
        except StructureError as error:
            yield error
        except Exception as error:
            yield StructureError(f"has a frame that cannot be read ({_one_line(error)}); correct or remove it")


def _read_json(text: str) -> Iterator[object]:
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StructureError(f"is no valid JSON ({_one_line(error)}); write the file again") from None
    if isinstance(data, dict) and "ids" in data and "nextid" in data:
        from ase.db.row import AtomsRow

        rows = decode(text)
        for number in rows["ids"]:
            yield AtomsRow({**rows[int(number)], "id": int(number)})
        return
    if "__ndarray__" in text or "__ase_objtype__" in text:
        data = decode(text, always_array=False)
    entries = data if isinstance(data, list) else [data]
    found = [list(_find_structures(entry)) for entry in entries]
    if not any(found):
        raise NoStructureError("is JSON without any structure; give pymatgen's Structure.to_json() or an ASE database")
    for index, structures in enumerate(found):
        # an entry of a list of structures that is none is bad, and not to be passed over
        yield from structures or [StructureError(f"has no structure in entry {index} (from 0); remove or correct it")]


def _find_structures(data: object) -> Iterator[object]:
    """Yield the structures at any depth of decoded JSON: bare, as values under identifiers, or in rows of a table."""
    if isinstance(data, Atoms):
        yield data
    elif isinstance(data, dict):
        if "sites" in data or {"numbers", "positions"} <= data.keys():
            yield data
        else:
            for value in data.values():
                yield from _find_structures(value)
    elif isinstance(data, list):
        for value in data:
            yield from _find_structures(value)


def _read_db(path: Path) -> Iterator[object]:
    # ASE would write its tables into any SQLite file that it opens, so look first
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            numbers = (
                [row[0] for row in connection.execute("SELECT id FROM systems ORDER BY id")]
                if "systems" in tables
                else None
            )
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StructureError(f"is no ASE database ({error}); check the file") from None
    if numbers is None:
        raise NoStructureError("is an SQLite file, but no ASE database; write one with ase.db.connect")
    if not numbers:
        raise NoStructureError("is an ASE database without rows; add structures to it")
    from ase.db import connect

    database = connect(str(path), type="db", use_lock_file=False, serial=True)
    for number in numbers:
        # row by row, so that no cursor stays open that would lock out a user who writes results to the same database
        yield database.get(id=number)


def _read_other(path: Path) -> Iterator[object]:
    kind = None
    if not (_NEVER.fullmatch(path.name) or _COMPANIONS.fullmatch(path.name)):
        with suppress(UnknownFileTypeError):
            kind = filetype(str(path), guess=False)
        if kind is None and looks_like_poscar(path):  # VASP users name them after the compound
            yield from _read_poscar(path.read_text(encoding="utf-8-sig", errors="replace"))
            return
    if kind is None or kind in _REFUSED_FORMATS:
        raise StructureError(f"is not a structure file that can be read; supported are {SUPPORTED}")
    yield from _iread(path, kind)


def looks_like_poscar(path: Path) -> bool:
    """Return whether the second line of a file is a number and the next three are vectors."""
    with path.open("rb") as stream:
        lines = [stream.readline(1000).split() for _ in range(5)]
    try:
        return [len([float(word) for word in line]) for line in lines[1:]] in ([1, 3, 3, 3], [3, 3, 3, 3])
    except ValueError:
        return False


def _iread(path: Path, kind: str) -> Iterator[Atoms]:
    # a calculation's output is about its last step; every frame of a trajectory counts
    index = "-1" if kind.endswith(("-out", "-output")) or kind == "castep-castep" else ":"
    yield from iread(str(path), index, format=kind, parallel=False, do_not_split_by_at_sign=True)


def _split_compression(path: Path) -> tuple[Path, str]:
    """Return the path without the ending for compression, and that ending in lower case."""
    ending = path.suffix.lower()
    return (path.with_suffix(""), ending) if ending in COMPRESSIONS else (path, "")


@contextmanager
def _on_disk(path: Path) -> Iterator[Path]:
    """Give the path of the decompressed file: the file itself, or a temporary copy with the same name."""
    bare, compression = _split_compression(path)
    if not compression:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ase_matprop_") as folder:
        plain = Path(folder) / bare.name
        opener = COMPRESSIONS[compression]
        with opener(path, "rb") as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target)
        if plain.stat().st_size == 0:
            raise StructureError("is an empty file; write it again")
        yield plain


def _io_reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be opened ({error.strerror}); check the path and its permissions"
    if _split_compression(path)[1]:
        return f"cannot be decompressed ({_one_line(error)}); the file is cut off or damaged, copy it again"
    return f"cannot be read ({_one_line(error)}); check the file, or write it again"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= 150 else f"{text[:147]}..."

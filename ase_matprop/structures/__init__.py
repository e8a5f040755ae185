"""Structures: the one place that reads, converts and checks them.

Whatever a user has (ASE ``Atoms``, pymatgen structures, their dictionaries, files, folders) becomes plain, fully
periodic ASE ``Atoms`` here, or an error that names the input and the remedy.  The layers above can rely on finite
coordinates, a cell of non-zero volume, real elements and no two atoms on one site.  Lengths are in Angstrom throughout.
"""

from __future__ import annotations

import difflib
import functools
import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from ase import Atoms

from ase_matprop.errors import StructureError, unknown_name
from ase_matprop.structures.checks import MINIMUM_DISTANCE, find_disorder, find_problem
from ase_matprop.structures.files import SUPPORTED, NoStructureError, file_kind, is_companion, read_file
from ase_matprop.structures.formula_text import format_formula
from ase_matprop.structures.objects import convert, is_single, label, path_name, unsupported

logger = logging.getLogger(__name__)

__all__ = [
    "MINIMUM_DISTANCE",
    "StructureEntry",
    "as_atoms",
    "check_atoms",
    "iter_structures",
    "one_entry_each",
    "read_structures",
]

#: the name of a missing file is compared with those of its folder, unless there are more than this
_MOST_NAMES = 20_000


@dataclass(frozen=True, eq=False)
class StructureEntry:
    """One structure of the input: either the atoms, or the reason why there are none.

    Attributes:
        name: path of the file, with ``#3`` for the fourth frame of a file with several; ``structure 3 (Fe4O6)`` for
            an object in a list, or its own name where ``atoms.info`` has one.
        atoms: the checked structure, or None.
        error: what is wrong and the remedy, in one line, or None.
    """

    name: str
    atoms: Atoms | None
    error: str | None

    @property
    def item(self) -> Atoms | None:
        """What a descriptor takes."""
        return self.atoms

    @property
    def formula(self) -> str:
        """The formula with metals first, empty where there is none."""
        return "" if self.atoms is None else _formula(self.atoms)

    @property
    def n_atoms(self) -> int:
        """Number of atoms, 0 where there is no structure."""
        return 0 if self.atoms is None else len(self.atoms)

    @property
    def elements(self) -> set[int]:
        """Atomic numbers of the elements."""
        return set() if self.atoms is None else set(self.atoms.numbers.tolist())


def as_atoms(obj: object, *, name: str | None = None) -> Atoms:
    """Return ``obj`` as new, plain, checked ASE Atoms.

    Args:
        obj: ASE ``Atoms`` or a row of an ASE database, a pymatgen ``Structure`` (or a subclass, or an entry with a
            ``structure``), the dictionary of either, or the path of a file with exactly one structure.  It is not
            changed.
        name: what to call the structure in messages and in ``info["name"]`` of the result.  Default: the path, or a
            name, ``material_id`` or ``label`` in the ``info`` of ``obj``.

    Returns:
        Atoms with numbers, float64 positions (Angstrom), cell (Angstrom) and ``pbc=True``.  ``info`` has at most the
        name; calculators, constraints, velocities and other arrays are left behind.  Oxidation states and spins are
        dropped; deuterium and tritium become hydrogen.

    Raises:
        StructureError: if ``obj`` is no structure, or one that :func:`check_atoms` refuses.
    """
    if isinstance(obj, (str, os.PathLike)) and obj != "":
        entry = _single_entry(obj)
        if entry.atoms is None:
            raise StructureError(f"{name or entry.name}: {entry.error}")
        if name is not None:
            entry.atoms.info["name"] = name
        return entry.atoms
    try:
        atoms = _checked(obj)
    except StructureError as error:
        raise StructureError(f"{name or label(obj) or 'structure'}: {error}") from None
    if name is not None:
        atoms.info["name"] = name
    return atoms


def check_atoms(atoms: Atoms, name: str = "structure") -> None:
    """Raise if ``atoms`` is not an ordered, three-dimensionally periodic crystal.

    Args:
        atoms: the structure, lengths in Angstrom.
        name: what to call it in the message.

    Raises:
        StructureError: for no atoms; a placeholder or unknown element; NaN or infinite numbers; no cell, or one of zero
            volume; a direction without periodicity; a disordered site; an atom closer than 0.3 Angstrom to another
            one or to its own periodic image.  The message names the structure and the remedy.
    """
    problem = find_disorder(atoms) or find_problem(atoms)
    if problem:
        raise StructureError(f"{name}: {problem}")


def iter_structures(inputs: object) -> Iterator[StructureEntry]:
    """Yield an entry for each structure of ``inputs``, reading file by file and frame by frame.

    Args:
        inputs: one or an iterable of: whatever :func:`as_atoms` takes; paths of files with any number of structures,
            plain or compressed (.gz, .xz, .bz2); glob patterns; folders, which are searched with all that is below
            them, in natural order (2 before 10).  Hidden files, and files whose names do not say that they hold
            structures, are passed over in folders; so are the known companions of a calculation and text files under a
            glob pattern.  Of a vasprun.xml and of other outputs of calculations the last step counts.

    Yields:
        Entries in the order of the inputs.  A bad file or structure is an entry with its ``error``; so is a path that
        does not exist, a pattern that matches nothing, and a folder without structures.

    Raises:
        StructureError: if ``inputs`` as a whole is not something that can hold structures.
    """
    for index, item in enumerate(_items(inputs)):
        if isinstance(item, str) and not item:
            yield StructureEntry("", None, "is an empty path; give a file, a folder ('.' for this one) or a pattern")
        elif isinstance(item, (str, os.PathLike)):
            yield from _read_path(_as_path(item))
        else:
            yield _object_entry(item, index)


def one_entry_each(inputs: object) -> Iterator[StructureEntry]:
    """Yield exactly one entry for each of ``inputs``.

    As :func:`iter_structures`, but a path must be that of a file with one structure: a folder, a pattern or a file with
    several is an entry with an error.  An entry is passed on as it is.

    Raises:
        StructureError: if ``inputs`` as a whole is not something that can hold structures.
    """
    for index, item in enumerate(_items(inputs)):
        if isinstance(item, StructureEntry):
            yield item
        elif isinstance(item, (str, os.PathLike)) and item != "":
            yield _single_entry(item)
        else:
            yield _object_entry(item, index)


@overload
def read_structures(inputs: object, *, on_error: Literal["raise"] = "raise") -> list[Atoms]: ...
@overload
def read_structures(inputs: object, *, on_error: Literal["collect"]) -> list[StructureEntry]: ...
def read_structures(
    inputs: object, *, on_error: Literal["raise", "collect"] = "raise"
) -> list[Atoms] | list[StructureEntry]:
    """Read all structures of ``inputs``.

    Args:
        inputs: objects, paths, glob patterns and folders, as for :func:`iter_structures`.
        on_error: ``"raise"`` to stop at the first bad structure, ``"collect"`` to get an entry for every one.

    Returns:
        The structures, or with ``"collect"`` a :class:`StructureEntry` for each, good or bad, in order.

    Raises:
        StructureError: with ``"raise"`` for the first bad file or structure.
        UnknownNameError: if ``on_error`` is neither of the two.
    """
    if on_error not in ("raise", "collect"):
        raise unknown_name("on_error setting", on_error, ("raise", "collect"))
    if on_error == "collect":
        return list(iter_structures(inputs))
    structures = []
    for entry in iter_structures(inputs):
        if entry.atoms is None:
            raise StructureError(f"{entry.name}: {entry.error}")
        structures.append(entry.atoms)
    return structures


def _items(inputs: object) -> Iterable[object]:
    """Return the single inputs of what a user gave as one or several."""
    if hasattr(inputs, "columns") and hasattr(inputs, "iloc"):
        raise StructureError("a DataFrame is not a list of structures; give its column, for example df['structure']")
    if is_single(inputs) or isinstance(inputs, StructureEntry):
        return [inputs]
    if not isinstance(inputs, Iterable):
        raise StructureError(unsupported(inputs))
    return inputs


def _checked(obj: object) -> Atoms:
    """Convert and check; the StructureError that this raises does not name the object."""
    try:
        atoms = convert(obj)
    except StructureError:
        raise
    except Exception as error:  # an object that only looks like a structure costs its own row in a batch
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StructureError(f"cannot be converted ({reason}); check this object") from error
    problem = find_problem(atoms)
    if problem:
        raise StructureError(problem)
    own = label(obj)
    if own is not None:
        atoms.info["name"] = own
    return atoms


def _formula(atoms: Atoms) -> str:
    """Return the formula with metals first, once for each composition."""
    return _formula_of(tuple(sorted(Counter(atoms.numbers.tolist()).items())))


@functools.lru_cache(maxsize=4096)
def _formula_of(counts: tuple[tuple[int, int], ...]) -> str:
    return format_formula(dict(counts))


def _object_entry(obj: object, index: int) -> StructureEntry:
    name = label(obj)
    try:
        atoms = _checked(obj)
    except StructureError as error:
        return StructureEntry(name or f"structure {index}", None, str(error))
    name = name or f"structure {index} ({_formula(atoms)})"
    atoms.info.setdefault("name", name)
    return StructureEntry(name, atoms, None)


def _single_entry(path: str | os.PathLike[str]) -> StructureEntry:
    """Return the entry of a file that must hold exactly one structure."""
    if _is_folder(_as_path(path)):
        return StructureEntry(path_name(path), None, f"is a folder; read it with read_structures({str(path)!r})")
    entries = _read_path(_as_path(path))
    entry, another = next(entries), next(entries, None)
    if another is not None:
        several = f"has several structures; read them with read_structures({str(path)!r})"
        return StructureEntry(path_name(path), None, several)
    return entry


def _frame_entry(frame: object, name: str) -> StructureEntry:
    if isinstance(frame, StructureError):
        return StructureEntry(name, None, str(frame))
    try:
        atoms = _checked(frame)
    except StructureError as error:
        return StructureEntry(name, None, str(error))
    atoms.info.setdefault("name", name)
    return StructureEntry(name, atoms, None)


def _as_path(path: str | os.PathLike[str]) -> Path:
    with suppress(RuntimeError):  # ~name of a user who does not exist
        return Path(path).expanduser()
    return Path(path)


def _is_folder(path: Path) -> bool:
    with suppress(OSError):  # a name that is too long, which may be the text of a file
        return path.is_dir()
    return False


def _read_path(path: Path) -> Iterator[StructureEntry]:
    """Yield the entries of a file, a folder or a glob pattern; at least one."""
    entries: Iterator[StructureEntry]
    if _is_folder(path):
        entries = _folder_entries(path, frozenset())
        nothing = f"is a folder without structure files; supported are {SUPPORTED}"
    elif os.path.lexists(path):
        entries, nothing = _file_entries(path, named=True), "has no structures; check the file"
    elif glob.has_magic(str(path)) and "\n" not in str(path):
        entries = _pattern_entries(str(path))
        nothing = "is a pattern that matches no structure file; check it, or give the folder"
    else:
        entries, nothing = iter(()), _missing(path)
    empty = True
    for entry in entries:
        empty = False
        yield entry
    if empty:
        yield StructureEntry(path_name(path), None, nothing)


def _folder_entries(folder: Path, above: frozenset[Path]) -> Iterator[StructureEntry]:
    """Read the structure files in and below a folder in natural order; links are followed, but not in circles."""
    real = folder.resolve()
    if real in above:
        return
    try:
        paths = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_natural)
    except OSError as error:
        yield StructureEntry(str(folder), None, f"cannot be opened ({error.strerror}); check the folder's permissions")
        return
    for path in paths:
        if path.is_dir():
            yield from _folder_entries(path, above | {real})
        elif file_kind(path) is not None:
            yield from _file_entries(path, named=False)
        elif not is_companion(path):
            logger.info("%s is passed over: its name does not say that it holds structures", path)


def _pattern_entries(pattern: str) -> Iterator[StructureEntry]:
    """Read the files that a glob pattern stands for, in natural order."""
    matches = (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207  takes absolute patterns
    for path in sorted(matches, key=_natural):
        if not path.is_dir():
            if not is_companion(path):
                yield from _file_entries(path, named=False)
        elif "**" not in pattern:  # which matches all that is in the folder by itself
            yield from _folder_entries(path, frozenset())


def _file_entries(path: Path, *, named: bool) -> Iterator[StructureEntry]:
    """Read one file.  One that the user did not name is passed over if it is sound but has no structure in it."""
    frames = (frame for frame in read_file(path) if named or not isinstance(frame, NoStructureError))
    index, frame, following = 0, next(frames, None), next(frames, None)
    while frame is not None:
        single = index == 0 and following is None
        yield _frame_entry(frame, path_name(path) if single else f"{path_name(path)}#{index}")
        index, frame, following = index + 1, following, next(frames, None)


def _natural(path: Path) -> list[list[tuple[int, int | str]]]:
    """Key that sorts POSCAR_2 before POSCAR_10."""
    return [
        [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name) if part]
        for name in path.parts
    ]


def _missing(path: Path) -> str:
    if "\n" in str(path):
        return "is the text of a file, not its path; write it to a file, or read it with ase.io or pymatgen"
    if not _is_folder(path.parent):
        return f"does not exist, nor does its folder {str(path.parent)!r}; check the path"
    names = [other.name for other in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, names, n=1) if len(names) <= _MOST_NAMES else []
    return (
        f"does not exist; did you mean {str(path.with_name(close[0]))!r}?"
        if close
        else "does not exist; check the path"
    )

"""Which files are VASP runs; private part of :mod:`ase_matprop.finetune.vasp`."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ase_matprop.errors import CalculationError

#: what pymatgen's zopen decompresses
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".lzma", ".z")
_VASPRUN = re.compile(r"(?is)(?P<before>.*?)vasprun(?P<middle>.*?)\.xml(?P<after>.*)")
_OUTCAR = re.compile(r"(?is)(?P<before>.*?)outcar(?P<after>.*)")
#: endings and names that are never an output of VASP
_NEVER = re.compile(
    r"(?i).*(\.(pyc?|json|png|pdf|svg|csv|tsv|md|html?|ya?ml|toml|txt|sh|bak|swp|lock|tar|tgz|zip)|~|#)"
)


@dataclass(frozen=True)
class RunFiles:
    """The files of one run.

    Attributes:
        files: vasprun.xml before OUTCAR, plain before compressed: the first that can be read counts.
    """

    files: tuple[Path, ...]

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("a run needs at least one file")


def find_runs(paths: object) -> list[RunFiles]:
    """Return the runs of folders (with all that is below them), files and glob patterns.

    The runs of a folder come in natural order (2 before 10), other inputs in their own.  A vasprun.xml and an OUTCAR of
    one name in one folder are one run: ``vasprun.xml`` and ``OUTCAR.gz``, ``vasprun.xml.relax1`` and ``OUTCAR.relax1``,
    ``ZrO2_vasprun.xml`` and ``ZrO2_OUTCAR``.

    Raises:
        CalculationError: if a path does not exist, an input holds no run, or an input is not a path.
    """
    runs: dict[tuple[str, ...], list[Path]] = {}
    for path in dict.fromkeys(path for item in _items(paths) for path in _files_of(item)):
        runs.setdefault(_key(path), []).append(path)
    if not runs:
        raise CalculationError("no folder and no file of VASP runs was given; give at least one")
    return [RunFiles(tuple(sorted(files, key=_preference))) for files in runs.values()]


def is_outcar(path: Path) -> bool:
    """Return whether a file is an OUTCAR by its name or, where the name does not tell, by its first bytes.

    Raises:
        OSError: if the file has to be opened and cannot be.
    """
    name = _bare_name(path)
    if _VASPRUN.fullmatch(name):
        return False
    if _OUTCAR.fullmatch(name):
        return True
    from monty.io import zopen

    with zopen(path, mode="rb") as stream:
        return b"<" not in stream.read(100)[:100].lstrip()[:1]


def _items(paths: object) -> Iterator[Path]:
    items: Iterable[object]
    if isinstance(paths, (str, os.PathLike)):
        items = [paths]
    elif isinstance(paths, Iterable):
        items = paths
    else:
        items = [paths]
    for item in items:
        if not isinstance(item, (str, os.PathLike)) or item == "":
            raise CalculationError(f"VASP runs are read from folders and files; got {item!r} instead of a path")
        yield Path(os.fspath(item)).expanduser()


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        found = list(_search(path, frozenset()))
        if not found:
            raise CalculationError(
                f"{path} is a folder without VASP runs; give a folder that has files vasprun.xml or OUTCAR (also .gz) "
                "in it or below it"
            )
        return found
    if os.path.lexists(path):
        return [path]
    if glob.has_magic(str(path)):
        names = glob.glob(str(path), recursive=True)  # noqa: PTH207  takes absolute patterns
        matches = sorted(map(Path, names), key=_natural)
        found = [file for match in matches for file in (_search(match, frozenset()) if match.is_dir() else [match])]
        found = [file for file in found if _looks_like_run(file)]
        if not found:
            raise CalculationError(f"the pattern {path} matches no VASP run; check it, or give the folder")
        return found
    raise CalculationError(f"{path} does not exist; check the path")


def _search(folder: Path, above: frozenset[Path]) -> Iterator[Path]:
    """Yield the outputs of VASP in and below a folder; links are followed, but not in circles; hidden ones are not."""
    real = folder.resolve()
    if real in above:
        return
    try:
        entries = sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=_natural)
    except OSError:
        yield folder  # whoever reads it finds the reason
        return
    for entry in entries:
        if entry.is_dir():
            yield from _search(entry, above | {real})
        elif _looks_like_run(entry):
            yield entry


def _looks_like_run(path: Path) -> bool:
    name = _bare_name(path)
    return not _NEVER.fullmatch(name) and bool(_VASPRUN.fullmatch(name) or _OUTCAR.fullmatch(name))


def _bare_name(path: Path) -> str:
    return path.stem if path.suffix.lower() in _COMPRESSIONS else path.name


def _key(path: Path) -> tuple[str, ...]:
    """Return what the files of one run have in common."""
    name, folder = _bare_name(path), os.fspath(path.parent)
    if match := _VASPRUN.fullmatch(name):
        return folder, match["before"].lower(), (match["middle"] + match["after"]).lower()
    if match := _OUTCAR.fullmatch(name):
        return folder, match["before"].lower(), match["after"].lower()
    return folder, name


def _preference(path: Path) -> tuple[bool, bool, str]:
    name = _bare_name(path)
    return bool(_OUTCAR.fullmatch(name)), name != path.name, path.name


def _natural(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part]

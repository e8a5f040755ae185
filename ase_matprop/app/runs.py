"""Calculations that a person uploads to fine-tune a model: unpacked into the folder of the session."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ase_matprop.app.archives import PACKED, Archive, UploadError, unpack_file
from ase_matprop.app.formulas import formula_entry
from ase_matprop.app.limits import in_words
from ase_matprop.app.reference_values import ValueTable
from ase_matprop.app.uploads import Shelf, display_name
from ase_matprop.errors import StructureError
from ase_matprop.structures.extxyz import check_lines

TAKEN = "vasprun.xml and OUTCAR files (plain or .gz, .xz, .bz2), zip files of run folders, one .extxyz or one .csv file"
_SHOWN = 20
_OF_VASP = re.compile(r"(?i)vasprun|outcar|\.xml")
_ENDING = re.compile(r"(?i)\.(xml|extxyz|xyz|csv)$")


@dataclass
class RunFiles:
    """What was uploaded.

    Attributes:
        folder: where it lies.
        runs: files of VASP, by the name that they came with.
        table: an extxyz or CSV file instead.
        passed_over: names of files that have no energies.
        refused: name -> reason.
    """

    folder: Path
    runs: dict[str, Path] = field(default_factory=dict)
    table: Path | None = None
    passed_over: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> list[str]:
        """What ``matprop finetune`` takes.

        Raises:
            UploadError: if there is nothing, or files of two kinds.
        """
        if self.table is not None and self.runs:
            raise UploadError(
                "VASP runs and a table cannot be learnt from together; clear the runs, and give one of them"
            )
        if self.table is not None:
            return [str(self.table)]
        if not self.runs:
            raise UploadError(f"there are no runs yet; give {TAKEN}")
        return [str(self.folder / "runs")]

    def summary(self) -> str:
        """Return in words what is there."""
        parts = [f"{len(self.runs)} files of VASP runs"] if self.runs else []
        parts += [f"the table {self.table.name}"] if self.table is not None else []
        parts += [f"{len(self.passed_over)} other files were left out"] if self.passed_over else []
        return "; ".join(parts) or "no runs yet"


def kind_of(name: str) -> str | None:
    """Return ``"vasprun"``, ``"outcar"``, ``"extxyz"`` or ``"table"`` by the name of a file, None for any other."""
    bare = PurePosixPath(name).name.lower()
    for ending in PACKED:
        bare = bare.removesuffix(ending)
    if bare.endswith((".extxyz", ".xyz")):
        return "extxyz"
    if bare.endswith(".csv"):
        return "table"
    if re.search(r"vasprun.*\.xml", bare):
        return "vasprun"
    return "outcar" if re.fullmatch(r".*outcar[\w.+-]*", bare) else None


def take(path: Path, name: str, shelf: Shelf, runs: RunFiles) -> None:
    """Add an upload to the runs; it is deleted afterwards, and what is wrong with it is noted there.

    Args:
        path: the file, as it was received.
        name: what the browser calls it, with its folders where it has some.
        shelf: the folder of the session and its limits.
        runs: gets the files.
    """
    shown = display_name(name)
    try:
        if path.stat().st_size == 0:
            raise UploadError("is an empty file; write it again")
        if shown.lower().endswith(".zip"):
            _take_archive(path, shown, shelf, runs)
        elif kind_of(shown) is None:
            raise UploadError(f"is nothing to learn from; the page takes {TAKEN}")
        else:
            _take_file(path, shown, shelf, runs)
    except UploadError as error:
        runs.refused[shown] = str(error)
    finally:
        path.unlink(missing_ok=True)


def _take_archive(path: Path, shown: str, shelf: Shelf, runs: RunFiles) -> None:
    found = False
    with Archive(path, shelf.limits) as archive:
        for member in archive.members():
            name = f"{shown}/{display_name(member.name)}"
            if member.fault is None and kind_of(member.name) is None:
                runs.passed_over.append(name)
                continue
            found = True
            try:
                plain = shelf.place("member_{}")
                try:
                    archive.unpack(member, plain, shelf.limits.upload)
                    _take_file(plain, display_name(member.name), shelf, runs)
                finally:
                    plain.unlink(missing_ok=True)
            except UploadError as error:
                runs.refused[name] = str(error)
    if not found:
        raise UploadError("has no vasprun.xml and no OUTCAR in it; pack the folders of the runs")


def _take_file(path: Path, name: str, shelf: Shelf, runs: RunFiles) -> None:
    kind = kind_of(name)
    assert kind is not None
    if kind in ("extxyz", "table") and runs.table is not None:
        raise UploadError("is a second table; clear the runs, or join the two")
    target = runs.folder / safe_path(name, top="runs" if kind in ("vasprun", "outcar") else "")
    largest = shelf.limits.largest[kind]
    try:
        if target.exists():
            raise UploadError("is there already; rename its folder, or clear the runs")
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(path, target, PurePosixPath(name).suffix.lower(), largest, shelf.limits.ratio)
        shelf.keep(target)
    except OSError as error:
        raise UploadError(f"cannot be stored ({error.strerror or error})") from None
    if kind in ("vasprun", "outcar"):
        runs.runs[name] = target
        return
    try:
        if kind == "table":
            check_table(target, largest)
        else:
            _check_extxyz(target)
    except UploadError:
        target.unlink()
        raise
    runs.table = target


def _write(path: Path, target: Path, ending: str, largest: int, ratio: int) -> None:
    if ending in PACKED:
        unpack_file(path, target, ending, largest, ratio)
    elif path.stat().st_size > largest:
        raise UploadError(f"is larger than {in_words(largest)}, the limit for such a file")
    else:
        try:
            target.write_bytes(path.read_bytes())
        except OSError:
            if target.is_file():
                target.unlink()
            raise


def _check_extxyz(path: Path) -> None:
    with path.open(encoding="utf-8", errors="replace") as lines:
        try:
            check_lines(lines)
        except StructureError as error:
            raise UploadError(str(error)) from None


def safe_path(name: str, *, top: str = "") -> Path:
    """Return a relative path for a file that came under ``name``: its folders, of harmless characters, below ``top``.

    No part is hidden, empty or leads upwards, and the ending of a packed file is gone.  A part that had other
    characters gets a number made from them, so that no two names become one.
    """
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "//", ".", "..")]
    last = parts.pop() if parts else "file"
    for ending in PACKED:
        if last.lower().endswith(ending):
            last = last[: -len(ending)]
    # both files of a run get the same number, and the ending of a file stays: they are known by these
    stem, suffix = (last[: match.start()], match[0]) if (match := _ENDING.search(last)) else (last, "")
    file = _safe_part(stem, numbered_by=_OF_VASP.sub("", stem)) + suffix
    return Path(top, *[_safe_part(part, numbered_by=part) for part in parts][-7:], file)


def _safe_part(part: str, *, numbered_by: str) -> str:
    clean = re.sub(r"[^A-Za-z0-9_.+-]", "_", part)[:80].lstrip(".")
    if clean and clean == part:
        return part
    return f"{clean or 'file'}-{hashlib.sha256(numbered_by.encode(errors='backslashreplace')).hexdigest()[:8]}"


def check_table(path: Path, largest: int) -> None:
    """Check that a CSV file is about formulas, none of which could be taken for the path of another file.

    Raises:
        UploadError: if it is not.
    """
    table = ValueTable.read(path, largest=largest)
    header = path.read_text(encoding="utf-8-sig").partition("\n")[0].lower()
    if not table.formulas or re.search(r"(^|[,;\t\"])\s*(structure|atoms)\s*($|[,;\t\"])", header.strip()):
        raise UploadError("must have a column 'formula' and none of structures; for structures, give an .extxyz file")
    for number, formula in enumerate(table.formulas, start=1):
        if (error := formula_entry(formula).error) is not None:
            raise UploadError(f"cannot be used: row {number}: {error}"[:300])

"""Rows of a laboratory's data as they are found: in VASP runs, databases, files, tables and lists."""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.errors import FinetuneError, MatPropError
from ase_matprop.finetune.vasp import VaspRun, VaspRuns
from ase_matprop.training.readers import TABLE_ENDINGS, XYZ_ENDINGS, read_extxyz

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

_STRUCTURE_COLUMNS = ("structure", "atoms")
_FORMULA_COLUMNS = ("formula", "composition")
_NAME_KEYS = ("name", "material_id", "id")


@dataclass(eq=False)
class Row:
    """One row as it was found.

    Attributes:
        name: where it came from; no two rows have the same.
        item: ASE ``Atoms``, or what stands in the column of structures or formulas.
        values: the numbers and texts that stand with it.
        energy: of the cell in eV, extrapolated to zero smearing where the calculation says so.
        free_energy: of the cell in eV, where the calculation gave it besides.
        forces: on the atoms in eV/Angstrom, shape (N, 3).
        run: the VASP run that it is a frame of.
    """

    name: str
    item: Any
    values: Mapping[str, Any]
    energy: float | None = None
    free_energy: float | None = None
    forces: Floats | None = None
    run: VaspRun | None = None


def is_vasp(data: Any) -> bool:
    """Whether ``data`` are paths, none of which names another kind of file.

    Raises:
        FinetuneError: if some do and some do not.
    """
    items = [data] if isinstance(data, (str, os.PathLike)) else data
    if not isinstance(items, (list, tuple)) or not items or not all(isinstance(i, (str, os.PathLike)) for i in items):
        return False
    others = [item for item in items if _kind(Path(item))]
    if others and len(others) < len(items):
        vasp = next(item for item in items if not _kind(Path(item)))
        raise FinetuneError(
            f"VASP runs ({vasp}) and other files ({others[0]}) cannot be read together; give one kind, or make one "
            "list of Atoms of both (read_vasp(...).frames has those of the runs)"
        )
    return not others


def _kind(path: Path) -> str | None:
    """Return ``db``, ``xyz`` or ``csv`` by the name of a file, None for others."""
    name = path.name.lower()
    for packed in (".xz", ".gz", ".bz2"):
        name = name.removesuffix(packed)
    if name.endswith((".db", ".json", ".aselmdb")):
        return "db"
    return "xyz" if name.endswith(XYZ_ENDINGS) else "csv" if name.endswith(TABLE_ENDINGS) else None


def rows_of(data: Any) -> tuple[list[Row], str]:
    """Return the rows of what is no VASP run, and what it is."""
    rows, source = _found(data)
    return _with_unique_names(rows), source


def _found(data: Any) -> tuple[list[Row], str]:
    if isinstance(data, (str, os.PathLike)):
        return _of_file(Path(data))
    if hasattr(data, "columns") and hasattr(data, "iterrows"):
        return _of_frame(data), "a table"
    if isinstance(data, Atoms):
        data = [data]
    if isinstance(data, Iterable) and not isinstance(data, Mapping):
        items = list(data)
        if all(isinstance(item, Atoms) for item in items):
            return [_of_atoms(atoms, f"structure {index}") for index, atoms in enumerate(items)], "a list of structures"
        if all(isinstance(item, (str, os.PathLike)) for item in items):
            parts = [_of_file(Path(item)) for item in items]
            return [row for rows, _ in parts for row in rows], " and ".join(source for _, source in parts)
    raise FinetuneError(
        "the data must be a folder of VASP runs, an ASE database, an extended XYZ or CSV file, a DataFrame or a list "
        f"of Atoms. Got {type(data).__name__}."
    )


def _of_file(path: Path) -> tuple[list[Row], str]:
    if not path.is_file():
        raise FinetuneError(f"{path} does not exist; give a folder of VASP runs or a file")
    kind = _kind(path)
    if kind == "csv":
        return _of_frame(_table(path), str(path)), path.name
    if kind == "db":
        return list(_of_database(path)), path.name
    return [_of_atoms(atoms, f"{path.name}#{index}") for index, atoms in enumerate(read_extxyz(path))], path.name


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        raise FinetuneError(f"{path} is empty; give a table with a header and a row for each structure") from None
    except UnicodeDecodeError as error:
        raise FinetuneError(f"{path} is not encoded in UTF-8 ({error}); save it as CSV in UTF-8") from None
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = " ".join(str(error).split())
        raise FinetuneError(f"{path} cannot be read as a CSV table ({reason}); correct it, or save it again") from None


def _of_database(path: Path) -> Iterator[Row]:
    from ase.db import connect

    try:
        with connect(path, use_lock_file=False) as database:
            for row in database.select():
                values = {**row.data, **row.key_value_pairs}
                atoms = row.toatoms()
                yield _of_atoms(atoms, f"{path.name}#{row.id}", values)
    except MatPropError:
        raise
    except Exception as error:  # databases raise all kinds
        raise FinetuneError(f"{path} cannot be read as an ASE database: {error}") from None


def rows_of_runs(runs: VaspRuns) -> list[Row]:
    """Return a row for each frame of the runs that can be used."""
    rows = [replace(_of_atoms(frame, run.path, {}), run=run) for run in runs.used for frame in run.frames]
    return _with_unique_names([replace(row, name=row.item.info.get("name", row.name)) for row in rows])


def _with_unique_names(rows: list[Row]) -> list[Row]:
    """Return the rows with a number added to the name of each whose name another row has before it."""
    taken: set[str] = set()
    found = []
    for index, row in enumerate(rows):
        name = row.name
        while name in taken:
            name = f"{name} ({index})"
        taken.add(name)
        found.append(replace(row, name=name))
    return found


def _of_atoms(atoms: Atoms, name: str, values: Mapping[str, Any] | None = None) -> Row:
    values = atoms.info if values is None else values
    results = getattr(atoms.calc, "results", {}) if atoms.calc is not None else {}
    given = next((str(values[key]) for key in _NAME_KEYS if isinstance(values.get(key), str)), name)
    forces = results.get("forces")
    return Row(
        given,
        atoms,
        values,
        energy=number(results.get("energy")),
        free_energy=number(results.get("free_energy")),
        forces=None if forces is None else np.asarray(forces, dtype=np.float64),
    )


def _of_frame(frame: pd.DataFrame, name: str = "the table") -> list[Row]:
    columns = [name for name in (*_STRUCTURE_COLUMNS, *_FORMULA_COLUMNS) if name in frame.columns]
    if not columns:
        raise FinetuneError(
            f"{name} needs a column named {' or '.join(map(repr, (*_STRUCTURE_COLUMNS, *_FORMULA_COLUMNS)))}; it has "
            f"{', '.join(map(repr, frame.columns)) or 'no columns'}"
        )
    label = next((name for name in _NAME_KEYS if name in frame.columns), None)
    return [
        Row(
            str(row[label]) if label else f"row {index}",
            row[columns[0]],
            {str(key): value for key, value in row.items()},
            number(row.get("energy")),
        )
        for index, row in frame.iterrows()
    ]


def number(value: Any) -> float | None:
    """Return a finite number, or None for what is none."""
    try:
        found = float(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def listed(values: Mapping[str, Any]) -> str:
    """Return the names of values for a message."""
    return ", ".join(map(repr, values)) or "none"

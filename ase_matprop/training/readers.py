"""Data files: structures with targets (extended XYZ) and formulas with targets (CSV)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.io import read

from ase_matprop.compositions import parse_formula
from ase_matprop.errors import CompositionError, RecipeError, StructureError
from ase_matprop.properties import get_property
from ase_matprop.structures import as_atoms
from ase_matprop.training.recipe import DataSection

_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
}
XYZ_ENDINGS = (".extxyz", ".xyz")
TABLE_ENDINGS = (".csv",)


@dataclass(frozen=True, eq=False)
class Record:
    """One row of a data file that can be used.

    Attributes:
        name: identifier.
        item: the structure, or the amounts of the elements (atomic number -> amount).
        targets: one number per property, NaN where the file has none; the number of a class.
    """

    name: str
    item: Atoms | Mapping[int, float]
    targets: tuple[float, ...]


def read_records(path: Path, data: DataSection) -> tuple[list[Record], dict[str, str]]:
    """Read a data file.

    Args:
        path: extended XYZ or CSV file, plain or compressed (.gz, .xz, .bz2).
        data: section ``[data]`` of the recipe, which says where the targets stand.

    Returns:
        The rows that have at least one target, and identifier -> reason for the others.

    Raises:
        RecipeError: if the file does not exist, cannot be read or lacks a column.
    """
    if not path.is_file():
        raise RecipeError(
            f"the data file {path} does not exist; give the folder of the data with --data-dir or MATPROP_DATA"
        )
    ending = Path(path.name.removesuffix(path.suffix)).suffix if path.suffix in _UNPACK else path.suffix
    if ending in TABLE_ENDINGS:
        return _read_table(path, data)
    if ending in XYZ_ENDINGS:
        return _read_structures(path, data)
    raise RecipeError(f"the data file {path} must end in {', '.join((*XYZ_ENDINGS, *TABLE_ENDINGS))}, or .gz behind it")


def read_extxyz(path: Path) -> list[Atoms]:
    """Read all structures of an extended XYZ file, plain or compressed, as they stand there.

    Raises:
        RecipeError: if the file cannot be read.
    """
    try:
        structures = read(io.StringIO(_text(path)), ":", format="extxyz")
    except Exception as error:  # parsers raise all kinds
        raise RecipeError(f"the data file {path} cannot be read as extended XYZ: {error}") from None
    return structures if isinstance(structures, list) else [structures]


def _text(path: Path) -> str:
    unpack = _UNPACK.get(path.suffix, bytes)
    return unpack(path.read_bytes()).decode()  # whole: ASE seeks, which is slow in a compressed stream


def _read_structures(path: Path, data: DataSection) -> tuple[list[Record], dict[str, str]]:
    records: list[Record] = []
    skipped: dict[str, str] = {}
    for index, atoms in enumerate(read_extxyz(path)):
        name = str(atoms.info.get(data.id_key, f"{path.name}#{index}"))
        targets = tuple(_target(atoms.info.get(column), name, data) for name, column in data.target_columns.items())
        if all(map(math.isnan, targets)):
            skipped[name] = f"no finite number {' or '.join(map(repr, data.target_columns.values()))}"
            continue
        try:
            records.append(Record(name, as_atoms(atoms, name=name), targets))
        except StructureError as error:
            skipped[name] = str(error)
    return records, skipped


def _read_table(path: Path, data: DataSection) -> tuple[list[Record], dict[str, str]]:
    try:
        frame = pd.read_csv(io.StringIO(_text(path)), dtype=str, keep_default_na=False)  # "NaN" is a formula
    except Exception as error:  # decompression and parser raise all kinds
        raise RecipeError(f"the data file {path} cannot be read as CSV: {error}") from None
    wanted = [data.formula_column, *data.target_columns.values()]
    if "id_key" in data.model_fields_set:
        wanted.append(data.id_key)
    missing = [name for name in wanted if name not in frame]
    if missing:
        raise RecipeError(
            f"the data file {path} has no column {missing[0]!r}; its columns are {', '.join(frame.columns)}"
        )
    formulas = frame[data.formula_column]
    names = frame.get(data.id_key, formulas)
    columns = [[_target(value, name, data) for value in frame[column]] for name, column in data.target_columns.items()]
    records: list[Record] = []
    skipped: dict[str, str] = {}
    for number, (name, formula, *targets) in enumerate(zip(names, formulas, *columns, strict=True), start=1):
        row = f"{name} (row {number})" if name else f"row {number}"
        if all(map(math.isnan, targets)):
            skipped[row] = f"no finite number {' or '.join(map(repr, data.target_columns.values()))}"
            continue
        try:
            records.append(Record(name, parse_formula(formula), tuple(targets)))
        except CompositionError as error:
            skipped[row] = str(error)
    return records, skipped


def _target(value: object, property_name: str, data: DataSection) -> float:
    """Return a target as a number, NaN if it is none; a class by its name or by the edges of the recipe."""
    classes = get_property(property_name).classes
    if classes and isinstance(value, str) and value in classes:
        return float(classes.index(value))
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan
    if not math.isfinite(number) or isinstance(value, bool | np.bool_):
        return math.nan
    if not classes:
        return number
    if data.class_edges:
        return float(sum(number > edge for edge in data.class_edges))
    return number if number in range(len(classes)) else math.nan  # without edges, a number is that of the class

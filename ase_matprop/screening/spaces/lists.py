"""Spaces that a user lists: formulas of a table, structures of files."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ase_matprop.compositions import Amounts, as_amounts, parse_formula
from ase_matprop.errors import CompositionError, MatPropError, StructureError
from ase_matprop.screening.arguments import positive
from ase_matprop.screening.spaces.base import FORMULAS_AT_ONCE, FormulaBlock, Space
from ase_matprop.screening.spaces.listed_files import (
    FileState,
    StructureFile,
    find_files,
    given_place,
    name_from,
    read_index,
)
from ase_matprop.screening.spaces.listed_tables import Table
from ase_matprop.structures import StructureEntry, iter_structures
from ase_matprop.structures.files import NoStructureError, read_file
from ase_matprop.structures.objects import path_name

#: a formula as text, or the amounts of a composition, or in a list the reason why there are none
_Cell = str | Amounts | list[str]


class FormulaList(Space):
    """Formulas in the order of a table or list; amounts need not be whole, and are kept as they are written.

    A row without a usable formula is a candidate that :meth:`blocks` passes over and :meth:`failures` names.  The
    file is read once when the space is made, to count its rows and elements and to find where the shards begin, and a
    shard of it when that shard is generated; it is never held in memory.

    Args:
        path_or_formulas: a CSV file (``.csv``, plain or compressed as .gz, .xz or .bz2) or a Parquet file; or formulas,
            and what else has a composition (:func:`ase_matprop.compositions.as_amounts`).
        column: the column with the formulas; by default the first that is there of ``formula``, ``composition``,
            ``reduced_formula`` and ``pretty_formula``, in any case.
        shard_size: number of rows of a shard.

    Raises:
        MatPropError: for a file that cannot be read or has no such column, and if no row has a usable formula.
        MissingDependencyError: for Parquet without pyarrow.
    """

    is_list = True
    needs_structure = False

    def __init__(
        self,
        path_or_formulas: str | os.PathLike[str] | Iterable[object],
        column: str | None = None,
        shard_size: int = 100_000,
    ) -> None:
        self._per_shard = positive("shard_size", shard_size)
        self._column = column
        self._table: Table | None = None
        self._cells: list[_Cell] = []
        if isinstance(path_or_formulas, (str, os.PathLike)):
            self._table = Table(path_or_formulas, column)
            self._name = self._table.shown
            self._state = FileState(self._table.path)
            self._hash = self._state.sha256
        else:
            self._cells = _listed(path_or_formulas)
            self._name = "formulas"
            self._hash = hashlib.sha256(json.dumps(self._cells).encode()).hexdigest()
        self._scan()

    def _scan(self) -> None:
        elements: set[int] = set()
        self._bookmarks: list[Any] = []
        self._n_failed: list[int] = []
        count, reason = 0, ""
        cells = enumerate(self._cells) if self._table is None else self._table.cells()
        for bookmark, cell in cells:
            if count % self._per_shard == 0:
                self._bookmarks.append(bookmark)
                self._n_failed.append(0)
            count += 1
            try:
                elements.update(_amounts(cell))
            except CompositionError as error:
                self._n_failed[-1] += 1
                reason = reason or f"row {count - 1}: {error}"
        if not count:
            raise MatPropError(f"{self._name} has no rows; add formulas to it")
        if sum(self._n_failed) == count:
            raise MatPropError(f"none of the {count} rows of {self._name} has a usable formula; {reason}")
        self.elements = frozenset(elements)
        self.n_candidates = count
        self.n_shards = len(self._bookmarks)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "formula list",
            "sha256": self._hash,
            "column": self._column,
            "n_candidates": self.n_candidates,
            "shard_size": self._per_shard,
        }

    def blocks(self, shard: int) -> Iterator[FormulaBlock]:
        compositions: list[Amounts] = []
        rows: list[int] = []
        first = shard * self._per_shard
        for row, result in self._rows(shard):
            if isinstance(result, dict):
                compositions.append(result)
                rows.append(row - first)
            if len(compositions) == FORMULAS_AT_ONCE:
                yield FormulaBlock.of(compositions, rows)
                compositions, rows = [], []
        if compositions:
            yield FormulaBlock.of(compositions, rows)

    def row_names(self, shard: int, rows: Sequence[int]) -> list[str]:
        """Return the names of rows (``table.csv#12``) by their numbers in a shard."""
        file = Path(self._name).name  # the same wherever the folder is
        return [f"{file}#{shard * self._per_shard + row}" for row in rows]

    def failed_formulas(self, shard: int) -> list[tuple[str, str]]:
        """Return name (``table.csv#12``, rows counted from 0) and reason of each row of a shard without a formula."""
        self.check_shard(shard)
        if not self._n_failed[shard]:
            return []
        return [(f"{self._name}#{row}", result) for row, result in self._rows(shard) if isinstance(result, str)]

    def _rows(self, shard: int) -> Iterator[tuple[int, Amounts | str]]:
        """Yield number and amounts, or the reason why there are none, of each row of a shard."""
        size, first = self.shard_size(shard), shard * self._per_shard
        if self._table is None:
            cells: Iterable[_Cell] = self._cells[first : first + size]
        else:
            if not self._state.is_same():
                raise MatPropError(f"{self._name} is gone or was changed since the start; put the file back")
            cells = (cell for _, cell in itertools.islice(self._table.cells(self._bookmarks[shard]), size))
        for row, cell in enumerate(cells, start=first):
            try:
                yield row, _amounts(cell)
            except CompositionError as error:
                yield row, str(error)


class StructureList(Space):
    """Structures of files, folders, glob patterns and ASE databases, in their order.

    All are read once when the space is made, to count structures and elements (of a ``.db`` file only its index), and a
    shard of them when that shard is generated.  A shard that begins within a file of many frames is reached by reading
    those before it: many structures are best kept in a ``.db`` file, of which any row is reached at once.

    Args:
        inputs: one or several paths or patterns, as for :func:`ase_matprop.structures.iter_structures`.  A structure is
            named as there; a row of a ``.db`` file ``file.db#id``.  Databases are only read.
        shard_size: number of structures of a shard.

    Raises:
        MatPropError: for a path that does not exist, a pattern or folder without a structure file, and if none of the
            structures can be read.
    """

    is_list = True
    needs_structure = True

    def __init__(
        self, inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], shard_size: int = 2000
    ) -> None:
        self._per_shard = positive("shard_size", shard_size)
        given = [inputs] if isinstance(inputs, (str, os.PathLike)) else _paths(inputs)
        if not given:
            raise MatPropError("the list of structures is empty; give files, folders or patterns")
        self._files: list[StructureFile] = []
        self._inputs: list[list[str]] = []
        self._reason = ""
        elements: set[int] = set()
        for item in given:
            before = len(self._files)
            for path, named in find_files(item):
                elements |= self._scan(path, named=named)
            if len(self._files) == before:
                nothing = next(iter_structures([item]))
                raise StructureError(f"{nothing.name}: {nothing.error}")
            base, given_name = given_place(item)  # no absolute path: a folder that is moved is the same space
            new = self._files[before:]
            contents = [[name_from(base, file.shown), file.state.size, file.state.sha256] for file in new]
            self._inputs.append([given_name, hashlib.sha256(json.dumps(contents).encode()).hexdigest()])
        if not elements:
            raise StructureError(f"none of the structures can be used; the first: {self._reason}")
        self._ends = np.cumsum([file.count for file in self._files], dtype=np.int64).tolist()
        self.elements = frozenset(elements)
        self.n_candidates = self._ends[-1]
        self.n_shards = -(-self.n_candidates // self._per_shard)

    def _scan(self, path: Path, *, named: bool) -> set[int]:
        """Take a file in, unless it has no structures and the user did not name it, and return its elements."""
        state, shown = FileState(path.absolute()), path_name(path)
        rows = read_index(state.path)
        if rows is not None:
            self._files.append(StructureFile(state, shown, rows[0], is_database=True))
            return rows[1]
        file = StructureFile(state, shown, 0, is_database=False)
        elements: set[int] = set()
        count = 0
        for entry in file.read():
            count += 1
            elements |= entry.elements
            if entry.error is not None:
                self._reason = self._reason or f"{entry.name}: {entry.error}"
        if named or elements or count > 1 or not isinstance(next(read_file(path), None), NoStructureError):
            self._files.append(replace(file, count=count))
        return elements

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "structure list",
            "inputs": self._inputs,
            "n_candidates": self.n_candidates,
            "shard_size": self._per_shard,
        }

    def entries(self, shard: int) -> Iterator[StructureEntry]:
        size, first = self.shard_size(shard), shard * self._per_shard
        last = first + size
        index = bisect.bisect_right(self._ends, first)
        while first < last:
            file, begin = self._files[index], self._ends[index] - self._files[index].count
            stop = min(last, self._ends[index])
            yield from file.entries(first - begin, stop - begin)
            first, index = stop, index + 1


def _amounts(cell: _Cell) -> Amounts:
    """Return the amounts of a cell.

    Raises:
        CompositionError: if it has no formula.
    """
    if isinstance(cell, str):
        return parse_formula(cell)
    if isinstance(cell, dict):
        return cell
    raise CompositionError(cell[0])


def _listed(formulas: object) -> list[_Cell]:
    """Return formulas as they came, other compositions as amounts, what has none as the reason."""
    if isinstance(formulas, (bytes, Mapping)) or hasattr(formulas, "columns") or not isinstance(formulas, Iterable):
        raise MatPropError(
            f"the formulas must be the path of a table or a list of formulas, and not of type {type(formulas).__name__}"
        )
    return [str(item) if isinstance(item, str) else _listed_object(item) for item in formulas]


def _listed_object(item: object) -> _Cell:
    try:
        return dict(sorted(as_amounts(item).items()))
    except CompositionError as error:
        return [str(error)]


def _paths(inputs: object) -> list[str | os.PathLike[str]]:
    several = isinstance(inputs, Iterable) and not isinstance(inputs, (bytes, Mapping))
    items: list[Any] = list(inputs) if several else [inputs]  # type: ignore[call-overload]
    for item in items:
        if not isinstance(item, (str, os.PathLike)):
            raise MatPropError(
                f"the structures of a space must be files, folders or patterns, and not of type {type(item).__name__}; "
                "write them to a file first, for example with ase.io.write('structures.extxyz', ...)"
            )
    return items

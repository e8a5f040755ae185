"""What a screening run left on disk: counts, and the best of the kept candidates, without holding all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase_matprop.errors import MatPropError, missing_dependency, unknown_name
from ase_matprop.properties import PROPERTIES
from ase_matprop.screening.parts import HULL_COLUMN, SHARDS_FOLDER, Parts
from ase_matprop.screening.selection import SystemPattern, selection
from ase_matprop.screening.summary import Summary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "HULL_COLUMN", "RUN_FILE", "SHARDS_FOLDER", "Results", "SystemPattern"]

RUN_FILE = "run.json"

#: columns of a part besides that of the predicted property
COLUMNS = (
    "formula", "system", "n_elements", "name", "spread", "distance", "warning", HULL_COLUMN, "decomposition", "shard",
    "row",
)  # fmt: skip

_ROWS_GROUPED = 1_000_000
_PARTS_READ_FIRST = 8  # and then twice as many each time


class Results:
    """The results folder of a screening run, finished or not: what is there when it is opened.

    Args:
        folder: the folder, with ``run.json`` and ``shards/part-<number>.parquet``.

    Attributes:
        folder: the folder.
        run: what ``run.json`` says of the run.
        n_shards: shards of the run.

    Raises:
        MatPropError: if the folder has no screening run, or ``run.json`` cannot be read.
        MissingDependencyError: without pyarrow.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise missing_dependency("pyarrow", "reading the results of a screening", extra="screening") from None
        self.folder = Path(folder)
        self.run = read_run(self.folder)
        self.n_shards: int = self.run["n_shards"]
        self._parts = Parts(self.folder / SHARDS_FOLDER, self.n_shards, self.run.get("fingerprint"))

    @cached_property
    def property(self) -> str:
        """The column with the predicted property."""
        own = [name for name in self._parts.schema.names if name not in COLUMNS]
        return own[0] if own else "formation_energy_per_atom"

    @cached_property
    def units(self) -> dict[str, str]:
        """Units of the columns that have one, by name: that of the property as ``run.json`` has it."""
        model = self.run.get("model")
        unit = model.get("unit") if isinstance(model, dict) else None
        if not isinstance(unit, str):
            unit = PROPERTIES[self.property].unit if self.property in PROPERTIES else ""
        units = {self.property: unit, "spread": unit, HULL_COLUMN: "eV/atom"}
        return {name: unit for name, unit in units.items() if unit and name in self.columns}

    @cached_property
    def has_hull(self) -> bool:
        """Whether the candidates have hull distances."""
        return self.summary().hull_histogram is not None and HULL_COLUMN in self._parts.schema.names

    @cached_property
    def highest_is_best(self) -> bool:
        """Whether the run kept what is above a minimum of the property, and nothing was said of a maximum."""
        keep = self.run.get("keep")
        return isinstance(keep, dict) and keep.get("minimum") is not None and keep.get("maximum") is None

    @cached_property
    def columns(self) -> list[str]:
        """Columns of the tables."""
        return list(self._parts.schema.names)

    def summary(self) -> Summary:
        """Return the counts over all shards that are there; no candidate is read for these.

        Raises:
            MatPropError: if a part file is broken.
        """
        return self._parts.summary

    def top(
        self,
        n: int = 50,
        system: str | Iterable[str] | None = None,
        by: str | None = None,
        *,
        highest_first: bool | None = None,
        min_elements: int | None = None,
        max_elements: int | None = None,
        without: Iterable[str] = (),
    ) -> pd.DataFrame:
        """Return the best candidates of all shards, the best one first.

        Rows that are equal in the column are ordered by formula, then by shard and row, so that the table does not
        depend on how the run was divided among processes.  Rows without a value in that column are left out.

        Args:
            n: how many rows at most.
            system: a pattern such as ``"Li-*-O"`` (:meth:`SystemPattern.parse`), or several, any of which may fit.
            by: column with numbers to order by; the hull distance, without a hull the predicted property.
            highest_first: whether to order from the highest value down; by default so for the predicted property where
                the run kept what is above a minimum, and not also below a maximum.
            min_elements: least number of elements of a candidate.
            max_elements: greatest number of elements of a candidate.
            without: symbols of elements that candidates must not have.

        Returns:
            A table with the :attr:`columns` of the run; energies in the unit of the model, hull distances in eV/atom.

        Raises:
            UnknownNameError: if there is no such column.
            MatPropError: if an option cannot be used, or a part file is broken.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if n < 1:
            raise MatPropError(f"the number of candidates must be at least 1, not {n}")
        by = by or (HULL_COLUMN if self.has_hull else self.property)
        self._check_numbers(by)
        if highest_first is None:
            highest_first = by == self.property and self.highest_is_best
        chosen = selection(system, min_elements, max_elements, without)
        order = [(by, "descending" if highest_first else "ascending")]
        order += [(name, "ascending") for name in ("formula", "shard", "row")]
        keys = list(dict.fromkeys([by, "formula", "shard", "row"]))
        best = pa.table({name: pa.array([], self._parts.schema.field(name).type) for name in keys})
        condition = chosen & pc.is_finite(pc.field(by))
        waiting, n_read = self._parts.by_best(by, highest_first), _PARTS_READ_FIRST
        while waiting:
            if len(best) == n:  # parts and row groups without a better value are not read
                worst = best[by][-1].as_py()
                waiting = [(value, path) for value, path in waiting if not _is_worse(value, worst, highest_first)]
                condition = chosen & (pc.field(by) >= worst if highest_first else pc.field(by) <= worst)
                condition &= pc.is_finite(pc.field(by))
            paths, waiting = [path for _, path in waiting[:n_read]], waiting[n_read:]
            for batch in self._parts.batches(paths, keys, condition):
                both = pa.concat_tables([best, pa.Table.from_batches([batch]).cast(best.schema)])
                best = both.take(pc.select_k_unstable(both, min(n, len(both)), sort_keys=order))
            n_read *= 2
        return self._rows(best)

    def to_frame(self, system: str | Iterable[str] | None = None, **options: Any) -> pd.DataFrame:
        """Return all kept candidates in the order of shard and row; for many of them see :meth:`iter_frames`.

        Args:
            system: as for :meth:`top`.
            **options: ``min_elements``, ``max_elements`` and ``without``, as for :meth:`top`.
        """
        import pandas as pd

        frames = [frame for frame in self.iter_frames(system, **options) if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else self._empty()

    def iter_frames(self, system: str | Iterable[str] | None = None, **options: Any) -> Iterator[pd.DataFrame]:
        """Yield the kept candidates of one shard after the other; arguments as for :meth:`to_frame`."""
        import pyarrow as pa

        condition = selection(system, **options)
        for path in self._parts.with_rows:
            batches = list(self._parts.batches([path], self.columns, condition))
            yield _frame(pa.Table.from_batches(batches, self._parts.schema).sort_by("row"))

    def systems(self, system: str | Iterable[str] | None = None, **options: Any) -> pd.DataFrame:
        """Return the chemical systems of the kept candidates, the most frequent first.

        Args:
            system: as for :meth:`top`.
            **options: ``min_elements``, ``max_elements`` and ``without``, as for :meth:`top`.

        Returns:
            A table with the columns system, n_elements, n_kept and the lowest value of the hull distance, or without a
            hull of the predicted property, or the highest where :attr:`highest_is_best`.
        """
        return self.first_systems(None, system, **options)[0]

    def first_systems(
        self, n: int | None, system: str | Iterable[str] | None = None, **options: Any
    ) -> tuple[pd.DataFrame, int]:
        """Return the first rows of :meth:`systems`, and how many there are; only these rows become a DataFrame."""
        import pyarrow.compute as pc

        total = self._systems(system, **options)
        order = [("n_kept", "descending"), ("system", "ascending")]
        if n is None or n >= len(total):
            return _frame(total.sort_by(order)), len(total)
        return _frame(total.take(pc.select_k_unstable(total, n, sort_keys=order))), len(total)

    def n_systems(self, system: str | Iterable[str] | None = None, **options: Any) -> int:
        """Return in how many chemical systems there are kept candidates; arguments as for :meth:`systems`."""
        return len(self._systems(system, **options))

    def _systems(self, system: str | Iterable[str] | None, **options: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        value = HULL_COLUMN if self.has_hull else self.property
        best = "max" if value == self.property and self.highest_is_best else "min"
        kinds = {"system": pa.string(), "n_elements": pa.int64(), "n_kept": pa.int64(), value: pa.float64()}
        waiting = [pa.schema(kinds).empty_table()]
        columns, n_waiting = ["system", "n_elements", value], 0
        for batch in self._parts.batches(self._parts.with_rows, columns, selection(system, **options)):
            values = batch[value].cast(pa.float64())
            rows = {
                "system": batch["system"], "n_elements": batch["n_elements"].cast(pa.int64()),
                "n_kept": pa.repeat(1, len(batch)), value: pc.if_else(pc.is_finite(values), values, None),
            }  # fmt: skip
            waiting.append(pa.table(rows))
            n_waiting += len(batch)
            if n_waiting > max(_ROWS_GROUPED, len(waiting[0])):
                waiting, n_waiting = [_grouped(waiting, best)], 0
        return _grouped(waiting, best)

    def _check_numbers(self, by: str) -> None:
        import pyarrow as pa

        if by not in self._parts.schema.names:
            raise unknown_name("column of the results", by, self.columns)
        kind = self._parts.schema.field(by).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise MatPropError(f"the column {by!r} has no numbers to order candidates by; take {self.property!r}")

    def _rows(self, keys: Any) -> pd.DataFrame:
        """Return whole rows by the shard and row in a table, in its order."""
        import pyarrow as pa
        import pyarrow.compute as pc

        place = {
            pair: n for n, pair in enumerate(zip(*(keys[key].to_pylist() for key in ("shard", "row")), strict=True))
        }
        by_shard: dict[int, list[int]] = {}
        for shard, row in place:
            by_shard.setdefault(shard, []).append(row)
        found: list[Any] = []
        for shard, chosen in sorted(by_shard.items()):
            rows = pa.array(chosen, self._parts.schema.field("row").type)
            found += self._parts.batches([self._parts.paths[shard]], self.columns, pc.field("row").isin(rows))
        table = pa.Table.from_batches(found, self._parts.schema)
        pairs = zip(*(table[key].to_pylist() for key in ("shard", "row")), strict=True)
        order = sorted((place[pair], n) for n, pair in enumerate(pairs))
        return _frame(table.take(pa.array([n for _, n in order], pa.int64())))

    def _empty(self) -> pd.DataFrame:
        return _frame(self._parts.schema.empty_table())


def _is_worse(value: float, worst: float, highest_first: bool) -> bool:
    return value < worst if highest_first else value > worst


def _grouped(tables: list[Any], best: str) -> Any:
    """Add up the rows of each system: its number of rows, and the best value ("min" or "max") of the last column."""
    import pyarrow as pa

    columns = tables[0].column_names
    groups = pa.concat_tables(tables).group_by(columns[:2])
    return groups.aggregate([(columns[2], "sum"), (columns[3], best)]).rename_columns(columns)


def _frame(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def read_run(folder: Path) -> dict[str, Any]:
    """Return what ``run.json`` says of the run in a folder.

    Raises:
        MatPropError: if the folder has no screening run, or the file cannot be read.
    """
    path = folder / RUN_FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        state = f"has no {RUN_FILE}" if folder.is_dir() else "is not there"
        raise MatPropError(
            f"the folder {folder} {state}; give the folder with the results of a screening (its output)"
        ) from None
    except (OSError, ValueError) as error:
        raise MatPropError(f"{path} cannot be read ({error}); give the folder of another run") from None
    n_shards = run.get("n_shards") if isinstance(run, dict) else None
    if type(n_shards) is not int or n_shards < 1:
        raise MatPropError(f"{path} does not say how many shards the run has; it is not that of a screening")
    return dict(run)

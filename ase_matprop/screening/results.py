"""What a screening run left on disk: counts, and the best of the kept candidates, without holding all of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase_matprop.compositions.formulas import ELEMENTS
from ase_matprop.errors import MatPropError, missing_dependency, unknown_name
from ase_matprop.screening.summary import Summary, broken, read_footer, sum_up

if TYPE_CHECKING:
    import pandas as pd

RUN_FILE = "run.json"
SHARDS_FOLDER = "shards"
HULL_COLUMN = "e_above_hull"

#: columns of a part besides that of the predicted property
COLUMNS = (
    "formula", "system", "n_elements", "name", "spread", "distance", "warning", HULL_COLUMN, "decomposition", "shard",
    "row",
)  # fmt: skip

_ROWS_GROUPED = 1_000_000
_PART = re.compile(r"part-(\d+)\.parquet")


@dataclass(frozen=True)
class SystemPattern:
    """Which chemical systems are meant.

    Attributes:
        elements: symbols that a system must have.
        n_others: how many other elements it must have besides.
        more: whether it may have more than these.
    """

    elements: frozenset[str]
    n_others: int = 0
    more: bool = False

    @classmethod
    def parse(cls, text: str) -> SystemPattern:
        """Read a pattern: symbols and wildcards, separated by ``-``, in any order.

        ``*`` stands for exactly one other element and ``**`` for any number of other elements, none included:
        ``Fe-O`` are the binaries of Fe and O, ``Li-*-O`` all ternaries with Li and O, ``Li-O-**`` everything that has
        Li and O, ``Li-O-*-**`` the same without the Li-O binaries, and ``*-*`` all binaries.

        Raises:
            MatPropError: for a symbol that is no element, or one that is there twice.
        """
        parts = [part.strip() for part in text.split("-")]
        symbols = [part for part in parts if part not in ("*", "**")]
        for symbol in symbols:
            if symbol not in ELEMENTS or symbol in ("D", "T"):
                right = symbol.capitalize()
                hint = f" (did you mean {right}?)" if right in ELEMENTS else ""
                raise MatPropError(
                    f"the system {text!r} has {symbol!r}, which is no element{hint}; write it as in Li-*-O"
                )
        if len(set(symbols)) < len(symbols):
            raise MatPropError(f"the system {text!r} names an element twice; name each once, as in Li-*-O")
        return cls(frozenset(symbols), parts.count("*"), "**" in parts)

    def expression(self) -> Any:
        """Return the condition on the columns of a part, for pyarrow."""
        import pyarrow.compute as pc

        size = len(self.elements) + self.n_others
        if not self.n_others and not self.more:
            return pc.field("system") == "-".join(sorted(self.elements))
        conditions = [pc.field("n_elements") >= size if self.more else pc.field("n_elements") == size]
        for symbol in sorted(self.elements):
            conditions.append(pc.match_substring_regex(pc.field("system"), f"(^|-){symbol}(-|$)"))
        return reduce(and_, conditions)


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
        self.run = _read_run(self.folder)
        self.n_shards: int = self.run["n_shards"]
        self._paths = self._find_parts()

    @cached_property
    def property(self) -> str:
        """The column with the predicted property."""
        own = [name for name in self._schema.names if name not in COLUMNS]
        return own[0] if own else "formation_energy_per_atom"

    @cached_property
    def has_hull(self) -> bool:
        """Whether the candidates have hull distances."""
        return self.summary().hull_histogram is not None and HULL_COLUMN in self._schema.names

    @cached_property
    def columns(self) -> list[str]:
        """Columns of the tables."""
        return list(self._schema.names)

    def summary(self) -> Summary:
        """Return the counts over all shards that are there; no candidate is read for these.

        Raises:
            MatPropError: if a part file is broken.
        """
        return self._summary

    def top(
        self,
        n: int = 50,
        system: str | Iterable[str] | None = None,
        by: str | None = None,
        *,
        highest_first: bool = False,
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
            highest_first: order from the highest value down.
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
        chosen = _condition(system, min_elements, max_elements, without)
        order = [(by, "descending" if highest_first else "ascending")]
        order += [(name, "ascending") for name in ("formula", "shard", "row")]
        keys = list(dict.fromkeys([by, "formula", "shard", "row"]))
        best = pa.table({name: pa.array([], self._schema.field(name).type) for name in keys})
        condition = chosen & pc.is_finite(pc.field(by))
        for path in self._parts_with_rows:
            if len(best) == n:  # row groups without a better value are not read
                worst = best[by][-1].as_py()
                condition = chosen & (pc.field(by) >= worst if highest_first else pc.field(by) <= worst)
            for batch in self._batches(path, keys, condition):
                both = pa.concat_tables([best, pa.Table.from_batches([batch]).cast(best.schema)])
                best = both.take(pc.select_k_unstable(both, min(n, len(both)), sort_keys=order))
        return self._rows(best)

    def to_frame(self, system: str | Iterable[str] | None = None, **selection: Any) -> pd.DataFrame:
        """Return all kept candidates in the order of shard and row; for many of them see :meth:`iter_frames`.

        Args:
            system: as for :meth:`top`.
            **selection: ``min_elements``, ``max_elements`` and ``without``, as for :meth:`top`.
        """
        import pandas as pd

        frames = [frame for frame in self.iter_frames(system, **selection) if len(frame)]
        return pd.concat(frames, ignore_index=True) if frames else self._empty()

    def iter_frames(self, system: str | Iterable[str] | None = None, **selection: Any) -> Iterator[pd.DataFrame]:
        """Yield the kept candidates of one shard after the other; arguments as for :meth:`to_frame`."""
        import pyarrow as pa

        condition = _condition(system, **selection)
        for path in self._parts_with_rows:
            batches = list(self._batches(path, self.columns, condition))
            yield _frame(pa.Table.from_batches(batches, self._schema).sort_by("row"))

    def systems(self, system: str | Iterable[str] | None = None, **selection: Any) -> pd.DataFrame:
        """Return the chemical systems of the kept candidates, the most frequent first.

        Args:
            system: as for :meth:`top`.
            **selection: ``min_elements``, ``max_elements`` and ``without``, as for :meth:`top`.

        Returns:
            A table with the columns system, n_elements, n_kept and the lowest value of the hull distance, or without a
            hull of the predicted property.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        value = HULL_COLUMN if self.has_hull else self.property
        condition = _condition(system, **selection)
        columns = ["system", "n_elements", "n_kept", value]
        total = pa.table({name: pa.array([], pa.int64()) for name in columns[1:3]})
        total = total.add_column(0, "system", pa.array([], pa.string())).append_column(
            value, pa.array([], pa.float64())
        )
        waiting = [total]
        for path in self._parts_with_rows:
            for batch in self._batches(path, ["system", "n_elements", value], condition):
                values = batch[value].cast(pa.float64())
                rows = {
                    "system": batch["system"], "n_elements": batch["n_elements"].cast(pa.int64()),
                    "n_kept": pa.repeat(1, len(batch)), value: pc.if_else(pc.is_finite(values), values, None),
                }  # fmt: skip
                waiting.append(pa.table(rows))
                if sum(map(len, waiting[1:])) > max(_ROWS_GROUPED, len(waiting[0])):
                    waiting = [_grouped(waiting)]
        total = _grouped(waiting)
        return _frame(total.sort_by([("n_kept", "descending"), ("system", "ascending")]))

    def n_systems(self, system: str | Iterable[str] | None = None, **selection: Any) -> int:
        """Return in how many chemical systems there are kept candidates; arguments as for :meth:`systems`."""
        return len(self.systems(system, **selection))

    def _find_parts(self) -> dict[int, Path]:
        found = {}
        for path in sorted((self.folder / SHARDS_FOLDER).glob("part-*.parquet")):
            match = _PART.fullmatch(path.name)
            if match is None:
                continue
            shard = int(match[1])
            if shard >= self.n_shards:
                raise MatPropError(f"{path} is no part of this run, which has {self.n_shards} shards; move it away")
            found[shard] = path
        return dict(sorted(found.items()))

    @cached_property
    def _footers(self) -> dict[Path, tuple[Any, dict[str, Any], int]]:
        """Schema, counts and number of rows of each part, in the order of the shards."""
        return {path: read_footer(path, shard) for shard, path in self._paths.items()}

    @cached_property
    def _summary(self) -> Summary:
        counts = {path: counts for path, (_, counts, _) in self._footers.items()}
        return sum_up(counts, self.n_shards, sorted(set(range(self.n_shards)) - set(self._paths)))

    @cached_property
    def _parts_with_rows(self) -> list[Path]:
        return [path for path, (_, _, n_rows) in self._footers.items() if n_rows]

    @cached_property
    def _schema(self) -> Any:
        """Columns that hold those of all parts: one that is empty in a part has no type there."""
        import pyarrow as pa

        footers = self._footers
        schemas = [footers[path][0] for path in self._parts_with_rows or footers]
        if not schemas:
            numbers = {"n_elements": pa.int64(), "shard": pa.int64(), "row": pa.int64(), HULL_COLUMN: pa.float64()}
            names = ("formula", "system", "n_elements", "formation_energy_per_atom", HULL_COLUMN, "shard", "row")
            own = {"formation_energy_per_atom": pa.float64()}
            return pa.schema([(name, {**numbers, **own}.get(name, pa.string())) for name in names])
        try:
            schema = pa.unify_schemas(schemas, promote_options="permissive")
        except pa.ArrowException as error:
            raise MatPropError(
                f"the parts in {self.folder / SHARDS_FOLDER} have columns that do not fit together ({error}); delete "
                "those of the older date and start the run again"
            ) from None
        missing = [name for name in ("formula", "system", "n_elements", "shard", "row") if name not in schema.names]
        if missing:
            raise MatPropError(
                f"the parts in {self.folder / SHARDS_FOLDER} have no column {missing[0]!r}: they are not those of a "
                "screening; delete them and start the run again"
            )
        fields = []
        for field in schema.remove_metadata():
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            fields.append(field.with_type(pa.string() if pa.types.is_null(kind) else kind))
        return pa.schema(fields)

    def _check_numbers(self, by: str) -> None:
        import pyarrow as pa

        if by not in self._schema.names:
            raise unknown_name("column of the results", by, self.columns)
        kind = self._schema.field(by).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise MatPropError(f"the column {by!r} has no numbers to order candidates by; take {self.property!r}")

    def _batches(self, path: Path, columns: list[str], condition: Any) -> Iterator[Any]:
        """Yield the rows of a part that fulfil a condition, a record batch at a time."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        try:
            part = ds.dataset(path, schema=self._schema, format="parquet")
            yield from part.to_batches(columns=columns, filter=condition)
        except (pa.ArrowException, OSError) as error:
            raise broken(path, error) from None

    def _rows(self, keys: Any) -> pd.DataFrame:
        """Return whole rows by the shard and row in a table, in its order."""
        import pyarrow as pa
        import pyarrow.compute as pc

        place = {
            pair: n for n, pair in enumerate(zip(*(keys[key].to_pylist() for key in ("shard", "row")), strict=True))
        }
        found: list[Any] = []
        for shard in sorted({shard for shard, _ in place}):
            rows = pa.array([row for other, row in place if other == shard], self._schema.field("row").type)
            found += self._batches(self._paths[shard], self.columns, pc.field("row").isin(rows))
        table = pa.Table.from_batches(found, self._schema)
        pairs = zip(*(table[key].to_pylist() for key in ("shard", "row")), strict=True)
        order = sorted((place[pair], n) for n, pair in enumerate(pairs))
        return _frame(table.take(pa.array([n for _, n in order], pa.int64())))

    def _empty(self) -> pd.DataFrame:
        return _frame(self._schema.empty_table())


def _condition(
    system: str | Iterable[str] | None,
    min_elements: int | None = None,
    max_elements: int | None = None,
    without: Iterable[str] = (),
) -> Any:
    import pyarrow.compute as pc

    chosen = pc.scalar(True)
    if system is not None:
        patterns = [system] if isinstance(system, str) else list(system)
        chosen = reduce(or_, [SystemPattern.parse(pattern).expression() for pattern in patterns], pc.scalar(False))
    if min_elements is not None:
        chosen &= pc.field("n_elements") >= min_elements
    if max_elements is not None:
        chosen &= pc.field("n_elements") <= max_elements
    for symbol in [without] if isinstance(without, str) else without:
        if symbol not in ELEMENTS:
            raise MatPropError(f"{symbol!r} is to be left out and is no element; give symbols such as 'Pb'")
        chosen &= ~pc.match_substring_regex(pc.field("system"), f"(^|-){symbol}(-|$)")
    return chosen


def _grouped(tables: list[Any]) -> Any:
    """Add up the rows of each system: its number of rows, and the lowest value, which is in the last column."""
    import pyarrow as pa

    columns = tables[0].column_names
    groups = pa.concat_tables(tables).group_by(columns[:2])
    return groups.aggregate([(columns[2], "sum"), (columns[3], "min")]).rename_columns(columns)


def _frame(table: Any) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _read_run(folder: Path) -> dict[str, Any]:
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

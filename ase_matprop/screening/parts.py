"""The part files of a screening run, of which as little as possible is held in memory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ase_matprop.errors import MatPropError
from ase_matprop.screening.summary import Summary, broken, read_footer, sum_up

SHARDS_FOLDER = "shards"
HULL_COLUMN = "e_above_hull"

_PART = re.compile(r"part-(\d+)\.parquet")
_NEEDED = ("formula", "system", "n_elements", "shard", "row")
_AT_ONCE = 256  # parts that are opened together


class Parts:
    """Files of a run that are there when this is made; their footers are read once, when they are first needed.

    Args:
        folder: the folder of the parts.
        n_shards: shards of the run.
        fingerprint: of the run, None where it is not known.

    Attributes:
        paths: file of each shard that is there, in order.

    Raises:
        MatPropError: if there is the part of a shard that the run does not have.
    """

    def __init__(self, folder: Path, n_shards: int, fingerprint: str | None = None) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.n_shards = n_shards
        self.paths: dict[int, Path] = {}
        for path in sorted(folder.glob("part-*.parquet")):
            match = _PART.fullmatch(path.name)
            if match is None:
                continue
            shard = int(match[1])
            if shard >= n_shards:
                raise MatPropError(f"{path} is no part of this run, which has {n_shards} shards; move it away")
            self.paths[shard] = path
        self.paths = dict(sorted(self.paths.items()))
        self._extremes: dict[str, dict[Path, tuple[float, float]]] = {}

    @cached_property
    def _read(self) -> tuple[Summary, Any, list[Path]]:
        """Counts, schema and the parts that have rows."""
        footers = _Footers(self.paths, self.fingerprint)
        missing = sorted(set(range(self.n_shards)) - set(self.paths))
        return sum_up(footers, self.n_shards, missing), self._unified(footers), footers.with_rows

    @property
    def summary(self) -> Summary:
        """Counts over all parts."""
        return self._read[0]

    @property
    def schema(self) -> Any:
        """Columns that hold those of all parts: one that is empty in a part has no type there."""
        return self._read[1]

    @property
    def with_rows(self) -> list[Path]:
        """The parts that have rows, in the order of the shards."""
        return self._read[2]

    def batches(self, paths: Sequence[Path], columns: list[str], condition: Any) -> Iterator[Any]:
        """Yield the rows of parts that fulfil a condition, a record batch at a time, in the order of the parts.

        Raises:
            MatPropError: if a part is broken.
        """
        import pyarrow as pa
        import pyarrow.dataset as ds

        for first in range(0, len(paths), _AT_ONCE):
            several = list(map(str, paths[first : first + _AT_ONCE]))
            try:
                part = ds.dataset(several, schema=self.schema, format="parquet")
                yield from part.to_batches(columns=columns, filter=condition)
            except (pa.ArrowException, OSError) as error:
                raise _first_broken(several, self.schema, columns, error) from None

    def by_best(self, column: str, highest_first: bool) -> list[tuple[float, Path]]:
        """Return the parts that have rows, and the best value of a column that each may have, the best first."""
        if column not in self._extremes:
            self._extremes[column] = {path: _extremes(path, column) for path in self.with_rows}
        found = self._extremes[column]
        if highest_first:
            return sorted(((highest, path) for path, (_, highest) in found.items()), key=lambda pair: -pair[0])
        return sorted(((lowest, path) for path, (lowest, _) in found.items()), key=lambda pair: pair[0])

    def _unified(self, footers: _Footers) -> Any:
        import pyarrow as pa

        schemas = footers.schemas_with_rows or footers.schemas
        if not schemas:
            numbers = {"n_elements": pa.int64(), "shard": pa.int64(), "row": pa.int64(), HULL_COLUMN: pa.float64()}
            names = ("formula", "system", "n_elements", "formation_energy_per_atom", HULL_COLUMN, "shard", "row")
            own = {"formation_energy_per_atom": pa.float64()}
            return pa.schema([(name, {**numbers, **own}.get(name, pa.string())) for name in names])
        try:
            schema = pa.unify_schemas(list(schemas), promote_options="permissive")
        except pa.ArrowException as error:
            raise MatPropError(
                f"the parts in {self.folder} have columns that do not fit together ({error}); delete those of the "
                "older date and start the run again"
            ) from None
        missing = [name for name in _NEEDED if name not in schema.names]
        if missing:
            raise MatPropError(
                f"the parts in {self.folder} have no column {missing[0]!r}: they are not those of a screening; delete "
                "them and start the run again"
            )
        fields = []
        for field in schema:
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            fields.append(field.with_type(pa.string() if pa.types.is_null(kind) else kind))
        return pa.schema(fields)


class _Footers(Mapping[Path, Mapping[str, Any]]):
    """Counts by file, each read when it is asked for and not held; different schemas are, and which parts have rows."""

    def __init__(self, paths: Mapping[int, Path], fingerprint: str | None) -> None:
        self._fingerprint = fingerprint
        self._shards = {path: shard for shard, path in paths.items()}
        self.schemas: dict[Any, None] = {}
        self.schemas_with_rows: dict[Any, None] = {}
        self.with_rows: list[Path] = []

    def __getitem__(self, path: Path) -> Mapping[str, Any]:
        schema, counts, n_rows = read_footer(path, self._shards[path], self._fingerprint)
        bare = schema.remove_metadata()
        self.schemas[bare] = None
        if n_rows:
            self.schemas_with_rows[bare] = None
            self.with_rows.append(path)
        return counts

    def __iter__(self) -> Iterator[Path]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)


def _extremes(path: Path, column: str) -> tuple[float, float]:
    """Return limits between which the values of a column are; infinite where the footer does not say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise broken(path, error) from None
    names = [footer.schema.column(index).path for index in range(footer.num_columns)]
    lowest, highest = math.inf, -math.inf
    for group in range(footer.num_row_groups):
        values = footer.row_group(group).column(names.index(column)).statistics if column in names else None
        if values is None or not values.has_min_max:  # all NaN, or not written
            return -math.inf, math.inf
        lowest, highest = min(lowest, values.min), max(highest, values.max)
    return lowest, highest


def _first_broken(paths: list[str], schema: Any, columns: list[str], error: Exception) -> MatPropError:
    """Return the error for the first of several parts that cannot be read."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    for path in paths[:-1]:
        try:
            for _ in ds.dataset(path, schema=schema, format="parquet").to_batches(columns=columns):
                pass
        except (pa.ArrowException, OSError) as own:
            return broken(Path(path), own)
    return broken(Path(paths[-1]), error)

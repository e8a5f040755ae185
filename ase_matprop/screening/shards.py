"""One shard: its candidates are scored, and what is good enough is kept."""

from __future__ import annotations

import ctypes
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from ase_matprop.compositions import CompositionEntry, format_formula, reduced_formula
from ase_matprop.models import Predictions
from ase_matprop.screening.engine import Engine
from ase_matprop.screening.scoring import FormulaScorer
from ase_matprop.screening.spaces.base import FormulaBlock
from ase_matprop.screening.summary import FAILURES_KEPT
from ase_matprop.structures import StructureEntry

if TYPE_CHECKING:
    import pyarrow as pa

#: limits of the bins of the histogram of hull distances, eV/atom; what is above the last limit is in the last bin
EDGES = np.concatenate([[-np.inf], np.linspace(-1.0, 0.5, 76), [np.inf]])

_STRUCTURES_AT_ONCE = 256
_KEPT_AT_ONCE = 8192  # formulas, which are Python objects for a while
_REJECTED_COMPARED = 256  # formulas of a shard whose sieved values are compared with the true ones


@dataclass
class _Counts:
    """What is counted of the candidates of a shard."""

    n_scored: int = 0
    n_kept: int = 0
    n_failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    largest_change: float = 0.0
    n_rescored: int = 0
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 2), dtype=np.int64))
    elements: NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 2), dtype=np.int64))
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(EDGES) - 1, dtype=np.int64))

    def add(self, block: FormulaBlock, *, kept: bool) -> None:
        """Count formulas that were scored, or kept."""
        column = int(kept)
        self.sizes[:, column] += np.bincount((block.numbers > 0).sum(axis=1), minlength=256)
        self.elements[:, column] += np.bincount(block.numbers.ravel(), minlength=256)
        if kept:
            self.n_kept += len(block)
        else:
            self.n_scored += len(block)

    def fail(self, name: str, reason: str) -> None:
        """Count a candidate without a value."""
        self.n_failed += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append((name, reason))

    def compare(self, sieved: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Note the largest difference of the values of the sieve and the true ones."""
        changes = np.abs(sieved - values)
        self.largest_change = max(self.largest_change, float(changes[np.isfinite(changes)].max(initial=0.0)))

    def add_distances(self, distances: NDArray[np.float64], n_further: int) -> None:
        """Count distances to the hull, and those candidates that are further away than all bins but the last."""
        self.histogram += np.histogram(distances, EDGES)[0]
        self.histogram[-1] += n_further


@dataclass(frozen=True)
class _Sieve:
    """What scores all formulas, and how far its values may be from the true ones."""

    scorer: FormulaScorer
    margin: float
    is_exact: bool


@dataclass(frozen=True, eq=False)
class ShardResult:
    """A scored shard.

    Attributes:
        table: the kept candidates, as pyarrow table.
        counts: what was counted, in JSON's types.
    """

    table: pa.Table
    counts: dict[str, Any]


def score_shard(engine: Engine, shard: int) -> ShardResult:
    """Score the candidates of a shard and keep those that are good enough."""
    import pyarrow as pa

    start = time.perf_counter()
    schema = _schema(engine)
    if engine.space.needs_structure:
        counts = _Counts()
        parts = _parts(schema, shard, _score_structures(engine, shard, counts))
    else:
        parts, counts = _sieve_shard(engine, shard, schema)
    n_candidates = engine.space.shard_size(shard)
    summary = {
        "shard": shard,
        "n_candidates": n_candidates,
        "n_filtered": n_candidates - counts.n_scored - counts.n_failed,
        "n_scored": counts.n_scored,
        "n_failed": counts.n_failed,
        "n_kept": counts.n_kept,
        "by_n_elements": _pairs(counts.sizes, str),
        "by_element": _pairs(counts.elements, chemical_symbols.__getitem__),
        "hull_histogram": None if engine.hull is None else _histogram(counts.histogram),
        "largest_change": counts.largest_change,
        "n_rescored": counts.n_rescored,
        "failures": counts.failures,
        "seconds": time.perf_counter() - start,
    }
    return ShardResult(pa.concat_tables([schema.empty_table(), *parts]), summary)


def _parts(schema: pa.Schema, shard: int, kept: Iterator[dict[str, Any]]) -> list[pa.Table]:
    # as soon as a part is there: Python's strings take ten times the memory of Arrow's
    return [_part(schema, shard, columns) for columns in kept]


def _sieve_shard(engine: Engine, shard: int, schema: pa.Schema) -> tuple[list[pa.Table], _Counts]:
    """Score formulas, again in float32 where the values of the sieve change by more than its margin."""
    counts, is_exact = _Counts(), engine.precision == "float32"
    sieve = _Sieve(engine.scorer, engine.margin, is_exact)
    parts = _parts(schema, shard, _score_formulas(engine, shard, sieve, counts))
    if is_exact or counts.largest_change <= engine.margin:
        return parts, counts
    again = _Counts()
    sieve = _Sieve(engine.exact_scorer, engine.exact_margin, is_exact=True)
    parts = _parts(schema, shard, _score_formulas(engine, shard, sieve, again))
    again.largest_change, again.n_rescored = counts.largest_change, 1
    return parts, again


def _score_formulas(engine: Engine, shard: int, sieve: _Sieve, counts: _Counts) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(shard)
    n_candidates = engine.space.shard_size(shard)
    for name, reason in engine.space.failed_formulas(shard):
        counts.fail(name, reason)
    first = 0
    for block in engine.space.blocks(shard):
        values = sieve.scorer.values(block)
        scored = np.isfinite(values) & engine.is_known(block)
        if not scored.all():
            _explain(engine, block.take(~scored), counts)
        rows = (np.arange(first, first + len(block)) if block.rows is None else block.rows)[scored]
        first += len(block)
        good, values = (block, values) if scored.all() else (block.take(scored), values[scored])
        counts.add(good, kept=False)
        near, hull = _sieve(engine, good, values, sieve.margin, counts)
        if not sieve.is_exact:
            _compare_rejected(engine, good, values, near, n_candidates, random, counts)
        for start in range(0, len(near), _KEPT_AT_ONCE):
            piece = slice(start, start + _KEPT_AT_ONCE)
            candidates = good.take(near[piece])
            predictions = engine.predictor.predict_entries(_entries(candidates))
            counts.compare(values[near[piece]], predictions.values)
            numbers, kept_rows = np.arange(len(candidates)), rows[near[piece]]
            names = engine.space.row_names(shard, kept_rows.tolist())
            yield _kept(engine, candidates, predictions, numbers, hull[piece], kept_rows, counts, names)


def _compare_rejected(
    engine: Engine,
    block: FormulaBlock,
    values: NDArray[np.float64],
    near: NDArray[np.int64],
    n_candidates: int,
    random: np.random.Generator,
    counts: _Counts,
) -> None:
    """Compare values of the sieve with the true ones for a few formulas that it rejected, a shard's share of them."""
    rejected = np.ones(len(block), dtype=bool)
    rejected[near] = False
    rows = np.flatnonzero(rejected)
    share = -(-_REJECTED_COMPARED * len(block) // max(n_candidates, len(block)))
    drawn = np.sort(random.choice(rows, min(share, len(rows)), replace=False))
    if len(drawn):
        counts.compare(values[drawn], engine.exact_scorer.values(block.take(drawn)))


def _score_structures(engine: Engine, shard: int, counts: _Counts) -> Iterator[dict[str, Any]]:
    entries = iter(engine.space.entries(shard))
    first = 0
    while batch := list(islice(entries, _STRUCTURES_AT_ONCE)):
        predictions = engine.predictor.predict_entries(batch)
        good = [number for number, reason in enumerate(predictions.errors) if reason is None]
        for name, reason in zip(predictions.names, predictions.errors, strict=True):
            if reason is not None:
                counts.fail(name, reason)
        rows = first + np.array(good, dtype=np.int64)
        first += len(batch)
        if not good:
            continue
        block = FormulaBlock.of([_amounts(batch[number]) for number in good])
        counts.add(block, kept=False)
        near, hull = _sieve(engine, block, predictions.values[good], engine.margin, counts)
        if len(near):
            yield _kept(engine, block.take(near), predictions, np.array(good)[near], hull, rows[near], counts)


def _sieve(
    engine: Engine, block: FormulaBlock, values: NDArray[np.float64], margin: float, counts: _Counts
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows that may be kept, and the energy of the hull for each of these (NaN without a hull)."""
    keep = engine.settings.keep
    rows = np.arange(len(block))
    hull = np.full(len(block), np.nan)
    if engine.hull is not None:
        # what is further above the mixture of the elements is at least as far above the hull
        limit = np.inf if keep.highest_distance is None else max(EDGES[-2], keep.highest_distance) + margin
        rows = np.flatnonzero(values - engine.upper_bound(block) <= limit)
        hull = engine.hull.energies(block.take(rows)) if len(rows) else np.empty(0)
        counts.add_distances(values[rows] - hull, len(block) - len(rows))
    chosen = keep.mask(values[rows], values[rows] - hull, margin)
    return rows[chosen], hull[chosen]


def _kept(
    engine: Engine,
    block: FormulaBlock,
    predictions: Predictions,
    numbers: NDArray[np.int64],
    hull: NDArray[np.float64],
    rows: NDArray[np.int64],
    counts: _Counts,
    names: list[str] | None = None,
) -> dict[str, Any]:
    """Return the columns of those candidates that are kept, by their values in float32.

    Args:
        engine: space, model and hull.
        block: formulas of the candidates, n.
        predictions: what the model says of them, and perhaps of others.
        numbers: their rows in the predictions, shape (n,).
        hull: energies of the hull, shape (n,).
        rows: their numbers in the shard, shape (n,).
        counts: where the kept ones are counted.
        names: their names, n; None for those of the predictions.
    """
    values = predictions.values[numbers]
    distances = values - hull
    chosen = engine.settings.keep.mask(values, distances)
    named = [predictions.names[number] for number in numbers] if names is None else names
    block, numbers = block.take(chosen), numbers[chosen]
    counts.add(block, kept=True)
    symbols = [[chemical_symbols[number] for number in line if number] for line in block.numbers.tolist()]
    columns: dict[str, Any] = {
        "formula": [reduced_formula(amounts) for amounts in block.compositions()],
        "system": ["-".join(sorted(line)) for line in symbols],
        "n_elements": [len(line) for line in symbols],
        "name": [named[number] for number in np.flatnonzero(chosen)],
        engine.predictor.card.property: values[chosen],
        "spread": predictions.spread[numbers],
        "disagreement": predictions.disagreement[numbers],
        "distance": predictions.distance[numbers],
        "warning": [predictions.warnings[number] for number in numbers],
        "row": rows[chosen],
    }
    if engine.hull is not None:
        columns["e_above_hull"] = distances[chosen]
        columns["decomposition"] = engine.hull.decomposition(block) if len(block) else []
    return columns


def _explain(engine: Engine, block: FormulaBlock, counts: _Counts) -> None:
    """Count formulas without a value, with the reasons of the first."""
    few = block.take(np.arange(min(len(block), FAILURES_KEPT)))
    predictions = engine.predictor.predict_entries(_entries(few))
    for name, reason in zip(predictions.names, predictions.errors, strict=True):
        counts.fail(name, reason or "the network gives no finite number for it in bfloat16; screen in float32")
    counts.n_failed += len(block) - len(few)


def _entries(block: FormulaBlock) -> list[CompositionEntry]:
    return [CompositionEntry(format_formula(amounts), amounts, None) for amounts in block.compositions()]


def _amounts(entry: StructureEntry) -> dict[int, float]:
    assert entry.atoms is not None
    numbers, amounts = np.unique(entry.atoms.numbers, return_counts=True)
    return dict(zip(numbers.tolist(), amounts.astype(float).tolist(), strict=True))


def _pairs(counts: NDArray[np.int64], name: Any) -> dict[str, list[int]]:
    return {name(number): counts[number].tolist() for number in range(1, 119) if counts[number].any()}


def _histogram(counts: NDArray[np.int64]) -> dict[str, list[float]]:
    return {"edges": EDGES.tolist(), "counts": counts.tolist()}


def _schema(engine: Engine) -> pa.Schema:
    """Return the columns of the kept candidates, the same for each shard."""
    import pyarrow as pa

    kinds = {
        "formula": pa.string(), "system": pa.string(), "n_elements": pa.int16(), "name": pa.string(),
        engine.predictor.card.property: pa.float64(), "spread": pa.float64(), "disagreement": pa.float64(),
        "distance": pa.float64(), "warning": pa.string(), "e_above_hull": pa.float64(), "decomposition": pa.string(),
        "shard": pa.int32(), "row": pa.int64(),
    }  # fmt: skip
    absent = {"disagreement"} if not engine.settings.compare_with else set()
    absent |= set() if engine.space.needs_structure or engine.space.is_list else {"name"}
    absent |= set() if engine.hull is not None else {"e_above_hull", "decomposition"}
    return pa.schema([(name, kind) for name, kind in kinds.items() if name not in absent])


def _part(schema: pa.Schema, shard: int, columns: dict[str, Any]) -> pa.Table:
    """Return kept candidates as a table in Arrow's own memory, and give the system back what they took before."""
    import pyarrow as pa

    columns["shard"] = [shard] * len(columns["row"])
    lists = {name: column.tolist() if isinstance(column, np.ndarray) else column for name, column in columns.items()}
    table = pa.table([pa.array(lists[field.name], field.type) for field in schema], schema=schema)
    _trim()
    return table


@functools.cache
def _trim_of_library() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def _trim() -> None:
    """Give free memory back: glibc keeps that of torch's aligned arrays in pieces, 80 MB more with 8192 rows each."""
    trim = _trim_of_library()
    if trim is not None:
        trim(0)

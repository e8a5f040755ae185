"""Counts of a screening run, added up over its shards."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ase_matprop.errors import MatPropError

#: what to do with a part that cannot be used
AGAIN = "delete it and start the run again, which then does only this shard"

METADATA_KEY = b"ase_matprop"
FAILURES_KEPT = 20
_COUNTS = ("n_candidates", "n_filtered", "n_scored", "n_failed", "n_kept")


@dataclass(frozen=True)
class Histogram:
    """Number of scored candidates by hull distance.

    Attributes:
        edges: limits of the bins in eV/atom, ascending, one more than there are bins; the outer ones may be infinite.
        counts: candidates in each bin.
    """

    edges: list[float]
    counts: list[int]


@dataclass(frozen=True)
class Summary:
    """Counts of a run over all shards that are there.

    Attributes:
        n_shards: shards of the run.
        missing: numbers of the shards that are not there yet, ascending.
        n_candidates: candidates of the shards that are there.
        n_filtered: those of them that a filter took out before they were scored.
        n_scored: those with a predicted value.
        n_failed: those without one, for a reason.
        n_kept: those scored ones that were good enough to be kept.
        by_n_elements: number of elements -> (scored, kept), ascending.
        by_element: symbol of an element -> (scored, kept) among the candidates that have it, alphabetical.
        hull_histogram: hull distances of the scored candidates, None for a run without a hull.
        failures: name and reason of the first 20 failures.
        seconds: time that the shards took, added up over the processes that worked at once.
        largest_change: largest difference seen of a value of the sieve and the true one, in the unit of the property.
        n_rescored: shards that were scored again in float32, as the sieve changed values by more than its margin.
    """

    n_shards: int
    missing: list[int]
    n_candidates: int
    n_filtered: int
    n_scored: int
    n_failed: int
    n_kept: int
    by_n_elements: dict[int, tuple[int, int]]
    by_element: dict[str, tuple[int, int]]
    hull_histogram: Histogram | None
    failures: list[tuple[str, str]]
    seconds: float
    largest_change: float = 0.0
    n_rescored: int = 0

    @property
    def finished(self) -> bool:
        """Whether no shard is missing."""
        return not self.missing

    @property
    def note(self) -> str | None:
        """Which shards are missing, in one sentence; None for a finished run."""
        if self.finished:
            return None
        verb = "is" if len(self.missing) == 1 else "are"
        return f"the run is not finished: {len(self.missing)} of {self.n_shards} shards {verb} missing ({self._ranges})"

    @property
    def caution(self) -> str | None:
        """What the sieve did to the values, in one sentence; None where they were within its margin."""
        if not self.n_rescored:
            return None
        shards = "1 shard was" if self.n_rescored == 1 else f"{self.n_rescored} shards were"
        return (
            f"bfloat16 changed values by up to {self.largest_change:.3f}, more than was allowed for: {shards} scored "
            "again in float32; candidates near the cut may be missing in others, so screen in float32 to be sure"
        )

    @property
    def _ranges(self) -> str:
        ranges: list[list[int]] = []
        for shard in self.missing:
            if ranges and ranges[-1][1] == shard - 1:
                ranges[-1][1] = shard
            else:
                ranges.append([shard, shard])
        texts = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges]
        return ", ".join(texts[:8]) + (" ..." if len(texts) > 8 else "")

    def to_dict(self) -> dict[str, Any]:
        """Return all counts as they go into JSON."""
        return {**asdict(self), "finished": self.finished, "note": self.note, "caution": self.caution}


def read_footer(path: Path, shard: int, fingerprint: str | None = None) -> tuple[Any, dict[str, Any], int]:
    """Return the schema of a part, the counts of its shard and its number of rows.

    Args:
        path: file of the part.
        shard: number of the shard.
        fingerprint: of the run; None where it is not known.

    Raises:
        MatPropError: if the file is broken, or is not that of the shard and the run.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise broken(path, error) from None
    try:
        counts = json.loads((schema.metadata or {})[METADATA_KEY])
        shard_inside = counts["shard"]
    except (KeyError, TypeError, ValueError):
        raise MatPropError(f"the part {path} has no counts and was not written by a screening; {AGAIN}") from None
    if shard_inside != shard:
        raise MatPropError(f"the part {path} has the results of shard {shard_inside}; {AGAIN}")
    check_fingerprint(path, counts, fingerprint)
    return schema, counts, footer.num_rows


def check_fingerprint(path: Path, counts: Mapping[str, Any], fingerprint: str | None) -> None:
    """Raise a MatPropError if the counts of a part are those of another run."""
    if fingerprint is not None and counts.get("fingerprint", fingerprint) != fingerprint:
        raise MatPropError(f"the part {path} has results of another run; {AGAIN}")


def broken(path: Path, error: Exception) -> MatPropError:
    """Return the error for a part that cannot be read."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return MatPropError(f"the part {path} is broken ({reason.rstrip('.')}); {AGAIN}")


def sum_up(parts: Mapping[Path, Mapping[str, Any]], n_shards: int, missing: list[int]) -> Summary:
    """Add up the counts that the parts of a run have in their metadata.

    Args:
        parts: file -> counts of its shard, in the order of the shards.
        n_shards: shards of the run.
        missing: numbers of those without a part.

    Raises:
        MatPropError: if the counts of a part are incomplete, or its histogram does not fit to those before.
    """
    totals: Counter[str] = Counter()
    by_size: dict[int, tuple[int, int]] = {}
    by_element: dict[str, tuple[int, int]] = {}
    histogram: Histogram | None = None
    failures: list[tuple[str, str]] = []
    seconds = largest_change = 0.0
    n_rescored = 0
    fingerprint: str | None = None
    for path, counts in parts.items():
        check_fingerprint(path, counts, fingerprint)
        fingerprint = counts.get("fingerprint") or fingerprint
        try:
            totals.update({name: int(counts[name]) for name in _COUNTS})
            _add_pairs(by_size, {int(size): pair for size, pair in counts["by_n_elements"].items()})
            _add_pairs(by_element, counts["by_element"])
            histogram = _add_histogram(histogram, counts.get("hull_histogram"))
            more = [(str(name), str(reason)) for name, reason in counts.get("failures", [])]
            failures += more[: FAILURES_KEPT - len(failures)]
            seconds += float(counts.get("seconds") or 0.0)
            largest_change = max(largest_change, float(counts.get("largest_change") or 0.0))
            n_rescored += int(counts.get("n_rescored") or 0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise MatPropError(f"the counts in {path} cannot be used ({reason}); {AGAIN}") from None
    return Summary(
        n_shards=n_shards,
        missing=missing,
        **{name: totals[name] for name in _COUNTS},
        by_n_elements=dict(sorted(by_size.items())),
        by_element=dict(sorted(by_element.items())),
        hull_histogram=histogram,
        failures=failures,
        seconds=seconds,
        largest_change=largest_change,
        n_rescored=n_rescored,
    )


def _add_pairs(total: dict[Any, tuple[int, int]], more: Mapping[Any, Iterable[int]]) -> None:
    for key, (scored, kept) in more.items():
        before = total.get(key, (0, 0))
        total[key] = (before[0] + int(scored), before[1] + int(kept))


def _add_histogram(total: Histogram | None, more: Mapping[str, Any] | None) -> Histogram | None:
    if not more or not more.get("counts"):
        return total
    edges, counts = [float(edge) for edge in more["edges"]], [int(count) for count in more["counts"]]
    if len(edges) != len(counts) + 1 or any(math.isnan(edge) for edge in edges) or edges != sorted(edges):
        raise ValueError(f"{len(edges)} edges of a histogram with {len(counts)} bins")
    if total is None:
        return Histogram(edges, counts)
    if total.edges != edges:
        raise ValueError("the bins of the histogram are others than in the shards before")
    return Histogram(edges, [a + b for a, b in zip(total.counts, counts, strict=True)])

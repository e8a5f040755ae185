"""Data sets as arrays of features and targets, computed once and cached."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.neighbors import Graphs, neighbor_graphs
from ase_matprop.descriptors.registry import Descriptor, amounts_of, get_descriptor
from ase_matprop.errors import RecipeError
from ase_matprop.networks.schnetpack_adapter import MAX_Z
from ase_matprop.training.readers import Record, read_records
from ase_matprop.training.recipe import DataSection

logger = logging.getLogger(__name__)

_CACHE_VERSION = 2
_BLOCK = 2000  # rows between two progress messages
_EXCLUSIONS = ("exclude_elements", "exclude_together", "exclude_systems")  # applied to cached tables
_NAMED = 3  # systems in the name of a rule


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Rows that have features and a target.

    Attributes:
        ids: identifier of each row.
        features: shape (n, n_features), or the neighbour graphs.
        targets: shape (n, n_properties), NaN where a row has none; the number of a class.
        numbers: atomic numbers of the elements of each row in ascending order, 0 in unused slots, shape (n, n_slots).
        amounts: number of atoms of each of these elements, shape (n, n_slots).
        held_out: whether the row comes from the file of held-out rows, shape (n,).
        skipped: identifier -> reason, for the rows of the files that cannot be used.
        removed: rule -> number of rows that the recipe removed by it.
        source_sha256: hash of the files.
    """

    ids: list[str]
    features: NDArray[np.float64] | Graphs
    targets: NDArray[np.float64]
    numbers: NDArray[np.int64]
    amounts: NDArray[np.float64]
    held_out: NDArray[np.bool_]
    skipped: dict[str, str]
    removed: dict[str, int]
    source_sha256: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_elements(self) -> NDArray[np.int64]:
        """Number of elements of each row, shape (n,)."""
        return np.asarray(np.count_nonzero(self.numbers, axis=1))

    @property
    def fractions(self) -> NDArray[np.float64]:
        """Atomic fractions of the elements of each row, shape (n, n_slots)."""
        return np.asarray(self.amounts / self.amounts.sum(axis=1, keepdims=True))

    def element_fractions(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of each atomic number from 0 to 99 among the atoms of ``rows``, shape (n, 100)."""
        dense = np.zeros((len(rows), MAX_Z))
        np.put_along_axis(dense, self.numbers[rows], self.fractions[rows], axis=1)
        dense[:, 0] = 0.0  # unused slots
        return dense

    def reduced_formulas(self) -> NDArray[np.int64]:
        """A number per row that is equal for equal reduced formulas, shape (n,)."""
        return _formula_numbers(self.numbers, self.fractions)

    def elements(self, rows: NDArray[np.int64]) -> list[str]:
        """Symbols of all elements that occur in ``rows``, by atomic number."""
        return [chemical_symbols[number] for number in np.unique(self.numbers[rows]) if number]


def load_feature_table(
    data_dir: Path,
    data: DataSection,
    descriptor_name: str,
    *,
    cache_dir: Path,
    cutoff: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureTable:
    """Read the data files of a recipe and compute the features of their rows, or take the cached ones.

    Args:
        data_dir: folder to which the files of ``data`` are relative.
        data: section ``[data]`` of the recipe.
        descriptor_name: name of the descriptor.
        cache_dir: folder of the cache; the files' contents, ``data``, the descriptor and its version decide whether a
            cached table serves.  Neighbour graphs are found faster than read, and not cached.
        cutoff: of neighbour graphs, in Angstrom; for a network that takes them.
        progress: called with the number of finished and of all rows.

    Raises:
        RecipeError: if a file cannot be read or has no usable row.
    """
    descriptor = get_descriptor(descriptor_name)
    paths = [data_dir / name for name in (data.file, data.held_out_file) if name is not None]
    source_sha256 = "+".join(_sha256(path) for path in paths)
    described = data.model_dump(exclude={"name", "licence", "citation", *_EXCLUSIONS})
    identity = json.dumps([_CACHE_VERSION, source_sha256, described, descriptor.name, descriptor.version])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    cached = cache_dir / f"{paths[0].name.split('.')[0]}-{descriptor.name}-{digest}.npz"
    if cutoff is None and cached.is_file():
        logger.info("features from %s", cached)
        return _without(_read_cache(cached, source_sha256), data)

    records: list[Record] = []
    held_out: list[bool] = []
    skipped: dict[str, str] = {}
    for path in paths:
        found, reasons = read_records(path, data)
        if descriptor.needs_structure and found and isinstance(found[0].item, dict):
            raise RecipeError(f"{path} has formulas, the descriptor {descriptor.name} needs structures")
        records += found
        held_out += [path != paths[0]] * len(found)
        skipped |= reasons
    held = np.array(held_out, dtype=bool)
    kept, removed = _apply_rules(records, held, data)
    records = [records[row] for row in kept.tolist()]
    if not records:
        raise RecipeError(f"{paths[0]} has no row with the property {data.property!r} that can be used")
    twice = [name for name, count in Counter(record.name for record in records).items() if count > 1]
    if twice:
        raise RecipeError(
            f"{paths[0]} has the identifier {twice[0]!r} more than once; name a column of unique identifiers as "
            "id_key, or keep one row of each formula with lowest_per_formula = true"
        )
    features: NDArray[np.float64] | Graphs
    if cutoff is None:
        features, errors = _compute(descriptor, records, progress)
    else:
        compositions = amounts_of([record.item for record in records])
        heavy = [record.name for record, amounts in zip(records, compositions, strict=True) if max(amounts) >= MAX_Z]
        if heavy:
            raise RecipeError(f"{heavy[0]} has an element beyond einsteinium, for which SchNetPack has no embedding")
        features, errors = neighbor_graphs([record.item for record in records], cutoff), [None] * len(records)
    skipped |= {record.name: error for record, error in zip(records, errors, strict=True) if error is not None}
    good = [row for row, error in enumerate(errors) if error is None]
    slots = ElementSlots.from_amounts(amounts_of([records[row].item for row in good]))
    table = FeatureTable(
        ids=[records[row].name for row in good],
        features=features[good],
        targets=np.array([records[row].targets for row in good], dtype=np.float64),
        numbers=slots.numbers,
        amounts=slots.amounts,
        held_out=held[kept][good],
        skipped=skipped,
        removed=removed,
        source_sha256=source_sha256,
    )
    if cutoff is None:
        _write_cache(cached, table)
    return _without(table, data)


def _without(table: FeatureTable, data: DataSection) -> FeatureTable:
    """Return the table without the rows of excluded elements and systems; a row counts for the first rule it meets."""
    rules: dict[str, NDArray[np.bool_]] = {}
    if data.exclude_elements:
        numbers = [atomic_numbers[symbol] for symbol in data.exclude_elements]
        rules[f"with {' or '.join(data.exclude_elements)}"] = np.asarray(np.isin(table.numbers, numbers).any(axis=1))
    if data.exclude_together:
        together = np.zeros(len(table), dtype=bool)
        for item in data.exclude_together:
            n_members, size = _members(table, item)
            together |= n_members == size
        rules[f"with all elements of {_some(data.exclude_together)}"] = together
    if data.exclude_systems:
        inside = np.zeros(len(table), dtype=bool)
        for item in data.exclude_systems:
            inside |= _members(table, item)[0] == table.n_elements
        rules[f"compounds of {_some(data.exclude_systems)}"] = inside & (table.n_elements > 1)
    kept = np.ones(len(table), dtype=bool)
    removed: dict[str, int] = {}
    for rule, rows in rules.items():
        removed[rule] = int((rows & kept).sum())
        kept &= ~rows
    if not any(removed.values()):
        return replace(table, removed=table.removed | removed)
    return replace(
        table,
        ids=[name for name, keep in zip(table.ids, kept.tolist(), strict=True) if keep],
        features=table.features[kept],
        targets=table.targets[kept],
        numbers=table.numbers[kept],
        amounts=table.amounts[kept],
        held_out=table.held_out[kept],
        removed=table.removed | removed,
    )


def _members(table: FeatureTable, system: str) -> tuple[NDArray[np.int64], int]:
    """Return how many elements of each row belong to a system like ``"Na-Fe-O"``, shape (n,), and its size."""
    numbers = [atomic_numbers[symbol] for symbol in system.split("-")]
    return np.asarray(np.isin(table.numbers, numbers).sum(axis=1)), len(numbers)


def _some(systems: Sequence[str]) -> str:
    return " or ".join(systems) if len(systems) <= _NAMED else f"one of {len(systems)} systems"


def _compute(
    descriptor: Descriptor, records: Sequence[Record], progress: Callable[[int, int], None] | None
) -> tuple[NDArray[np.float64], list[str | None]]:
    features = np.empty((len(records), len(descriptor.labels)))
    errors: list[str | None] = []
    for start in range(0, len(records), _BLOCK):
        stop = min(start + _BLOCK, len(records))
        features[start:stop], reasons = descriptor.compute([record.item for record in records[start:stop]])
        errors += reasons
        if progress is not None:
            progress(stop, len(records))
    return features, errors


def _apply_rules(
    records: Sequence[Record], held_out: NDArray[np.bool_], data: DataSection
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Return the rows that the recipe keeps, and how many each rule removed."""
    rows = np.arange(len(records))
    removed: dict[str, int] = {}
    if not len(rows) or not (data.remove_elements or data.lowest_per_formula):
        return rows, removed
    slots = ElementSlots.from_amounts(amounts_of([record.item for record in records]))
    if data.remove_elements:
        compound = slots.used.sum(axis=1) > 1
        removed["pure elements"] = int((~compound).sum())
        rows = rows[compound]
    if data.lowest_per_formula:
        energies = np.array([record.targets[0] for record in records])[rows]
        formulas = _formula_numbers(slots.numbers[rows], slots.fractions[rows])
        order = np.lexsort((energies, formulas, held_out[rows]))  # each file by itself; NaN last
        groups = np.stack([held_out[rows][order], formulas[order]])
        first = np.ones(len(order), dtype=bool)
        first[1:] = (groups[:, 1:] != groups[:, :-1]).any(axis=0)
        removed["not the lowest of their formula"] = int((~first).sum())
        rows = np.sort(rows[order[first]])
    return rows, removed


def _formula_numbers(numbers: NDArray[np.int64], fractions: NDArray[np.float64]) -> NDArray[np.int64]:
    keys = np.column_stack([numbers, np.round(fractions * 1e6)])
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _write_cache(path: Path, table: FeatureTable) -> None:
    assert not isinstance(table.features, Graphs)  # these are not cached
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")  # another run may write the same table
    np.savez(
        temporary,
        ids=np.array(table.ids),
        features=table.features,
        targets=table.targets,
        numbers=table.numbers,
        amounts=table.amounts,
        held_out=table.held_out,
        skipped=np.array([list(item) for item in table.skipped.items()], dtype=str).reshape(-1, 2),
        removed=np.array(json.dumps(table.removed)),
    )
    temporary.replace(path)


def _read_cache(path: Path, source_sha256: str) -> FeatureTable:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in ("features", "targets", "numbers", "amounts", "held_out")}
        return FeatureTable(
            ids=stored["ids"].tolist(),
            skipped=dict(stored["skipped"].tolist()),
            removed=json.loads(str(stored["removed"])),
            source_sha256=source_sha256,
            **arrays,
        )

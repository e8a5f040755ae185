"""Descriptors of the structures that were featurized last, so that several featurizers compute them once.

The key of a structure is made of its numbers: a structure that was changed since is another one.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors.registry import Descriptor, Features, check_n_jobs, get_descriptor

Row = NDArray[np.float64]

#: bound of the memory, enough for 30,000 structures with the 271 Ward-2017 features
MAX_BYTES = 64 * 2**20


class RowCache:
    """Rows of features by key; those that were not asked for the longest go first.

    Args:
        max_bytes: bound of the memory of the rows.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self._lock = threading.Lock()
        self.n_bytes = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.Lock()  # a forked process would wait for ever for one that was held elsewhere

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Row]:
        """Return the rows that are there."""
        found = {}
        with self._lock:
            for key in keys:
                if key in self._rows:
                    self._rows.move_to_end(key)
                    found[key] = self._rows[key]
        return found

    def keep(self, rows: dict[bytes, Row]) -> None:
        """Add rows."""
        with self._lock:
            for key, row in rows.items():
                if key not in self._rows:
                    self._rows[key] = row
                    self.n_bytes += row.nbytes
            while self.n_bytes > self.max_bytes:
                _, old = self._rows.popitem(last=False)
                self.n_bytes -= old.nbytes

    def clear(self) -> None:
        """Forget all rows."""
        with self._lock:
            self._rows.clear()
            self.n_bytes = 0


_cache = RowCache(MAX_BYTES)


def clear_cache() -> None:
    """Forget the descriptors of all structures, which frees up to 64 MiB."""
    _cache.clear()


@dataclass(frozen=True)
class RememberingDescriptor(Descriptor):
    """A descriptor that looks up what it computed before, where that takes the structure; compositions are cheap."""

    @classmethod
    def of(cls, descriptor: Descriptor) -> RememberingDescriptor:
        """Return ``descriptor`` with a memory, which it shares with all others."""
        return cls(**{field.name: getattr(descriptor, field.name) for field in fields(descriptor)})

    def compute(self, structures: Sequence[Any], *, n_jobs: int = 1) -> Features:
        check_n_jobs(n_jobs)
        parts = [get_descriptor(name) for name in self.name.split("+")]
        results = [
            _remembered(part, structures, n_jobs) if part.needs_structure else part.compute(structures)
            for part in parts
        ]
        errors = [next((error for error in row if error), None) for row in zip(*(r[1] for r in results), strict=True)]
        features = np.column_stack([features for features, _ in results])
        features[[error is not None for error in errors]] = np.nan
        return features, errors


def _remembered(descriptor: Descriptor, structures: Sequence[Atoms], n_jobs: int) -> Features:
    keys = [_key(descriptor, atoms) for atoms in structures]
    rows = _cache.find(keys)
    first = {key: number for number, key in reversed(list(enumerate(keys))) if key not in rows}  # twins count once
    missing = sorted(first.values())
    reasons: dict[bytes, str] = {}
    if missing:
        features, errors = descriptor.compute([structures[number] for number in missing], n_jobs=n_jobs)
        computed = {}
        for number, row, error in zip(missing, features, errors, strict=True):
            if error is None:
                computed[keys[number]] = row.copy()  # a view would keep the whole table in memory
            else:
                reasons[keys[number]] = error
        _cache.keep(computed)
        rows |= computed
    table = np.full((len(keys), len(descriptor.labels)), np.nan)
    for number, key in enumerate(keys):
        if key in rows:
            table[number] = rows[key]
    return table, [reasons.get(key) for key in keys]


def _key(descriptor: Descriptor, atoms: Atoms) -> bytes:
    digest = hashlib.blake2b(f"{descriptor.name} {descriptor.version} {len(atoms)} ".encode(), digest_size=16)
    for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()

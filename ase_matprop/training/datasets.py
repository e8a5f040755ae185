"""Data sets of structures with targets, as arrays of features that are computed once and cached."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import logging
import lzma
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io import read
from numpy.typing import NDArray

from ase_matprop.descriptors.registry import get_descriptor
from ase_matprop.errors import RecipeError, StructureError
from ase_matprop.structures import as_atoms

logger = logging.getLogger(__name__)

_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.decompress,
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
}
_CACHE_VERSION = 1
_BLOCK = 2000  # rows between two progress messages


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Rows that have features and a target.

    Attributes:
        ids: identifier of each row.
        features: shape (n, n_features).
        targets: shape (n,).
        amounts: number of atoms of each element, column = atomic number, shape (n, 119).
        skipped: identifier -> reason, for the rows of the file that are not in the table.
        source_sha256: hash of the file.
    """

    ids: list[str]
    features: NDArray[np.float64]
    targets: NDArray[np.float64]
    amounts: NDArray[np.int64]
    skipped: dict[str, str]
    source_sha256: str

    def __len__(self) -> int:
        return len(self.ids)

    def reduced_formulas(self) -> NDArray[np.int64]:
        """A number per row that is equal for equal reduced formulas, shape (n,)."""
        reduced = self.amounts // np.gcd.reduce(self.amounts, axis=1, keepdims=True)
        return np.unique(reduced, axis=0, return_inverse=True)[1].reshape(-1)

    def elements(self, rows: NDArray[np.int64]) -> list[str]:
        """Symbols of all elements that occur in ``rows``, by atomic number."""
        return [chemical_symbols[number] for number in np.flatnonzero(self.amounts[rows].any(axis=0))]


def load_feature_table(
    path: Path,
    property_name: str,
    descriptor_name: str,
    *,
    cache_dir: Path,
    id_key: str = "material_id",
    progress: Callable[[int, int], None] | None = None,
) -> FeatureTable:
    """Read structures with targets and compute their features, or take the cached ones.

    Args:
        path: extended XYZ file, plain or compressed; the target and the identifier of each structure stand in its
            comment line.
        property_name: key of the target.
        descriptor_name: name of the descriptor.
        cache_dir: folder of the cache; a file's contents, the descriptor and its version decide whether it serves.
        id_key: key of the identifier; the position in the file stands in where it is missing.
        progress: called with the number of finished and of all structures.

    Raises:
        RecipeError: if the file cannot be read or has no usable row.
    """
    if not path.is_file():
        raise RecipeError(
            f"the data file {path} does not exist; give the folder of the data with --data-dir or MATPROP_DATA"
        )
    descriptor = get_descriptor(descriptor_name)
    identity = "|".join([str(_CACHE_VERSION), property_name, id_key, descriptor.name, str(descriptor.version)])
    source_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256((source_sha256 + identity).encode()).hexdigest()[:16]
    cached = cache_dir / f"{path.name.split('.')[0]}-{descriptor.name}-{digest}.npz"
    if cached.is_file():
        logger.info("features from %s", cached)
        return _read_cache(cached, source_sha256)

    structures = read_extxyz(path)
    ids: list[str] = []
    skipped: dict[str, str] = {}
    good: list[Atoms] = []
    targets: list[float] = []
    for index, atoms in enumerate(structures):
        name = str(atoms.info.get(id_key, index))
        target = atoms.info.get(property_name)
        if not isinstance(target, int | float | np.number) or not math.isfinite(target):
            skipped[name] = f"no finite number {property_name!r}"
            continue
        try:
            good.append(as_atoms(atoms, name=name))
        except StructureError as error:
            skipped[name] = str(error)
            continue
        ids.append(name)
        targets.append(float(target))
    if not good:
        raise RecipeError(f"{path} has no structure with the property {property_name!r} that can be used")
    if len(set(ids)) < len(ids):
        raise RecipeError(f"{path} has the same {id_key!r} more than once; give each structure its own")

    blocks, errors = [], []
    for start in range(0, len(good), _BLOCK):
        features, reasons = descriptor.compute(good[start : start + _BLOCK])
        blocks.append(features)
        errors += reasons
        if progress is not None:
            progress(min(start + _BLOCK, len(good)), len(good))
    skipped |= {name: error for name, error in zip(ids, errors, strict=True) if error is not None}
    kept = np.flatnonzero([error is None for error in errors])
    table = FeatureTable(
        ids=[ids[row] for row in kept],
        features=np.concatenate(blocks)[kept],
        targets=np.array(targets)[kept],
        amounts=np.array([np.bincount(good[row].numbers, minlength=119) for row in kept]),
        skipped=skipped,
        source_sha256=source_sha256,
    )
    _write_cache(cached, table)
    return table


def read_extxyz(path: Path) -> list[Atoms]:
    """Read all structures of an extended XYZ file, plain or compressed, as they stand there.

    Raises:
        RecipeError: if the file cannot be read.
    """
    try:
        unpack = _UNPACK.get(path.suffix, bytes)
        text = unpack(path.read_bytes()).decode()  # whole: ASE seeks, which is slow in a compressed stream
        structures = read(io.StringIO(text), ":", format="extxyz")
    except Exception as error:  # parsers raise all kinds
        raise RecipeError(f"the data file {path} cannot be read as extended XYZ: {error}") from None
    return structures if isinstance(structures, list) else [structures]


def _write_cache(path: Path, table: FeatureTable) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary,
        ids=np.array(table.ids),
        features=table.features,
        targets=table.targets,
        amounts=table.amounts,
        skipped=np.array([list(item) for item in table.skipped.items()], dtype=str).reshape(-1, 2),
    )
    temporary.replace(path)


def _read_cache(path: Path, source_sha256: str) -> FeatureTable:
    with np.load(path, allow_pickle=False) as stored:
        return FeatureTable(
            ids=stored["ids"].tolist(),
            features=stored["features"],
            targets=stored["targets"],
            amounts=stored["amounts"],
            skipped=dict(stored["skipped"].tolist()),
            source_sha256=source_sha256,
        )

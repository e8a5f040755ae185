"""Text that changes with a structure."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

#: of a length in Angstrom: what differs by less is the same structure, read or computed in another way
_DECIMALS = 6


def fingerprint(structure: Any) -> str:
    """Return text that changes with numbers, positions, cell or periodicity.

    Args:
        structure: ASE ``Atoms``, or a row of an ASE database.
    """
    digest = hashlib.sha256(np.ascontiguousarray(structure.numbers, dtype=np.int64).tobytes())
    for lengths in (structure.positions, structure.cell):
        rounded = np.round(np.ascontiguousarray(lengths, dtype=np.float64), _DECIMALS)
        digest.update((rounded + 0.0).tobytes())  # which makes 0.0 of -0.0
    digest.update(np.ascontiguousarray(structure.pbc, dtype=bool).tobytes())
    return f"sha256:{digest.hexdigest()[:12]}"  # digits alone might be taken for a number, which ASE refuses

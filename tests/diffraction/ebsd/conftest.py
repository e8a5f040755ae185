from __future__ import annotations

import numpy as np
import pytest

from ase_matprop.diffraction.ebsd.master_pattern import MasterPattern


def cubic_pattern(size: int = 101) -> MasterPattern:
    """A made-up master pattern with the symmetry of m-3m: bright bands around {110} and {100} planes."""
    half = np.linspace(-1.0, 1.0, size)
    column, row = np.meshgrid(half, half)
    far, near = np.maximum(abs(column), abs(row)), np.minimum(abs(column), abs(row))
    angle = np.where(far > 0.0, np.pi / 4.0 * near / np.maximum(far, 1e-9), 0.0)
    radius = far * np.sqrt(2.0 - far**2)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    wide = abs(column) >= abs(row)
    x = np.sign(column) * np.where(wide, u, v)
    y = np.sign(row) * np.where(wide, v, u)
    z = 1.0 - far**2
    directions = np.stack([x, y, z], axis=-1)
    normals = [[1, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]]
    bands = [(n, 0.25) for n in normals] + [(n, 0.4) for n in np.eye(3).tolist()]
    image = sum(np.exp(-((directions @ (np.array(n) / np.linalg.norm(n))) ** 2) / (0.3 * w) ** 2) for n, w in bands)
    image = image + 2.0 * np.exp(-((1.0 - abs(directions).max(axis=-1)) ** 2) / 0.001)
    return MasterPattern(
        np.stack([image, image]).astype(np.float32),
        symmetry="m-3m",
        phase="toy",
        space_group=225,
        lattice=(3.5, 3.5, 3.5, 90.0, 90.0, 90.0),
        source="test",
    )


@pytest.fixture(scope="session")
def toy() -> MasterPattern:
    return cubic_pattern()

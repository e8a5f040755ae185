"""A laboratory's data as SchNetPack keeps them: an ASE database with units, read through its data module.

The database is also what SchNetPack's own tools take (K. T. Schütt et al., J. Chem. Phys. 158, 144801 (2023),
doi:10.1063/5.0138367).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.networks.schnetpack_adapter import schnetpack

#: an energy in the database is that of the cell, and has this name, since SchNetPack's tools expect it so
ENERGY, FORCES = "energy", "forces"


def write_database(
    path: Path,
    structures: Sequence[Atoms],
    values: NDArray[np.float64],
    forces: Sequence[NDArray[np.float64]] | None = None,
    *,
    name: str = ENERGY,
    unit: str = "eV",
) -> None:
    """Write structures with a property of their cells, and forces.

    Args:
        path: file ending in ``.db``; one that is there is replaced.
        structures: n periodic structures.
        values: one for each cell, in ``unit``, shape (n,).
        forces: in eV/Angstrom, shape (N, 3) each.
        name: of the property.
        unit: of the property.
    """
    units = {name: unit} | ({} if forces is None else {FORCES: "eV/Ang"})
    partial = path.with_name(f"{path.stem}.partial.db")  # the name must say the format
    partial.unlink(missing_ok=True)
    database = schnetpack("data").ASEAtomsData.create(str(partial), distance_unit="Ang", property_unit_dict=units)
    properties = [{name: np.array([value], dtype=np.float64)} for value in values]
    if forces is not None:
        for entry, of_atoms in zip(properties, forces, strict=True):
            entry[FORCES] = np.asarray(of_atoms, dtype=np.float64)
    bare = [Atoms(a.numbers, positions=a.positions, cell=a.cell, pbc=a.pbc) for a in structures]
    database.add_systems(properties, bare)
    partial.replace(path)


def open_database(
    path: Path, train: NDArray[np.int64], validation: NDArray[np.int64], test: NDArray[np.int64], batch_size: int
) -> Any:
    """Return SchNetPack's ``AtomsDataModule`` of a database, set up with the given partition.

    The rows of each part are given here, so that no ``split.npz`` of another run is taken and no lock file is left in
    the working directory.
    """
    module = schnetpack("data").AtomsDataModule(
        str(path), batch_size=batch_size, num_workers=0, split_file=None, pin_memory=False
    )
    module.train_idx, module.val_idx, module.test_idx = (part.tolist() for part in (train, validation, test))
    module.setup()
    return module


def read_part(
    dataset: Any, name: str = ENERGY
) -> tuple[list[Atoms], NDArray[np.float64], list[NDArray[np.float64]] | None]:
    """Return structures, values of the property ``name``, shape (n,), and forces of one part of a data module."""
    keys = schnetpack("properties")
    structures: list[Atoms] = []
    values: list[float] = []
    forces: list[NDArray[np.float64]] = []
    for index in range(len(dataset)):
        row = dataset[index]
        structures.append(
            Atoms(
                row[keys.Z].numpy(),
                positions=row[keys.R].numpy(),
                cell=row[keys.cell].numpy().reshape(3, 3),
                pbc=row[keys.pbc].numpy(),
            )
        )
        values.append(float(row[name]))
        if FORCES in row:
            forces.append(row[FORCES].numpy())
    return structures, np.array(values), forces or None

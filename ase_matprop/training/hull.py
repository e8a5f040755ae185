"""Training rows far above the convex hull, where density functional theory itself is less certain.

A. M. Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022), doi:10.1016/j.commatsci.2022.111254, section 2.5:
entries of more than 2 eV/atom above the hull were removed from the training set of NN20, not from validation and test.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import chain, combinations

import numpy as np
from ase.data import chemical_symbols
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from ase_matprop.training.datasets import FeatureTable
from ase_matprop.training.splits import Split


def remove_far_above_hull(split: Split, table: FeatureTable, cutoff: float) -> Split:
    """Take training rows out that lie more than ``cutoff`` eV/atom above the convex hull of the training rows.

    Args:
        split: the split.
        table: rows whose first target is the formation energy in eV/atom; the elements are at zero.
        cutoff: in eV/atom.
    """
    rows_of: dict[frozenset[int], list[int]] = defaultdict(list)
    for row in split.train[np.isfinite(table.targets[split.train, 0])]:
        rows_of[frozenset(table.numbers[row][table.numbers[row] > 0].tolist())].append(int(row))
    energies = table.targets[:, 0]
    far: list[int] = []
    for system, rows in rows_of.items():
        subsystems = chain.from_iterable(combinations(system, size) for size in range(1, len(system) + 1))
        members = [row for subsystem in subsystems for row in rows_of.get(frozenset(subsystem), ())]
        # the hull is nowhere below its lowest point
        suspects = [row for row in rows if energies[row] - min(0.0, energies[members].min()) > cutoff]
        if suspects:
            entries = {row: _entry(row, table) for row in members}
            diagram = PhaseDiagram([*entries.values(), *(_element(number) for number in system)])
            far += [row for row in suspects if diagram.get_e_above_hull(entries[row], allow_negative=True) > cutoff]
    removed = np.array(sorted(far), dtype=np.int64)
    return replace(
        split, train=np.setdiff1d(split.train, removed), outliers=np.union1d(split.outliers, removed).astype(np.int64)
    )


def _entry(row: int, table: FeatureTable) -> PDEntry:
    used = table.numbers[row] > 0
    symbols = (chemical_symbols[number] for number in table.numbers[row][used])
    composition = Composition(dict(zip(symbols, table.amounts[row][used], strict=True)))
    return PDEntry(composition, table.targets[row, 0] * composition.num_atoms)


def _element(number: int) -> PDEntry:
    return PDEntry(Composition({chemical_symbols[number]: 1.0}), 0.0)

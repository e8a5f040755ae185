"""Rows of a laboratory as a network takes them: features or graphs, targets, groups."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.neighbors import Graphs, neighbor_graphs
from ase_matprop.descriptors.registry import amounts_of
from ase_matprop.errors import FinetuneError
from ase_matprop.finetune.data import LabData
from ase_matprop.finetune.database import ENERGY, open_database, read_part, write_database
from ase_matprop.finetune.grouping import group_rows
from ase_matprop.finetune.reasons import grouped
from ase_matprop.finetune.references import References
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.predictor import Predictor, descriptor_of
from ase_matprop.properties import get_property
from ase_matprop.training.datasets import FeatureTable
from ase_matprop.training.loop import Rows
from ase_matprop.training.splits import Split

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: fewer rows than this teach nothing that could be measured
MINIMUM_ROWS = 5


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows that a model can learn from.

    Attributes:
        table: identifiers, features or graphs, targets of shape (n, 1), compositions; its hash is that of names,
            structures or formulas, targets and forces.
        n_atoms: number of atoms of each row (of the formula, for compositions), shape (n,).
        groups: number of the group of each row; rows of one group stay together, shape (n,).
        grouping: what the groups are, in words.
        forces: forces on all atoms in eV/Angstrom, one row behind the other, shape (N, 3), where they are learnt.
        rejected: name -> reason, for the rows that this model cannot learn from.
        references: what made the targets of total energies, None where the rows have the property themselves.
        fit_references: whether the targets are total energies per atom still, see
            :func:`~ase_matprop.finetune.division.part_of`.
    """

    table: FeatureTable
    n_atoms: Floats
    groups: Ints
    grouping: str
    forces: Floats | None
    rejected: dict[str, str]
    references: References | None = None
    fit_references: bool = False

    def __len__(self) -> int:
        return len(self.table)

    @property
    def targets(self) -> Floats:
        """The property, shape (n,)."""
        return self.table.targets[:, 0]

    @property
    def fractions(self) -> Floats:
        """Share of each atomic number among the atoms, shape (n, MAX_Z)."""
        return self.table.element_fractions(np.arange(len(self)))

    def with_features(self, features: Floats | Graphs) -> Prepared:
        """Return the same rows with other features, or the same from elsewhere."""
        return replace(self, table=replace(self.table, features=features))

    def rows(self, rows: Ints, scaled: Floats, inputs: object, *, vectors: bool, scale: float) -> Rows:
        """Return what the training loop takes of some rows.

        Args:
            rows: indices.
            scaled: what the network has to give for all rows, shape (n, 1).
            inputs: scaled features of all rows, or the graphs.
            vectors: whether the network needs the vectors of pairs.
            scale: the property's value of one unit of the network's output.
        """
        forces = None
        if self.forces is not None:
            graphs = cast(Graphs, inputs)
            forces = (self.forces[graphs.atoms_of(rows)] / scale).astype(np.float32)
        chosen = cast(Graphs, inputs)[rows]
        return Rows(chosen, scaled[rows].astype(np.float32), vectors or forces is not None, forces)


def prepare(data: LabData, predictor: Predictor) -> Prepared:
    """Make features or graphs of the rows, and leave out those that the model cannot learn from.

    Raises:
        FinetuneError: if there are too few rows; the message says why rows were left out.
    """
    rejected = dict(data.rejected)
    numbers = [set(item.numbers.tolist()) if isinstance(item, Atoms) else set(item) for item in data.items]
    kept = []
    for row, (name, elements) in enumerate(zip(data.names, numbers, strict=True)):
        unknown = predictor.unknown_elements(elements)
        if unknown:
            rejected[name] = f"the model {predictor.card.name} never saw {', '.join(unknown)}"
        else:
            kept.append(row)
    items = [data.items[row] for row in kept]
    features: Floats | Graphs
    if isinstance(predictor, AtomisticPredictor):
        features = neighbor_graphs(cast(list[Atoms], items), predictor.cutoff)
    else:
        if data.forces is not None:
            raise FinetuneError(
                f"the network {predictor.card.network.name!r} of {predictor.card.name} has no forces; fine-tune a "
                "SchNet"
            )
        features, errors = descriptor_of(predictor.card).compute(items)
        rejected |= {data.names[kept[row]]: error for row, error in enumerate(errors) if error is not None}
        good = [row for row, error in enumerate(errors) if error is None]
        features, kept, items = features[good], [kept[row] for row in good], [items[row] for row in good]
    if len(kept) < MINIMUM_ROWS:
        raise FinetuneError(_too_few(len(kept), rejected))
    slots = ElementSlots.from_amounts(amounts_of(items))
    table = FeatureTable(
        ids=[data.names[row] for row in kept],
        features=features,
        targets=data.targets[kept][:, None],
        numbers=slots.numbers,
        amounts=slots.amounts,
        held_out=np.zeros(len(kept), dtype=bool),
        skipped=rejected,
        removed={},
        source_sha256=_sha256(data, kept),
    )
    runs = [data.runs[row] for row in kept] if data.runs else []
    groups, grouping = group_rows(table.reduced_formulas(), items, runs)
    return Prepared(
        table=table,
        n_atoms=table.amounts.sum(axis=1),
        groups=groups,
        grouping=grouping,
        forces=None if data.forces is None else np.concatenate([data.forces[row] for row in kept]),
        rejected=rejected,
        references=data.references,
        fit_references=data.fit_references,
    )


def through_database(prepared: Prepared, data: LabData, cutoff: float, part: Split, path: Path) -> Graphs:
    """Write the rows into a database of SchNetPack, and return the neighbour graphs of what its data module reads.

    Args:
        prepared: all rows.
        data: where they came from.
        cutoff: of the neighbour graphs, in Angstrom.
        part: partition of the rows.
        path: of the database.
    """
    entry = get_property(data.property)
    by_name = dict(zip(data.names, data.items, strict=True))
    structures = [cast(Atoms, by_name[name]) for name in prepared.table.ids]
    is_energy = entry.is_energy and entry.per_atom
    name = ENERGY if is_energy else entry.name
    forces = None
    if prepared.forces is not None:
        forces = np.split(prepared.forces, np.cumsum(prepared.n_atoms.astype(np.int64))[:-1])
    values = prepared.targets * prepared.n_atoms if is_energy else prepared.targets
    write_database(path, structures, values, forces, name=name, unit=entry.unit.removesuffix("/atom"))
    module = open_database(path, part.train, part.validation, part.test, batch_size=16)
    stored, _, _ = read_part(module.dataset, name)
    return neighbor_graphs(stored, cutoff)


def _sha256(data: LabData, rows: list[int]) -> str:
    """Return a hash of what the rows are made of: names, structures or formulas, targets, forces."""
    digest = hashlib.sha256(json.dumps([data.property, data.fit_references]).encode())
    for row in rows:
        digest.update(json.dumps(data.names[row]).encode())
        item = data.items[row]
        if isinstance(item, Atoms):
            digest.update(item.numbers.astype(np.int64).tobytes())
            for values in (item.positions, item.cell.array):
                digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
        else:
            digest.update(json.dumps(sorted((int(number), float(amount)) for number, amount in item.items())).encode())
        digest.update(np.float64(data.targets[row]).tobytes())
        if data.forces is not None:
            digest.update(np.ascontiguousarray(data.forces[row], dtype=np.float64).tobytes())
    return digest.hexdigest()


def _too_few(n_rows: int, rejected: dict[str, str]) -> str:
    rows = "1 row" if n_rows == 1 else f"{n_rows} rows"
    message = f"{rows} can be used, at least {MINIMUM_ROWS} are needed to train and to measure the result"
    if rejected:
        message += f"; {len(rejected)} {'was' if len(rejected) == 1 else 'were'} left out: {grouped(rejected)}"
    return message

"""Rows of a laboratory as a network takes them: features or graphs, targets, groups; and their division."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, GroupShuffleSplit

from ase_matprop.descriptors.composition import ElementSlots
from ase_matprop.descriptors.neighbors import Graphs, neighbor_graphs
from ase_matprop.descriptors.registry import amounts_of
from ase_matprop.errors import FinetuneError
from ase_matprop.finetune.data import LabData
from ase_matprop.finetune.database import ENERGY, open_database, read_part, write_database
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.models.predictor import Predictor, descriptor_of
from ase_matprop.networks.schnetpack_adapter import MAX_Z
from ase_matprop.properties import get_property
from ase_matprop.training.datasets import FeatureTable
from ase_matprop.training.loop import Rows
from ase_matprop.training.splits import Split, make_split

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: fewer rows than this teach nothing that could be measured
MINIMUM_ROWS = 5
#: fewer compositions, or runs, than this cannot be divided
_MINIMUM_GROUPS, _MINIMUM_RUNS = 5, 3


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows that a model can learn from.

    Attributes:
        table: identifiers, features or graphs, targets of shape (n, 1), compositions.
        n_atoms: number of atoms of each row (of the formula, for compositions), shape (n,).
        groups: number of the group of each row; rows of one group stay together, shape (n,).
        grouping: what the groups are, in words.
        forces: forces on all atoms in eV/Angstrom, one row behind the other, shape (N, 3), where they are learnt.
        rejected: name -> reason, for the rows that this model cannot learn from.
    """

    table: FeatureTable
    n_atoms: Floats
    groups: Ints
    grouping: str
    forces: Floats | None
    rejected: dict[str, str]

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
        source_sha256="",
    )
    groups, grouping = _groups(table, [data.runs[row] for row in kept] if data.runs else [])
    return Prepared(
        table=table,
        n_atoms=table.amounts.sum(axis=1),
        groups=groups,
        grouping=grouping,
        forces=None if data.forces is None else np.concatenate([data.forces[row] for row in kept]),
        rejected=rejected,
    )


def _groups(table: FeatureTable, runs: list[str]) -> tuple[Ints, str]:
    """Return the number of the group of each row, and what the groups are; a row without a run is one of its own."""
    formulas = table.reduced_formulas()
    if len(np.unique(formulas)) >= _MINIMUM_GROUPS:
        return formulas, "reduced formula"
    labels = [run or f"row {row}" for row, run in enumerate(runs)]
    if any(runs) and len(set(labels)) >= _MINIMUM_RUNS:
        return np.unique(labels, return_inverse=True)[1].astype(np.int64), "run, since there are too few compositions"
    return np.arange(len(table)), "row, since there are too few compositions"


def divide(prepared: Prepared, *, test: float, validation: float, seed: int) -> Split:
    """Divide rows at random, groups as a whole.

    Raises:
        FinetuneError: if the shares leave a set empty.
    """
    for name, share in (("test", test), ("validation", validation)):
        if not 0.0 < share < 0.9:
            raise FinetuneError(f"the share {name} must be between 0 and 0.9. Got {share!r}.")
    n_groups = len(np.unique(prepared.groups))
    if min(test, validation) * n_groups < 1.0:
        shortest = 1.0 / n_groups
        test, validation = max(test, shortest + 1e-9), max(validation, shortest + 1e-9)
    if test + validation >= 0.9:
        raise FinetuneError(
            f"{n_groups} groups of rows (by {prepared.grouping}) cannot be divided into training, validation and test; "
            "add runs of other compositions"
        )
    return make_split(len(prepared), test=test, validation=validation, seed=seed, groups=prepared.groups)


def divisions(prepared: Prepared, *, test: float, validation: float, folds: int | None, seed: int) -> list[Split]:
    """Return one division of the rows, or with ``folds`` one for each part of a cross-validation.

    Raises:
        FinetuneError: if the rows cannot be divided so.
    """
    if folds is None:
        return [divide(prepared, test=test, validation=validation, seed=seed)]
    n_groups = len(np.unique(prepared.groups))
    if not isinstance(folds, int) or not 2 <= folds <= n_groups:
        raise FinetuneError(f"folds must be between 2 and the number of groups of rows, {n_groups}. Got {folds!r}.")
    splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    share = min(0.5, validation / (1.0 - 1.0 / folds))
    parts = []
    for rest, tested in splitter.split(prepared.groups, groups=prepared.groups):
        train, chosen = hold_out(prepared, rest, share, seed)
        parts.append(Split(train, chosen, np.sort(tested), np.empty(0, dtype=np.int64)))
    return parts


def undivided(prepared: Prepared, *, validation: float, seed: int) -> Split:
    """Return a division without test rows."""
    train, chosen = hold_out(prepared, np.arange(len(prepared)), validation, seed)
    nothing = np.empty(0, dtype=np.int64)
    return Split(train, chosen, nothing, nothing)


def hold_out(prepared: Prepared, rows: Ints, share: float, seed: int) -> tuple[Ints, Ints]:
    """Divide some rows into those for training and those for validation, groups as a whole and at least one each."""
    groups = prepared.groups[rows]
    share = max(share, 1.0 / len(np.unique(groups)))
    splitter = GroupShuffleSplit(1, test_size=min(share, 0.5), random_state=seed)
    try:
        kept, held = next(splitter.split(rows, groups=groups))
    except ValueError:
        raise FinetuneError("the rows are too few, or of too few compositions, to be divided") from None
    return np.sort(rows[kept]), np.sort(rows[held])


def through_database(prepared: Prepared, data: LabData, cutoff: float, part: Split, path: Path) -> Prepared:
    """Write the rows into a database of SchNetPack, and take the structures from its data module.

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
    return replace(prepared, table=replace(prepared.table, features=neighbor_graphs(stored, cutoff)))


def elements_of(prepared: Prepared) -> list[str]:
    """Symbols of the elements of all rows, by atomic number."""
    return [chemical_symbols[number] for number in np.unique(prepared.table.numbers) if 0 < number < MAX_Z]


def _too_few(n_rows: int, rejected: dict[str, str]) -> str:
    rows = "1 row" if n_rows == 1 else f"{n_rows} rows"
    message = f"{rows} can be used, at least {MINIMUM_ROWS} are needed to train and to measure the result"
    if rejected:
        name, reason = next(iter(rejected.items()))
        message += f"; {len(rejected)} were left out, the first one ({name}): {reason}"
    return message

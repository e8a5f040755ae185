"""How wrong a model is on some rows of a laboratory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from ase import Atoms
from ase.units import kcal, mol
from numpy.typing import NDArray

from ase_matprop.compositions import format_formula
from ase_matprop.descriptors.neighbors import Graphs
from ase_matprop.finetune.adapt import predict_rows
from ase_matprop.finetune.division import Part
from ase_matprop.finetune.prepared import Prepared
from ase_matprop.models.artefact import Artefact
from ase_matprop.models.atomistic import AtomisticPredictor
from ase_matprop.properties import MaterialProperty

Floats = NDArray[np.float64]

#: what made the predictions
SOURCE, SHIFTED, TUNED, SCRATCH = "source", "source, shifted", "fine-tuned", "from scratch"
#: 1 kcal/mol in eV
CHEMICAL_ACCURACY = kcal / mol


@dataclass(frozen=True)
class Errors:
    """Errors on one set of rows.

    Attributes:
        n: number of rows.
        mae: mean absolute error in the unit of the property.
        rmse: root of the mean squared error.
        median: median absolute error.
        largest: largest absolute error.
        within_chemical_accuracy_per_atom: share of the rows whose error is at most 1 kcal/mol per atom; None for a
            property that is no energy.
        within_chemical_accuracy_per_cell: the same for the error of the whole cell.
        forces_mae: mean absolute error of the force components in eV/Angstrom, where forces were learnt.
    """

    n: int
    mae: float
    rmse: float
    median: float
    largest: float
    within_chemical_accuracy_per_atom: float | None = None
    within_chemical_accuracy_per_cell: float | None = None
    forces_mae: float | None = None

    @classmethod
    def of(
        cls,
        predicted: Floats,
        reference: Floats,
        n_atoms: Floats | None = None,
        forces_mae: float | None = None,
    ) -> Errors:
        """Measure predictions.

        Args:
            predicted: shape (n,).
            reference: shape (n,).
            n_atoms: number of atoms of each cell, shape (n,), if the property is an energy per atom.
            forces_mae: as measured elsewhere.
        """
        errors = np.abs(predicted - reference)
        per_atom = per_cell = None
        if n_atoms is not None:
            per_atom = float((errors <= CHEMICAL_ACCURACY).mean())
            per_cell = float((errors * n_atoms <= CHEMICAL_ACCURACY).mean())
        return cls(
            n=len(errors),
            mae=float(errors.mean()),
            rmse=float(np.sqrt((errors**2).mean())),
            median=float(np.median(errors)),
            largest=float(errors.max()),
            within_chemical_accuracy_per_atom=per_atom,
            within_chemical_accuracy_per_cell=per_cell,
            forces_mae=forces_mae,
        )

    @property
    def score(self) -> float:
        """What decides which model is better: the error, and that of forces where they were learnt."""
        return self.mae + (self.forces_mae or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def measure(
    models: Mapping[str, Sequence[Artefact]], parts: Sequence[Part], entry: MaterialProperty
) -> tuple[dict[str, Errors], pd.DataFrame]:
    """Measure models on held-out rows.

    Args:
        models: by name, the model that belongs to each division of the rows.
        parts: divisions of the same rows; each row is held out in at most one of them.
        entry: the property.

    Returns:
        The errors of each, and a table of the held-out rows with columns name, formula, n_atoms, reference and one of
        predictions for each model.
    """
    prepared = parts[0].rows
    tested = np.sort(np.concatenate([part.split.test for part in parts]))
    all_targets = np.full(len(prepared), np.nan)
    for part in parts:
        all_targets[part.split.test] = part.rows.targets[part.split.test]
    targets = all_targets[tested]
    is_energy = entry.is_energy and entry.per_atom
    table = prepared.table
    columns: dict[str, Any] = {
        "name": [table.ids[row] for row in tested],
        "formula": [_formula(prepared, row) for row in tested],
        "n_atoms": prepared.n_atoms[tested],
        "reference": targets,
    }
    errors: dict[str, Errors] = {}
    for name, of_parts in models.items():
        predicted = np.full(len(prepared), np.nan)
        force_errors: list[Floats] = []
        for part, model in zip(parts, of_parts, strict=True):
            predicted[part.split.test] = predict_rows(model, part.rows)[part.split.test]
            if prepared.forces is not None:
                force_errors += _force_errors(model, prepared, part.split.test)
        columns[name] = predicted[tested]
        errors[name] = Errors.of(
            predicted[tested],
            targets,
            prepared.n_atoms[tested] if is_energy else None,
            float(np.abs(np.concatenate(force_errors)).mean()) if force_errors else None,
        )
    return errors, pd.DataFrame(columns)


def _force_errors(model: Artefact, prepared: Prepared, rows: Sequence[int] | NDArray[np.int64]) -> list[Floats]:
    """Return the errors of the forces on the atoms of each row, shape (N, 3) each."""
    graphs = cast(Graphs, prepared.table.features)
    predictor = AtomisticPredictor(model)
    assert prepared.forces is not None
    found = []
    for row in rows:
        one = graphs[[row]]
        atoms = Atoms(one.numbers, positions=one.positions, cell=one.cells[0], pbc=True)
        found.append(predictor.calculate(atoms).forces - prepared.forces[graphs.atoms_of([row])])
    return found


def _formula(prepared: Prepared, row: int) -> str:
    numbers, amounts = prepared.table.numbers[row], prepared.table.amounts[row]
    return format_formula({int(n): float(a) for n, a in zip(numbers, amounts, strict=True) if n})

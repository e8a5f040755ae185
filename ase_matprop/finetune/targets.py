"""What is learnt from a row: the property as it stands there, or what references make of a total energy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ase import Atoms

from ase_matprop.errors import FinetuneError, MatPropError
from ase_matprop.finetune.reasons import grouped
from ase_matprop.finetune.references import (
    References,
    element_amounts,
    references_from_table,
    references_of_each,
)
from ase_matprop.finetune.sources import Row, listed, number
from ase_matprop.finetune.vasp import VaspRuns
from ase_matprop.properties import MaterialProperty, get_property
from ase_matprop.structures import as_atoms

ReferencesLike = References | Mapping[str, float] | str | os.PathLike[str] | None

TOTAL, ABOVE_FITTED = "energy_per_atom", "energy_above_fitted_references_per_atom"


@dataclass
class Targets:
    """Rows with what is learnt from them.

    Attributes:
        rows: those that may be learnt from.
        values: the property of each, None where a row has none.
        property: its name.
        missing: why a row has none.
        references: what made it of total energies.
        fit_references: whether the values are total energies per atom, less fitted references once these are known.
    """

    rows: list[Row]
    values: Sequence[float | None]
    property: str
    missing: str
    references: References | None = None
    fit_references: bool = False
    notes: list[str] = field(default_factory=list)


def targets_of(
    rows: list[Row],
    runs: VaspRuns | None,
    property: str,
    column: str | None,
    references: ReferencesLike,
    rejected: dict[str, str],
    *,
    forces: bool = False,
) -> Targets:
    """Return what is learnt from the rows.

    Args:
        rows: as they were found.
        runs: the VASP runs that they are frames of.
        property: what is wanted.
        column: under which name it stands in the data, or the total energies do.
        references: as for :func:`~ase_matprop.finetune.data.read_data`.
        rejected: gets the rows that cannot be learnt from, name -> reason.
        forces: whether forces are learnt besides.

    Raises:
        FinetuneError: if the rows do not have what is wanted.  Energies take the place of energies per atom only.
        MatPropError: if references cannot be read, or no row has any.
    """
    entry = get_property(property)
    key = column or property
    if column is not None and not any(number(row.values.get(column)) is not None for row in rows):
        raise FinetuneError(f"no row has a number {column!r}; the first one has {listed(rows[0].values)}")
    is_there = any(number(row.values.get(key)) is not None for row in rows)
    if not (entry.is_energy and entry.per_atom):
        _check_other_property(entry, key, rows, references, forces=forces, is_there=is_there)
    elif not is_there or references is not None:
        return _of_energies(rows, runs, property, column, references, rejected)
    elif forces:
        raise FinetuneError(
            "forces are learnt with total energies; give references='none' (--references none), or a table of them "
            "(--references table.csv)"
        )
    return Targets(rows, [number(row.values.get(key)) for row in rows], property, f"no number {key!r}")


def _check_other_property(
    entry: MaterialProperty, key: str, rows: list[Row], references: ReferencesLike, *, forces: bool, is_there: bool
) -> None:
    """Raise if the rows lack a property for which energies are no substitute."""
    if not is_there:
        raise FinetuneError(
            f"the rows have no {key!r}, and energies do not stand for the {entry.long_name}: name it with "
            "column=... (--column ...), or if energies are to be learnt say so with "
            "property='formation_energy_per_atom' or property='energy_per_atom' (--property energy_per_atom; the "
            f"first row has {listed(rows[0].values)})"
        )
    if forces or references not in (None, "none"):
        raise FinetuneError(
            f"references and forces go with energies, and the property is {entry.name!r}; leave them out, or choose "
            "another with property=... (--property ...)"
        )


def _of_energies(
    rows: list[Row],
    runs: VaspRuns | None,
    property: str,
    column: str | None,
    references: ReferencesLike,
    rejected: dict[str, str],
) -> Targets:
    if column is not None and column != "energy":
        rows = [replace(row, energy=number(row.values.get(column))) for row in rows]
    if not any(row.energy is not None for row in rows):
        raise FinetuneError(
            f"the rows have neither {column or property!r} nor energies; name the column or key with column=... "
            f"(--column ...; the first row has {listed(rows[0].values)})"
        )
    if references is None and property == TOTAL:
        references = "none"
    if references is None and property == ABOVE_FITTED:
        raise FinetuneError(
            "energies above fitted references need these references: give references='fitted' (--references fitted) "
            "for a fit to these rows, or those of the model (References.from_dict of what its card has under recipe, "
            "finetune, references)"
        )
    if isinstance(references, str) and references in ("none", "fitted"):
        values, rows = _relative(rows, [None] * len(rows), rejected, of_cells=references == "none")
        if references == "none":
            return Targets(rows, values, TOTAL, "no energy")
        return Targets(rows, values, ABOVE_FITTED, "no energy", fit_references=True)
    if references is None:
        of_rows, made = _of_own_runs(rows, runs)
    else:
        made = references if isinstance(references, References) else references_from_table(references)
        of_rows = [made] * len(rows)
    values, rows = _relative(rows, of_rows, rejected)
    return Targets(rows, values, made.property, "no energy", made, notes=[made.description, *made.undetermined])


def _of_own_runs(rows: list[Row], runs: VaspRuns | None) -> tuple[list[References | None], References]:
    """Return the references of each row out of the elements' own runs, and those that stand for all of them."""
    if runs is None:
        raise FinetuneError(
            "the rows have total energies, and formation energies need references: give a table of element "
            "-> eV/atom (references='table.csv', --references table.csv), references='fitted' (--references fitted), "
            "or references='none' (--references none) to learn total energies; or name the column of formation "
            "energies with column=... (--column ...)"
        )
    of_each, overview = references_of_each(runs)
    of_run = {id(run): each for run, each in zip(runs.used, of_each, strict=True)}
    return [of_run[id(row.run)] for row in rows], overview


def _relative(
    rows: list[Row], references: Sequence[References | None], rejected: dict[str, str], *, of_cells: bool = False
) -> tuple[list[float | None], list[Row]]:
    """Return the energy of each row above its references in eV/atom, None without, and the rows but for references.

    With ``of_cells``, a row must have a cell: nothing but that says of how many atoms its energy is.
    """
    values: list[float | None] = []
    kept: list[Row] = []
    failures: dict[str, MatPropError] = {}
    for row, levels in zip(rows, references, strict=True):
        value = None
        try:
            amounts = element_amounts(_atoms_or_formula(row.item))
            if levels is not None and levels.kind == "runs" and len(amounts) == 1:
                # zero by definition, and O2 in its box is no crystal
                rejected[row.name] = "is a run of an element: a reference, not a row"
                continue
            if of_cells and row.energy is not None and isinstance(row.item, str):
                raise FinetuneError("the energy of a formula is not that of a cell; give structures or references")
            if row.energy is not None:
                n_atoms = sum(amounts.values())
                value = row.energy / n_atoms if levels is None else levels.relative_energy_per_atom(amounts, row.energy)
        except MatPropError as error:
            failures[row.name] = error
        kept.append(row)
        values.append(value)
    if failures and not any(value is not None for value in values):
        first = next(iter(failures.values()))
        reasons = {name: str(error) for name, error in failures.items()}
        if len(set(reasons.values())) == 1:
            raise first
        raise type(first)(f"{first}. None of the {len(rows)} rows can be used: {grouped(reasons, short=True)}")
    rejected |= {name: str(error) for name, error in failures.items()}
    return values, kept


def _atoms_or_formula(item: Any) -> Atoms | str:
    return item if isinstance(item, (Atoms, str)) else as_atoms(item)

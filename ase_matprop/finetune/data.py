"""A laboratory's own data in whatever form they come, as rows with a target: VASP runs, databases, files, tables."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.compositions import composition_entries
from ase_matprop.errors import FinetuneError, MatPropError
from ase_matprop.finetune.references import (
    References,
    fitted_references,
    references_from_runs,
    references_from_table,
)
from ase_matprop.finetune.sources import Row, is_vasp, listed, number, rows_of, rows_of_runs
from ase_matprop.finetune.vasp import VaspRuns, read_vasp
from ase_matprop.properties import PROPERTIES, get_property
from ase_matprop.structures import as_atoms

if TYPE_CHECKING:
    pass

Floats = NDArray[np.float64]
Amounts = Mapping[int, float]
ReferencesLike = References | Mapping[str, float] | str | os.PathLike[str] | None
Progress = Callable[[int, int | None], None]

_TOTAL = "energy_per_atom"


@dataclass(frozen=True, eq=False)
class LabData:
    """Rows with a target.

    Attributes:
        names: where each row came from; no two are the same.
        items: structures, or amounts of the elements (atomic number -> amount).
        targets: the property in its unit, shape (n,).
        property: name of the property (see :mod:`ase_matprop.properties`).
        forces: forces on the atoms of each row in eV/Angstrom, shape (N, 3) each, where they are learnt besides.
        references: what made the property of total energies, None where the data have the property themselves.
        rejected: name -> reason, for what cannot be used.
        notes: what the user should know.
        source: where the data came from, for the model card.
        runs: the run that each row is a frame of, empty where there is none; no list where nothing is known.
    """

    names: list[str]
    items: list[Atoms | Amounts]
    targets: Floats
    property: str
    forces: list[Floats] | None = None
    references: References | None = None
    rejected: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    source: str = ""
    runs: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @builtins.property  # the field named property hides it
    def unit(self) -> str:
        """Unit of the targets."""
        return get_property(self.property).unit


def read_data(
    data: Any,
    *,
    property: str = "formation_energy_per_atom",
    column: str | None = None,
    references: ReferencesLike = None,
    forces: bool = False,
    steps: str | None = None,
    allow_mixed: bool = False,
    needs_structure: bool = True,
    progress: Progress | None = None,
) -> LabData:
    """Read a laboratory's own data.

    Args:
        data: folder or files of VASP runs; an ASE database (``.db``, ``.json``), extended XYZ or CSV file; a pandas
            DataFrame with a column ``structure`` (or ``formula``, for models that need no structure); a list of ASE
            ``Atoms``; :class:`~ase_matprop.finetune.VaspRuns`; or :class:`LabData`, which are passed on.
        property: what is learnt, where the data have it.
        column: name under which the property stands in the data, if that is another one.
        references: what makes formation energies of total energies: None for the elements' own runs among VASP runs;
            a mapping of element -> eV/atom or the path of a table; :class:`~ase_matprop.finetune.References`;
            ``"fitted"`` for a least-squares fit, whose result is called energy above fitted references; ``"none"`` for
            total energies as they are.
        forces: whether forces are learnt besides.
        steps: ``"last"`` or ``"all"`` ionic steps of VASP runs; all where forces are learnt, else the last.
        allow_mixed: whether VASP runs with incompatible settings may come together.
        needs_structure: whether a formula alone does not do.
        progress: called with the numbers of done and of all VASP runs.

    Raises:
        FinetuneError: if there is nothing to learn from.
        MatPropError: for runs that do not go together, missing references, unreadable files.
    """
    if isinstance(data, LabData):
        return data
    runs: VaspRuns | None = None
    if isinstance(data, VaspRuns):
        data.check_compatible(allow_mixed)
        runs = data
    elif is_vasp(data):
        runs = read_vasp(
            data,
            steps="all" if (steps or ("all" if forces else "last")) == "all" else "last",
            forces=forces,
            allow_mixed=allow_mixed,
            progress=progress,
        )
    if runs is not None:
        runs.check_usable()
        rows, source = rows_of_runs(runs), "VASP runs"
        rejected = {run.path: run.reason or "" for run in runs.rejected}
    else:
        rows, source = rows_of(data)
        rejected = {}
    if not rows:
        raise FinetuneError(
            f"{source}: no row in it; give a folder of VASP runs, an ASE database, extended XYZ or a table"
        )
    if forces:  # they are the slopes of the free energy
        for row in rows:
            row.energy = row.energy if row.free_energy is None else row.free_energy
    found = _with_targets(rows, runs, property, column, references, rejected, forces, allow_mixed)
    return _checked(*found, rejected=rejected, source=source, needs_structure=needs_structure)


def _with_targets(
    rows: list[Row],
    runs: VaspRuns | None,
    property: str,
    column: str | None,
    references: ReferencesLike,
    rejected: dict[str, str],
    forces: bool,
    allow_mixed: bool,
) -> tuple[list[Row], list[float], str, References | None, list[str], bool]:
    """Return the rows that have a target, the targets, and what they are."""
    key = column or property
    if column is not None and not any(number(row.values.get(column)) is not None for row in rows):
        raise FinetuneError(f"no row has a number {column!r}; the first one has {listed(rows[0].values)}")
    notes: list[str] = []
    if any(number(row.values.get(key)) is not None for row in rows) and references is None:
        if forces:
            raise FinetuneError("forces are learnt with total energies; give references or references='none'")
        targets = [number(row.values.get(key)) for row in rows]
        reason, made = f"no number {key!r}", None
    else:
        if column is not None and column != "energy":
            rows = [replace(row, energy=number(row.values.get(column))) for row in rows]
        if not any(row.energy is not None for row in rows):
            raise FinetuneError(
                f"the rows have neither {key!r} nor energies; name the column or key with the option column "
                f"(the first row has {listed(rows[0].values)})"
            )
        made = _references(rows, runs, references, allow_mixed)
        property = _TOTAL if made is None else made.property
        rows, targets = _relative_energies(rows, made, rejected)
        reason = "no energy"
        notes = [] if made is None else [made.description, *made.undetermined]
    if property not in PROPERTIES:
        get_property(property)
    good = [index for index, target in enumerate(targets) if target is not None]
    for index in sorted(set(range(len(rows))) - set(good)):
        rejected.setdefault(rows[index].name, reason)
    return [rows[i] for i in good], [float(targets[i] or 0.0) for i in good], property, made, notes, forces


def _references(
    rows: list[Row], runs: VaspRuns | None, references: ReferencesLike, allow_mixed: bool
) -> References | None:
    if isinstance(references, References):
        return references
    if references == "none":
        return None
    if references == "fitted":
        known = [row for row in rows if row.energy is not None]
        items = [_atoms_or_formula(row.item) for row in known]
        return fitted_references(items, [float(row.energy or 0.0) for row in known])
    if references is not None:
        return references_from_table(references)
    if runs is None:
        raise FinetuneError(
            "the rows have total energies, and formation energies need references: give references as a table of "
            "element -> eV/atom, references='fitted', or references='none' to learn total energies"
        )
    elements = {symbol for row in rows for symbol in row.item.symbols} - set(runs.missing_elements())
    return references_from_runs(runs, elements or None, allow_mixed=allow_mixed)


def _relative_energies(
    rows: list[Row], references: References | None, rejected: dict[str, str]
) -> tuple[list[Row], list[float | None]]:
    """Return the rows but for those of references, and the energy of each above these in eV/atom, None without."""
    if references is not None and references.kind == "runs":  # zero by definition, and O2 in its box is no crystal
        elemental = [row for row in rows if len(set(row.item.numbers.tolist())) == 1]
        rejected |= {row.name: "is a run of an element: a reference, not a row" for row in elemental}
        rows = [row for row in rows if row.name not in rejected]
    targets: list[float | None] = []
    failures: dict[str, MatPropError] = {}
    for row in rows:
        target = None
        try:
            if row.energy is not None:
                target = _relative_energy(row, row.energy, references)
        except MatPropError as error:
            failures[row.name] = error
        targets.append(target)
    if failures and not any(target is not None for target in targets):
        raise next(iter(failures.values()))
    rejected |= {name: str(error) for name, error in failures.items()}
    return rows, targets


def _relative_energy(row: Row, energy: float, references: References | None) -> float:
    item = _atoms_or_formula(row.item)
    if references is not None:
        return references.relative_energy_per_atom(item, energy)
    if isinstance(item, str):
        raise FinetuneError("the energy of a formula is not that of a cell; give structures or references")
    return energy / len(item)


def _atoms_or_formula(item: Any) -> Atoms | str:
    return item if isinstance(item, (Atoms, str)) else as_atoms(item)


def _checked(
    rows: Sequence[Row],
    targets: Sequence[float],
    property: str,
    references: References | None,
    notes: list[str],
    forces: bool,
    *,
    rejected: dict[str, str],
    source: str,
    needs_structure: bool,
) -> LabData:
    """Drop rows whose structure or formula cannot be used, and make names unique."""
    names: list[str] = []
    items: list[Atoms | Amounts] = []
    kept: list[int] = []
    runs: list[str] = []
    taken: set[str] = set()
    for index, row in enumerate(rows):
        name = row.name
        while name in taken:
            name = f"{row.name} ({index})"
        try:
            item = as_atoms(row.item, name=name) if needs_structure else _amounts(row.item)
        except MatPropError as error:
            rejected[name] = str(error)
            continue
        if forces and row.forces is None:
            rejected[name] = "has no forces"
            continue
        taken.add(name)
        names.append(name)
        items.append(item)
        kept.append(index)
        runs.append(str(row.values.get("run") or getattr(row.item, "info", {}).get("run") or ""))
    return LabData(
        names=names,
        items=items,
        targets=np.array([targets[index] for index in kept], dtype=np.float64),
        property=property,
        forces=[np.asarray(rows[index].forces, dtype=np.float64) for index in kept] if forces else None,
        references=references,
        rejected=rejected,
        notes=notes,
        source=source,
        runs=runs,
    )


def _amounts(item: Any) -> Amounts:
    (entry,) = composition_entries([item])
    if entry.error is not None or entry.item is None:
        raise FinetuneError(str(entry.error))
    return entry.item

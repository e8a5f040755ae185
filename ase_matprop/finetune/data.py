"""A laboratory's own data in whatever form they come, as rows with a target: VASP runs, databases, files, tables."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ase_matprop.compositions import composition_entries
from ase_matprop.errors import FinetuneError, MatPropError, unknown_name
from ase_matprop.finetune.plausible import implausible, implausible_forces
from ase_matprop.finetune.reasons import grouped
from ase_matprop.finetune.references import References
from ase_matprop.finetune.sources import is_vasp, rows_of, rows_of_runs
from ase_matprop.finetune.targets import TOTAL, ReferencesLike, Targets, targets_of
from ase_matprop.finetune.vasp import VaspRuns, read_vasp
from ase_matprop.finetune.vasp.selection import SPRING_FORCES
from ase_matprop.properties import get_property
from ase_matprop.structures import as_atoms

Floats = NDArray[np.float64]
Amounts = Mapping[int, float]
Progress = Callable[[int, int | None], None]

_STEPS = ("last", "all")


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
        fit_references: whether the targets are total energies per atom still: the property is these less references
            that are fitted to the rows for training, once it is known which these are.
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
    fit_references: bool = False

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
            ``"fitted"`` for a least-squares fit to the rows for training, which makes energies above fitted references;
            ``"none"`` for total energies as they are.
        forces: whether forces are learnt besides.
        steps: ``"last"`` or ``"all"`` ionic steps of VASP runs; all where forces are learnt, else the last.
        allow_mixed: whether VASP runs with incompatible settings may come together.  Formation energies of each are
            those above the elements' runs with its own settings.
        needs_structure: whether a formula alone does not do.
        progress: called with the numbers of done and of all VASP runs.

    Raises:
        FinetuneError: if there is nothing to learn from.
        MatPropError: for runs that do not go together, missing references, unreadable files.
    """
    if steps is not None and steps not in _STEPS:
        raise unknown_name("steps setting", steps, _STEPS)
    if isinstance(data, LabData):
        return data
    runs: VaspRuns | None = None
    if isinstance(data, VaspRuns):
        _check_read(data, steps, forces=forces)
        data.check_compatible(allow_mixed)
        runs = data
    elif is_vasp(data):
        chosen = cast(Literal["last", "all"], steps or ("all" if forces else "last"))
        runs = read_vasp(data, steps=chosen, forces=forces, allow_mixed=allow_mixed, progress=progress)
    rejected: dict[str, str] = {}
    if runs is not None:
        runs.check_usable()
        rows, source = rows_of_runs(runs), "VASP runs"
        rejected = {run.path: run.reason or "" for run in runs.rejected}
    else:
        rows, source = rows_of(data)
    if forces:
        rejected |= {row.name: SPRING_FORCES for row in rows if row.run is not None and row.run.is_image}
        rows = [row for row in rows if row.name not in rejected]
        for row in rows:  # forces are the slopes of the free energy
            row.energy = row.energy if row.free_energy is None else row.free_energy
    if not rows:
        raise FinetuneError(
            f"{source}: no row in it; give a folder of VASP runs, an ASE database, extended XYZ or a table"
            + (f" ({len(rejected)} rejected: {grouped(rejected)})" if rejected else "")
        )
    targets = targets_of(rows, runs, property, column, references, rejected, forces=forces)
    return _plausible(_checked(targets, rejected, source, forces=forces, needs_structure=needs_structure))


def _check_read(runs: VaspRuns, steps: str | None, *, forces: bool) -> None:
    """Raise if runs were read for something else than they are wanted for."""
    if forces and runs.energy != "free":
        raise FinetuneError(
            "the runs were read with energy(sigma->0), and forces are the slopes of the free energy, as those of the "
            "elements must be; read them with read_vasp(..., forces=True)"
        )
    if steps is not None:
        raise FinetuneError("the runs are read already; choose their steps with read_vasp(..., steps=...)")


def _checked(
    targets: Targets, rejected: dict[str, str], source: str, *, forces: bool, needs_structure: bool
) -> LabData:
    """Drop rows that have no target, or whose structure or formula cannot be used."""
    names: list[str] = []
    items: list[Atoms | Amounts] = []
    values: list[float] = []
    of_atoms: list[Floats] = []
    runs: list[str] = []
    for row, value in zip(targets.rows, targets.values, strict=True):
        if value is None:
            rejected.setdefault(row.name, targets.missing)
            continue
        try:
            item = as_atoms(row.item, name=row.name) if needs_structure else _amounts(row.item)
        except MatPropError as error:
            rejected[row.name] = str(error)
            continue
        if forces and row.forces is None:
            rejected[row.name] = "has no forces"
            continue
        names.append(row.name)
        items.append(item)
        values.append(value)
        if forces:
            of_atoms.append(np.asarray(row.forces, dtype=np.float64))
        info = getattr(row.item, "info", {})
        runs.append(row.run.path if row.run is not None else str(row.values.get("run") or info.get("run") or ""))
    return LabData(
        names=names,
        items=items,
        targets=np.array(values, dtype=np.float64),
        property=targets.property,
        forces=of_atoms if forces else None,
        references=targets.references,
        rejected=rejected,
        notes=targets.notes,
        source=source,
        runs=runs,
        fit_references=targets.fit_references,
    )


def _plausible(data: LabData) -> LabData:
    """Return the rows without those whose energy or forces no calculation can mean."""
    entry = get_property(data.property)
    reasons: dict[int, str] = {}
    if data.forces is not None:
        of_forces = map(implausible_forces, data.forces)
        reasons = {row: reason for row, reason in enumerate(of_forces) if reason is not None}
    if entry.is_energy and entry.per_atom:
        reasons |= implausible(data.targets, data.items, total=data.fit_references or data.property == TOTAL)
    if not reasons:
        return data
    kept = [row for row in range(len(data)) if row not in reasons]
    return replace(
        data,
        names=[data.names[row] for row in kept],
        items=[data.items[row] for row in kept],
        targets=data.targets[kept],
        forces=None if data.forces is None else [data.forces[row] for row in kept],
        rejected=data.rejected | {data.names[row]: reason for row, reason in sorted(reasons.items())},
        runs=[data.runs[row] for row in kept],
    )


def _amounts(item: Any) -> Amounts:
    (entry,) = composition_entries([item])
    if entry.error is not None or entry.item is None:
        raise FinetuneError(str(entry.error))
    return entry.item

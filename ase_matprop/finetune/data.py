"""A laboratory's own data in whatever form they come, as rows with a target: VASP runs, databases, files, tables."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
from ase_matprop.finetune.vasp import VaspRuns, read_vasp
from ase_matprop.properties import PROPERTIES, get_property
from ase_matprop.structures import as_atoms
from ase_matprop.training.readers import TABLE_ENDINGS, XYZ_ENDINGS, read_extxyz

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Amounts = Mapping[int, float]
ReferencesLike = References | Mapping[str, float] | str | os.PathLike[str] | None
Progress = Callable[[int, int | None], None]

_STRUCTURE_COLUMNS = ("structure", "atoms")
_FORMULA_COLUMNS = ("formula", "composition")
_NAME_KEYS = ("name", "material_id", "id")
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


@dataclass(eq=False)
class _Row:
    """One row as it was found: what it is, the numbers that stand with it, and the results of a calculation."""

    name: str
    item: Any
    values: Mapping[str, Any]
    energy: float | None = None
    forces: Floats | None = None


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
    elif _is_vasp(data):
        runs = read_vasp(
            data,
            steps="all" if (steps or ("all" if forces else "last")) == "all" else "last",
            forces=forces,
            allow_mixed=allow_mixed,
            progress=progress,
        )
    if runs is not None:
        runs.check_usable()
        rows, source = list(_of_runs(runs)), "VASP runs"
        rejected = {run.path: run.reason or "" for run in runs.rejected}
    else:
        rows, source = _rows(data)
        rejected = {}
    if not rows:
        raise FinetuneError(
            f"{source}: no row in it; give a folder of VASP runs, an ASE database, extended XYZ or a table"
        )
    found = _with_targets(rows, runs, property, column, references, rejected, forces, allow_mixed)
    return _checked(*found, rejected=rejected, source=source, needs_structure=needs_structure)


def _is_vasp(data: Any) -> bool:
    """Whether ``data`` are paths, none of which names another kind of file."""
    items = [data] if isinstance(data, (str, os.PathLike)) else data
    if not isinstance(items, (list, tuple)) or not items or not all(isinstance(i, (str, os.PathLike)) for i in items):
        return False
    return not any(_kind(Path(item)) for item in items)


def _kind(path: Path) -> str | None:
    """Return ``db``, ``xyz`` or ``csv`` by the name of a file, None for others."""
    name = path.name.lower()
    for packed in (".xz", ".gz", ".bz2"):
        name = name.removesuffix(packed)
    if name.endswith((".db", ".json", ".aselmdb")):
        return "db"
    return "xyz" if name.endswith(XYZ_ENDINGS) else "csv" if name.endswith(TABLE_ENDINGS) else None


def _rows(data: Any) -> tuple[list[_Row], str]:
    """Return the rows of what is no VASP run, and what it is."""
    if isinstance(data, (str, os.PathLike)):
        return _of_file(Path(data))
    if hasattr(data, "columns") and hasattr(data, "iterrows"):
        return _of_frame(data), "a table"
    if isinstance(data, Atoms):
        data = [data]
    if isinstance(data, Iterable) and not isinstance(data, Mapping):
        items = list(data)
        if all(isinstance(item, Atoms) for item in items):
            return [_of_atoms(atoms, f"structure {index}") for index, atoms in enumerate(items)], "a list of structures"
        if all(isinstance(item, (str, os.PathLike)) for item in items):
            parts = [_of_file(Path(item)) for item in items]
            return [row for rows, _ in parts for row in rows], " and ".join(source for _, source in parts)
    raise FinetuneError(
        "the data must be a folder of VASP runs, an ASE database, an extended XYZ or CSV file, a DataFrame or a list "
        f"of Atoms. Got {type(data).__name__}."
    )


def _of_file(path: Path) -> tuple[list[_Row], str]:
    if not path.is_file():
        raise FinetuneError(f"{path} does not exist; give a folder of VASP runs or a file")
    kind = _kind(path)
    if kind == "csv":
        import pandas as pd

        return _of_frame(pd.read_csv(path)), path.name
    if kind == "db":
        return list(_of_database(path)), path.name
    return [_of_atoms(atoms, f"{path.name}#{index}") for index, atoms in enumerate(read_extxyz(path))], path.name


def _of_database(path: Path) -> Iterator[_Row]:
    from ase.db import connect

    try:
        with connect(path, use_lock_file=False) as database:
            for row in database.select():
                values = {**row.data, **row.key_value_pairs}
                atoms = row.toatoms()
                yield _of_atoms(atoms, f"{path.name}#{row.id}", values)
    except MatPropError:
        raise
    except Exception as error:  # databases raise all kinds
        raise FinetuneError(f"{path} cannot be read as an ASE database: {error}") from None


def _of_runs(runs: VaspRuns) -> Iterator[_Row]:
    for frame in runs.frames:
        yield _of_atoms(frame, frame.info["name"], {})


def _of_atoms(atoms: Atoms, name: str, values: Mapping[str, Any] | None = None) -> _Row:
    values = atoms.info if values is None else values
    results = getattr(atoms.calc, "results", {}) if atoms.calc is not None else {}
    energy = results.get("free_energy", results.get("energy")) if "forces" in results else results.get("energy")
    given = next((str(values[key]) for key in _NAME_KEYS if isinstance(values.get(key), str)), name)
    forces = results.get("forces")
    return _Row(given, atoms, values, _number(energy), None if forces is None else np.asarray(forces, dtype=float))


def _of_frame(frame: pd.DataFrame) -> list[_Row]:
    columns = [name for name in (*_STRUCTURE_COLUMNS, *_FORMULA_COLUMNS) if name in frame.columns]
    if not columns:
        raise FinetuneError(
            f"the table needs a column named {', '.join(map(repr, (*_STRUCTURE_COLUMNS, *_FORMULA_COLUMNS)))}; it has "
            f"{', '.join(map(repr, frame.columns))}"
        )
    label = next((name for name in _NAME_KEYS if name in frame.columns), None)
    return [
        _Row(
            str(row[label]) if label else f"row {index}",
            row[columns[0]],
            {str(key): value for key, value in row.items()},
            _number(row.get("energy")),
        )
        for index, row in frame.iterrows()
    ]


def _number(value: Any) -> float | None:
    try:
        number = float(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _with_targets(
    rows: list[_Row],
    runs: VaspRuns | None,
    property: str,
    column: str | None,
    references: ReferencesLike,
    rejected: dict[str, str],
    forces: bool,
    allow_mixed: bool,
) -> tuple[list[_Row], list[float], str, References | None, list[str], bool]:
    """Return the rows that have a target, the targets, and what they are."""
    key = column or property
    if column is not None and not any(_number(row.values.get(column)) is not None for row in rows):
        raise FinetuneError(f"no row has a number {column!r}; the first one has {_listed(rows[0].values)}")
    notes: list[str] = []
    if any(_number(row.values.get(key)) is not None for row in rows) and references is None:
        if forces:
            raise FinetuneError("forces are learnt with total energies; give references or references='none'")
        targets = [_number(row.values.get(key)) for row in rows]
        reason, made = f"no number {key!r}", None
    else:
        if column is not None and column != "energy":
            rows = [_Row(row.name, row.item, row.values, _number(row.values.get(column)), row.forces) for row in rows]
        if not any(row.energy is not None for row in rows):
            raise FinetuneError(
                f"the rows have neither {key!r} nor energies; name the column or key with the option column "
                f"(the first row has {_listed(rows[0].values)})"
            )
        made = _references(rows, runs, references, allow_mixed)
        property = _TOTAL if made is None else made.property
        targets, failures = _relative_energies(rows, made)
        if failures and not any(target is not None for target in targets):
            raise next(iter(failures.values()))
        rejected |= {name: str(error) for name, error in failures.items()}
        reason = "no energy"
        if made is not None:
            notes.append(made.description)
            notes += made.undetermined
            if made.kind == "runs":  # they are zero by definition, and O2 in its box is no crystal
                for row in rows:
                    if len(set(row.item.numbers.tolist())) == 1:
                        rejected[row.name] = "is a run of an element: a reference, not a row"
                kept = [index for index, row in enumerate(rows) if row.name not in rejected]
                rows, targets = [rows[index] for index in kept], [targets[index] for index in kept]
    if property not in PROPERTIES:
        get_property(property)
    good = [index for index, target in enumerate(targets) if target is not None]
    for index in sorted(set(range(len(rows))) - set(good)):
        rejected.setdefault(rows[index].name, reason)
    return [rows[i] for i in good], [float(targets[i] or 0.0) for i in good], property, made, notes, forces


def _references(
    rows: list[_Row], runs: VaspRuns | None, references: ReferencesLike, allow_mixed: bool
) -> References | None:
    if isinstance(references, References):
        return references
    if references == "none":
        return None
    if references == "fitted":
        known = [row for row in rows if row.energy is not None]
        items = [row.item if isinstance(row.item, (Atoms, str)) else as_atoms(row.item) for row in known]
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
    rows: list[_Row], references: References | None
) -> tuple[list[float | None], dict[str, MatPropError]]:
    """Return the energy of each row above the references in eV/atom, None where there is none, and why by name."""
    targets: list[float | None] = []
    failures: dict[str, MatPropError] = {}
    for row in rows:
        target = None
        try:
            if row.energy is not None:
                item = row.item if isinstance(row.item, (Atoms, str)) else as_atoms(row.item)
                if references is not None:
                    target = references.relative_energy_per_atom(item, row.energy)
                elif isinstance(item, Atoms):
                    target = row.energy / len(item)
                else:
                    raise FinetuneError("the energy of a formula is not that of a cell; give structures or references")
        except MatPropError as error:
            failures[row.name] = error
        targets.append(target)
    return targets, failures


def _checked(
    rows: Sequence[_Row],
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


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, values)) or "none"

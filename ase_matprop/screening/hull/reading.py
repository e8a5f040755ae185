"""Where reference energies come from: tables, entries of pymatgen, the Materials Project."""

from __future__ import annotations

import io
import itertools
import json
import lzma
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ase_matprop.compositions import FORMULA_COLUMNS
from ase_matprop.errors import ReferenceEnergyError, missing_dependency
from ase_matprop.structures.files import COMPRESSIONS

if TYPE_CHECKING:
    import pandas as pd

ENERGY_COLUMNS = ("formation_energy_per_atom", "formation_energy", "e_form", "delta_e")
ID_COLUMNS = ("id", "material_id")

#: calculations of the Materials Project that are comparable with its older releases, and with the shipped models
THERMO_TYPE = "GGA_GGA+U"

#: chemical systems that are asked for one by one
_MOST_ELEMENTS = 5

_FUNCTIONAL = re.compile(r"(?im)^#\s*functional\s*[:=]\s*(.+?)\s*$")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as they were read: formulas, formation energies in eV/atom (NaN where there is none), names.

    ``frame`` is the table that they come from, with the energies as numbers.
    """

    formulas: list[str]
    energies: NDArray[np.float64]
    ids: list[str] | None
    source: str
    functional: str | None = None
    frame: pd.DataFrame | None = None


def read_table(path: Path, formula_column: str | None, energy_column: str | None, id_column: str | None) -> Rows:
    """Read a CSV or Parquet table; see :meth:`ase_matprop.screening.hull.references.References.from_csv`.

    Raises:
        ReferenceEnergyError: if there is no such file, or it is no table with these columns.
    """
    import pandas as pd

    functional = None
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            text = _read_text(path)
            comments = "".join(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))
            found = _FUNCTIONAL.search(comments)
            functional = found[1] if found else None
            # NaN is the formula of sodium nitride, not a gap
            frame = pd.read_csv(io.StringIO(text[len(comments) :]), dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise ReferenceEnergyError(f"the file {path} does not exist; check the path") from None
    except ImportError:
        raise missing_dependency("pyarrow", "reading Parquet", extra="parquet") from None
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise ReferenceEnergyError(f"the file {path} cannot be read as a table ({reason})") from None
    formulas = _column(frame, formula_column, FORMULA_COLUMNS, "formula", path)
    energies = _column(frame, energy_column, ENERGY_COLUMNS, "formation energy", path)
    if id_column is None and not _matching(frame, ID_COLUMNS):
        ids = None
    else:
        ids = frame[_column(frame, id_column, ID_COLUMNS, "id", path)].astype(str).tolist()
    values = pd.to_numeric(frame[energies], errors="coerce").to_numpy(dtype=np.float64)
    texts = [str(formula) for formula in frame[formulas]]
    return Rows(texts, values, ids, str(path), functional, frame.assign(**{energies: values}))


def read_entries(path: Path) -> Rows:
    """Read entries of pymatgen, with energies relative to the lowest entries of the elements.

    Raises:
        ReferenceEnergyError: if the file cannot be read, has no entries, or an element has none.
    """
    from monty.json import MontyDecoder

    try:
        content = json.loads(_read_text(path))
    except FileNotFoundError:
        raise ReferenceEnergyError(f"the file {path} does not exist; check the path") from None
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise ReferenceEnergyError(f"the file {path} cannot be read as JSON ({error})") from None
    items = content.get("entries") if isinstance(content, dict) else content
    if not isinstance(items, list) or not items:
        raise ReferenceEnergyError(
            f'{path} has no entries; it must be a list of pymatgen entries, or {{"entries": [...]}}'
        )
    decoder = MontyDecoder()
    return formation_rows([_entry(item, number, path, decoder) for number, item in enumerate(items, 1)], str(path))


def formation_rows(entries: Sequence[Any], source: str) -> Rows:
    """Return entries of pymatgen as rows, with formation energies relative to the lowest entry of each element.

    Raises:
        ReferenceEnergyError: if an element has no entry of its own.
    """
    elements: dict[Any, float] = {}
    for entry in entries:
        if entry.composition.is_element:
            element = entry.composition.elements[0]
            elements[element] = min(entry.energy_per_atom, elements.get(element, np.inf))
    missing = sorted(
        {element.symbol for entry in entries for element in entry.composition.elements if element not in elements}
    )
    if missing:
        raise ReferenceEnergyError(
            f"{source} has no entry of the element {', '.join(missing)}, so there are no formation energies; add it"
        )
    energies = [
        entry.energy_per_atom
        - sum(elements[element] * share for element, share in entry.composition.fractional_composition.items())
        for entry in entries
    ]
    runs = {(getattr(entry, "parameters", None) or {}).get("run_type") for entry in entries} - {None}
    return Rows(
        [entry.composition.formula for entry in entries],
        np.array(energies, dtype=np.float64),
        [str(getattr(entry, "entry_id", None) or number) for number, entry in enumerate(entries, 1)],
        source,
        ", ".join(sorted(map(str, runs))) or None,
    )


def read_materials_project(elements: Sequence[str], api_key: str | None) -> Rows:
    """Fetch formation energies of compounds of ``elements``.

    Raises:
        MissingDependencyError: if mp-api is not installed.
        ReferenceEnergyError: without a key, or if the Materials Project does not answer or knows none.
    """
    try:
        from mp_api.client import MPRester
    except ImportError:
        raise missing_dependency("mp-api", "fetching references from the Materials Project") from None
    key = api_key or os.environ.get("MP_API_KEY")
    if not key:
        raise ReferenceEnergyError(
            "the Materials Project needs a key; set the environment variable MP_API_KEY, or give api_key "
            "(https://next-gen.materialsproject.org/api)"
        )
    criteria: dict[str, Any] = {"is_stable": True}
    if len(elements) <= _MOST_ELEMENTS:
        systems = (itertools.combinations(sorted(elements), size) for size in range(1, len(elements) + 1))
        criteria = {"chemsys": ["-".join(system) for system in itertools.chain.from_iterable(systems)]}
    fields = ["material_id", "formula_pretty", "formation_energy_per_atom"]
    try:
        with MPRester(key) as client:
            found = client.materials.thermo.search(thermo_types=[THERMO_TYPE], fields=fields, **criteria)
    except Exception as error:  # its errors have no common class
        reason = " ".join(f"{type(error).__name__}: {error}".replace(key, "<key>").split())
        raise ReferenceEnergyError(
            f"the Materials Project gave no answer ({reason}); check the key and the connection, or use a file"
        ) from None
    energies = [np.nan if row.formation_energy_per_atom is None else row.formation_energy_per_atom for row in found]
    return Rows(
        [str(row.formula_pretty) for row in found],
        np.array(energies, dtype=np.float64),
        [str(row.material_id) for row in found],
        "Materials Project",
        "PBE(+U), Materials Project corrections",
    )


def _read_text(path: Path) -> str:
    with COMPRESSIONS.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8-sig", newline="") as stream:
        text: str = stream.read()
    return text


def _matching(frame: pd.DataFrame, names: Sequence[str]) -> str | None:
    found = {str(column).strip().lower(): str(column) for column in reversed(list(frame.columns))}
    return next((found[name] for name in names if name in found), None)


def _column(frame: pd.DataFrame, given: str | None, names: Sequence[str], what: str, path: Path) -> str:
    """Return the name of a column, the one that was given or the first of the usual ones."""
    column = given if given is not None else _matching(frame, names)
    if column is None or column not in frame.columns:
        wanted = repr(given) if given is not None else " or ".join(names)
        raise ReferenceEnergyError(
            f"{path} has no column {wanted} with the {what}; its columns are "
            f"{', '.join(map(str, frame.columns)) or 'none'}"
        )
    return column


def _entry(item: Any, number: int, path: Path, decoder: Any) -> Any:
    """Return the object of a dictionary with an energy and a composition."""
    from pymatgen.analysis.phase_diagram import PDEntry

    try:
        entry = decoder.process_decoded(item)
        if isinstance(entry, dict):
            entry = PDEntry.from_dict(entry)
        _ = entry.energy_per_atom, entry.composition.elements
    except Exception as error:  # pymatgen raises whatever its constructors meet
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ReferenceEnergyError(
            f"entry {number} of {path} is no entry of pymatgen with an energy and a composition ({reason})"
        ) from None
    return entry

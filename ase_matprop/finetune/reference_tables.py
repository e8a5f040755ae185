"""Tables of reference energies as users write them; private part of :mod:`ase_matprop.finetune.references`."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers

from ase_matprop.errors import ReferenceEnergyError

#: columns and keys of a table under which the energies may stand
_ENERGY_COLUMNS = ("energy_per_atom", "energy", "reference_energy", "eV/atom", "ev_per_atom", "value")


def checked_energies(values: Mapping[Any, Any], name: str) -> dict[str, float]:
    """Return the energies of elements, eV/atom, out of what stands in a table called ``name``.

    Raises:
        ReferenceEnergyError: if a key is no element, or a value no number.
    """
    energies: dict[str, float] = {}
    for element, value in values.items():
        if element not in atomic_numbers or element == "X":
            raise ReferenceEnergyError(
                f"{name} has an entry {element!r}, which is no element; write symbols such as 'Fe'"
            )
        try:
            energies[element] = float(value)
        except (TypeError, ValueError):
            energies[element] = math.nan
        if not math.isfinite(energies[element]):
            raise ReferenceEnergyError(f"{name} has {value!r} as the energy of {element}; give a number in eV/atom")
    if not energies:
        raise ReferenceEnergyError(f"{name} is empty; give the energy of each element in eV/atom")
    return energies


def read_table(path: Path) -> dict[Any, Any]:
    """Return what stands in a CSV, JSON or YAML file of reference energies: element -> energy, not yet checked.

    Raises:
        ReferenceEnergyError: if it cannot be read as such a table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReferenceEnergyError(
            f"the table of reference energies {path} cannot be read ({error}); check the path"
        ) from None
    try:
        if path.suffix.lower() == ".csv":
            return _from_csv(text, path)
        data = json.loads(text) if path.suffix.lower() == ".json" else _from_yaml(text, path)
    except ValueError as error:
        if isinstance(error, ReferenceEnergyError):
            raise
        raise ReferenceEnergyError(
            f"the table of reference energies {path} cannot be read ({error}); correct it"
        ) from None
    if isinstance(data, dict) and isinstance(data.get("energies"), dict):
        data = data["energies"]  # what References.to_dict() wrote
    if not isinstance(data, dict):
        raise ReferenceEnergyError(f"the table of reference energies {path} must have entries 'element: energy'")
    return data


def _from_csv(text: str, path: Path) -> dict[str, str]:
    rows = list(csv.DictReader(text.splitlines()))
    columns = list(rows[0]) if rows else []
    column = next((name for name in _ENERGY_COLUMNS if name in columns), None)
    if "element" not in columns or column is None:
        raise ReferenceEnergyError(
            f"the table of reference energies {path} must have the columns 'element' and 'energy_per_atom' (eV/atom); "
            f"it has {', '.join(map(str, columns)) or 'none'}"
        )
    result: dict[str, str] = {}
    for row in rows:
        element = (row["element"] or "").strip()
        if element in result:
            raise ReferenceEnergyError(f"the table of reference energies {path} has {element} twice; keep one")
        result[element] = row[column]
    return result


def _from_yaml(text: str, path: Path) -> Any:
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise ReferenceEnergyError(f"the table of reference energies {path} must end in .csv, .json or .yaml")
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)  # YAML 1.2, in which No and Y are words, not truth values
    except YAMLError as error:
        raise ReferenceEnergyError(f"{path} is no YAML ({' '.join(str(error).split())}); correct it") from None


def missing_elements(elements: Sequence[str], table: str | None = None) -> str:
    """Return in words that elements have no reference energy (in the ``table``), and what to do."""
    names = ", ".join(elements)
    if table is not None:
        return f"{table} has no reference energy of {names}; add it"
    return (
        f"no reference energy of {names}. Three remedies: calculate the element{'s' if len(elements) > 1 else ''} with "
        "the same settings and put the runs into the folder; give a table of reference energies "
        "(references='table.csv', --references table.csv); or fit references to the compounds (references='fitted', "
        "--references fitted), whose result is no formation energy"
    )

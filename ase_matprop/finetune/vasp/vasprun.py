"""Reads vasprun.xml through pymatgen; private part of :mod:`ase_matprop.finetune.vasp`."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from pymatgen.io.vasp.outputs import Vasprun

from ase_matprop.errors import CalculationError, StructureError
from ase_matprop.finetune.vasp.functional import number
from ase_matprop.finetune.vasp.output import KBAR, KBAR_TO_ASE_STRESS, IonicStep, Tags, VaspOutput, tags_from
from ase_matprop.finetune.vasp.settings import AtomType, settings_from
from ase_matprop.structures import as_atoms

#: as some versions of VASP write them
_LEGACY_SYMBOLS = {"r": "Zr", "X": "Xe"}
#: the three energies of an electronic step; the last one of a self-consistency cycle has their contributions, too
_ENERGIES = {"e_fr_energy", "e_wo_entrp", "e_0_energy"}
#: what the parameters of a run say where the INCAR, or the POTCAR, decides
_UNSAID = ("--", "", "None", "none", "No")
_FIRST_FROM_INCAR = ("LDAUU", "LDAUJ", "LDAUL", "LDAUTYPE")


class LenientVasprun(Vasprun):
    """pymatgen's reader, which also takes runs in which a parameter overflowed its format or a POTCAR has no title."""

    #: pymatgen would look at the last ionic step, which need not be there; steps are judged by this package
    converged = True

    def __init__(self, path: Path, *, complete: bool = True) -> None:
        self.types: list[AtomType] = []
        super().__init__(
            str(path), parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=complete
        )

    def _parse_params(self, elem: Any) -> Any:
        for child in list(elem):
            if child.tag in ("i", "v") and "*" in (child.text or "") and child.get("type") != "string":
                elem.remove(child)  # a number that did not fit, as KINTER = ******
        return super()._parse_params(elem)

    def _parse_atominfo(self, elem: Any) -> tuple[list[str], list[str]]:  # type: ignore[override]
        symbols: list[str] = []
        for array in elem.findall("array"):
            rows = [[(cell.text or "").strip() for cell in row.findall("c")] for row in array.findall("set/rc")]
            if array.get("name") == "atoms":
                symbols = [_symbol(row[0]) for row in rows]
            elif array.get("name") == "atomtypes":
                self.types = [
                    AtomType(_symbol(row[1]), int(row[0]), row[4] if len(row) > 4 else "", number(row[3], math.nan))
                    for row in rows
                ]
        elem.clear()
        if not self.types:  # a file that was shortened by hand
            self.types = [AtomType(symbol, symbols.count(symbol), "", math.nan) for symbol in dict.fromkeys(symbols)]
        return symbols, [each.title for each in self.types]


def read_vasprun(path: Path) -> VaspOutput:
    """Return what a vasprun.xml holds.

    Raises:
        CalculationError: if it is no complete vasprun.xml.
        Exception: whatever pymatgen raises on a file that is damaged in another way.
    """
    from lxml.etree import XMLSyntaxError  # type: ignore[import-untyped]

    unfinished = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run = LenientVasprun(path)
        except XMLSyntaxError as error:
            place = " ".join(str(error).split())
            try:
                run = LenientVasprun(path, complete=False)
            except Exception:
                raise CalculationError(f"is no vasprun.xml ({place}); check the file, or copy it again") from None
            unfinished = _unfinished(len(run.ionic_steps), place)
    if not all(hasattr(run, name) for name in ("parameters", "atomic_symbols", "initial_structure")):
        missing = "is no vasprun.xml of a run: it has no parameters or no atoms; check the file"
        raise CalculationError(unfinished or missing)
    raw = _merged(run.parameters, run.incar)
    tags = tags_from(raw)
    mesh = _mesh(run)
    first = as_atoms(run.initial_structure)
    settings = settings_from(raw, run.types, mesh, len(getattr(run, "actual_kpoints", [])), first, run.vasp_version)
    free = run.initial_structure.site_properties.get("selective_dynamics")
    return VaspOutput(
        settings=settings,
        steps=[_step(step, tags) for step in run.ionic_steps],
        tags=tags,
        initial=first,
        free=None if free is None else np.array(free, dtype=bool),
        unfinished=unfinished,
    )


def _step(step: dict[str, Any], tags: Tags) -> IonicStep:
    electronic = step["electronic_steps"]
    if tags.response:
        electronic = _self_consistent(electronic)
    try:
        atoms = None if step["structure"] is None else as_atoms(step["structure"])
    except StructureError as error:
        return IonicStep(None, n_electronic=len(electronic), problem=f"its structure cannot be used: {error}")
    result = IonicStep(
        atoms,
        n_electronic=len(electronic),
        converged=len(electronic) < tags.nelm,
        forces=_array(step.get("forces")),
        stress=None if tags.isif < 2 else _stress(step.get("stress")),
    )
    if atoms is None:
        result.problem = "has no structure"
    elif not electronic or "e_fr_energy" not in step:
        result.problem = "has no energy"
    else:
        # The block of an ionic step has F with dispersion corrections and PV; its "e_0_energy" is another quantity up
        # to VASP 5.4.4.  The last electronic step has E0 and F without either of the two: their difference is E0 - F.
        last = electronic[-1]
        result.free_energy = step["e_fr_energy"] - tags.pstress * KBAR * atoms.get_volume()
        result.sigma0 = result.free_energy + last.get("e_0_energy", math.nan) - last.get("e_fr_energy", math.nan)
    return result


def _self_consistent(electronic: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the electronic steps before those of the linear response, which are no total energies."""
    for index, step in enumerate(electronic):
        if index and set(step) > _ENERGIES:
            return electronic[: index + 1]
    return electronic


def _stress(value: object) -> np.ndarray | None:
    stress = _array(value)
    return None if stress is None else stress.reshape(9)[[0, 4, 8, 5, 2, 1]] * KBAR_TO_ASE_STRESS


def _array(value: object) -> np.ndarray | None:
    if value is None:
        return None
    array = np.asarray(value, dtype=np.float64)
    return array if np.isfinite(array).all() else None


def _merged(parameters: Mapping[str, Any], incar: Mapping[str, Any]) -> dict[str, Any]:
    """Return what VASP used, and for what it does not say what the INCAR asked for."""
    result = dict(parameters)
    for key, value in incar.items():
        if result.get(key) is None or str(result[key]).strip() in _UNSAID or key in _FIRST_FROM_INCAR:
            result[key] = value
    return result


def _mesh(run: Any) -> Sequence[int] | None:
    kpoints: Any = getattr(run, "kpoints", None)
    style = str(getattr(kpoints, "style", "")).rpartition(".")[2].lower()
    if style not in ("gamma", "monkhorst"):
        return None
    mesh = [int(division) for division in kpoints.kpts[0]] if kpoints.kpts else []
    return mesh if len(mesh) == 3 and min(mesh) > 0 else None


def _symbol(text: str) -> str:
    symbol = _LEGACY_SYMBOLS.get(text) or re.sub(r"[^A-Za-z].*", "", text)
    if symbol not in atomic_numbers and symbol not in ("D", "T"):
        raise CalculationError(f"has atoms of the element {text!r}, which does not exist; check the file")
    return symbol


def _unfinished(n_steps: int, place: str) -> str:
    return (
        f"is cut off after {n_steps} complete ionic step{'' if n_steps == 1 else 's'} ({place}); the run crashed, was "
        "stopped or still goes on, or the copy is incomplete: finish the run, or copy the file again"
    )

"""Reads OUTCAR; private part of :mod:`ase_matprop.finetune.vasp`.

pymatgen's ``Outcar`` has no structures and no single ionic steps, so the blocks of the ionic steps are read by the
parsers of ASE, and the header here.  An OUTCAR writes positions with five decimals only.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.io.vasp_parsers import vasp_outcar_parsers as parsers

from ase_matprop.errors import CalculationError, StructureError
from ase_matprop.finetune.vasp.functional import number, numbers
from ase_matprop.finetune.vasp.output import IonicStep, Tags, VaspOutput, tags_from
from ase_matprop.finetune.vasp.settings import AtomType, settings_from
from ase_matprop.structures import as_atoms

_TAG = re.compile(r"(?<![A-Z0-9_])([A-Z][A-Z0-9_]+)\s*=\s*([^\s;]+)")
_ITERATION = re.compile(r"-\s*Iteration\s+[\d*]+\(\s*[\d*]+\s*\)")
_UNREACHED = "EDIFF was not reached"
_FINISHED = "General timing and accounting"
_ACCURACY = "reached required accuracy"
_STOPPED = "soft stop encountered"
#: characters in which the closing lines are looked for
_END = 20_000


def read_text(path: Path) -> str:
    """Return the text of a plain or compressed file."""
    from monty.io import zopen

    with zopen(path, mode="rt", encoding="utf-8", errors="replace") as stream:
        return str(stream.read())


def read_outcar(path: Path) -> VaspOutput:
    """Return what an OUTCAR holds.

    Raises:
        CalculationError: if it has no header of a run.
        Exception: whatever ASE raises on a step that is damaged.
    """
    text = read_text(path)
    if not text.strip():
        raise CalculationError("is an empty file; copy it again, or run the calculation")
    stream = StringIO(text)
    try:
        header = "".join(parsers.build_header(stream))
    except parsers.ParseError:
        raise CalculationError(
            "is no OUTCAR, or one that ends before the first electronic step; check why the run did not start"
        ) from None
    raw = _header_tags(header)
    types = _atom_types(header, raw)
    tags = tags_from(raw)
    symbols = [each.symbol for each in types for _ in range(each.n_atoms)]
    steps = list(_steps(stream, symbols, tags))
    atoms = next((step.atoms for step in steps if step.atoms is not None), None)
    if atoms is None:
        raise CalculationError(_unfinished(0))
    mesh = re.search(r"generate k-points for:\s*(\d+)\s+(\d+)\s+(\d+)", header)
    version = re.search(r"vasp\.(\S+)", header)
    settings = settings_from(
        raw,
        types,
        None if mesh is None else [int(mesh[i]) for i in (1, 2, 3)],
        int(number(raw.get("NKPTS"), 0)),
        atoms,
        "" if version is None else version[1],
    )
    magnetization, moments = final_moments(text)
    return VaspOutput(
        settings,
        steps,
        tags,
        reached_accuracy=_ACCURACY in text and _STOPPED not in text,
        unfinished=None if _FINISHED in text[-_END:] else _unfinished(len(steps)),
        magnetization=magnetization,
        moments=moments,
    )


def final_moments(text: str) -> tuple[float, np.ndarray | None]:
    """Return the magnetic moments at the end of an OUTCAR, Bohr magnetons.

    Returns:
        That of the cell, NaN if the run has none, and those of the atoms, None if they were not written (LORBIT).
    """
    total = math.nan
    found = re.findall(r"number of electron\s+\S+\s+magnetization[ \t]+([^\n]+)", text[-2_000_000:])
    if found and (values := numbers(found[-1])):
        total = values[0] if len(values) == 1 else float(np.linalg.norm(values))
    start = text.rfind("magnetization (x)")
    if start < 0:
        return total, None
    moments = []
    for line in text[start:].splitlines()[4:]:
        words = line.split()
        if not words or not words[0].isdigit():
            break
        moments.append(number(words[-1], math.nan))
    return total, np.array(moments) if moments else None


def final_free_energy(text: str) -> float:
    """Return the free energy of the last ionic step of an OUTCAR, eV; NaN if there is none."""
    found = re.findall(r"free  energy   TOTEN\s*=\s*(\S+)", text)
    return number(found[-1], math.nan) if found else math.nan


def said_about_relaxation(text: str) -> bool | None:
    """Return whether an OUTCAR says that the relaxation ended as it should; None if the OUTCAR is not complete."""
    if _FINISHED not in text[-_END:]:
        return None
    return _ACCURACY in text and _STOPPED not in text


def _steps(stream: StringIO, symbols: list[str], tags: Tags) -> Iterator[IonicStep]:
    header = {"symbols": symbols, "natoms": len(symbols), "constraint": None}
    chunk_parser = parsers.OutcarChunkParser(
        parsers=[parsers.Cell(), parsers.PositionsAndForces(), parsers.Stress(), parsers.Energy()]
    )
    first = 1  # the line of the first electronic step ends the header
    while True:
        try:
            lines = parsers.build_chunk(stream)
        except StopIteration:
            return
        n_electronic = first + sum(bool(_ITERATION.search(line)) for line in lines)
        first = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                chunk = parsers.OUTCARChunk(lines, header, parser=chunk_parser).build()
            atoms = as_atoms(chunk)
        except StructureError as error:
            yield IonicStep(None, n_electronic=n_electronic, problem=f"its structure cannot be used: {error}")
            continue
        except (parsers.ParseError, ValueError, IndexError) as error:
            yield IonicStep(None, n_electronic=n_electronic, problem=f"cannot be read ({' '.join(str(error).split())})")
            continue
        results = chunk.calc.results
        # up to version 5 VASP writes "EDIFF is reached" at the end of NELM steps, too
        converged = n_electronic < tags.nelm and not any(_UNREACHED in line for line in lines)
        yield IonicStep(
            atoms,
            free_energy=float(results.get("free_energy", math.nan)),
            sigma0=float(results.get("energy", math.nan)),
            n_electronic=n_electronic,
            converged=converged,
            forces=results.get("forces"),
            stress=None if tags.isif < 2 else results.get("stress"),
        )


def _unfinished(n_steps: int) -> str:
    return (
        f"ends after {n_steps} ionic step{'' if n_steps == 1 else 's'} without VASP's closing lines; the run crashed, "
        "was stopped or still goes on, or the copy is incomplete: finish the run, or copy the file again"
    )


def _header_tags(header: str) -> dict[str, Any]:
    """Return the tags that VASP says it used, and for those that it does not repeat what the INCAR asked for."""
    incar, _, used = header.partition("Startparameter for this run")
    if not used:
        raise CalculationError("has no list of the parameters of the run; check that it is the OUTCAR of VASP")
    asked = incar.partition(" INCAR:")[2].partition("POTCAR:")[0]
    result: dict[str, Any] = {}
    for key, value in _TAG.findall(used):
        result.setdefault(key, value)
    for line in asked.splitlines():
        key, _, value = line.partition("=")
        key = key.strip().upper()
        if value.strip() and result.get(key, "F") in ("F", "--"):
            result[key] = value.strip()
    for key in ("LDAUL", "LDAUU", "LDAUJ"):
        if match := re.search(rf"for each species {key}\s*=([^\n]+)", used):
            result[key], result["LDAU"] = match[1], "T"
    if match := re.search(r"Ionic Valenz\s+ZVAL\s*=([^\n]+)", used):
        result["ZVAL"] = match[1]
    if match := re.search(r"NKPTS\s*=\s*(\d+)", header):
        result["NKPTS"] = match[1]
    if "Running the NEB" in header and (match := re.search(r"IMAGES\s+(\d+)", header)):
        result["IMAGES"] = match[1]
    if result.get("METAGGA") == "F":  # VASP 5: a tag with another meaning
        del result["METAGGA"]
    return result


def _atom_types(header: str, raw: dict[str, Any]) -> list[AtomType]:
    match = re.search(r"ions per type =([^\n]+)", header)
    counts = [int(value) for value in numbers(match[1])] if match else []
    titles = [title.strip() for title in re.findall(r"TITEL\s*=([^\n]+)", header)]
    if len(titles) != len(counts):
        # each is listed twice
        listed = [title.strip() for title in re.findall(r"POTCAR:([^\n]+)", header)]
        titles = listed[: (len(listed) + 1) // 2]
    if not counts or len(titles) != len(counts):
        raise CalculationError(f"names {len(titles)} POTCARs for {len(counts)} kinds of atoms; check the file")
    valences = numbers(raw.get("ZVAL"))
    valences = valences if len(valences) == len(counts) else [math.nan] * len(counts)
    return [
        AtomType(_symbol(title), count, title, valence)
        for title, count, valence in zip(titles, counts, valences, strict=True)
    ]


def _symbol(title: str) -> str:
    words = title.split()
    word = (
        words[1]
        if len(words) > 1 and words[0].upper() in ("PAW", "PAW_PBE", "PAW_GGA", "PAW_LDA", "US", "NC")
        else words[0]
    )
    symbol = re.sub(r"[^A-Za-z].*", "", word)
    if symbol not in atomic_numbers:
        raise CalculationError(f"has a POTCAR {title!r}, in which no element is recognised; check the file")
    return symbol

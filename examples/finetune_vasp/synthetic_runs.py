"""Synthetic VASP runs: files in the format of vasprun.xml and OUTCAR with numbers from ASE's EMT potential.

No VASP calculation is behind them.  They stand in for a laboratory's runs in the example and in the tests, and have
what the format demands and this package reads, nothing more: energies, forces and stresses are those of effective
medium theory, the electronic steps are made up, and so is everything that looks like a setting.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa

KBAR = -0.1 * GPa  # VASP's stress in kbar -> ASE's, with its sign
ENTROPY = 0.002  # eV per atom between energy(sigma->0) and free energy
OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class Settings:
    """What a synthetic run says of itself; the names are those of VASP's tags."""

    encut: float = 400.0
    gga: str = "PE"
    nelm: int = 60
    nsw: int = 0
    ibrion: int = -1
    isif: int = 3
    ediffg: float = -0.05
    ispin: int = 1
    icharg: int = 2
    magmom: Sequence[float] = ()
    hubbard_u: Mapping[str, float] = field(default_factory=dict)
    potcars: Mapping[str, str] = field(default_factory=dict)
    mesh: Sequence[int] = (4, 4, 4)
    electrons: float = 0.0  # more than the neutral cell has
    version: str = "6.4.2"  # up to 5.4.4 the block of an ionic step has another number as e_0_energy
    tags: Mapping[str, Any] = field(default_factory=dict)  # others, as in {"LHFCALC": True, "HFSCREEN": 0.2}
    electronic_steps: Sequence[int] = ()  # of each ionic step; 5 where it ends
    moments: Sequence[float] = ()  # at the end, in the OUTCAR

    def potcar(self, element: str) -> str:
        return self.potcars.get(element, f"PAW_PBE {element} 01Jan2000")

    def n_electronic(self, step: int) -> int:
        return self.electronic_steps[step] if step < len(self.electronic_steps) else 5


def relaxation(atoms: Atoms, fmax: float = 0.05, steps: int = 40) -> list[Atoms]:
    """Relax atoms and cell with EMT; return every step, with energy, forces and stress."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    frames: list[Atoms] = []
    optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)
    optimizer.attach(lambda: frames.append(snapshot(atoms)))
    optimizer.run(fmax=fmax, steps=steps)
    return frames


def snapshot(atoms: Atoms) -> Atoms:
    """A copy with the results of a calculation; with EMT, if the atoms have no calculator."""
    calculator = atoms.calc or EMT()
    copy = atoms.copy()
    names = ("energy", "forces", "stress")
    copy.calc = SinglePointCalculator(copy, **{name: calculator.get_property(name, atoms) for name in names})
    return copy


def grouped(frames: Sequence[Atoms]) -> tuple[list[Atoms], list[tuple[str, int]]]:
    """Frames with the atoms of an element together, as VASP has them, and the number of atoms of each element."""
    order = np.argsort(frames[0].numbers, kind="stable")
    result = []
    for frame in frames:
        copy = frame[order]
        results = dict(frame.calc.results)
        results["forces"] = results["forces"][order]
        copy.calc = SinglePointCalculator(copy, **results)
        result.append(copy)
    symbols = result[0].get_chemical_symbols()
    return result, [(symbol, symbols.count(symbol)) for symbol in dict.fromkeys(symbols)]


def energies(frame: Atoms) -> tuple[float, float, float]:
    """Free energy, energy without entropy, energy(sigma->0), eV."""
    sigma0 = frame.calc.results["energy"]
    return sigma0 - ENTROPY * len(frame), sigma0 + ENTROPY * len(frame), sigma0


def write_vasprun(path: Path, frames: Sequence[Atoms], settings: Settings = Settings(), *, keep: float = 1.0) -> Path:
    """Write a vasprun.xml; its ending may ask for compression.  ``keep`` is the part of the text that is written."""
    frames, types = grouped(frames)
    lines = [
        '<?xml version="1.0" encoding="ISO-8859-1"?>',
        "<modeling>",
        f'<generator><i name="version" type="string">{settings.version}</i>',
        '<i name="program" type="string">synthetic</i></generator>',
        "<incar>",
        *(_tag(name, value) for name, value in settings.tags.items()),
        "</incar>",
        '<kpoints><generation param="Gamma">',
        f'<v type="int" name="divisions">{" ".join(map(str, settings.mesh))}</v></generation>',
        '<varray name="kpointlist"><v>0.0 0.0 0.0</v></varray><varray name="weights"><v>1.0</v></varray></kpoints>',
        "<parameters>",
        *(_tag(name, value) for name, value in _parameters(settings, types).items()),
        "</parameters>",
        f"<atominfo><atoms>{len(frames[0])}</atoms><types>{len(types)}</types>",
        '<array name="atoms"><set>',
        *(
            f"<rc><c>{symbol:2s}</c><c>{number}</c></rc>"
            for number, (symbol, count) in enumerate(types, start=1)
            for _ in range(count)
        ),
        "</set></array>",
        '<array name="atomtypes"><set>',
        *(
            f"<rc><c>{count}</c><c>{symbol:2s}</c><c>1.0</c><c>10.0</c><c>{settings.potcar(symbol)}</c></rc>"
            for symbol, count in types
        ),
        "</set></array></atominfo>",
        *_structure(frames[0], "initialpos"),
        *(line for number, frame in enumerate(frames) for line in _calculation(frame, number, settings)),
        *_structure(frames[-1], "finalpos"),
        "</modeling>",
    ]
    return _write(path, "\n".join(lines), keep)


def write_outcar(path: Path, frames: Sequence[Atoms], settings: Settings = Settings(), *, keep: float = 1.0) -> Path:
    """Write an OUTCAR; its ending may ask for compression.  ``keep`` is the part of the text that is written."""
    frames, types = grouped(frames)
    parameters = _parameters(settings, types) | dict(settings.tags)
    lines = [
        f" vasp.{settings.version} synthetic",
        " INCAR:",
        *(f"   {name} = {_text(value)}" for name, value in settings.tags.items()),
        *(f" POTCAR:   {settings.potcar(symbol)}" for _ in range(2) for symbol, _ in types),
        f" generate k-points for:  {'  '.join(map(str, settings.mesh))}",
        f"   ions per type =  {'  '.join(str(count) for _, count in types)}",
        " Startparameter for this run:",
        *(f"   {name} = {_text(value)}" for name, value in parameters.items() if not isinstance(value, (list, tuple))),
    ]
    if settings.hubbard_u:
        lines.append(" LDA+U is selected, type is set to LDAUTYPE =  2")
        lines += [f"   for each species {name} = {_text(parameters[name])}" for name in ("LDAUL", "LDAUU", "LDAUJ")]
    lines += [" Ionic Valenz", f"   ZVAL   = {'  '.join('10.00' for _ in types)}"]
    for number, frame in enumerate(frames):
        lines += _outcar_step(frame, number, settings)
    if settings.moments:
        lines += [f" number of electron  8.0 magnetization {sum(settings.moments):.4f}", "", " magnetization (x)", ""]
        lines += ["# of ion       s       p       d       tot", "-" * 42]
        lines += [f"    {i}   0.0  0.0  0.0  {moment:.3f}" for i, moment in enumerate(settings.moments, start=1)]
        lines += ["-" * 42]
    if settings.ibrion in (1, 2, 3) and len(frames) < settings.nsw:
        lines.append(" reached required accuracy - stopping structural energy minimisation")
    lines.append(" General timing and accounting informations for this job:\n")
    return _write(path, "\n".join(lines), keep)


def write_runs(
    folder: Path, *, elements: Sequence[str] = ("Cu", "Au", "Ni", "Pd"), n_random: int = 6, seed: int = 0
) -> list[Path]:
    """Write a small project: relaxations of elements and alloys on fcc and bcc lattices, one folder each.

    Returns:
        The files, in the order of their folders.
    """
    settings = Settings(nsw=60, ibrion=2)
    paths = []
    for name, atoms in project(elements, n_random, seed):
        frames = relaxation(atoms)
        paths.append(write_vasprun(folder / name / "vasprun.xml.gz", frames, settings))
    return paths


def project(elements: Sequence[str], n_random: int, seed: int) -> Iterator[tuple[str, Atoms]]:
    """Names and structures of the elements, of ordered alloys of each pair, and of random ones."""
    rng = np.random.default_rng(seed)
    size = {element: float(bulk(element, cubic=True).cell[0, 0]) for element in elements}
    for element in elements:
        yield f"{element}_fcc", bulk(element)
    for number, first in enumerate(elements):
        for second in elements[number + 1 :]:
            a = (size[first] + size[second]) / 2
            for majority, minority in ((first, second), (second, first)):
                cell = bulk(majority, "fcc", a=a, cubic=True)
                cell.symbols[0] = minority
                yield f"{majority}3{minority}_L12", cell
            cell = bulk(first, "fcc", a=a, cubic=True)
            cell.symbols[[0, 1]] = second
            yield f"{first}{second}_L10", cell
    for number in range(n_random):
        first, second = rng.choice(elements, 2, replace=False)
        cell = bulk(first, "fcc", a=(size[first] + size[second]) / 2, cubic=True) * (2, 1, 1)
        cell.symbols[rng.permutation(8)[: rng.integers(1, 8)]] = second
        cell.rattle(0.05, seed=int(rng.integers(1_000_000)))
        yield f"random_{number}", cell


def unconverged(settings: Settings, steps: Sequence[int], n_steps: int) -> Settings:
    """The settings of a run whose electronic steps reach NELM in the given ionic steps."""
    return replace(settings, electronic_steps=[settings.nelm if step in steps else 5 for step in range(n_steps)])


def _parameters(settings: Settings, types: Sequence[tuple[str, int]]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ENMAX": settings.encut, "NELM": settings.nelm, "ISPIN": settings.ispin, "ICHARG": settings.icharg,
        "NSW": settings.nsw, "IBRION": settings.ibrion, "ISIF": settings.isif, "EDIFFG": settings.ediffg,
        "GGA": settings.gga, "LHFCALC": False, "AEXX": 0.0, "HFSCREEN": 0.0, "LDAU": bool(settings.hubbard_u),
        "PSTRESS": 0.0, "NELECT": 10.0 * sum(count for _, count in types) + settings.electrons,
    }  # fmt: skip
    if settings.hubbard_u:
        result["LDAUL"] = [2 if symbol in settings.hubbard_u else -1 for symbol, _ in types]
        result["LDAUU"] = [float(settings.hubbard_u.get(symbol, 0.0)) for symbol, _ in types]
        result["LDAUJ"] = [0.0 for _ in types]
    if settings.magmom:
        result["MAGMOM"] = list(settings.magmom)
    return result | dict(settings.tags)


def _tag(name: str, value: Any) -> str:
    if isinstance(value, (list, tuple)):
        kind = ' type="int"' if all(isinstance(each, int) for each in value) else ""
        return f'<v name="{name}"{kind}>{_text(value)}</v>'
    kinds = {bool: ' type="logical"', int: ' type="int"', str: ' type="string"'}
    return f'<i name="{name}"{kinds.get(type(value), "")}>{_text(value)}</i>'


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    return "  ".join(map(_text, value)) if isinstance(value, (list, tuple)) else str(value)


def _rows(array: Any) -> list[str]:
    return [f"<v>{' '.join(f'{value:16.8f}' for value in row)}</v>" for row in np.asarray(array)]


def _structure(atoms: Atoms, name: str | None = None) -> list[str]:
    return [
        f'<structure name="{name}">' if name else "<structure>",
        '<crystal><varray name="basis">', *_rows(atoms.cell.array), "</varray></crystal>",
        '<varray name="positions">', *_rows(atoms.get_scaled_positions()), "</varray></structure>",
    ]  # fmt: skip


def _energy(free: float, without: float, sigma0: float) -> str:
    values = (("e_fr_energy", free), ("e_wo_entrp", without), ("e_0_energy", sigma0))
    inner = "".join(f'<i name="{name}">{value:.8f}</i>' for name, value in values)
    return f"<energy>{inner}</energy>"


def _calculation(frame: Atoms, number: int, settings: Settings) -> list[str]:
    free, without, sigma0 = energies(frame)
    n_electronic = settings.n_electronic(number)
    lines = ["<calculation>"]
    for step in range(n_electronic):
        away = 0.5 ** (step + 1) if step < n_electronic - 1 else 0.0
        lines.append(f"<scstep>{_energy(free + away, without + away, sigma0 + away)}</scstep>")
    lines += _structure(frame)
    lines += ['<varray name="forces">', *_rows(frame.get_forces()), "</varray>"]
    lines += ['<varray name="stress">', *_rows(frame.get_stress(voigt=False) / KBAR), "</varray>"]
    old = settings.version.startswith("5")
    lines.append(_energy(free, sigma0 if old else without, free - sigma0 if old else sigma0))
    lines.append("</calculation>")
    return lines


def _outcar_step(frame: Atoms, number: int, settings: Settings) -> list[str]:
    free, without, sigma0 = energies(frame)
    xx, yy, zz, yz, xz, xy = frame.get_stress() / KBAR
    stress = "".join(f"{value:12.5f}" for value in (xx, yy, zz, xy, yz, xz))
    lines = [
        f"----------------------------------------- Iteration {number + 1:4d}({step + 1:4d})  ------------------"
        for step in range(settings.n_electronic(number))
    ]
    return [
        *lines,
        # as up to VASP 5, which writes this also at the end of NELM steps
        "------------------------ aborting loop because EDIFF is reached ------------------------",
        f"  in kB  {stress}",
        "      direct lattice vectors                 reciprocal lattice vectors",
        *(
            "".join(f"{value:13.9f}" for value in (*row, *other))
            for row, other in zip(frame.cell.array, frame.cell.reciprocal().array.T, strict=True)
        ),
        " POSITION                                       TOTAL-FORCE (eV/Angst)",
        " " + "-" * 83,
        *(
            "".join(f"{value:14.6f}" for value in (*position, *force))
            for position, force in zip(frame.positions, frame.get_forces(), strict=True)
        ),
        " " + "-" * 83,
        "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)",
        "  ---------------------------------------------------",
        f"  free  energy   TOTEN  = {free:18.8f} eV",
        "",
        f"  energy  without entropy={without:18.8f}  energy(sigma->0) ={sigma0:18.8f}",
        "",
    ]


def _write(path: Path, text: str, keep: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with OPENERS.get(path.suffix, open)(path, "wt", encoding="latin-1") as stream:
        stream.write(text[: round(len(text) * keep)])
    return path

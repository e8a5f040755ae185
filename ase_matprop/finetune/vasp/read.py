"""``read_vasp``: from paths to judged runs; private part of :mod:`ase_matprop.finetune.vasp`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ase_matprop.errors import CalculationError, MatPropError, unknown_name
from ase_matprop.finetune.vasp.files import RunFiles, find_runs, is_outcar
from ase_matprop.finetune.vasp.output import VaspOutput
from ase_matprop.finetune.vasp.runs import GASES, VaspRun, VaspRuns
from ase_matprop.finetune.vasp.selection import select
from ase_matprop.finetune.vasp.similar import mark_similar

#: a gap between atoms that is larger is vacuum, Angstrom
_VACUUM = 6.0
#: last energies of a vasprun.xml and of an OUTCAR of one run differ by less, eV
_SAME_RUN = 1e-3

Path_ = str | os.PathLike[str]


def read_vasp(
    paths: Path_ | Iterable[Path_],
    *,
    steps: Literal["last", "all"] = "last",
    energy: Literal["sigma0", "free"] | None = None,
    forces: bool = False,
    allow_mixed: bool = False,
    check: bool = True,
    n_jobs: int = 1,
    progress: Callable[[int, int | None], None] | None = None,
) -> VaspRuns:
    """Read VASP runs and judge them: one entry per run, with the reason where it is not used.

    Args:
        paths: a folder, which is searched with all that is below it, a file, a glob pattern, or several of these.
            Files are vasprun.xml and OUTCAR, also compressed and with something before or after the name; where both
            are there the vasprun.xml counts, and the OUTCAR if that is broken.
        steps: ``"last"`` for the result of each run, ``"all"`` for all its ionic steps with sound numbers.
        energy: ``"sigma0"`` for energy(sigma->0), which formation energies are made of, ``"free"`` for the free energy,
            which forces are the derivative of.  Default: the free energy if ``forces``, else energy(sigma->0).
        forces: whether forces will be trained on: steps without them are dropped.
        allow_mixed: whether runs with different functional, ENCUT, LASPH, U or POTCAR may come together.
        check: whether mixing is looked at here; ``False`` to see what a folder holds.
        n_jobs: processes that read files; -1 for one per core.
        progress: called with the number of runs that are done and that of all.

    Returns:
        All runs.  Broken, unfinished and unconverged ones are among them as rejected; later copies of a run, too.
        Nothing is written anywhere.

    Raises:
        CalculationError: if there is no run at all, or a path does not exist.
        IncompatibleRunsError: if the runs do not go together, unless ``allow_mixed``.
        UnknownNameError: for an unknown value of ``steps`` or ``energy``.
    """
    if steps not in ("last", "all"):
        raise unknown_name("steps setting", steps, ("last", "all"))
    convention = energy or ("free" if forces else "sigma0")
    if convention not in ("sigma0", "free"):
        raise unknown_name("energy convention", energy, ("sigma0", "free"))
    found = find_runs(paths)
    report = progress or (lambda done, total: None)
    report(0, len(found))
    runs: list[VaspRun] = []
    for run in _read_all(found, n_jobs, steps=steps, energy=convention, forces=forces):
        runs.append(run)
        report(len(runs), len(found))
    mark_similar(runs)
    result = VaspRuns(runs, energy=convention)
    if check:
        result.check_compatible(allow_mixed)
    return result


def _read_all(found: list[RunFiles], n_jobs: int, **options: object) -> Iterable[VaspRun]:
    if n_jobs == 1 or len(found) < 2:
        return (_read_run(files, **options) for files in found)  # type: ignore[arg-type]
    from joblib import Parallel, delayed

    read: Iterable[VaspRun] = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_read_run)(files, **options) for files in found
    )
    return read


def _read_run(files: RunFiles, *, steps: str, energy: str, forces: bool) -> VaspRun:
    """Read and judge one run from the first of its files that is sound."""
    failed: list[VaspRun] = []
    for path in files.files:
        try:
            output = _read_file(path)
        except Exception as error:  # whatever a parser trips over is about this file
            failed.append(VaspRun(str(path), reason=_one_line(error)))
            continue
        _complete_from_outcar(output, path, files)
        run = _judge(output, path, steps=steps, energy=energy, forces=forces)
        if run.is_used or output.unfinished is None:
            if failed:
                run.notes.insert(
                    0, f"{Path(failed[0].path).name} {_short(failed[0].reason)}: {path.name} was read instead"
                )
            return run
        failed.append(run)
    first, *others = failed
    if others:
        first.reason = (
            f"{first.reason} ({Path(others[-1].path).name} is of no use either: it {_short(others[-1].reason)})"
        )
    return first


def _read_file(path: Path) -> VaspOutput:
    if path.stat().st_size == 0:
        raise CalculationError("is an empty file; the run crashed before it began, or the copy is incomplete")
    if is_outcar(path):
        from ase_matprop.finetune.vasp.outcar import read_outcar

        return read_outcar(path)
    from ase_matprop.finetune.vasp.vasprun import read_vasprun

    return read_vasprun(path)


def _complete_from_outcar(output: VaspOutput, path: Path, files: RunFiles) -> None:
    """Add what only the OUTCAR beside a vasprun.xml says: magnetic moments, and whether a relaxation is done."""
    wanted = output.settings.spin != "none" or output.tags.calculation == "relaxation"
    others = [other for other in files.files if other != path and is_outcar(other)]
    if not wanted or not others or is_outcar(path):
        return
    from ase_matprop.finetune.vasp.outcar import final_free_energy, final_moments, read_text, said_about_relaxation

    try:
        text = read_text(others[0])
    except Exception:  # the vasprun.xml is sound, and enough
        return
    same = output.steps and abs(final_free_energy(text) - output.steps[-1].free_energy) < _SAME_RUN
    if not same:
        if output.unfinished is None:
            output.notes.append(
                f"{others[0].name} beside it has another energy and is of another run: it was not looked at"
            )
        return
    output.reached_accuracy = said_about_relaxation(text)
    output.magnetization, output.moments = final_moments(text)


def _judge(output: VaspOutput, path: Path, *, steps: str, energy: str, forces: bool) -> VaspRun:
    chosen = select(output, steps=steps, energy=energy, forces=forces)
    some = next((step.atoms for step in reversed(output.steps) if step.atoms is not None), output.initial)
    run = VaspRun(
        str(path),
        reason=chosen.reason,
        notes=chosen.notes,
        settings=output.settings,
        calculation=output.tags.calculation,
        n_steps=len(output.steps),
        n_dropped=chosen.n_dropped,
        magnetization=output.magnetization,
        moments=output.moments,
        is_image=output.tags.images > 0,
    )
    if some is not None:
        run.formula, run.n_atoms = reduced_formula(some), len(some)
    if chosen.reason is not None:
        return run
    run.status, run.is_final = "used", chosen.is_final
    run.frames = [_frame(output, index, run, energy) for index in chosen.indices]
    run.main = chosen.indices.index(chosen.main)
    run.energy = float(run.atoms.calc.results["energy"])
    run.vacuum = _vacuum_axes(run.atoms)
    if run.vacuum:
        run.notes.append(_surroundings(run))
    return run


def _frame(output: VaspOutput, index: int, run: VaspRun, energy: str) -> Atoms:
    step = output.steps[index]
    assert step.atoms is not None
    frame = step.atoms.copy()
    frame.info = {
        "name": run.path if len(output.steps) == 1 else f"{run.path}#{index}",
        "run": run.path,
        "step": index,
        "group": run.formula,
        "functional": output.settings.label,
    }
    results: dict[str, object] = {
        "energy": step.sigma0 if energy == "sigma0" else step.free_energy,
        "free_energy": step.free_energy,
    }
    if step.forces is not None:
        results["forces"] = step.forces
    if step.stress is not None:
        results["stress"] = step.stress
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


def reduced_formula(atoms: Atoms) -> str:
    """Return the reduced formula as pymatgen writes it, such as ``La2Zr2O7`` or ``O2``."""
    from pymatgen.core import Composition

    return str(Composition(dict(atoms.symbols.formula.count())).reduced_formula)


def _vacuum_axes(atoms: Atoms) -> str:
    """Return the axes of the cell along which there is vacuum, such as ``c`` for a slab; empty for a crystal."""
    heights = 1.0 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    axes = ""
    for axis in range(3):
        places = np.sort(atoms.get_scaled_positions()[:, axis])
        gaps = np.diff(np.append(places, places[0] + 1.0))
        if gaps.max() * heights[axis] > _VACUUM:
            axes += "abc"[axis]
    return axes


def _surroundings(run: VaspRun) -> str:
    """Return what a structure with vacuum in its cell is, and for an element whether it is a reference."""
    if run.is_isolated_atom:
        what = "a single atom in a box"
    elif len(run.vacuum) == 3:
        what = "a molecule in a box" if len(run.elements) > 1 or run.elements <= GASES else "a cluster in a box"
    else:
        what = f"vacuum along {' and '.join(run.vacuum)}"
    if len(run.elements) > 1:
        return f"{what}: nothing that a network of crystals knows"
    (element,) = run.elements
    if run.is_reference:
        return f"{what}: good as the reference of {element}, but nothing that a network of crystals knows"
    remedy = "calculate the molecule" if element in GASES else "calculate the crystal"
    return f"{what}: no reference of its element; {remedy} for formation energies"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MatPropError):
        return text
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be opened ({error.strerror}); check the path and its permissions"
    if isinstance(error, EOFError) or type(error).__name__ in ("BadGzipFile", "LZMAError", "error"):
        return f"cannot be decompressed ({text}); the file is cut off or damaged, copy it again"
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"cannot be read ({text if len(text) <= 150 else text[:147] + '...'}); check the file, or copy it again"


def _short(reason: str | None) -> str:
    return (reason or "").partition(";")[0]

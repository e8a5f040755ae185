"""Which steps of a run are used, and why others are not; private part of :mod:`ase_matprop.finetune.vasp`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ase_matprop.finetune.vasp.output import IonicStep, VaspOutput

#: values of ALGO that give no self-consistent total energy of a structure
_NO_TOTAL_ENERGY = {
    "CHI", "BSE", "TDHF", "TIMEEV", "GW", "GW0", "G0W0", "EVGW", "EVGW0", "SCGW", "SCGW0", "QPGW", "QPGW0", "GWR",
    "GW0R", "SPGW", "ACFDT", "ACFDTR", "ACFDTRK", "RPA", "RPAR", "RPARK", "CRPA", "CRPAR", "2E4W", "2E4WA", "G3W2",
    "FCIDUMP", "NONE", "NOTHING", "EIGENVAL", "SUBROT",
}  # fmt: skip
#: why an image of a nudged elastic band is not used where forces are learnt
SPRING_FORCES = "is an image of a nudged elastic band, whose forces include those of the springs; use forces=False"
#: a relaxation that ended before NSW steps with forces this many times EDIFFG was stopped from outside
_FAR_FROM_MINIMUM = 3.0


@dataclass
class Selection:
    """What is used of a run.

    Attributes:
        indices: the ionic steps that are used, in order.
        main: the one of them whose energy stands for the run.
        reason: why none is used, or None.
        notes: what is worth knowing of a run that is used.
        n_dropped: number of steps that were dropped because their numbers are no good.
        is_final: whether the main step is what the run was made for: a static calculation, the end of a relaxation.
    """

    indices: list[int] = field(default_factory=list)
    main: int = -1
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    n_dropped: int = 0
    is_final: bool = True


def select(output: VaspOutput, *, steps: str, energy: str, forces: bool) -> Selection:
    """Decide which steps of a run are used.

    Args:
        output: the run.
        steps: ``"last"`` or ``"all"``.
        energy: ``"sigma0"`` or ``"free"``.
        forces: whether forces are needed.
    """
    tags, calculation = output.tags, output.tags.calculation
    problems = [_problem(step, output, energy=energy, forces=forces) for step in output.steps]
    good = [index for index, problem in enumerate(problems) if problem is None]
    result = Selection(n_dropped=len(problems) - len(good), notes=list(output.notes))
    result.reason = _refusal(output, forces=forces)
    if result.reason is not None:
        return result
    last = len(problems) - 1
    relaxed = calculation != "relaxation" or is_relaxed(output)
    result.main = 0 if calculation == "displacements" else last
    if steps == "last":
        if problems[result.main] is not None:
            which = "first" if result.main == 0 and last else "last" if last else "only"
            result.reason = f"the {which} ionic step {problems[result.main]}{_remedy(output, result.main, good)}"
        elif not relaxed:
            result.reason = (
                f"the relaxation did not converge in {len(problems)} ionic steps (NSW = {tags.nsw}); go on with it "
                "from its CONTCAR, or use its single steps with steps='all' (--steps all)"
            )
        result.indices = [] if result.reason else [result.main]
    elif good:
        result.indices = good
        result.main = good[0] if calculation == "displacements" else good[-1]
        result.is_final = relaxed and result.main in (0 if calculation == "displacements" else last, last)
    else:
        result.reason = f"all ionic steps are unusable, the last {problems[last]}{_remedy(output, last, good)}"
    if result.reason is None:
        result.notes += _notes(output, problems, relaxed=relaxed)
        result.is_final &= calculation in ("static", "relaxation", "displacements", "response") and not tags.images
    return result


def is_relaxed(output: VaspOutput) -> bool:
    """Return whether a relaxation came to its end.

    What VASP says counts, if its OUTCAR is there.  Otherwise, as for pymatgen, a relaxation is done if it took fewer
    than NSW steps; but not if its forces are far above a force criterion, and also with NSW steps if they are below it.
    """
    tags = output.tags
    if output.reached_accuracy is not None:
        return output.reached_accuracy or tags.nsw == 1
    n_steps = len(output.steps)
    if tags.nsw <= 1 or (tags.ediffg == 0 and tags.ibrion in (1, 2)):
        return True
    force = _largest_force(output)
    if n_steps < tags.nsw:
        return not (tags.ediffg < 0 and force > _FAR_FROM_MINIMUM * abs(tags.ediffg))
    return tags.ediffg < 0 and tags.isif <= 2 and force <= abs(tags.ediffg)


def _largest_force(output: VaspOutput) -> float:
    """Return the largest force on an atom that may move, eV/Angstrom, in the last step; NaN if it has none."""
    forces = output.steps[-1].forces
    if forces is None:
        return math.nan
    if output.free is not None and output.free.shape == forces.shape:
        forces = np.where(output.free, forces, 0.0)
    return float(np.linalg.norm(forces, axis=1).max(initial=0.0))


def _problem(step: IonicStep, output: VaspOutput, *, energy: str, forces: bool) -> str | None:
    """Return why the numbers of a step are not used, or None."""
    value = step.sigma0 if energy == "sigma0" else step.free_energy
    if step.problem is not None:
        return step.problem
    if not step.converged:
        return f"did not converge electronically ({step.n_electronic} electronic steps, NELM = {output.tags.nelm})"
    if not math.isfinite(value):
        return "has an energy that is no number"
    if forces and step.forces is None:
        return "has no forces"
    return None


def _refusal(output: VaspOutput, *, forces: bool) -> str | None:
    """Return why the run as a whole is not used, or None."""
    tags, settings = output.tags, output.settings
    reason = None
    if tags.algorithm in _NO_TOTAL_ENERGY:
        reason = f"ALGO = {tags.algorithm} gives no self-consistent total energy; use the ground-state run before it"
    elif tags.icharg >= 10:
        reason = (
            f"ICHARG = {tags.icharg} keeps the charge density fixed (band structure, density of states): its energy is "
            "not self-consistent; use the run that made the charge density"
        )
    elif tags.nelm <= 1:
        reason = "NELM = 1: nothing shows that its energy is self-consistent; use the run before it"
    elif output.unfinished is not None:
        reason = output.unfinished
    elif not output.steps and tags.force_field:
        reason = "its energies are those of VASP's machine-learned force field, not of density functional theory"
    elif not output.steps:
        reason = "has no finished ionic step; the run crashed, was stopped or still goes on: finish it"
    elif settings.is_charged:
        reason = (
            f"the cell has the charge {settings.charge:+g}, and its energy depends on the neutralising background; use "
            "neutral cells"
        )
    elif forces and tags.images:
        reason = SPRING_FORCES
    return reason


def _remedy(output: VaspOutput, index: int, good: list[int]) -> str:
    step = output.steps[index]
    text = ""
    if step.problem is None and not step.converged:
        text = "; run it again with a larger NELM or another ALGO"
        if good:
            text += f", or use its {len(good)} other step{'' if len(good) == 1 else 's'} with steps='all' (--steps all)"
    elif step.problem is None and step.forces is None:
        text = "; use forces=False"
    return text


def _notes(output: VaspOutput, problems: list[str | None], *, relaxed: bool) -> list[str]:
    tags, notes = output.tags, []
    bad = [(index, problem) for index, problem in enumerate(problems) if problem is not None]
    if bad:
        index, problem = bad[0]
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        notes.append(f"ionic step {index + 1} of {len(problems)} {problem}{more}: dropped")
    if tags.calculation == "molecular dynamics":
        notes.append("molecular dynamics: the last step is a snapshot, no relaxed structure")
    elif tags.calculation == "displacements":
        notes.append("finite displacements: the energy is that of the first step, which is not displaced")
    elif tags.calculation.startswith(("transition", "IBRION")):
        notes.append(f"{tags.calculation}: the last step need not be a minimum")
    if tags.images:
        notes.append("image of a nudged elastic band: no minimum")
    if not relaxed:
        notes.append("the relaxation did not converge: its last step is not at the minimum")
    if tags.pstress:
        notes.append(f"PSTRESS = {tags.pstress:g} kbar: energies are without the PV term")
    return notes

"""A laboratory's VASP runs, from the folder to a calculator of its own.

The runs are SYNTHETIC: synthetic_runs.py writes files in VASP's formats with energies and forces of ASE's EMT
potential.  No DFT calculation is behind them, and the resulting model is good for nothing but to see the steps.

    python examples/finetune_vasp/run.py [MODEL]
"""

import sys
import tempfile
from pathlib import Path

from ase.build import bulk
from ase.optimize import BFGS
from synthetic_runs import Settings, project, relaxation, unconverged, write_outcar, write_vasprun

from ase_matprop import MatProp
from ase_matprop.finetune import finetune, read_vasp

MODEL = sys.argv[1] if len(sys.argv) > 1 else "schnet-mp"


def write_folder(folder: Path) -> None:
    """Write runs of elements and alloys, most of them sound."""
    settings = Settings(nsw=60, ibrion=2)
    for number, (name, atoms) in enumerate(project(("Cu", "Ag", "Au", "Ni", "Pd"), n_random=6, seed=0)):
        frames = relaxation(atoms, steps=12, fmax=0.1)
        if number % 2:
            write_vasprun(folder / name / "vasprun.xml.gz", frames, settings)
        else:
            write_outcar(folder / name / "OUTCAR", frames, settings)
    frames = relaxation(bulk("Pt"))
    write_vasprun(folder / "killed_by_the_queue" / "vasprun.xml", frames, settings, keep=0.4)
    write_vasprun(folder / "unconverged" / "vasprun.xml", frames, unconverged(settings, range(99), len(frames)))
    (folder / "never_started").mkdir()
    (folder / "never_started" / "OUTCAR").write_text("")


with tempfile.TemporaryDirectory() as place:
    folder = Path(place) / "my_vasp_runs"
    write_folder(folder)

    # what the folder holds, before anything is trained (the same on the command line: matprop vasp my_vasp_runs/)
    runs = read_vasp(folder, check=False)
    table = runs.to_frame()
    table["path"] = [str(Path(path).relative_to(folder)) for path in table["path"]]
    print(table[["path", "formula", "n_atoms", "energy_per_atom", "functional", "status"]].to_string(max_rows=14))
    for run in runs.rejected:
        print(f"rejected: {Path(run.path).relative_to(folder)}: {run.reason}")

    # matprop finetune schnet-mp my_vasp_runs/ --scheme TL2 --output my_alloys --epochs 15
    output = Path(place) / "my_alloys"
    result = finetune(MODEL, folder, scheme="TL2", output=output, epochs=15, from_scratch=False, force=True)
    print(f"\n{result.verdict}")
    for caution in result.cautions:
        print(f"caution: {caution}")
    for name, errors in result.errors.items():
        print(f"  {name:18s} MAE {errors.mae:.4f} {result.card.unit}, largest {errors.largest:.4f}")

    # the calculator, in a short relaxation
    atoms = bulk("Cu", "fcc", a=3.9, cubic=True)
    atoms.symbols[0] = "Au"
    atoms.rattle(0.05, seed=1)
    atoms.calc = MatProp(output)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    print(f"\n{atoms.symbols}: {energy / len(atoms):.4f} eV/atom, largest force {abs(forces).max():.3f} eV/Angstrom")
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=10)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    print(f"relaxed: {energy / len(atoms):.4f} eV/atom, largest force {abs(forces).max():.3f} eV/Angstrom")

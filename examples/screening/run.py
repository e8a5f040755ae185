"""Two searches: silicates and aluminates against measured enthalpies, and perovskites by two models.

python examples/screening/run.py [FOLDER]     with a folder: results, report and phase diagram stay there
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from ase_matprop import load_model
from ase_matprop.screening import Results, read_references, screen, write_phase_diagram, write_report

HERE = Path(__file__).parent


def show(results: Results, columns: list[str]) -> None:
    summary = results.summary()
    print(
        f"{summary.n_candidates:,} candidates, {summary.n_filtered:,} not charge-balanced, {summary.n_scored:,} "
        f"scored, {summary.n_kept:,} kept"
    )
    print(results.top(8)[columns].to_string(index=False, float_format=lambda value: f"{value:.3f}"), "\n")


def main(folder: Path) -> None:
    print("minerals.toml, elemnet-mp: oxides of Ca, Mg, Al and Si below measured ones")
    results = screen(HERE / "minerals.toml", folder / "minerals")
    show(results, ["formula", "formation_energy_per_atom", "e_above_hull", "distance", "decomposition"])

    known = read_references(HERE / "minerals.csv")
    compounds = known.take(np.flatnonzero((known.numbers > 0).sum(axis=1) > 1))
    model = load_model("elemnet-mp")
    predicted = model.predict(compounds.formulas()).values
    difference = predicted - compounds.energies
    print(
        f"model minus measurement for the {len(compounds)} minerals: mean {difference.mean():.3f}, standard deviation "
        f"{difference.std():.3f} eV/atom\n(mean absolute error on the model's own test set "
        f"{model.card.errors['test'].mae:.3f})\n"
    )

    print("perovskites.toml, irnet17-mp, compared with nn24-mp")
    results = screen(HERE / "perovskites.toml", folder / "perovskites")
    show(results, ["formula", "name", "formation_energy_per_atom", "spread", "disagreement", "distance"])

    candidates = Results(folder / "minerals").to_frame(system="Al-Ca-O")
    write_phase_diagram(
        folder / "Ca-Al-O.png",
        known,
        [*compounds.formulas(), *candidates["formula"]],
        [*predicted, *candidates["formation_energy_per_atom"]],
        "Ca-Al-O",
    )
    write_report(Results(folder / "minerals"), folder / "minerals" / "report.html")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))

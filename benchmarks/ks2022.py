"""KS2022, its dilute limit and random solid solutions: this package and pySIPFENN, in one run.

    MATPROP_PYSIPFENN=.../site-packages python benchmarks/ks2022.py
    MATPROP_PYSIPFENN=... python benchmarks/ks2022.py --data ../shared/data/mp/mp_formation_energy.extxyz.xz

Everything runs on one core.  Without --data the structures are prototypes of the library with elements drawn at random.
pySIPFENN is optional; MATPROP_PYSIPFENN names a site-packages folder that has it.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import argparse
import contextlib
import io
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk

sys.path.insert(0, str(Path(__file__).parents[1]))

from ase_matprop.descriptors import ks2022, voronoi
from ase_matprop.descriptors.elements import ground_state_volumes
from ase_matprop.descriptors.ks2022.random_solutions import feature_scale
from ase_matprop.structures.prototypes import get_prototype, list_prototypes
from tests.descriptors.pysipfenn_reference import load

ELEMENTS = Atoms("LiMgAlSiTiVCrMnFeCoNiCuZnZrNbMoPdAgHfTaWPtAu").get_chemical_symbols()
SOLUTES = Atoms("AlSiTiVCrMnFeCoCuZnZrNbMoTcRuRhPdAgTaW").get_chemical_symbols()
SOLUTIONS = [("Fe50Ni30Cr20", "FCC"), ("AlCrFeCoNiCu", "BCC"), ("Ti90Al6V4", "HCP")]


def drawn_structures(path: Path | None, n: int, seed: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    if path is not None:
        from ase_matprop.training.readers import read_extxyz

        everything = read_extxyz(path)
        return [everything[index] for index in rng.choice(len(everything), n, replace=False)]
    structures = []
    for name in rng.choice(list_prototypes(), n):
        prototype = get_prototype(name)
        elements = {key: str(rng.choice(ELEMENTS)) for key in prototype.multiplicities}
        structures.append(prototype.decorate(elements, volume=ground_state_volumes()))
    return structures


def timed(function: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Seconds of the fastest of several calls, none of which knows a tessellation beforehand, and the result."""
    best, result = np.inf, None
    for _ in range(repeats):
        voronoi._recent.clear()
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return best, result


def reference(name: str) -> Callable[..., Any] | None:
    try:
        return load(name).generate_descriptor
    except ImportError as error:
        print(f"left out: {error}")
        return None


def to_pymatgen(atoms: Atoms) -> Any:
    from pymatgen.io.ase import AseAtomsAdaptor

    return AseAtomsAdaptor.get_structure(atoms)


def largest_deviation(ours: np.ndarray, theirs: np.ndarray) -> str:
    deviation = (np.abs(ours - theirs) / (np.abs(theirs) + 1.0)).max(axis=1)
    return f"{np.median(deviation):.1e} / {deviation.max():.1e}"


def row(task: str, ours: float, theirs: float | None, agreement: str = "") -> None:
    peer, ratio = ("", "") if theirs is None else (f"{theirs:.4f}", f"{theirs / ours:.0f}")
    print(f"| {task} | {ours:.5f} | {peer} | {ratio} | {agreement} |", flush=True)


def ordered(structures: list[Atoms], repeats: int) -> None:
    seconds, (features, errors) = timed(lambda: ks2022.compute(structures), repeats)
    assert not any(errors)
    compute, theirs, agreement = reference("KS2022"), None, ""
    if compute is not None:
        converted = [to_pymatgen(atoms) for atoms in structures]
        theirs, values = timed(lambda: np.array([compute(structure) for structure in converted]))
        theirs, agreement = theirs / len(structures), largest_deviation(features, values)
    row("KS2022, per structure, one batch", seconds / len(structures), theirs, agreement)
    seconds, _ = timed(lambda: [ks2022.compute([atoms]) for atoms in structures], repeats)
    row("KS2022, per structure, one by one", seconds / len(structures), theirs)
    seconds, _ = timed(lambda: ks2022.compute(structures, symmetry=True), repeats)
    row("KS2022, symmetry-reduced", seconds / len(structures), theirs)


def dilute_limit(repeats: int) -> None:
    host = bulk("Ni", cubic=True) * 3
    dilute = []
    for symbol in SOLUTES:
        dilute.append(host.copy())
        dilute[-1].symbols[0] = symbol
    seconds, (features, _) = timed(lambda: ks2022.compute_dilute(dilute), repeats)
    compute, theirs, agreement = reference("KS2022_dilute"), None, ""
    if compute is not None:
        converted = [to_pymatgen(atoms) for atoms in dilute]
        theirs, values = timed(lambda: np.array([compute(structure) for structure in converted]))
        theirs, agreement = theirs / len(dilute), largest_deviation(features, values)
    row("dilute, Ni107X, per structure", seconds / len(dilute), theirs, agreement)
    seconds, _ = timed(lambda: [ks2022.compute_dilute([atoms]) for atoms in dilute], repeats)
    row("dilute, one by one", seconds / len(dilute), theirs)
    seconds, _ = timed(lambda: ks2022.dilute_limit(bulk("Ni"), SOLUTES, n_atoms=108), repeats)
    row("dilute, from the primitive cell", seconds / len(dilute), theirs)
    seconds, _ = timed(lambda: ks2022.compute(dilute), repeats)
    row("dilute, all of KS2022", seconds / len(dilute), theirs)


def random_solutions(repeats: int) -> None:
    compute, lines = reference("KS2022_randomSolutions"), []
    means = [i for i, label in enumerate(ks2022.feature_labels()) if label.startswith(("mean n", "mean absolute dev"))]
    for composition, name in SOLUTIONS:
        long = ks2022.random_solution(composition, name, tolerance=2e-4, window=8, max_cells=4000, seed=1).features

        def error(features: np.ndarray, long: np.ndarray = long) -> float:
            return float((np.abs(features - long) / feature_scale())[means].max())

        seconds, ours = timed(lambda c=composition, p=name: ks2022.random_solution(c, p), repeats)
        theirs, note = None, f"{ours.n_cells} cells of {ours.atoms_per_cell} atoms, error {error(ours.features):.4f}"
        if compute is not None:
            import random

            from pymatgen.core import Composition

            random.seed(0)
            with contextlib.redirect_stdout(io.StringIO()):
                theirs, (values, meta) = timed(
                    lambda c=composition, p=name: compute(get_prototype(p).structure(), Composition(c), returnMeta=True)
                )
            note += f"; pySIPFENN {meta['finalAtomsN']} atoms, error {error(values):.4f}"
        row(f"random {composition} on {name}", seconds, theirs)
        lines.append(f"{composition} on {name}: {note}")
    print(
        "\nRandom solutions, error of means and mean absolute deviations against a long run, in units of the range of "
        "the property:\n"
    )
    print("\n".join(f"* {line}" for line in lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="extended XYZ file to draw structures from")
    parser.add_argument("--n", type=int, default=100, help="structures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", nargs="+", default=["ordered", "dilute", "random"], help="what to time")
    parser.add_argument("--repeats", type=int, default=3, help="of this package, of which the fastest counts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    structures = drawn_structures(options.data, options.n, options.seed)
    sizes = [len(atoms) for atoms in structures]
    ks2022.compute(structures[:5])  # imports and tables
    print(f"{platform.processor() or platform.machine()}, one core; {time.strftime('%Y-%m-%d')}")
    print(f"{len(structures)} structures of {np.mean(sizes):.1f} atoms on average, at most {max(sizes)}\n")
    print("| task | ase_matprop, s | pySIPFENN, s | ratio | deviation, median / largest |")
    print("|---|---|---|---|---|")
    if "ordered" in options.parts:
        ordered(structures, options.repeats)
    if "dilute" in options.parts:
        dilute_limit(options.repeats)
    if "random" in options.parts:
        random_solutions(options.repeats)


if __name__ == "__main__":
    main()

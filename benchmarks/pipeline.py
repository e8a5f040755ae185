"""Structures per second from a DataFrame to predictions, and for the orderings of one parent, beside the peers.

    python benchmarks/pipeline.py                                        # crystals made in place
    python benchmarks/pipeline.py --data ../shared/data/mp/mp_formation_energy.extxyz.xz

Two jobs: a DataFrame of --n pymatgen structures, and --n orderings of Ni and Al on one lattice of 16 sites.  This
package does all of them; matminer's featurizers (the presets with the same 271 features) with a random forest of
scikit-learn, and CHGNet's calculator and batches, do the first --n-peer of the same structures (the forest is fitted
beforehand, to random numbers: what it predicts does not matter here).  Each row of the table is a process of its own on
one core, imports and the loading of weights left out of the time; the memory is the highest that the process had, of
which what it had before the job began is said beside it.  The peers are optional: pip install chgnet.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from featurize import drawn_structures

Job = Callable[[Sequence[Atoms]], Any]


def orderings(n: int, seed: int) -> list[Atoms]:
    """Return Ni and Al drawn at random on the 16 sites of one lattice."""
    rng = np.random.default_rng(seed)
    parent = bulk("Ni", cubic=True) * (2, 2, 1)
    parent.set_cell(parent.cell * 1.03, scale_atoms=True)
    found = []
    for _ in range(n):
        atoms = parent.copy()
        atoms.numbers[:] = rng.choice([28, 13], len(atoms))
        found.append(atoms)
    return found


def network_featurizer(model: str) -> Job:
    import pandas as pd
    from pymatgen.io.ase import AseAtomsAdaptor

    from ase_matprop.featurizers import NetworkFeaturizer

    featurizer = NetworkFeaturizer(model)
    featurizer.featurize(AseAtomsAdaptor.get_structure(bulk("NaCl", "rocksalt", 5.64)))

    def job(frame: pd.DataFrame) -> Any:
        return featurizer.featurize_dataframe(frame, "structure", ignore_errors=True, pbar=False)

    return job


def batch(model: str) -> Job:
    from ase_matprop import load_model

    predictor = load_model(model)
    predictor.predict(bulk("NaCl", "rocksalt", 5.64))
    return predictor.predict


def calculator(model: str) -> Job:
    from ase_matprop import MatProp

    return one_by_one(MatProp(model))


def chgnet_calculator() -> Job:
    from chgnet.model.dynamics import CHGNetCalculator

    return one_by_one(CHGNetCalculator(use_device="cpu", verbose=False))


def one_by_one(calc: Any) -> Job:
    def job(structures: Sequence[Atoms]) -> Any:
        for atoms in structures:
            copy = atoms.copy()
            copy.calc = calc
            copy.get_potential_energy()

    job(structures=[bulk("NaCl", "rocksalt", 5.64)])
    return job


def chgnet_batches() -> Job:
    from chgnet.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    model = CHGNet.load(use_device="cpu", verbose=False)

    def job(structures: Sequence[Atoms]) -> Any:
        model.predict_structure([AseAtomsAdaptor.get_structure(atoms) for atoms in structures], task="e", batch_size=64)

    job([bulk("NaCl", "rocksalt", 5.64)] * 2)
    return job


def matminer_and_forest() -> Job:
    import pandas as pd
    from matminer.featurizers import composition as mc
    from matminer.featurizers import structure as ms
    from matminer.featurizers.base import MultipleFeaturizer
    from matminer.featurizers.structure.sites import SiteStatsFingerprint
    from pymatgen.io.ase import AseAtomsAdaptor
    from sklearn.ensemble import RandomForestRegressor

    of_structures = MultipleFeaturizer(
        [
            SiteStatsFingerprint.from_preset("CoordinationNumber_ward-prb-2017"),
            ms.StructuralHeterogeneity(),
            ms.ChemicalOrdering(),
            ms.MaximumPackingEfficiency(),
            SiteStatsFingerprint.from_preset("LocalPropertyDifference_ward-prb-2017"),
        ]
    )
    of_compositions = MultipleFeaturizer(
        [
            mc.Stoichiometry(),
            mc.ElementProperty.from_preset("magpie"),
            mc.ValenceOrbital(props=["frac"]),
            mc.IonProperty(fast=True),
        ]
    )
    n_features = len(of_structures.feature_labels()) + len(of_compositions.feature_labels())
    rng = np.random.default_rng(0)
    forest = RandomForestRegressor(100, n_jobs=1, random_state=0).fit(rng.random((500, n_features)), rng.random(500))

    def job(inputs: Any) -> Any:
        frame = inputs
        if not isinstance(inputs, pd.DataFrame):
            frame = pd.DataFrame({"structure": [AseAtomsAdaptor.get_structure(atoms) for atoms in inputs]})
        frame = frame.assign(composition=[structure.composition for structure in frame["structure"]])
        for featurizer, column in ((of_structures, "structure"), (of_compositions, "composition")):
            featurizer.set_n_jobs(1)
            frame = featurizer.featurize_dataframe(frame, column, ignore_errors=True, pbar=False)
        return forest.predict(np.nan_to_num(frame.iloc[:, 2:].to_numpy(dtype=float)))

    return job


#: job -> name of the row, whether it is a peer, what makes it
ROWS: dict[str, list[tuple[str, bool, Callable[[], Job]]]] = {
    "DataFrame": [
        ("NetworkFeaturizer(irnet17-mp)", False, lambda: network_featurizer("irnet17-mp")),
        ("NetworkFeaturizer(schnet-mp)", False, lambda: network_featurizer("schnet-mp")),
        ("matminer featurizers + random forest", True, matminer_and_forest),
    ],
    "orderings": [
        ("irnet17-mp, one batch", False, lambda: batch("irnet17-mp")),
        ("MatProp(irnet17-mp), one by one", False, lambda: calculator("irnet17-mp")),
        ("schnet-mp, one batch", False, lambda: batch("schnet-mp")),
        ("matminer featurizers + random forest", True, matminer_and_forest),
        ("CHGNetCalculator, one by one", True, chgnet_calculator),
        ("CHGNet, energies in batches of 64", True, chgnet_batches),
    ],
}


def inputs_of(kind: str, n: int, options: argparse.Namespace) -> Any:
    if kind == "orderings":
        return orderings(n, options.seed)
    import pandas as pd
    from pymatgen.io.ase import AseAtomsAdaptor

    structures = drawn_structures(options.data, n, options.seed)
    return pd.DataFrame({"structure": [AseAtomsAdaptor.get_structure(atoms) for atoms in structures]})


def peak_memory() -> float:
    """Highest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(options: argparse.Namespace) -> None:
    """Do one row of the table and print what was measured as JSON."""
    kind, number = options.row.split(":")
    _, peer, make = ROWS[kind][int(number)]
    n = min(options.n, options.n_peer) if peer else options.n
    warnings.simplefilter("ignore")
    job = make()
    inputs = inputs_of(kind, n, options)
    before = peak_memory()
    start = time.perf_counter()
    job(inputs)
    print("\n" + json.dumps({"n": n, "seconds": time.perf_counter() - start, "before": before, "peak": peak_memory()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="extended XYZ file to draw structures from")
    parser.add_argument("--n", type=int, default=10_000, help="structures for this package")
    parser.add_argument("--n-peer", type=int, default=40, help="structures for the peers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--row", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        measure(options)
        return
    print(f"{platform.processor() or platform.machine()}, one core; {time.strftime('%Y-%m-%d')}")
    for kind, rows in ROWS.items():
        what = "structures of 16 sites" if kind == "orderings" else f"structures, {options.data or 'made in place'}"
        print(f"\n{kind}: {options.n} {what}, seed {options.seed}; peers: the first {options.n_peer}\n")
        print("| what | n | structures per second | peak memory, before the job (MiB) | ratio to the first row |")
        print("|---|---|---|---|---|")
        first: float | None = None
        for number, (name, _, _) in enumerate(rows):
            command = [sys.executable, __file__, *sys.argv[1:], "--row", f"{kind}:{number}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"| {name} | left out: {done.stderr.strip().splitlines()[-1]} | | | |", flush=True)
                continue
            found = json.loads(done.stdout.strip().splitlines()[-1])
            rate = found["n"] / found["seconds"]
            first = rate if first is None else first
            memory = f"{found['peak']:.0f}, {found['before']:.0f}"
            print(f"| {name} | {found['n']} | {rate:.4g} | {memory} | {first / rate:.3g} |", flush=True)


if __name__ == "__main__":
    main()

"""Seconds per structure of the 271 features: this package, matminer's presets and pySIPFENN's KS2022, in one run.

    python benchmarks/featurize.py                                        # crystals made in place
    python benchmarks/featurize.py --data ../shared/data/mp/mp_formation_energy.extxyz.xz --n 20

Everything runs on one core.  The peers are optional: without matminer or pysipfenn their row is left out.  The peers
see the first --n of the drawn structures, this package all of them (--n-ours), in batches as it is used.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import argparse
import contextlib
import io
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from ase_matprop.descriptors import ward2017


def drawn_structures(path: Path | None, n: int, seed: int) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    if path is None:
        cell = bulk("MgO", "rocksalt", 4.21, cubic=True) * (3, 1, 1)
        structures = []
        for _ in range(n):
            atoms = cell.copy()
            atoms.set_chemical_symbols(rng.choice(["Mg", "Ni", "O"], len(atoms)).tolist())
            atoms.positions += rng.uniform(-0.1, 0.1, atoms.positions.shape)
            structures.append(atoms)
        return structures
    from ase_matprop.training.readers import read_extxyz

    everything = read_extxyz(path)
    return [everything[index] for index in rng.choice(len(everything), n, replace=False)]


def matminer_presets() -> Callable[[Atoms], None]:
    from matminer.featurizers import composition as mc
    from matminer.featurizers import structure as ms
    from matminer.featurizers.structure.sites import SiteStatsFingerprint
    from pymatgen.io.ase import AseAtomsAdaptor

    structure_featurizers = [
        SiteStatsFingerprint.from_preset("CoordinationNumber_ward-prb-2017"),
        ms.StructuralHeterogeneity(),
        ms.ChemicalOrdering(),
        ms.MaximumPackingEfficiency(),
        SiteStatsFingerprint.from_preset("LocalPropertyDifference_ward-prb-2017"),
    ]
    composition_featurizers = [
        mc.Stoichiometry(),
        mc.ElementProperty.from_preset("magpie"),
        mc.ValenceOrbital(props=["frac"]),
        mc.IonProperty(fast=True),
    ]

    def featurize(atoms: Atoms) -> None:
        structure = AseAtomsAdaptor.get_structure(atoms)
        for featurizer in structure_featurizers:
            featurizer.featurize(structure)
        for featurizer in composition_featurizers:
            featurizer.featurize(structure.composition)

    return featurize


def pysipfenn_ks2022() -> Callable[[Atoms], None]:
    with contextlib.redirect_stdout(io.StringIO()):
        from pymatgen.io.ase import AseAtomsAdaptor
        from pysipfenn.descriptorDefinitions import KS2022

    return lambda atoms: KS2022.generate_descriptor(AseAtomsAdaptor.get_structure(atoms))


def time_peer(load: Callable[[], Callable[[Atoms], None]], structures: list[Atoms]) -> tuple[list[float], int] | None:
    """Seconds for each structure, failed ones included, and the number of failures."""
    try:
        featurize = load()
    except Exception as error:  # not there, or one of its own imports fails (pySIPFENN needs a matching torchvision)
        print(f"left out: {error}")
        return None
    seconds, failures = [], 0
    for atoms in structures:
        start = time.perf_counter()
        try:
            featurize(atoms)
        except Exception:  # the peers raise all kinds on some structures
            failures += 1
        seconds.append(time.perf_counter() - start)
    return seconds, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="extended XYZ file to draw structures from")
    parser.add_argument("--n", type=int, default=10, help="structures for the peers")
    parser.add_argument("--n-ours", type=int, default=1000, help="structures for this package")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    structures = drawn_structures(options.data, max(options.n, options.n_ours), options.seed)
    shared = structures[: options.n]
    ward2017.compute(structures[:5])  # imports and tables
    start = time.perf_counter()
    _, errors = ward2017.compute(structures)
    ours = (time.perf_counter() - start) / len(structures)
    start = time.perf_counter()
    ward2017.compute(shared)
    ours_shared = (time.perf_counter() - start) / len(shared)

    print(f"{platform.processor() or platform.machine()}, one core; {time.strftime('%Y-%m-%d')}")
    print(f"source of the structures: {options.data or 'made in place'}, seed {options.seed}")
    mean_all, mean_shared = np.mean([len(a) for a in structures]), np.mean([len(a) for a in shared])
    print(
        f"{len(structures)} structures of {mean_all:.1f} atoms on average; "
        f"{len(shared)} of {mean_shared:.1f} for the peers\n"
    )
    print("| featurizer | structures | failures | s per structure | ratio to ase_matprop, same structures |")
    print("|---|---|---|---|---|")
    failed = sum(error is not None for error in errors)
    print(f"| ase_matprop Ward2017 (271), all | {len(structures)} | {failed} | {ours:.5f} | |")
    print(f"| ase_matprop Ward2017 (271) | {len(shared)} | 0 | {ours_shared:.5f} | 1 |")
    peers = {"matminer presets (271)": matminer_presets, "pySIPFENN KS2022 (256)": pysipfenn_ks2022}
    for name, load in peers.items():
        result = time_peer(load, shared)
        if result is not None:
            seconds, failures = result
            mean = float(np.mean(seconds))
            print(f"| {name} | {len(shared)} | {failures} | {mean:.3f} | {mean / ours_shared:.0f} |", flush=True)


if __name__ == "__main__":
    main()

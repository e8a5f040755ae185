"""Structures per second from ASE Atoms to formation energies with the default model.

python benchmarks/predict.py                                          # 26-atom cells made in place
python benchmarks/predict.py --data ../shared/data/mp/mp_formation_energy.extxyz.xz
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk

from ase_matprop import load_model


def cells_of_26_atoms(n: int, seed: int = 0) -> list[Atoms]:
    """Distorted cells of 26 atoms with three elements."""
    rng = np.random.default_rng(seed)
    parent = bulk("Cu") * (1, 2, 13)
    structures = []
    for _ in range(n):
        atoms = parent.copy()
        atoms.set_cell(atoms.cell * rng.uniform(1.0, 1.3), scale_atoms=True)
        atoms.set_chemical_symbols(rng.choice(["Mg", "Al", "O"], len(atoms)).tolist())
        atoms.positions += rng.uniform(-0.15, 0.15, atoms.positions.shape)
        structures.append(atoms)
    return structures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None, help="extended XYZ file to draw structures from")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2], help="processes for the descriptor")
    options = parser.parse_args()
    if options.data is None:
        structures = cells_of_26_atoms(options.n)
    else:
        from ase_matprop.training.readers import read_extxyz

        everything = read_extxyz(options.data)
        rows = np.random.default_rng(0).choice(len(everything), min(options.n, len(everything)), replace=False)
        structures = [everything[row] for row in rows]

    start = time.perf_counter()
    predictor = load_model()
    loading = time.perf_counter() - start
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(
        f"{len(structures)} structures of {np.mean([len(a) for a in structures]):.1f} atoms; "
        f"model loaded in {loading:.2f} s\n"
    )
    print("| processes | batch size | structures per second | ms per structure |")
    print("|---|---|---|---|")
    for jobs in options.jobs:
        batch_size = 256 if jobs == 1 else len(structures)
        predictor.predict(structures[:50], n_jobs=jobs)  # start the processes
        start = time.perf_counter()
        result = predictor.predict(structures, n_jobs=jobs, batch_size=batch_size)
        seconds = time.perf_counter() - start
        assert result.n_failed == 0
        print(f"| {jobs} | {batch_size} | {len(structures) / seconds:.0f} | {1000 * seconds / len(structures):.2f} |")
    start = time.perf_counter()
    for atoms in structures[:100]:
        predictor.predict([atoms])
    single = (time.perf_counter() - start) / 100
    print(f"| 1 | 1, as an ASE calculator does | {1 / single:.0f} | {1000 * single:.2f} |")


if __name__ == "__main__":
    main()

"""Formulas per second: parsing, features and predictions, beside matminer.

    python benchmarks/formulas.py --n 100000

The formulas are drawn (binary to quaternary compounds, seeded).  matminer sees the first --n-peer of them, through
``featurize_many`` with one process; this package all of them.  Everything runs on one core.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from ase.data import chemical_symbols
from matminer.featurizers import composition as mc
from matminer.featurizers.base import MultipleFeaturizer
from pymatgen.core import Composition

from ase_matprop import load_model
from ase_matprop.compositions import composition_entries
from ase_matprop.descriptors.fractions import ELEMENTS
from ase_matprop.descriptors.registry import get_descriptor


def drawn_formulas(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    formulas = []
    for size in rng.integers(2, 5, n):
        elements = rng.choice(ELEMENTS, size, replace=False)
        formulas.append("".join(f"{chemical_symbols[z]}{rng.integers(1, 9)}" for z in elements))
    return formulas


def per_second(function: Callable[[], object], n: int) -> float:
    start = time.perf_counter()
    function()
    return n / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--n-peer", type=int, default=500)
    parser.add_argument("--models", nargs="+", default=["elemnet-mp", "irnet17-composition-mp"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    formulas = drawn_formulas(options.n)
    print(
        f"{platform.processor() or platform.machine()}, one core, {options.n} formulas, {options.n_peer} for matminer\n"
    )
    print("| what | formulas a second | matminer | ratio |\n|---|---|---|---|")

    def report(what: str, ours: float, peer: float | None = None) -> None:
        ratio = "" if peer is None else f"{ours / peer:.0f}"
        print(f"| {what} | {ours:.0f} | {'' if peer is None else f'{peer:.0f}'} | {ratio} |", flush=True)

    amounts = [entry.amounts for entry in composition_entries(formulas)]
    compositions = [Composition(formula) for formula in formulas[: options.n_peer]]
    peers = {
        "fractions": mc.ElementFraction(),
        "composition": MultipleFeaturizer(
            [
                mc.Stoichiometry(),
                mc.ElementProperty.from_preset("magpie", impute_nan=True),
                mc.ValenceOrbital(props=["frac"], impute_nan=True),
                mc.IonProperty(fast=True, impute_nan=True),
            ]
        ),
    }
    report("parsing", per_second(lambda: list(composition_entries(formulas)), options.n))
    for name, peer in peers.items():
        peer.set_n_jobs(1)
        theirs = per_second(lambda peer=peer: peer.featurize_many(compositions, pbar=False), options.n_peer)
        descriptor = get_descriptor(name)
        report(f"features: {name}", per_second(lambda d=descriptor: d.compute(amounts), options.n), theirs)
    for name in options.models:
        model = load_model(name)
        model.predict(formulas[:100])
        report(f"{name}: from formula to value", per_second(lambda m=model: m.predict(formulas), options.n))


if __name__ == "__main__":
    main()

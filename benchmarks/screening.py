"""Screening: formulas and structures a second, beside plain matrix products; scaling with workers; memory.

    python benchmarks/screening.py rates
    python benchmarks/screening.py structures workers
    python benchmarks/screening.py memory --n 10000000

``rates`` compares the scorer with the matrix products of the network alone, of the same sizes and in the same run, in
turns.  ``workers`` measures whole runs: generation, scoring, hull distances, files.  Without ``--references`` the
compounds of the hull are drawn at random.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ase_matprop import load_model
from ase_matprop.screening import FormulaScorer, FormulaSpace, ScreeningSettings, Workers, screen
from ase_matprop.screening.spaces.base import FormulaBlock

QUATERNARIES = 435_328_775  # of 86 elements with up to ten atoms
ROWS = 2048


def draw_blocks(n: int, elements: list[str], seed: int = 0) -> FormulaBlock:
    """Return quaternary formulas from random shards of the space of all."""
    space = FormulaSpace(elements, 4, 10, shard_size=50_000)
    rng = np.random.default_rng(seed)
    blocks: list[FormulaBlock] = []
    while sum(map(len, blocks)) < n:
        blocks += space.blocks(int(rng.integers(space.n_shards)))
    numbers = np.concatenate([block.numbers for block in blocks])[:n]
    amounts = np.concatenate([block.amounts for block in blocks])[:n]
    return FormulaBlock(numbers, amounts)


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def products(name: str, dtype: torch.dtype):
    """Return a function that does the matrix products of a model's layers for so many rows, and nothing else."""
    network = load_model(name)._network
    weights = [p.detach().to(dtype) for n, p in network.named_parameters() if n.endswith("weight") and p.ndim == 2]
    factors = [torch.randn(ROWS, weight.shape[1]).to(dtype) for weight in weights]

    def run(n: int) -> None:
        with torch.inference_mode():
            for _ in range(n // ROWS):
                for factor, weight in zip(factors, weights, strict=True):
                    torch.nn.functional.linear(factor, weight)

    return run


def rates(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    print(f"\n{options.threads} threads, median of {options.repeats} runs in turns; formulas a second\n")
    print("| model | precision | scorer | matrix products alone | ratio |\n|---|---|---|---|---|")
    for name in options.models:
        predictor = load_model(name)
        block = draw_blocks(options.formulas // ROWS * ROWS, predictor.card.elements)
        values = {}
        for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            scorer, plain = FormulaScorer(predictor, precision), products(name, dtype)
            scorer.values(block.take(np.arange(2 * ROWS)))
            plain(2 * ROWS)
            ours, theirs = [], []
            for _ in range(options.repeats):
                ours.append(len(block) / seconds(scorer.values, block))
                theirs.append(len(block) / seconds(plain, len(block)))
            values[precision] = scorer.values(block)
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            median, plain_median = statistics.median(ours), statistics.median(theirs)
            print(f"| {name} | {precision} | {median:,.0f} | {plain_median:,.0f} | {ratio:.2f} |", flush=True)
        change = 1000 * np.abs(values["bfloat16"] - values["float32"])
        print(
            f"\n{name}, bfloat16 against float32 on {len(block):,} formulas: mean {change.mean():.2f}, 99.9th "
            f"percentile {np.percentile(change, 99.9):.1f}, largest {change.max():.1f} meV/atom\n"
        )


def draw_references(path: Path, elements: list[str], seed: int = 0) -> None:
    """Write 30,000 random binary and ternary compounds."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(30_000):
        size = rng.choice([2, 3], p=[0.4, 0.6])
        symbols = rng.choice(elements, size, replace=False)
        amounts = rng.integers(1, 5, size)
        rows.append(("".join(f"{s}{a}" for s, a in zip(symbols, amounts, strict=True)), -rng.gamma(2.0, 0.5)))
    pd.DataFrame(rows, columns=["formula", "formation_energy_per_atom"]).to_csv(path, index=False)


def settings(options: argparse.Namespace, folder: Path, n: int, shard_size: int) -> ScreeningSettings:
    """Return a run over the first ``n`` quaternaries or a few more, against a hull."""
    elements = load_model("elemnet-mp").card.elements
    references = options.references
    if references is None:
        references = folder / "references.csv"
        draw_references(references, elements)
    fewest = next(k for k in range(5, 85) if FormulaSpace(elements[:k], 4, 10).n_candidates >= n or k == 84)
    content = {
        "space": {"kind": "formulas", "elements": elements[:fewest], "n_elements": 4, "shard_size": shard_size},
        "model": "elemnet-mp",
        "hull": {"file": str(references.resolve()), "elements_at_zero": True},
        "keep": {"below_hull": 0.2},
    }
    return ScreeningSettings.of(content)


def workers(options: argparse.Namespace) -> None:
    print("\nthe whole run: generation, sieve, hull distances, float32 for what is kept, files\n")
    print("| workers, one thread each | candidates | seconds | candidates a second | kept |\n|---|---|---|---|---|")
    cores = os.cpu_count() or 1
    for count in sorted({1, cores}):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            chosen = settings(options, folder, options.formulas, max(options.formulas // 40, 1000))
            states = []
            results = screen(
                chosen, folder / "results", workers=Workers(local=count, threads=1), progress=states.append
            )
            summary, state = results.summary(), states[-1]
            row = f"{summary.n_candidates:,} | {state.seconds:.1f} | {state.rate:,.0f} | {summary.n_kept:,}"
            print(f"| {count} | {row} |", flush=True)
            hours = QUATERNARIES / state.rate / 3600
    print(f"\nall {QUATERNARIES:,} quaternaries at the last rate: {hours:.1f} h")


def structures(options: argparse.Namespace) -> None:
    print("\nstructures a second: decorations of prototypes made, described and evaluated, one process\n")
    print("| model | prototypes | structures | a second |\n|---|---|---|---|")
    elements = ["Li", "Mg", "Al", "Ti", "Fe", "Ni", "Cu", "Zr", "Ba", "O", "S", "F"]
    for model in options.structure_models:
        for prototypes in (["B2", "L1_0", "L1_2"], ["perovskite"], ["spinel"]):
            with tempfile.TemporaryDirectory() as name:
                space = {"kind": "prototypes", "prototypes": prototypes, "elements": elements}
                chosen = ScreeningSettings.of({"space": space, "model": model, "keep": {"maximum": -1.0}})
                states = []
                results = screen(chosen, Path(name) / "results", progress=states.append)
                n = results.summary().n_scored
                print(f"| {model} | {', '.join(prototypes)} | {n:,} | {n / states[-1].seconds:,.0f} |", flush=True)


def memory(options: argparse.Namespace) -> None:
    """Start a run in a process of its own and look at its resident memory as it goes on."""
    print(f"\nresident memory of a run over {options.n:,} candidates, one process\n")
    print("| candidates | MB |\n|---|---|")
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, __file__, "memory-run", "--n", str(options.n), "--folder", name]
        command += [] if options.references is None else ["--references", str(options.references)]
        subprocess.run(command, check=True)


def memory_run(options: argparse.Namespace) -> None:
    import psutil

    process, shown = psutil.Process(), [0.0]

    def show(state) -> None:
        share = state.candidates_done / state.n_candidates
        if share >= shown[0]:
            shown[0] = share + 0.1
            print(f"| {state.candidates_done:,} | {process.memory_info().rss / 1e6:.0f} |", flush=True)

    screen(settings(options, options.folder, options.n, 100_000), options.folder / "results", progress=show)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {
        "rates": rates, "workers": workers, "structures": structures, "memory": memory, "memory-run": memory_run,
    }  # fmt: skip
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--formulas", type=int, default=400_000)
    parser.add_argument("--n", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--models", nargs="+", default=["elemnet-mp"])
    parser.add_argument("--structure-models", nargs="+", default=["irnet17-mp", "schnet-mp"])
    parser.add_argument("--references", type=Path, help="table of formulas and formation energies")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in flags.splitlines() if line.startswith("model name")]
    if "memory-run" not in options.parts:
        print(f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    for part in options.parts:
        parts[part](options)


if __name__ == "__main__":
    main()

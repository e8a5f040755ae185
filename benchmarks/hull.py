"""Distances to the convex hull: chemical systems and candidates per second, beside pymatgen.

    python benchmarks/hull.py --data-dir ../shared/data --systems 3000

The references are the Materials Project and OQMD compounds of --data-dir (150,000, elements at zero).  The candidates
are all compositions of exactly N elements with up to 10 atoms (205 for each quaternary system) of chemical systems that
are drawn (seeded), and of those that contain oxygen and lithium.  pymatgen builds a PhaseDiagram of the first
--systems-peer of them, from entries that are already there, and both must agree to 1e-6 eV/atom.  All on one
core, in processor time.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import itertools
import platform
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from ase_matprop.screening.hull.facets import ReferenceHull
from ase_matprop.screening.hull.references import References
from ase_matprop.screening.hull.stability import entries
from ase_matprop.screening.spaces.base import FormulaBlock

FILES = ("oqmd_formation_energy.csv.gz", "mp_formation_energy_train.csv.gz")
LITHIUM, OXYGEN = 3, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--systems", type=int, default=3000)
    parser.add_argument("--systems-peer", type=int, default=15)
    options = parser.parse_args()
    references = read(options.data_dir / "compositions")
    start = time.process_time()
    ReferenceHull(references)
    print(
        f"{platform.processor() or platform.machine()}, one core; {len(references)} references of "
        f"{len(references.elements)} elements, indexed in {time.process_time() - start:.2f} s\n"
    )
    print(
        "| systems | candidates each | ms a system, first time | parts known | facets known | candidates a second | "
        "pymatgen, ms a system | candidates a second | ratio | largest difference, eV/atom |\n" + "|---" * 10 + "|"
    )
    peers = by_system(references)
    for size in (2, 3, 4, 5):
        compare(f"{size} elements", systems(references, size, options.systems), references, peers, options.systems_peer)
    with_oxide = systems(references, 4, options.systems, (LITHIUM, OXYGEN))
    compare("Li-O-X-Y", with_oxide, references, peers, options.systems_peer)


def compare(
    what: str,
    numbers: NDArray[np.uint8],
    references: References,
    peers: dict[frozenset[int], list[PDEntry]],
    n_peer: int,
) -> None:
    amounts = compositions(numbers.shape[1])
    block = FormulaBlock(np.repeat(numbers, len(amounts), axis=0), np.tile(amounts, (len(numbers), 1)))
    hull = ReferenceHull(references)
    first, found = timed(hull, block)
    hull._systems.clear()
    second, _ = timed(hull, block)
    third, _ = timed(hull, block)
    n = min(n_peer, len(numbers))
    rows = block.take(np.arange(n * len(amounts))).compositions()
    start = time.process_time()
    expected = peer_energies(rows, peers)
    theirs = time.process_time() - start
    difference = np.abs(np.array(expected) - found[: len(rows)]).max()
    per_system = 1e3 / len(numbers)
    ratio = (theirs / n) / (first / len(numbers))
    print(
        f"| {len(numbers)} of {what} | {len(amounts)} | {first * per_system:.3f} | {second * per_system:.3f} | "
        f"{third * per_system:.3f} | {len(block) / first:,.0f} | {theirs / n * 1e3:.0f} | {len(rows) / theirs:,.0f} | "
        f"{ratio:.0f} | {difference:.1e} |",
        flush=True,
    )
    assert difference < 1e-6


def read(folder: Path) -> References:
    parts = [References.from_csv(folder / name, skip_bad=True) for name in FILES]
    formulas = itertools.chain.from_iterable(part.formulas() for part in parts)
    energies = np.concatenate([part.energies for part in parts])
    return References.from_formulas(formulas, energies, source="MP and OQMD").with_elements_at_zero()


def systems(references: References, size: int, n: int, fixed: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    """Return chemical systems in ascending order, shape (n, size)."""
    rng = np.random.default_rng(size)
    others = sorted(references.elements - set(fixed))
    drawn = {tuple(sorted((*fixed, *rng.choice(others, size - len(fixed), replace=False).tolist()))) for _ in range(n)}
    return np.array(sorted(drawn), dtype=np.uint8)


def compositions(size: int, most: int = 10) -> NDArray[np.uint8]:
    """Return the reduced compositions with ``size`` elements and up to ``most`` atoms."""
    rows = itertools.product(range(1, most), repeat=size)
    return np.array([row for row in rows if sum(row) <= most and np.gcd.reduce(row) == 1], dtype=np.uint8)


def timed(hull: ReferenceHull, block: FormulaBlock) -> tuple[float, NDArray[np.float64]]:
    start = time.process_time()
    energies = hull.energies(block)
    return time.process_time() - start, energies


def by_system(references: References) -> dict[frozenset[int], list[PDEntry]]:
    found = defaultdict(list)
    for entry in entries(references):
        found[frozenset(element.Z for element in entry.composition.elements)].append(entry)
    return found


def peer_energies(rows: list[dict[int, float]], peers: dict[frozenset[int], list[PDEntry]]) -> list[float]:
    found = []
    for system, group in itertools.groupby(rows, key=frozenset):
        parts = (frozenset(part) for size in range(1, len(system) + 1) for part in itertools.combinations(system, size))
        diagram = PhaseDiagram([entry for part in parts for entry in peers.get(part, [])])
        found += [diagram.get_hull_energy_per_atom(Composition.from_dict(symbols(row))) for row in group]
    return found


def symbols(row: dict[int, float]) -> dict[str, float]:
    return {chemical_symbols[number]: amount for number, amount in row.items()}


if __name__ == "__main__":
    main()

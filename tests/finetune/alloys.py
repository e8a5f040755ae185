"""The data of a laboratory that does not exist: alloys in the EMT potential."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

METALS = ("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au")


def alloys(n: int = 30, *, seed: int = 0, elements: Sequence[str] = METALS, label: str | None = None) -> list[Atoms]:
    """Return strained and rattled alloys of four atoms with energy and forces of the EMT potential.

    Args:
        n: how many.
        seed: of the choice.
        elements: to choose from.
        label: key under which ``info`` gets the energy above that of the elements, eV/atom, and there is no other
            result then; None for energy and forces of a calculation.
    """
    rng = np.random.default_rng(seed)
    levels = {element: _energy(bulk(element)) for element in elements}
    result = []
    for _ in range(n):
        first, second = rng.choice(elements, 2, replace=False)
        a = float(np.mean([bulk(element, cubic=True).cell[0, 0] for element in (first, second)]))
        cell = bulk(first, "fcc", a=a * rng.uniform(0.96, 1.04), cubic=True)
        cell.symbols[rng.permutation(4)[: rng.integers(1, 4)]] = second
        cell.rattle(0.05, seed=int(rng.integers(1_000_000)))
        cell.calc = EMT()
        energy, forces = cell.get_potential_energy(), cell.get_forces()
        cell.calc = None
        if label is None:
            cell.calc = SinglePointCalculator(cell, energy=energy, forces=forces)
        else:
            cell.info[label] = float(energy - sum(levels[symbol] for symbol in cell.symbols)) / len(cell)
        result.append(cell)
    return result


def _energy(atoms: Atoms) -> float:
    atoms.calc = EMT()
    return float(atoms.get_potential_energy()) / len(atoms)

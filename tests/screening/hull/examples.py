"""References that are drawn at random, and what pymatgen says of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ase_matprop.screening.hull.references import References
from ase_matprop.screening.hull.stability import entry, phase_diagram
from ase_matprop.screening.spaces.base import FormulaBlock

ELEMENTS = (3, 8, 15, 26, 55)


def drawn_block(n: int, d: int, rng: np.random.Generator, largest: int = 6, every: bool = False) -> FormulaBlock:
    """Compositions of up to ``d`` elements; ``every``: of all of them."""
    rows = []
    for _ in range(n):
        size = d if every else int(rng.integers(min(2, d), d + 1))
        elements = rng.choice(ELEMENTS[:d], size, replace=False).tolist()
        rows.append({number: float(rng.integers(1, largest + 1)) for number in elements})
    return FormulaBlock.of(rows)


def drawn_references(n: int, d: int, seed: int, depth: float = 2.0) -> References:
    """Compounds, some of them unstable, and an end member for each element, not at zero."""
    rng = np.random.default_rng(seed)
    block = drawn_block(n, d, rng)
    fractions = block.amounts / block.amounts.sum(axis=1, keepdims=True)
    energies = -depth * (1.0 - (fractions**2).sum(axis=1)) * rng.random(n) + 0.05
    energies[(fractions == 1.0).any(axis=1)] = 0.3
    compositions = [*block.compositions(), *({number: 1.0} for number in ELEMENTS[:d])]
    ends = rng.normal(0.0, 0.02, d)
    whole = FormulaBlock.of(compositions)
    ids = [str(row) for row in range(len(compositions))]
    return References(whole.numbers, whole.amounts, np.concatenate([energies, ends]), ids, "random references")


def references_of(rows: dict[str, float] | list[tuple[str, float]]) -> References:
    pairs = list(rows.items()) if isinstance(rows, dict) else rows
    return References.from_formulas([formula for formula, _ in pairs], [energy for _, energy in pairs])


def pymatgen_hull(references: References, block: FormulaBlock) -> NDArray[np.float64]:
    """Energies of the hull in eV/atom."""
    diagrams: dict[frozenset[int], object] = {}
    found = []
    for composition in block.compositions():
        system = frozenset(composition)
        if system not in diagrams:
            diagrams[system] = phase_diagram(references, system)
        candidate = entry(composition, 0.0)
        found.append(-diagrams[system].get_e_above_hull(candidate, allow_negative=True, check_stable=False))
    return np.array(found)

"""Small screening runs: files that a user would write, and what must come out, worked out one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from ase_matprop.models import Predictor, load_model
from ase_matprop.screening import run
from ase_matprop.screening.jobs import Job, run_shard
from ase_matprop.screening.results import Results
from ase_matprop.screening.settings import ScreeningSettings

#: formation energies in eV/atom, about those of the Materials Project
KNOWN = {
    "Li": 0.0, "Fe": 0.0, "O2": 0.0, "Na": 0.0, "Cl2": 0.0, "Mg": 0.0, "Li2O": -2.06, "Li2O2": -1.65, "FeO": -1.39,
    "Fe2O3": -1.70, "Fe3O4": -1.65, "LiFeO2": -1.98, "Li5FeO4": -2.05, "NaCl": -2.10, "MgO": -3.04, "Na2O": -1.47,
    "MgCl2": -2.20, "LiCl": -2.11, "FeCl2": -1.24,
}  # fmt: skip

LI_FE_O = {"kind": "formulas", "elements": ["Li", "Fe", "O"], "n_elements": [2, 3], "max_atoms": 8, "shard_size": 40}


def write_known(folder: Path, known: dict[str, float] = KNOWN) -> Path:
    path = folder / "known.csv"
    lines = [f"{formula},{energy}" for formula, energy in known.items()]
    path.write_text("\n".join(["# functional: PBE(+U)", "formula,formation_energy_per_atom", *lines]) + "\n")
    return path


def settings_of(folder: Path, space: dict[str, Any] | None = None, **content: Any) -> ScreeningSettings:
    """Return settings; with the references above, up to 0.3 eV/atom above the hull, unless ``content`` says else."""
    write_known(folder)
    base: dict[str, Any] = {"hull": {"file": "known.csv"}, "keep": {"e_above_hull": 0.3}, "precision": "float32"}
    merged = {name: value for name, value in {**base, **content}.items() if value is not None}
    return ScreeningSettings.of({"space": space or LI_FE_O, **merged}, folder=folder)


def write_toml(folder: Path, *, shard_size: int = 40, max_atoms: int = 8, more: bool = False) -> Path:
    write_known(folder)
    elements, sizes = (list(KNOWN)[:6], [2, 3]) if more else (["Li", "Fe", "O"], [2, 3])
    elements = [element.rstrip("2") for element in elements]
    path = folder / "space.toml"
    path.write_text(
        f'precision = "float32"\n[space]\nkind = "formulas"\nelements = {elements}\n'
        f"n_elements = {sizes}\nmax_atoms = {max_atoms}\nshard_size = {shard_size}\n"
        '[hull]\nfile = "known.csv"\n[keep]\ne_above_hull = 0.3\n'
    )
    return path


def hull_distances(formulas: list[str], energies: np.ndarray) -> np.ndarray:
    """Return distances to the hull of the references above by pymatgen."""
    entries = []
    for formula, energy in KNOWN.items():
        composition = Composition(formula)
        entries.append(PDEntry(composition, energy * composition.num_atoms))
    diagrams: dict[frozenset[Any], PhaseDiagram] = {}
    distances = []
    for formula, energy in zip(formulas, energies, strict=True):
        composition = Composition(formula)
        system = frozenset(composition.elements)
        if system not in diagrams:
            diagrams[system] = PhaseDiagram([each for each in entries if set(each.composition.elements) <= system])
        distances.append(energy - diagrams[system].get_hull_energy_per_atom(composition))
    return np.array(distances)


def brute_force(formulas: list[str], predictor: Predictor | str = "elemnet-mp") -> pd.DataFrame:
    """Return each formula with its energy and hull distance."""
    predictor = load_model(predictor) if isinstance(predictor, str) else predictor
    energies = predictor.predict(formulas).values
    return pd.DataFrame({"formula": formulas, "energy": energies, "e_above_hull": hull_distances(formulas, energies)})


def table_of(results: Results) -> pd.DataFrame:
    """Return all kept rows, without an index."""
    return results.to_frame().reset_index(drop=True)


def assert_same_rows(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Assert that two tables are the same, but for what the number of threads and the batches do to float32."""
    tables = [table.drop(columns="distance") for table in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=False, atol=1e-5, rtol=0.0)
    # a square root, of differences that are nearly nothing next to a training row
    np.testing.assert_allclose(one["distance"], other["distance"], rtol=1e-3, atol=0.02)


def assert_same_results(one: Path, other: Path) -> None:
    """Assert that two folders have the same kept rows and counts, and no unfinished files."""
    first, second = Results(one), Results(other)
    assert_same_rows(table_of(first), table_of(second))
    counts = [results.summary().to_dict() for results in (first, second)]
    changes = [each.pop("largest_change") for each in counts]
    assert changes[0] == pytest.approx(changes[1], abs=1e-2)
    for each in counts:
        assert each.pop("seconds") > 0
        assert each["finished"]
    assert counts[0] == counts[1]
    for folder in (one, other):
        assert not list(folder.rglob("*.unfinished"))
        assert first.run["fingerprint"] == Results(folder).run["fingerprint"]


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "shards").glob("*.parquet"))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each shard is added that is scored."""
    scored: list[int] = []

    def run_and_count(job: Job, shard: int) -> dict[str, Any]:
        scored.append(shard)
        return run_shard(job, shard)

    monkeypatch.setattr(run, "run_shard", run_and_count)
    return scored

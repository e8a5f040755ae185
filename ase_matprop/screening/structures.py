"""The structures of candidates, which results have by their place in the search space only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ase import Atoms

from ase_matprop.errors import MatPropError
from ase_matprop.models.card import ModelCard
from ase_matprop.models.registry import find_model
from ase_matprop.screening.engine import build_space, model_path
from ase_matprop.screening.results import Results
from ase_matprop.screening.settings import ScreeningSettings

if TYPE_CHECKING:
    import pandas as pd


def candidate_structures(results: Results, table: pd.DataFrame) -> list[Atoms]:
    """Return the structures of candidates of a screening, made again from its search space.

    Args:
        results: the results of a space with structures.
        table: rows of :meth:`Results.top` or :meth:`Results.to_frame`.

    Raises:
        MatPropError: if the candidates are formulas, or the space has changed since.
    """
    settings = ScreeningSettings.of(results.run["settings"], folder=results.run["folder"], name=str(results.folder))
    known = ModelCard.read(find_model(model_path(settings, settings.model))).elements
    space = build_space(settings, known)
    if not space.needs_structure:
        raise MatPropError(f"the candidates in {results.folder} are formulas, and have no structures")
    if space.describe() != results.run["space"]:
        raise MatPropError(
            f"the search space of {results.folder} is another one by now: files were changed, or this version of the "
            "package makes other candidates; run the screening again"
        )
    found: dict[tuple[int, int], Atoms] = {}
    places = [(int(shard), int(row)) for shard, row in table[["shard", "row"]].to_numpy().tolist()]
    wanted: dict[int, set[int]] = {}
    for shard, row in places:
        wanted.setdefault(shard, set()).add(row)
    for shard, rows in wanted.items():
        entries = space.pick(shard, rows).items()
        found.update(((shard, row), entry.atoms) for row, entry in entries if entry.atoms is not None)
    return [found[place].copy() for place in places]


def write_structures(results: Results, table: pd.DataFrame, folder: str | Path) -> list[Path]:
    """Write the structures of candidates as CIF files, named by rank and formula; return their paths.

    Raises:
        MatPropError: as :func:`candidate_structures`, or if the folder has files already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MatPropError(f"{folder} exists and is no empty folder; give another one for the structures")
    structures = candidate_structures(results, table)
    folder.mkdir(parents=True, exist_ok=True)
    width = len(str(len(structures)))
    paths = []
    for rank, (atoms, formula) in enumerate(zip(structures, table["formula"], strict=True), start=1):
        paths.append(folder / f"{rank:0{width}d}_{formula}.cif")
        atoms.write(paths[-1])
    return paths

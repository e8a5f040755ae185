"""Near duplicates stay on one side of a division."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from ase_matprop.finetune import finetune, read_vasp
from ase_matprop.finetune.data import read_data
from ase_matprop.finetune.grouping import group_rows
from tests.finetune.alloys import alloys

KEY = "formation_energy_per_atom"


def groups_of(structures: Sequence[Atoms], runs: Sequence[str] = ()) -> tuple[list[int], str]:
    formulas = np.unique([str(atoms.symbols.formula.reduce()[0]) for atoms in structures], return_inverse=True)[1]
    groups, words = group_rows(formulas, structures, runs)
    return groups.tolist(), words


def different() -> list[Atoms]:
    """Four lattices of copper, which nobody would mistake for one another."""
    return [
        bulk("Cu", "fcc", a=3.61, cubic=True),
        bulk("Cu", "bcc", a=2.87, cubic=True) * (2, 1, 1),
        bulk("Cu", "hcp", a=2.6, c=4.2) * (2, 1, 1),
        bulk("Cu", "diamond", a=5.4, cubic=True),
    ]


def displaced(atoms: Atoms, seed: int) -> Atoms:
    """A copy with its atoms displaced by about 0.01 Angstrom, in another order."""
    copy = atoms.copy()
    copy.rattle(0.01, seed=seed)
    return copy[np.random.default_rng(seed).permutation(len(copy))]


def test_near_duplicates_of_other_runs_are_one_group() -> None:
    structures = [displaced(atoms, seed) for atoms in different() for seed in range(3)]
    groups, words = groups_of(structures, [f"run {number}" for number in range(12)])
    assert [groups[row] for row in range(12)] == np.repeat(groups[::3], 3).tolist() and len(set(groups)) == 4
    assert words == "run with its near duplicates, since there are too few compositions"
    groups, words = groups_of(structures)
    assert len(set(groups)) == 4 and words.startswith("structure with its near duplicates")


def test_supercells_are_near() -> None:
    structures = [*different(), different()[0] * (2, 1, 1), bulk("Cu", a=3.61)]
    assert groups_of(structures)[0] == [0, 1, 2, 3, 0, 0]


def test_frames_of_one_run_stay_together() -> None:
    """Two runs that come by the same structure are one group, whichever of their frames it is."""
    first, second, third, fourth = different()
    structures = [first, second, displaced(second, 1), third, fourth]
    assert groups_of(structures, ["a", "a", "b", "c", "d"])[0] == [0, 0, 0, 1, 2]


def test_order_of_the_rows_does_not_matter() -> None:
    structures = [displaced(atoms, seed) for atoms in different() for seed in range(3)]
    order = np.random.default_rng(0).permutation(12)
    groups = np.array(groups_of(structures)[0])
    shuffled = np.array(groups_of([structures[row] for row in order])[0])
    same = groups[order][:, None] == groups[order][None, :]
    np.testing.assert_array_equal(same, shuffled[:, None] == shuffled[None, :])


def test_too_few_different_structures() -> None:
    """What cannot be divided otherwise is divided by run, then by row; the words say so."""
    structures = [displaced(different()[0], seed) for seed in range(6)]
    by_run, words = groups_of(structures, ["a", "a", "b", "b", "c", "c"])
    assert by_run == [0, 0, 1, 1, 2, 2] and words.startswith("run, since") and "too few different" in words
    by_row, words = groups_of(structures, ["a", "a", "a", "b", "b", "b"])
    assert by_row == list(range(6)) and words.startswith("row, since")


def test_formulas_without_structures() -> None:
    amounts = [{29: 1.0}, {29: 1.0}, {79: 1.0}, {47: 1.0}]
    groups, _ = group_rows(np.array([0, 0, 1, 2]), amounts, [])
    assert groups.tolist() == [0, 0, 1, 2]


def test_runs_of_vasp(synthetic, tmp_path: Path) -> None:
    """What the table notes as nearly one structure is one group."""
    for number, atoms in enumerate(different()):
        for seed in range(2):
            frame = synthetic.snapshot(displaced(atoms, seed))
            synthetic.write_vasprun(tmp_path / f"{number}_{seed}" / "vasprun.xml", [frame])
    runs = read_vasp(tmp_path)
    noted = [any("nearly the structure of" in note for note in run.notes) for run in runs]
    data = read_data(runs, references="none")
    groups, _ = group_rows(np.zeros(8, dtype=np.int64), data.items, data.runs)
    assert noted == [False, True] * 4 and groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("kind", ["run", "structure"])
def test_report_says_how_the_rows_were_divided(metal_schnet: Path, tmp_path: Path, kind: str) -> None:
    frames = []
    for number, original in enumerate(different()):
        for seed in range(3):
            atoms = displaced(original, seed)
            atoms.info[KEY] = 0.1 * number
            if kind == "run":
                atoms.info["run"] = f"run {number} {seed}"
            frames.append(atoms)
    result = finetune(metal_schnet, frames, output=tmp_path / "out", epochs=1, from_scratch=False, force=True)
    method = result.card.training_set.split["method"]
    assert method.startswith(f"random by {kind} with its near duplicates")
    caution = next(caution for caution in result.cautions if "too few compositions" in caution)
    assert {"run": "whole runs", "structure": "structures"}[kind] in caution and "another composition" in caution
    held = set(result.predictions["name"])
    assert held == {f"structure {3 * (int(min(held).split()[1]) // 3) + number}" for number in range(3)}


def test_many_compositions_need_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ase_matprop.finetune.grouping._join_near", None)
    assert groups_of(alloys(30))[1] == "reduced formula"

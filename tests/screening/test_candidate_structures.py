"""Structures of candidates: made again they are those that were scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write

from ase_matprop.errors import MatPropError
from ase_matprop.models import load_model
from ase_matprop.screening.results import Results
from ase_matprop.screening.run import screen
from ase_matprop.screening.structures import candidate_structures, write_structures

from .small_runs import settings_of

PROTOTYPES = {
    "kind": "prototypes", "prototypes": ["B2", "rocksalt", "perovskite"], "elements": "all", "shard_size": 30,
}  # fmt: skip


@pytest.fixture
def results(structure_model: Path, tmp_path: Path) -> Results:
    settings = settings_of(tmp_path, PROTOTYPES, model=str(structure_model), keep={"e_above_hull": 2.0})
    return screen(settings, tmp_path / "out")


def test_energies_are_the_same_when_predicted_again(results: Results, structure_model: Path) -> None:
    table = results.top(20)
    assert table["shard"].nunique() > 1 and not table["row"].is_monotonic_increasing
    structures = candidate_structures(results, table)
    predictions = load_model(structure_model).predict(structures)
    np.testing.assert_allclose(predictions.values, table["formation_energy_per_atom"], atol=1e-5)
    assert list(predictions.formulas) == table["formula"].tolist()


def test_rows_may_come_twice_or_not_at_all(results: Results) -> None:
    table = results.top(3)
    twice = candidate_structures(results, table.iloc[[2, 0, 2]])
    assert twice[0] == twice[2] and twice[1] == candidate_structures(results, table)[0]
    twice[0].positions += 1.0
    assert twice[0] != twice[2]
    assert candidate_structures(results, table.iloc[:0]) == []


def test_files_are_named_by_rank(results: Results, tmp_path: Path) -> None:
    table = results.top(12)
    paths = write_structures(results, table, tmp_path / "cifs")
    assert paths[0].name == f"01_{table['formula'].iloc[0]}.cif" and len(paths) == 12
    assert read(paths[3]).get_chemical_formula() == candidate_structures(results, table)[3].get_chemical_formula()
    with pytest.raises(MatPropError, match="exists and is no empty folder; give another one"):
        write_structures(results, table, tmp_path / "cifs")
    (tmp_path / "file").write_text("x")
    with pytest.raises(MatPropError, match="exists and is no empty folder"):
        write_structures(results, table, tmp_path / "file")


def test_structures_of_files_with_bad_ones_among_them(structure_model: Path, tmp_path: Path) -> None:
    good = [bulk("NaCl", "rocksalt", a) for a in (5.4, 5.6, 5.8)]
    bad = bulk("MgO", "rocksalt", 4.2)
    bad.positions[1] = bad.positions[0]
    write(tmp_path / "all.extxyz", [good[0], bad, *good[1:]])
    space = {"kind": "structure-list", "files": "all.extxyz", "shard_size": 3}
    settings = settings_of(tmp_path, space, model=str(structure_model), keep={"maximum": 99.0}, hull=None)
    results = screen(settings, tmp_path / "out")
    table = results.to_frame()
    volumes = [atoms.get_volume() for atoms in candidate_structures(results, table)]
    kept = len(table)
    assert kept >= 3
    np.testing.assert_allclose(
        load_model(structure_model).predict(candidate_structures(results, table)).values,
        table["formation_energy_per_atom"], atol=1e-5,
    )  # fmt: skip
    np.testing.assert_allclose(volumes[-2:], [atoms.get_volume() for atoms in good[1:]])


def test_a_space_that_was_changed_since_is_found_out(structure_model: Path, tmp_path: Path) -> None:
    write(tmp_path / "one.extxyz", bulk("NaCl", "rocksalt", 5.6))
    space = {"kind": "structure-list", "files": "one.extxyz"}
    settings = settings_of(tmp_path, space, model=str(structure_model), keep={"maximum": 99.0}, hull=None)
    results = screen(settings, tmp_path / "out")
    write(tmp_path / "one.extxyz", bulk("MgO", "rocksalt", 4.2))
    with pytest.raises(MatPropError, match="the search space of .* is another one by now"):
        candidate_structures(results, results.top(1))


def test_formulas_have_no_structures(tmp_path: Path) -> None:
    results = screen(settings_of(tmp_path), tmp_path / "out")
    with pytest.raises(MatPropError, match="are formulas, and have no structures"):
        candidate_structures(results, results.top(1))

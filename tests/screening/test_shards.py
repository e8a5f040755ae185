"""Shards: what is kept is what one-by-one evaluation with pymatgen's hull would keep, and the counts add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition

from ase_matprop.models import load_model
from ase_matprop.screening.engine import Engine
from ase_matprop.screening.settings import ScreeningSettings
from ase_matprop.screening.shards import EDGES, ShardResult, score_shard

from .small_runs import LI_FE_O, assert_same_rows, brute_force, hull_distances, settings_of

PROTOTYPES = {
    "kind": "prototypes", "prototypes": ["B2", "rocksalt", "perovskite"], "elements": ["Na", "Mg", "Cl", "O", "Fe"],
    "shard_size": 30,
}  # fmt: skip


def score(settings: ScreeningSettings) -> tuple[pd.DataFrame, list[dict[str, Any]], Engine]:
    engine = Engine.build(settings)
    results: list[ShardResult] = [score_shard(engine, shard) for shard in range(engine.space.n_shards)]
    tables = [result.table.to_pandas() for result in results]
    assert len({str(result.table.schema) for result in results}) == 1
    for table, result in zip(tables, results, strict=True):
        check_counts(table, result.counts)
    return pd.concat(tables, ignore_index=True), [result.counts for result in results], engine


def check_counts(table: pd.DataFrame, counts: dict[str, Any]) -> None:
    assert counts["n_candidates"] == counts["n_filtered"] + counts["n_scored"] + counts["n_failed"]
    assert counts["n_kept"] == len(table) <= counts["n_scored"]
    assert (table["shard"] == counts["shard"]).all()
    assert sum(scored for scored, _ in counts["by_n_elements"].values()) == counts["n_scored"]
    for size, (_, kept) in counts["by_n_elements"].items():
        assert kept == (table["n_elements"] == int(size)).sum()
    for symbol, (scored, kept) in counts["by_element"].items():
        assert kept == table["system"].str.split("-").map(lambda system, s=symbol: s in system).sum() <= scored
    if counts["hull_histogram"] is not None:
        assert sum(counts["hull_histogram"]["counts"]) == counts["n_scored"]
    assert counts["seconds"] > 0 and counts["n_filtered"] >= 0
    assert table["row"].is_monotonic_increasing and table["row"].is_unique
    assert (table["row"] < counts["n_candidates"]).all()


def all_formulas(engine: Engine) -> list[str]:
    return [text for n in range(engine.space.n_shards) for block in engine.space.blocks(n) for text in block.formulas()]


@pytest.mark.parametrize("keep", [{"e_above_hull": 0.3}, {"below_hull": 0.02}, {"e_above_hull": 0.9}])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_kept_rows_are_those_of_brute_force(keep: dict[str, float], precision: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, keep=keep, precision=precision)
    table, counts, engine = score(settings)
    expected = brute_force(all_formulas(engine))
    kept = expected[expected["e_above_hull"] <= settings.keep.highest_distance]  # type: ignore[operator]
    assert 0 < len(kept) < len(expected) == engine.space.n_candidates
    assert table["formula"].tolist() == kept["formula"].tolist()
    np.testing.assert_allclose(table["formation_energy_per_atom"], kept["energy"], atol=1e-5)
    np.testing.assert_allclose(table["e_above_hull"], kept["e_above_hull"], atol=1e-5)
    total = np.sum([each["hull_histogram"]["counts"] for each in counts], axis=0)
    if precision == "float32":
        np.testing.assert_array_equal(total, np.histogram(expected["e_above_hull"], EDGES)[0])
    assert max(each["largest_change"] for each in counts) < engine.margin
    assert not any(each["n_rescored"] for each in counts)
    assert {Composition(formula).chemical_system for formula in table["formula"]} == set(table["system"])


def test_both_precisions_keep_the_same_rows_with_the_same_numbers(tmp_path: Path) -> None:
    tables = [score(settings_of(tmp_path, precision=precision))[0] for precision in ("float32", "bfloat16")]
    assert_same_rows(*tables)


@pytest.mark.parametrize("with_hull", [True, False])
@pytest.mark.parametrize("keep", [{"maximum": -1.5}, {"minimum": 0.3}, {"minimum": -0.5, "maximum": 0.8}])
def test_cuts_on_the_energy(keep: dict[str, float], with_hull: bool, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, keep=keep, **({} if with_hull else {"hull": None}))
    table, counts, engine = score(settings)
    formulas = all_formulas(engine)
    energies = load_model("elemnet-mp").predict(formulas).values
    chosen = (energies <= keep.get("maximum", np.inf)) & (energies >= keep.get("minimum", -np.inf))
    assert table["formula"].tolist() == np.array(formulas)[chosen].tolist()
    assert ("e_above_hull" in table) == with_hull == (counts[0]["hull_histogram"] is not None)


def test_high_energies_are_kept_where_no_distance_is_asked_for(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, keep={"maximum": 5.0})
    (tmp_path / "known.csv").write_text("formula,formation_energy_per_atom\nLi,-1\nFe,-1\nO,-1\nLi2O,-3\n")
    table, counts, engine = score(settings)
    assert table["e_above_hull"].max() > 1.5
    assert (
        len(table)
        == engine.space.n_candidates
        == sum(each["hull_histogram"]["counts"][-1] for each in counts) + sum((table["e_above_hull"] < 0.5).to_numpy())
    )


def test_cuts_on_distance_and_energy_together(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, keep={"e_above_hull": 0.3, "maximum": -1.6})
    table, _, engine = score(settings)
    expected = brute_force(all_formulas(engine))
    kept = expected[(expected["e_above_hull"] <= 0.3) & (expected["energy"] <= -1.6)]
    assert len(kept) > 0 and table["formula"].tolist() == kept["formula"].tolist()


def test_how_a_space_is_cut_into_shards_does_not_matter(tmp_path: Path) -> None:
    tables = [score(settings_of(tmp_path, {**LI_FE_O, "shard_size": size}))[0] for size in (10, 100, 10_000)]
    for table in tables[1:]:
        columns = [name for name in table if name not in ("shard", "row")]
        assert_same_rows(table[columns], tables[0][columns])


def test_charge_balance_filters(tmp_path: Path) -> None:
    table, counts, engine = score(settings_of(tmp_path, {**LI_FE_O, "charge_balanced": True}))
    assert sum(each["n_filtered"] for each in counts) > 0
    assert sum(each["n_scored"] for each in counts) == len(all_formulas(engine))
    assert "LiFeO2" in table["formula"].tolist()


def test_structures_of_prototypes(structure_model: Path, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, PROTOTYPES, model=str(structure_model), keep={"e_above_hull": 2.0})
    table, counts, engine = score(settings)
    entries = [entry for shard in range(engine.space.n_shards) for entry in engine.space.entries(shard)]
    predictions = engine.predictor.predict([entry.atoms for entry in entries])
    distances = hull_distances(list(predictions.formulas), predictions.values)
    kept = distances <= 2.0
    assert 0 < kept.sum() < len(entries) == engine.space.n_candidates and engine.space.n_shards > 2
    assert table["name"].tolist() == [entry.name for entry, each in zip(entries, kept, strict=True) if each]
    np.testing.assert_allclose(table["formation_energy_per_atom"], predictions.values[kept], atol=1e-5)
    np.testing.assert_allclose(table["e_above_hull"], distances[kept], atol=1e-5)
    total = np.sum([each["hull_histogram"]["counts"] for each in counts], axis=0)
    np.testing.assert_array_equal(total, np.histogram(distances, EDGES)[0])


def test_many_kept_rows_go_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, {**LI_FE_O, "shard_size": 1000}, keep={"e_above_hull": 9.0})
    expected, counts, _ = score(settings)
    assert len(expected) == counts[0]["n_scored"]
    monkeypatch.setattr("ase_matprop.screening.shards._KEPT_AT_ONCE", 7)
    found, again, _ = score(settings)
    assert_same_rows(found, expected)
    assert again[0]["n_kept"] == counts[0]["n_kept"]


def test_structures_in_several_batches(structure_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, PROTOTYPES, model=str(structure_model), keep={"e_above_hull": 2.0})
    expected, _, _ = score(settings)
    monkeypatch.setattr("ase_matprop.screening.shards._STRUCTURES_AT_ONCE", 7)
    found, _, _ = score(settings)
    assert_same_rows(found, expected)


def test_rows_without_a_formula_fail_with_their_reason(tmp_path: Path) -> None:
    rows = ["Li2O", "FeO", "no formula", "Fe2O3", "LiFeO2", "", "Xx2", "Li5FeO4", "Fe3O4"]
    (tmp_path / "list.csv").write_text("\n".join(["formula", *(row or '""' for row in rows)]) + "\n")
    space = {"kind": "formula-list", "file": "list.csv", "shard_size": 5}
    table, counts, _ = score(settings_of(tmp_path, space, keep={"e_above_hull": 5.0}))
    assert [each["n_failed"] for each in counts] == [1, 2] and [each["n_scored"] for each in counts] == [4, 2]
    names = [name for each in counts for name, _ in each["failures"]]
    assert [name.rpartition("#")[2] for name in names] == ["2", "5", "6"]
    assert all(reason for each in counts for _, reason in each["failures"])
    assert table["formula"].tolist() == ["Li2O", "FeO", "Fe2O3", "LiFeO2", "Li5FeO4", "Fe3O4"]
    rows_of_file = (5 * table["shard"] + table["row"]).tolist()
    assert rows_of_file == [0, 1, 3, 4, 7, 8]
    assert table["name"].tolist() == [f"list.csv#{row}" for row in rows_of_file]
    assert [Composition(rows[row]).reduced_formula for row in rows_of_file] == [
        Composition(formula).reduced_formula for formula in table["formula"]
    ]


def test_a_structure_that_fails_costs_its_row_only(structure_model: Path, tmp_path: Path) -> None:
    from ase.build import bulk
    from ase.io import write

    good, bad = bulk("NaCl", "rocksalt", 5.64), bulk("MgO", "rocksalt", 4.21)
    bad.positions[1] = np.nan
    for number, atoms in enumerate((good, bad, bulk("MgO", "rocksalt", 4.21))):
        write(tmp_path / f"{number}.extxyz", atoms)
    space = {"kind": "structure-list", "files": [f"{number}.extxyz" for number in range(3)]}
    table, counts, _ = score(settings_of(tmp_path, space, model=str(structure_model), keep={"e_above_hull": 99.0}))
    assert table["formula"].tolist() == ["NaCl", "MgO"] and table["row"].tolist() == [0, 2]
    assert counts[0]["n_failed"] == 1 and "1.extxyz" in counts[0]["failures"][0][0]


def test_formulas_without_a_finite_number_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.build(settings_of(tmp_path, {**LI_FE_O, "shard_size": 1000}))
    values = engine.scorer.values
    monkeypatch.setattr(
        engine.scorer, "values", lambda block: np.where(np.arange(len(block)) < 25, np.nan, values(block))
    )
    result = score_shard(engine, 0)
    check_counts(result.table.to_pandas(), result.counts)
    blocks = len(list(engine.space.blocks(0)))
    assert result.counts["n_failed"] == 25 * blocks and len(result.counts["failures"]) == 20
    assert "no finite number" in result.counts["failures"][0][1]
    assert result.table["row"].to_numpy().min() >= 25


def disturb(engine: Engine, monkeypatch: pytest.MonkeyPatch, change: float, which: int) -> None:
    """Let the sieve put the energies of every so many candidates too high."""
    values = engine.scorer.values
    monkeypatch.setattr(
        engine.scorer, "values", lambda block: values(block) + np.where(np.arange(len(block)) % which, 0.0, change)
    )


@pytest.mark.parametrize("change", [0.9, -0.9])
def test_shards_that_the_sieve_changes_too_much_are_scored_in_float32(
    change: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the rejected rows alone where candidates were put too high."""
    settings = settings_of(tmp_path, {**LI_FE_O, "shard_size": 1000}, precision="bfloat16", keep={"e_above_hull": 0.1})
    engine = Engine.build(settings)
    disturb(engine, monkeypatch, change, 3)
    found = score_shard(engine, 0)
    exact = score_shard(Engine.build(settings.model_copy(update={"precision": "float32"})), 0)
    assert found.counts["n_rescored"] == 1 and found.counts["largest_change"] == pytest.approx(0.9, abs=0.1)
    assert exact.counts["n_rescored"] == 0 and exact.counts["largest_change"] < 1e-3
    assert len(found.table)
    assert_same_rows(found.table.to_pandas(), exact.table.to_pandas())
    for name in ("n_scored", "n_kept", "by_element", "hull_histogram"):
        assert found.counts[name] == exact.counts[name]


def test_changes_within_the_margin_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, {**LI_FE_O, "shard_size": 1000}, precision="bfloat16")
    expected = score_shard(Engine.build(settings), 0)
    engine = Engine.build(settings)
    disturb(engine, monkeypatch, 0.7 * engine.margin, 2)
    found = score_shard(engine, 0)
    assert found.counts["n_rescored"] == 0 and found.counts["largest_change"] > 0.5 * engine.margin
    assert found.table["formula"].equals(expected.table["formula"])


def test_a_known_margin_is_taken(tmp_path: Path) -> None:
    engine = replace(Engine.build(settings_of(tmp_path, precision="bfloat16")), known_margin=0.5)
    assert engine.margin == 0.5 > engine.exact_margin


def test_other_models_disagree(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, compare_with=["irnet17-composition-mp"])
    table, _, _ = score(settings)
    plain, _, _ = score(settings_of(tmp_path))
    assert "disagreement" not in plain and table["formula"].tolist() == plain["formula"].tolist()
    values = [load_model(name).predict(table["formula"]).values for name in ("elemnet-mp", "irnet17-composition-mp")]
    expected = load_model("elemnet-mp", compare_with=["irnet17-composition-mp"]).predict(table["formula"]).disagreement
    np.testing.assert_allclose(table["disagreement"], expected, atol=1e-5)
    assert (table["disagreement"] > 0).all() and np.abs(values[0] - values[1]).max() > 0


def test_nothing_is_kept(tmp_path: Path) -> None:
    table, counts, _ = score(settings_of(tmp_path, keep={"below_hull": 5.0}))
    assert not len(table) and {"formula", "e_above_hull", "decomposition"} <= set(table)
    assert sum(each["n_scored"] for each in counts) > 100


def test_elements_alone_are_candidates(tmp_path: Path) -> None:
    table, _, _ = score(settings_of(tmp_path, {**LI_FE_O, "n_elements": 1}, keep={"e_above_hull": 9.0}))
    assert sorted(table["formula"]) == ["Fe", "Li", "O"]


def test_a_band_gap(tmp_path: Path) -> None:
    space = {"kind": "formulas", "elements": ["Na", "Cl", "O", "Fe"], "n_elements": [2, 3], "max_atoms": 6}

    def gaps(keep: dict[str, float], precision: str = "float32") -> pd.DataFrame:
        settings = settings_of(tmp_path, space, model="irnet17-bandgap-oqmd", hull=None, keep=keep, precision=precision)
        return score(settings)[0]

    everything = gaps({"minimum": 0.0})
    assert "band_gap" in everything and "formation_energy_per_atom" not in everything
    assert len(everything) == Engine.build(settings_of(tmp_path, space)).space.n_candidates  # no gap is negative
    assert everything["band_gap"].max() > 2.0
    for precision in ("float32", "bfloat16"):
        for keep in ({"minimum": 1.5}, {"maximum": 0.2}, {"minimum": 0.5, "maximum": 2.0}):
            table = gaps(keep, precision)
            chosen = everything["band_gap"].between(keep.get("minimum", -1.0), keep.get("maximum", 99.0))
            assert 0 < len(table) < len(everything)
            assert table["formula"].tolist() == everything["formula"][chosen].tolist()

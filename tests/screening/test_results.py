"""Reading results folders: counts, the best candidates, chemical systems, and what is wrong with a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ase_matprop.errors import MatPropError, UnknownNameError
from ase_matprop.screening.results import Results, SystemPattern

EDGES = [-0.2, -0.1, 0.0, 0.1, 0.2]
SYSTEMS = ["Li-O", "Fe-O", "Fe-Li-O", "Li-Mn-O", "Li-Fe", "Fe-Li-Mn-O", "Na-O"]


def candidates(shard: int, n: int, hull: bool = True) -> pd.DataFrame:
    """Return made-up kept rows; hull distances of two digits, so that there are ties."""
    rng = np.random.default_rng(shard)
    systems = ["-".join(sorted(rng.choice(SYSTEMS).split("-"))) for _ in range(n)]
    formulas = ["".join(f"{symbol}{rng.integers(1, 4)}" for symbol in system.split("-")) for system in systems]
    table = pd.DataFrame(
        {
            "formula": formulas,
            "system": systems,
            "n_elements": [system.count("-") + 1 for system in systems],
            "formation_energy_per_atom": rng.normal(-1.0, 0.5, n),
            "spread": rng.random(n),
            "distance": rng.random(n),
            "warning": [None] * n,
            "e_above_hull": np.round(rng.uniform(-0.2, 0.2, n), 2),
            "decomposition": "0.5 Li2O + 0.5 FeO",
            "shard": shard,
            "row": np.sort(rng.choice(10 * n + 1, n, replace=False)),
        }
    )
    return table if hull else table.drop(columns=["e_above_hull", "decomposition"])


def counts_of(table: pd.DataFrame, shard: int) -> dict[str, Any]:
    sizes = table["n_elements"].value_counts()
    elements = table["system"].str.split("-").explode().value_counts()
    counts = {
        "shard": shard, "n_candidates": 1000, "n_filtered": 100, "n_scored": 898, "n_failed": 2, "n_kept": len(table),
        "by_n_elements": {str(size): [500, int(kept)] for size, kept in sizes.items()},
        "by_element": {symbol: [600, int(kept)] for symbol, kept in elements.items()},
        "failures": [[f"Xe{shard}F{n}", "the model has not seen Xe"] for n in (1, 2)],
        "seconds": 2.0,
    }  # fmt: skip
    if "e_above_hull" in table:
        histogram, _ = np.histogram(table["e_above_hull"], EDGES)
        counts["hull_histogram"] = {"edges": EDGES, "counts": histogram.tolist()}
    return counts


def write_part(
    folder: Path, shard: int, table: pd.DataFrame, counts: dict[str, Any] | None = None, group: int = 50
) -> Path:
    """Write a part as the driver does."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    metadata = {b"ase_matprop": json.dumps(counts or counts_of(table, shard)).encode()}
    path = folder / "shards" / f"part-{shard:06d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow.replace_schema_metadata(metadata), path, row_group_size=group)
    return path


def write_folder(
    folder: Path, shards: Sequence[int] = (0, 1, 2), n_shards: int = 3, n: int = 200, hull: bool = True, **run: Any
) -> Path:
    """Write a results folder."""
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"fingerprint": "abc", "n_shards": n_shards, **run}))
    for shard in shards:
        write_part(folder, shard, candidates(shard, n, hull))
    return folder


def all_rows(shards: Sequence[int] = (0, 1, 2), n: int = 200) -> pd.DataFrame:
    return pd.concat([candidates(shard, n) for shard in shards], ignore_index=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "run")


def expected_top(table: pd.DataFrame, n: int, by: str = "e_above_hull", ascending: bool = True) -> pd.DataFrame:
    keys = [by, "formula", "shard", "row"]
    return table.sort_values(keys, ascending=[ascending, True, True, True]).head(n).reset_index(drop=True)


def test_counts_are_added_up(folder: Path) -> None:
    results, table = Results(folder), all_rows()
    summary = results.summary()
    assert (summary.n_candidates, summary.n_filtered, summary.n_scored, summary.n_failed) == (3000, 300, 2694, 6)
    assert summary.n_kept == 600 and summary.finished and summary.note is None and summary.seconds == 6.0
    assert summary.by_n_elements == {size: (1500, int((table["n_elements"] == size).sum())) for size in (2, 3, 4)}
    has_mn = table["system"].str.contains("Mn")
    assert summary.by_element["Mn"] == (1800, int(has_mn.sum())) and list(summary.by_element)[:2] == ["Fe", "Li"]
    assert summary.hull_histogram is not None and summary.hull_histogram.edges == EDGES
    assert summary.hull_histogram.counts == np.histogram(table["e_above_hull"], EDGES)[0].tolist()
    assert summary.failures[0] == ("Xe0F1", "the model has not seen Xe") and len(summary.failures) == 6
    assert json.loads(json.dumps(summary.to_dict()))["n_kept"] == 600
    assert results.has_hull and results.property == "formation_energy_per_atom" and results.n_shards == 3


@pytest.mark.parametrize("n", [1, 7, 50, 1000])
def test_top_is_that_of_the_whole_table(folder: Path, n: int) -> None:
    pd.testing.assert_frame_equal(Results(folder).top(n), expected_top(all_rows(), n), check_dtype=False)


def test_top_by_another_column(folder: Path) -> None:
    results, table = Results(folder), all_rows()
    found = results.top(20, by="formation_energy_per_atom")
    pd.testing.assert_frame_equal(found, expected_top(table, 20, "formation_energy_per_atom"), check_dtype=False)
    found = results.top(20, by="spread", highest_first=True)
    pd.testing.assert_frame_equal(found, expected_top(table, 20, "spread", ascending=False), check_dtype=False)
    assert results.top(5, by="row")["row"].is_monotonic_increasing
    with pytest.raises(UnknownNameError, match="did you mean 'spread'|Did you mean 'spread'"):
        results.top(by="spred")
    with pytest.raises(MatPropError, match="'formula' has no numbers"):
        results.top(by="formula")
    with pytest.raises(MatPropError, match="at least 1"):
        results.top(0)


@pytest.mark.parametrize(
    ("pattern", "systems"),
    [
        ("Fe-O", {"Fe-O"}),
        ("O-Fe", {"Fe-O"}),
        ("Li-*-O", {"Fe-Li-O", "Li-Mn-O"}),
        ("O - * - Li", {"Fe-Li-O", "Li-Mn-O"}),
        ("Li-*-*-O", {"Fe-Li-Mn-O"}),
        ("Li-O-**", {"Li-O", "Fe-Li-O", "Li-Mn-O", "Fe-Li-Mn-O"}),
        ("Li-*-**-O", {"Fe-Li-O", "Li-Mn-O", "Fe-Li-Mn-O"}),
        ("*-*", {"Li-O", "Fe-O", "Fe-Li", "Na-O"}),
        ("N-**", set()),  # not Na
        (["Na-*", "Fe-O"], {"Na-O", "Fe-O"}),
        ("**", {"-".join(sorted(system.split("-"))) for system in SYSTEMS}),
    ],
)
def test_patterns_of_systems(folder: Path, pattern: str | list[str], systems: set[str]) -> None:
    results = Results(folder)
    table = all_rows()
    chosen = table[table["system"].isin(systems)]
    assert set(results.systems(pattern)["system"]) == systems
    assert results.n_systems(pattern) == len(systems)
    found = results.top(30, pattern)
    assert found["formula"].tolist() == expected_top(chosen, 30)["formula"].tolist()
    assert len(results.to_frame(pattern)) == len(chosen)


def test_other_selections(folder: Path) -> None:
    results, table = Results(folder), all_rows()
    assert set(results.top(1000, max_elements=2)["n_elements"]) == {2}
    assert set(results.top(1000, min_elements=3, max_elements=3)["n_elements"]) == {3}
    without = results.to_frame(without=["Fe", "Na"])
    assert set(without["system"]) == {"Li-O", "Li-Mn-O"}
    assert len(without) == table["system"].isin(["Li-O", "Li-Mn-O"]).sum()
    with pytest.raises(MatPropError, match="'Xx' is to be left out"):
        results.top(without=["Xx"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("li-*-O", "did you mean Li"),
        ("Li-Xx", "'Xx', which is no element; write"),
        ("Li-*-Li", "twice"),
        ("Li--O", "'', which is no element"),
        ("", "no element"),
        ("Li2O", "'Li2O', which is no element"),
    ],
)
def test_wrong_patterns_are_named(pattern: str, message: str) -> None:
    with pytest.raises(MatPropError, match=message):
        SystemPattern.parse(pattern)


def test_frames_and_systems(folder: Path) -> None:
    results, table = Results(folder), all_rows()
    pd.testing.assert_frame_equal(results.to_frame(), table, check_dtype=False)
    assert [len(frame) for frame in results.iter_frames()] == [200, 200, 200]
    systems = results.systems()
    assert list(systems.columns) == ["system", "n_elements", "n_kept", "e_above_hull"]
    groups = table.groupby("system")["e_above_hull"]
    assert dict(zip(systems["system"], systems["n_kept"], strict=True)) == groups.size().to_dict()
    assert dict(zip(systems["system"], systems["e_above_hull"], strict=True)) == groups.min().to_dict()
    assert systems["n_kept"].is_monotonic_decreasing


def test_systems_are_grouped_in_passing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Results(folder).systems()
    monkeypatch.setattr("ase_matprop.screening.results._ROWS_GROUPED", 10)
    pd.testing.assert_frame_equal(Results(folder).systems(), expected)


def test_equal_values_are_ordered_by_formula_shard_and_row(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", shards=(), n_shards=2)
    base = candidates(0, 3).assign(e_above_hull=0.0, system="Fe-O", n_elements=2)
    write_part(folder, 0, base.assign(formula=["Fe2O", "Fe3O", "Fe2O"], row=[4, 5, 2]))
    write_part(folder, 1, base.assign(formula=["Fe2O", "FeO", "Fe3O"], row=[1, 2, 3], shard=1))
    found = Results(folder).top(5)
    assert list(zip(found["formula"], found["shard"], found["row"], strict=True)) == [
        ("Fe2O", 0, 2), ("Fe2O", 0, 4), ("Fe2O", 1, 1), ("Fe3O", 0, 5), ("Fe3O", 1, 3)
    ]  # fmt: skip


def test_rows_without_a_value_are_left_out(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", shards=(), n_shards=1)
    write_part(folder, 0, candidates(0, 4).assign(e_above_hull=[np.nan, 0.1, -0.1, np.nan]))
    results = Results(folder)
    assert results.top()["e_above_hull"].tolist() == [-0.1, 0.1] and len(results.to_frame()) == 4
    assert results.systems()["n_kept"].sum() == 4


def test_parts_with_other_types_of_columns(tmp_path: Path) -> None:
    """A column without any text in a part, dictionary-encoded systems, smaller numbers, and a part without rows."""
    folder = write_folder(tmp_path / "run", shards=(), n_shards=3)
    small = {"e_above_hull": "float32", "n_elements": "uint8", "shard": "int32", "row": "int32"}
    write_part(folder, 0, candidates(0, 20).astype({"system": "category"}).astype(small))
    write_part(folder, 1, candidates(1, 20).assign(warning="outside").astype({"system": "category"}).astype(small))
    write_part(folder, 2, candidates(2, 20).head(0), {**counts_of(candidates(2, 20), 2), "n_kept": 0})
    results, table = Results(folder), all_rows((0, 1), 20).astype({"e_above_hull": "float32"})
    assert results.top(10)["row"].tolist() == expected_top(table, 10)["row"].tolist()
    assert results.top(40)["warning"].value_counts().to_dict() == {"outside": 20}
    assert (
        results.n_systems("Li-O-**")
        == table.loc[table["system"].isin(["Li-O", "Fe-Li-O", "Li-Mn-O", "Fe-Li-Mn-O"]), "system"].nunique()
    )
    assert results.summary().n_candidates == 3000


def test_unfinished_run_can_be_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", shards=(1, 4), n_shards=9)
    (folder / "shards" / "part-000005.parquet.partial").write_bytes(b"half")
    results = Results(folder)
    summary = results.summary()
    assert summary.missing == [0, 2, 3, 5, 6, 7, 8] and not summary.finished
    assert summary.note == "the run is not finished: 7 of 9 shards are missing (0, 2-3, 5-8)"
    assert results.top(30)["formula"].tolist() == expected_top(all_rows((1, 4)), 30)["formula"].tolist()


def test_run_without_any_part(tmp_path: Path) -> None:
    results = Results(write_folder(tmp_path / "run", shards=(), n_shards=1))
    assert results.summary().note == "the run is not finished: 1 of 1 shards is missing (0)"
    assert results.top().empty and results.to_frame().empty and results.n_systems() == 0 and not results.has_hull
    assert "formula" in results.top().columns


def test_run_without_a_hull(tmp_path: Path) -> None:
    results = Results(write_folder(tmp_path / "run", hull=False))
    assert not results.has_hull and results.summary().hull_histogram is None
    assert results.top(5)["formation_energy_per_atom"].is_monotonic_increasing
    assert list(results.systems().columns)[-1] == "formation_energy_per_atom"


def test_the_highest_values_are_the_best_above_a_minimum(tmp_path: Path) -> None:
    table = pd.concat([candidates(shard, 200, hull=False) for shard in range(3)], ignore_index=True)
    value = "formation_energy_per_atom"
    for keep, highest in (
        ({"minimum": 0.0}, True), ({"maximum": 0.0}, False), ({"minimum": 0.0, "maximum": 9.0}, False), ({}, False),
    ):  # fmt: skip
        results = Results(write_folder(tmp_path / "run", hull=False, keep=keep))
        assert results.highest_is_best == highest
        for found in (results.top(7), results.top(7, by=value)):
            pd.testing.assert_frame_equal(found, expected_top(table, 7, value, not highest), check_dtype=False)
        assert results.top(3, highest_first=False)[value].tolist() == table[value].nsmallest(3).tolist()
        assert results.top(3, by="spread")["spread"].tolist() == table["spread"].nsmallest(3).tolist()
        extreme = table.groupby("system")[value].agg("max" if highest else "min")
        systems = results.systems()
        assert dict(zip(systems["system"], systems[value], strict=True)) == extreme.to_dict()
    with_hull = Results(write_folder(tmp_path / "hull", keep={"minimum": 0.0, "e_above_hull": 0.1}))
    assert with_hull.top(3)["e_above_hull"].tolist() == all_rows()["e_above_hull"].nsmallest(3).tolist()


def test_first_systems_are_those_of_the_whole_table(folder: Path) -> None:
    results = Results(folder)
    systems = results.systems()
    for n in (1, 3, 50):
        first, count = results.first_systems(n)
        assert count == len(systems)
        pd.testing.assert_frame_equal(first, systems.head(n))


def test_parts_without_a_better_row_are_not_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", shards=(), n_shards=40)
    for shard in range(40):
        table = candidates(shard, 30)
        table["e_above_hull"] += (7 * shard) % 40
        write_part(folder, shard, table)
    for by, highest in (("e_above_hull", False), ("e_above_hull", True), ("formation_energy_per_atom", True)):
        table = pd.concat([pd.read_parquet(path) for path in sorted((folder / "shards").iterdir())])
        found = Results(folder).top(45, by=by, highest_first=highest)
        pd.testing.assert_frame_equal(found, expected_top(table, 45, by, not highest), check_dtype=False)
    results = Results(folder)
    results.summary()
    read: list[str] = []
    batches = results._parts.batches

    def watched(paths: Sequence[Path], *more: Any) -> Any:
        read.extend(path.name for path in paths)
        return batches(paths, *more)

    results._parts.batches = watched  # type: ignore[method-assign]
    assert results.top(45)["shard"].isin([0, 23]).all()
    assert len(set(read)) < 12


def test_a_run_of_many_parts_is_held_in_little_memory(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", shards=(0,), n_shards=400)
    table = candidates(0, 30)
    for shard in range(1, 400):
        write_part(folder, shard, table.assign(shard=shard), {**counts_of(table, shard), "note": "x" * 20_000})
    results = Results(folder)
    tracemalloc.start()
    assert results.summary().n_kept == 399 * 30 + 200
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2_000_000
    assert len(results.systems()) == results.n_systems()


def test_property_of_another_model(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "run", shards=(), n_shards=1)
    write_part(folder, 0, candidates(0, 5, hull=False).rename(columns={"formation_energy_per_atom": "band_gap"}))
    results = Results(folder)
    assert results.property == "band_gap" and results.top(2)["band_gap"].is_monotonic_increasing


def test_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MatPropError, match="nowhere is not there"):
        Results(tmp_path / "nowhere")
    with pytest.raises(MatPropError, match=r"has no run\.json"):
        Results(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(MatPropError, match="cannot be read"):
        Results(tmp_path)
    for text in ("[]", "{}", '{"n_shards": "3"}', '{"n_shards": 0}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(MatPropError, match="how many shards"):
            Results(tmp_path)


def test_broken_parts_are_named(folder: Path) -> None:
    path = folder / "shards" / "part-000001.parquet"
    good = path.read_bytes()
    remedy = r"part-000001\.parquet.*delete it and start the run again"
    for broken in (b"", good[:100], good[:-20], b"x" * 500):
        path.write_bytes(broken)
        with pytest.raises(MatPropError, match=remedy):
            Results(folder).summary()
        with pytest.raises(MatPropError, match=remedy):
            Results(folder).top()
    damaged = bytearray(good)
    damaged[4:3000] = bytes(2996)  # pages, not the footer
    path.write_bytes(bytes(damaged))
    for read in (Results.to_frame, Results.systems, Results.top):
        with pytest.raises(MatPropError, match=remedy):
            read(Results(folder))


def test_parts_that_do_not_belong_are_named(folder: Path) -> None:
    table = candidates(1, 5)
    wrong = counts_of(table, 1)
    write_part(folder, 1, table, {**wrong, "shard": 2})
    with pytest.raises(MatPropError, match="has the results of shard 2"):
        Results(folder).summary()
    write_part(folder, 1, table, {name: value for name, value in wrong.items() if name != "n_kept"})
    with pytest.raises(MatPropError, match=r"part-000001.*cannot be used \(KeyError: 'n_kept'\)"):
        Results(folder).summary()
    write_part(folder, 1, table, {**wrong, "hull_histogram": {"edges": [0.0, 1.0], "counts": [5]}})
    with pytest.raises(MatPropError, match="bins of the histogram are others"):
        Results(folder).summary()
    pq.write_table(pa.table({"a": [1]}), folder / "shards" / "part-000001.parquet")
    with pytest.raises(MatPropError, match="has no counts"):
        Results(folder).summary()
    write_part(folder, 1, table, {**wrong, "fingerprint": "that of another"})
    with pytest.raises(MatPropError, match="part-000001.* has results of another run"):
        Results(folder).summary()
    write_part(folder, 1, table)
    write_part(folder, 7, candidates(7, 5))
    with pytest.raises(MatPropError, match="part-000007.*is no part of this run"):
        Results(folder)


def test_memory_is_that_of_the_best_rows(tmp_path: Path) -> None:
    """What pyarrow holds at once is far less than the table."""
    folder = write_folder(tmp_path / "run", shards=(), n_shards=2)
    for shard in (0, 1):
        table = candidates(shard, 1000)
        many = pd.concat([table] * 300, ignore_index=True).assign(row=np.arange(300_000), decomposition="x" * 200)
        write_part(folder, shard, many, group=50_000)
    size = 2 * pa.Table.from_pandas(many).nbytes
    program = (
        "import sys, pyarrow; from ase_matprop.screening.results import Results; Results(sys.argv[1]).top(10); "
        "print(pyarrow.default_memory_pool().max_memory())"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < size / 4

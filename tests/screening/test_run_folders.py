"""Folders that several runs or processes write to: results are never mixed, and what is another's is left alone."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ase_matprop.errors import MatPropError
from ase_matprop.screening import jobs, run
from ase_matprop.screening.jobs import Job, run_shard
from ase_matprop.screening.results import Results
from ase_matprop.screening.run import screen
from ase_matprop.screening.settings import ScreeningSettings

from .small_runs import KNOWN, LI_FE_O, assert_same_results, counted, parts, settings_of, write_known


def test_files_that_others_write_are_left_alone(settings: ScreeningSettings, whole: Path) -> None:
    host, number = os.uname().nodename, "0123456789abcdef" * 2
    names = {
        f".part-000001.parquet-{host}-{os.getpid()}-{number}.unfinished": True,
        f".part-000001.parquet-{host}-999999999-{number}.unfinished": False,
        f".part-000001.parquet-another-host-17-{number}.unfinished": True,
        f".part-000001.parquet-gpu-{host}-999999999-{number}.unfinished": True,
        f".part-000001.parquet-a-host-of-old-17-{number}.unfinished": False,
        f".part-000001.parquet-{host}-what.unfinished": True,
    }
    for name in names:
        (whole / "shards" / name).write_bytes(b"PAR1")
    os.utime(whole / "shards" / f".part-000001.parquet-a-host-of-old-17-{number}.unfinished", (0, 0))
    screen(settings, whole)
    assert {name: (whole / "shards" / name).exists() for name in names} == names
    assert len(pq.read_table(whole / "shards")) == Results(whole).summary().n_kept  # pyarrow passes over them


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_two_drivers_that_begin_at_once(
    same: bool, links: bool, settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one writes run.json while the first one is about to do so."""
    write = run.write_first
    second = settings if same else settings_of(tmp_path, keep={"e_above_hull": 0.31})
    begun: list[Path] = []

    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def write_late(path: Path, text: str) -> None:
        if not begun:
            begun.append(path)
            screen(second, path.parent, shards=range(2))
        write(path, text)

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(run, "write_first", write_late)
    if same:
        screen(settings, tmp_path / "out")
        assert_same_results(whole, tmp_path / "out")
    else:
        with pytest.raises(MatPropError, match=r"has the results of another run \(cut\)"):
            screen(settings, tmp_path / "out")
        assert len(parts(tmp_path / "out")) == 2 and Results(tmp_path / "out").run["cut"] == 0.31


def test_parts_of_another_run_are_scored_again(
    settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    shutil.copytree(whole, tmp_path / "out")
    screen(settings_of(tmp_path, keep={"e_above_hull": 0.31}), tmp_path / "other")
    shutil.copy(parts(tmp_path / "other")[1], parts(tmp_path / "out")[1])
    parts(tmp_path / "out")[2].write_bytes(b"PAR1")
    parts(tmp_path / "out")[3].unlink()
    scored = counted(monkeypatch)
    screen(settings, tmp_path / "out")
    assert scored == [1, 2, 3]
    assert "has results of another run; it is scored again" in caplog.text and "is broken" in caplog.text
    assert_same_results(whole, tmp_path / "out")
    shutil.copy(parts(tmp_path / "other")[1], parts(tmp_path / "out")[1])
    with pytest.raises(MatPropError, match="has results of another run; delete it and start the run again"):
        Results(tmp_path / "out").summary()


def test_a_late_shard_of_a_deleted_run_is_not_written(
    settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(settings, whole, Results(whole).run["fingerprint"])
    run_shard(job, 0)  # the engine is kept
    score = jobs.score_shard

    def replace_run(*arguments: Any) -> Any:
        monkeypatch.undo()
        shutil.rmtree(whole)
        screen(settings_of(tmp_path, keep={"e_above_hull": 0.31}), whole, shards=range(1))
        return score(*arguments)

    monkeypatch.setattr(jobs, "score_shard", replace_run)
    with pytest.raises(MatPropError, match="has another run than that of which a shard was to be scored"):
        run_shard(job, 1)
    assert len(parts(whole)) == 1
    with pytest.raises(MatPropError, match="has another run than that"):
        run_shard(job, 1)


def test_threads_that_score_the_same_shard(settings: ScreeningSettings, whole: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    shutil.copytree(whole, tmp_path / "out")
    job = Job(settings, tmp_path / "out", Results(whole).run["fingerprint"])
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda shard: run_shard(job, shard), [0, 0, 0, 0, 1, 1, 1, 1]):
            pass
    assert_same_results(whole, tmp_path / "out")
    names = {jobs._unfinished(tmp_path / "part-000001.parquet").name for _ in range(100)}
    assert len(names) == 100


OTHER_RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "space": ({"space": {**LI_FE_O, "max_atoms": 7}}, r"\(search space\)"),
    "shards": ({"space": {**LI_FE_O, "shard_size": 41}}, r"\(search space\)"),
    "model": ({"model": "irnet17-composition-mp"}, r"\(model\)"),
    "cut": ({"keep": {"e_above_hull": 0.31}}, r"\(cut\)"),
    "precision": ({"precision": "bfloat16"}, r"\(precision\)"),
    "comparison": ({"compare_with": ["irnet17-composition-mp"]}, r"\(models for comparison\)"),
    "no hull": ({"hull": None, "keep": {"maximum": 0.0}}, r"\(references, cut\)"),
    "functional": ({"hull": {"file": "known.csv", "functional": "PBE"}}, r"\(references\)"),
}


@pytest.mark.parametrize(("change", "reason"), OTHER_RUNS.values(), ids=OTHER_RUNS)
def test_the_results_of_another_run_are_left_alone(
    change: dict[str, Any], reason: str, whole: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    change = dict(change)
    other = settings_of(tmp_path, change.pop("space", None), **change)
    with pytest.raises(MatPropError, match=f"has the results of another run {reason}; give another output"):
        screen(other, whole)
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before


def test_changed_references_are_found_out(settings: ScreeningSettings, whole: Path, tmp_path: Path) -> None:
    write_known(tmp_path, {**KNOWN, "Li2O": -2.07})
    with pytest.raises(MatPropError, match=r"\(references\)"):
        screen(settings, whole)


def test_folders_that_are_something_else(settings: ScreeningSettings, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(MatPropError, match="full has other files and no screening run; give a new or an empty folder"):
        screen(settings, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    with pytest.raises(MatPropError, match=r"the output .*thesis\.tex is a file; give a folder"):
        screen(settings, tmp_path / "full" / "thesis.tex")
    (tmp_path / "full" / "run.json").write_text("{")
    with pytest.raises(MatPropError, match=r"run\.json cannot be read"):
        screen(settings, tmp_path / "full")


def test_the_margin_is_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found once, when the run begins."""
    settings = settings_of(tmp_path, precision="bfloat16")
    asked: list[str] = []

    def margin(predictor: Any, precision: str, *_: Any) -> float:
        asked.append(precision)
        return 0.123

    monkeypatch.setattr("ase_matprop.screening.engine.sieve_margin", margin)
    assert screen(settings, tmp_path / "out", shards=range(1)).run["margin"] == 0.123
    assert asked == ["bfloat16"]
    screen(settings, tmp_path / "out")
    assert asked == ["bfloat16"]
    job = Job(settings, tmp_path / "out", Results(tmp_path / "out").run["fingerprint"])
    jobs._engines.kept.clear()
    assert jobs._engine(job).margin == 0.123

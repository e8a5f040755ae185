"""Runs: stopped at any moment they go on to the same result, and what cannot work is refused before it begins."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ase_matprop.errors import MatPropError, UnknownElementError
from ase_matprop.screening import jobs, run
from ase_matprop.screening.engine import Engine
from ase_matprop.screening.hull.references import References, read_references
from ase_matprop.screening.jobs import Job, run_shard
from ase_matprop.screening.results import Results
from ase_matprop.screening.run import ScreeningProgress, prepare, screen
from ase_matprop.screening.settings import ScreeningSettings

from .small_runs import (
    KNOWN,
    LI_FE_O,
    assert_same_results,
    counted,
    parts,
    settings_of,
    table_of,
    write_known,
    write_toml,
)


def test_a_folder_of_results(whole: Path, settings: ScreeningSettings) -> None:
    results = Results(whole)
    assert results.n_shards == len(parts(whole)) > 3 and results.summary().finished
    assert results.run["model"]["name"] == "elemnet-mp" and results.run["model"]["test_mae"] > 0
    assert results.run["cut"] == 0.3 and results.run["precision"] == "float32"
    assert results.run["references"]["functional"] == "PBE(+U)" and results.run["warnings"] == []
    assert results.run["n_candidates"] == results.summary().n_candidates
    assert sorted(path.name for path in whole.iterdir()) == ["run.json", "shards"]
    footer = json.loads(pq.read_schema(parts(whole)[1]).metadata[b"ase_matprop"])
    assert footer["fingerprint"] == results.run["fingerprint"] and footer["shard"] == 1


def test_only_what_is_missing_is_scored(
    whole: Path, settings: ScreeningSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, tmp_path / "other")
    for shard in (0, 2):
        (whole / "shards" / f"part-{shard:06d}.parquet").unlink()
    scored = counted(monkeypatch)
    states: list[ScreeningProgress] = []
    screen(settings, whole, progress=states.append)
    assert scored == [0, 2]
    assert_same_results(whole, tmp_path / "other")
    assert [state.shards_done for state in states] == [0, 1, 2] and {state.n_shards for state in states} == {2}
    screen(settings, whole)
    assert scored == [0, 2]


def test_progress_adds_up(settings: ScreeningSettings, tmp_path: Path) -> None:
    states: list[ScreeningProgress] = []
    results = screen(settings, tmp_path / "out", progress=states.append)
    assert [state.shards_done for state in states] == list(range(results.n_shards + 1))
    assert states[0].candidates_done == 0 and states[0].rate == 0.0
    assert states[-1].candidates_done == states[-1].n_candidates == results.run["n_candidates"]
    assert states[-1].n_kept == results.summary().n_kept == len(table_of(results))
    assert all(one.seconds < two.seconds for one, two in itertools.pairwise(states))
    assert states[-1].rate == pytest.approx(states[-1].candidates_done / states[-1].seconds)


def test_some_of_the_shards(
    settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = counted(monkeypatch)
    results = screen(settings, tmp_path / "out", shards=range(1, 3))
    assert scored == [1, 2] and not results.summary().finished
    screen(settings, tmp_path / "out")
    assert sorted(scored) == list(range(results.n_shards)) and scored.count(1) == 1
    assert_same_results(whole, tmp_path / "out")
    with pytest.raises(MatPropError, match=r"the run has the shards 0 to \d+\. Got 2 to 99\."):
        screen(settings, tmp_path / "out", shards=range(2, 100))
    with pytest.raises(MatPropError, match="the run has the shards"):
        screen(settings, tmp_path / "new", shards=range(0))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_killed_process_loses_and_doubles_nothing(n_workers: int, tmp_path: Path) -> None:
    """Killed while it writes, with shards that are done and others that are not."""
    space = write_toml(tmp_path, shard_size=3, max_atoms=12, more=True)
    screen(space, tmp_path / "whole")
    command = [
        sys.executable, "-c", "from ase_matprop.cli import app; app()", "screen", str(space),
        "--output", str(tmp_path / "out"), "--workers", str(n_workers),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: len(parts(tmp_path / "out")) >= 4, process)
        workers = children(process.pid)
        process.kill()
    n_done = len(parts(tmp_path / "out"))
    assert 4 <= n_done < len(parts(tmp_path / "whole")), "killed too late"
    if n_workers:
        assert len(workers) >= n_workers
        wait_for(lambda: not any(map(is_alive, workers)), None, seconds=20)
    unfinished = (
        tmp_path / "out" / "shards" / f".part-000999.parquet-{os.uname().nodename}-{process.pid}-{'0' * 32}.unfinished"
    )
    unfinished.write_bytes(b"PAR1")
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    assert_same_results(tmp_path / "whole", tmp_path / "out")


def wait_for(condition: Any, process: subprocess.Popen[str] | None, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.005)


def children(process: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(process).children(recursive=True)]


def is_alive(process: int) -> bool:
    import psutil

    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_machines_need_not_be_fast_in_the_same_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    settings = settings_of(tmp_path, precision="auto")
    monkeypatch.setattr("ase_matprop.screening.engine.has_bfloat16", lambda: False)
    screen(settings, tmp_path / "out", shards=range(2))
    monkeypatch.setattr("ase_matprop.screening.engine.has_bfloat16", lambda: True)
    assert screen(settings, tmp_path / "out").run["precision"] == "float32"
    assert_same_results(whole, tmp_path / "out")
    assert screen(settings, tmp_path / "new").run["precision"] == "bfloat16"


def test_slurm_is_no_part_of_a_run(whole: Path, tmp_path: Path) -> None:
    screen(settings_of(tmp_path, slurm={"cores": 4}), whole)


def test_a_run_that_was_killed_before_it_began(settings: ScreeningSettings, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "shards").mkdir(parents=True)
    (tmp_path / "out" / ".run.json-host-1.unfinished").write_text("{")
    screen(settings, tmp_path / "out")
    (tmp_path / "out" / ".run.json-host-1.unfinished").unlink()
    assert_same_results(whole, tmp_path / "out")


def test_a_full_disk(settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = pq.write_table
    written: list[int] = []

    def full(table: Any, where: Any, **options: Any) -> None:
        if len(written) == 2:
            where.write(b"PAR1")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(table, where, **options)
        written.append(1)

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(MatPropError) as caught:
        screen(settings, tmp_path / "out")
    assert "there is no space left for the results in" in str(caught.value) and "\n" not in str(caught.value)
    assert len(parts(tmp_path / "out")) == 2 and not list(tmp_path.rglob("*.unfinished"))
    monkeypatch.undo()
    screen(settings, tmp_path / "out")
    assert_same_results(whole, tmp_path / "out")


def test_a_disk_that_is_nearly_full(
    settings: ScreeningSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(MatPropError, match="has 1 MB left, too little for results; free some space"):
        screen(settings, tmp_path / "deep" / "out")
    assert not (tmp_path / "deep").exists()


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(settings: ScreeningSettings, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(MatPropError, match="cannot be written: Permission denied"):
        screen(settings, tmp_path / "locked" / "out")


def test_a_file_in_the_way_of_the_folder(settings: ScreeningSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MatPropError, match="cannot be written: Not a directory"):
        screen(settings, tmp_path / "file" / "out")


USELESS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown element": ({"space": {**LI_FE_O, "elements": ["Li", "Og", "He"]}}, "never saw He, Og in training; take"),
    "no element": ({"space": {**LI_FE_O, "elements": ["Li", "Jh"]}}, "Jh"),
    "empty space": ({"space": {**LI_FE_O, "elements": []}}, "element"),
    "too few elements": ({"space": {**LI_FE_O, "n_elements": 4}}, "4"),
    "no end member": ({"space": {**LI_FE_O, "elements": ["Li", "O", "K"]}}, "no entry of the element K in"),
    "no references": ({"hull": {"file": "nowhere.csv"}}, r"nowhere\.csv does not exist; check the path"),
    "unknown model": ({"model": "elemnet-pm"}, "Did you mean 'elemnet-mp'"),
    "structures": ({"model": "irnet17-mp"}, "needs structures, and the space has formulas; take a space of prototypes"),
    "classes": ({"model": "metal-classifier-mp"}, "predicts classes, and nothing can be cut by these"),
    "another property": ({"model": "irnet17-bandgap-oqmd"}, "a hull is one of formation energies"),
    "no cut": ({"keep": {}}, r"nothing says which candidates are kept; add to the file a table \[keep\] with e_above"),
    "excluded": ({"space": {**LI_FE_O, "exclude_elements": ["Xe"]}}, "exclude_elements has Xe, which the elements"),
}


@pytest.mark.parametrize(("change", "reason"), USELESS.values(), ids=USELESS)
def test_what_cannot_work_is_refused_before_it_begins(
    change: dict[str, Any], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "run_shard", lambda *_: pytest.fail("scored"))
    change = dict(change)
    settings = settings_of(tmp_path, change.pop("space", None), **change)
    for n_workers in (None, 2):
        with pytest.raises(MatPropError, match=reason) as caught:
            screen(settings, tmp_path / "out", workers=n_workers)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there(settings: ScreeningSettings, tmp_path: Path) -> None:
    with pytest.raises(MatPropError, match="the device 'gpu' cannot be used"):
        screen(settings, tmp_path / "out", device="gpu")
    assert not (tmp_path / "out").exists()


def test_unknown_elements_are_of_their_own_kind(tmp_path: Path) -> None:
    with pytest.raises(UnknownElementError):
        screen(settings_of(tmp_path, {**LI_FE_O, "elements": ["Li", "O", "He"]}), tmp_path / "out")


def test_elements_at_zero(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path, {**LI_FE_O, "elements": ["Li", "O", "K"]}, hull={"file": "known.csv", "elements_at_zero": True}
    )
    results = screen(settings, tmp_path / "out")
    assert results.summary().finished
    (warning,) = results.run["warnings"]
    assert "no compound of K with other elements of the space" in warning


def test_elements_without_compounds_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_of(tmp_path, {**LI_FE_O, "elements": ["Li", "Mg", "Fe"]}, precision="auto")
    _, engine = prepare(settings, tmp_path / "out")
    (warning,) = engine.warnings
    assert "no compound of Li, Mg, Fe with" in warning  # those with oxygen are no part of the space
    assert warning in caplog.text
    assert not (tmp_path / "out").exists()


def test_another_functional_is_warned_of(tmp_path: Path) -> None:
    results = screen(settings_of(tmp_path, hull={"file": "known.csv", "functional": "r2SCAN"}), tmp_path / "out")
    assert any("r2SCAN" in warning for warning in results.run["warnings"])


def test_large_changes_by_bfloat16_are_warned_of(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ase_matprop.screening.engine.sieve_margin", lambda predictor, precision, *_: 1e-6)
    results = screen(settings_of(tmp_path, precision="bfloat16"), tmp_path / "out")
    assert caplog.text.count("more than was allowed for; it was scored again in float32") == 1
    summary = results.summary()
    assert results.run["margin"] == 1e-6 < summary.largest_change < 0.1 and summary.n_rescored > 1
    assert summary.caution is not None and f"{summary.n_rescored} shards were scored again" in summary.caution
    assert summary.to_dict()["caution"] == summary.caution and Results(whole).summary().caution is None
    assert table_of(results)["formula"].equals(table_of(Results(whole))["formula"])


def test_space_model_and_hull_are_loaded_once(
    settings: ScreeningSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Engine.build
    built: list[int] = []
    monkeypatch.setattr(Engine, "build", lambda *arguments: (built.append(1), build(*arguments))[1])
    screen(settings, tmp_path / "out")
    assert len(built) == 1


@pytest.fixture
def materials_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Answers in place of the Materials Project; each question is noted."""
    asked: list[Any] = []

    def answer(elements: Any, api_key: str | None = None) -> References:
        asked.append(elements)
        return read_references(write_known(tmp_path), "PBE(+U)").restrict(elements)

    monkeypatch.setattr(References, "from_materials_project", answer)
    yield asked


def test_references_of_the_materials_project_are_fetched_once(
    materials_project: list[Any], tmp_path: Path, whole: Path
) -> None:
    settings = settings_of(tmp_path, hull={"materials_project": True})
    prepare(settings, tmp_path / "out")
    assert len(materials_project) == 1 and not (tmp_path / "out").exists()
    results = screen(settings, tmp_path / "out", shards=range(1))
    assert len(materials_project) == 2 and results.run["references"]["functional"] == "PBE(+U)"
    results = screen(settings, tmp_path / "out")
    assert len(materials_project) == 2
    columns = ["formula", "e_above_hull", "decomposition"]
    assert table_of(results)[columns].equals(table_of(Results(whole))[columns])


def test_references_that_do_not_do_are_not_kept(materials_project: list[Any], tmp_path: Path) -> None:
    settings = settings_of(tmp_path, {**LI_FE_O, "elements": ["Li", "O", "K"]}, hull={"materials_project": True})
    with pytest.raises(MatPropError, match="no entry of the element K"):
        screen(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_killed_after_its_references_came(materials_project: list[Any], tmp_path: Path) -> None:
    settings = settings_of(tmp_path, hull={"materials_project": True})
    screen(settings, tmp_path / "out")
    (tmp_path / "out" / "run.json").unlink()
    shutil.rmtree(tmp_path / "out" / "shards")
    assert screen(settings, tmp_path / "out").summary().finished
    assert len(materials_project) == 1


def test_an_interrupted_run_keeps_its_shards(settings: ScreeningSettings, whole: Path, tmp_path: Path) -> None:
    def interrupt(state: ScreeningProgress) -> None:
        if state.shards_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        screen(settings, tmp_path / "out", progress=interrupt)
    assert len(parts(tmp_path / "out")) == 2
    screen(settings, tmp_path / "out")
    assert_same_results(whole, tmp_path / "out")


def test_workers_check_what_they_find(settings: ScreeningSettings, whole: Path, tmp_path: Path) -> None:
    fingerprint = Results(whole).run["fingerprint"]
    with pytest.raises(MatPropError, match="does not see the results folder"):
        run_shard(Job(settings, tmp_path / "nowhere", fingerprint), 0)
    with pytest.raises(MatPropError, match=r"has ase_matprop .*, the run was started with 0\.0\.1; install"):
        run_shard(Job(settings, whole, fingerprint, version="0.0.1"), 0)
    with pytest.raises(MatPropError, match="has another run than that of which a shard was to be scored"):
        run_shard(Job(settings, whole, "0" * 64), 0)
    write_known(tmp_path, {**KNOWN, "Li2O": -2.07})
    jobs._engines.kept.clear()
    with pytest.raises(MatPropError, match="finds another model, other references or other input files"):
        run_shard(Job(settings, whole, fingerprint), 0)


def test_threads_are_set_for_a_shard_only(settings: ScreeningSettings, whole: Path, monkeypatch: Any) -> None:
    import torch

    before = torch.get_num_threads()
    seen: list[int] = []
    score = jobs.score_shard
    monkeypatch.setattr(
        jobs, "score_shard", lambda engine, shard: (seen.append(torch.get_num_threads()), score(engine, shard))[1]
    )
    run_shard(Job(settings, whole, Results(whole).run["fingerprint"], threads=before + 2), 0)
    assert seen == [before + 2] and torch.get_num_threads() == before


def test_engines_are_kept_and_not_shared_by_threads(settings: ScreeningSettings, whole: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    job = Job(settings, whole, Results(whole).run["fingerprint"])
    assert jobs._engine(job) is jobs._engine(job)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(jobs._engine, job).result() is not jobs._engine(job)

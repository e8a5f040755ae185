"""Runs on several processes: the result of one, whoever dies on the way."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ase_matprop.errors import MatPropError
from ase_matprop.screening import workers as module
from ase_matprop.screening.jobs import Job, run_shard
from ase_matprop.screening.results import Results
from ase_matprop.screening.run import ScreeningProgress, screen
from ase_matprop.screening.settings import ScreeningSettings
from ase_matprop.screening.workers import Workers, available_cores, slurm_cluster

from .small_runs import assert_same_results, write_toml

distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")


def die(job: Job, shard: int) -> dict[str, Any]:
    """Score a shard, but the second one never."""
    if shard == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return run_shard(job, shard)


def take_a_while(job: Job, shard: int) -> dict[str, Any]:
    time.sleep(0.3)
    return run_shard(job, shard)


def complain(job: Job, shard: int) -> dict[str, Any]:
    raise MatPropError("the worker on far-away does not see the results folder")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Any]:
    """A scheduler and two workers that others started; one thread each."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


def worker_processes() -> list[int]:
    """Return the processes of workers that this process has."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with_line = " ".join(child.cmdline())
        if "spawn_main" in with_line:
            found.append(child.pid)
    return found


def test_local_workers_give_what_one_process_gives(
    settings: ScreeningSettings, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger("distributed").level
    states: list[ScreeningProgress] = []
    screen(settings, tmp_path / "out", workers=2, progress=states.append)
    assert_same_results(whole, tmp_path / "out")
    assert [state.shards_done for state in states] == list(range(states[0].n_shards + 1))
    assert logging.getLogger("distributed").level == before
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="No client"):
        distributed.default_client()


def test_a_dead_worker_is_replaced(
    settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "run_shard", take_a_while)
    before = set(worker_processes())
    killed: list[int] = []

    def kill_one(state: ScreeningProgress) -> None:
        if state.shards_done == 1:
            killed.append(min(set(worker_processes()) - before))
            os.kill(killed[0], signal.SIGKILL)

    screen(settings, tmp_path / "out", workers=2, progress=kill_one)
    assert killed
    assert_same_results(whole, tmp_path / "out")
    error = capfd.readouterr().err
    assert "Traceback" not in error and error.count("\n") < 3
    assert set(worker_processes()) <= before


def test_a_shard_that_kills_its_workers_is_named(
    settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dask

    monkeypatch.setattr(module, "run_shard", die)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        pytest.raises(MatPropError, match=r"shard 1 has killed 2 workers, perhaps for want of memory; take a smaller"),
    ):
        screen(settings, tmp_path / "out", workers=2)
    assert not Results(tmp_path / "out").summary().finished
    monkeypatch.undo()
    screen(settings, tmp_path / "out")
    assert_same_results(whole, tmp_path / "out")


def test_a_running_scheduler(scheduler: Any, settings: ScreeningSettings, whole: Path, tmp_path: Path) -> None:
    for name in ("out", "again"):  # the scheduler knows nothing of the first run any more
        screen(settings, tmp_path / name, workers=Workers(scheduler=scheduler.scheduler_address))
        assert_same_results(whole, tmp_path / name)
    for path in list((tmp_path / "out" / "shards").iterdir())[:2]:
        path.unlink()
    screen(settings, tmp_path / "out", workers=Workers(scheduler=scheduler.scheduler_address))
    assert_same_results(whole, tmp_path / "out")
    assert len(scheduler.scheduler_info["workers"]) == 2


def test_errors_of_workers_arrive_as_they_are(
    scheduler: Any, settings: ScreeningSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Workers(scheduler=scheduler.scheduler_address)
    with pytest.raises(MatPropError, match=r"^the device 'cuda:7' cannot be used: [^\n]*$"):
        screen(settings, tmp_path / "out", workers=chosen, device="cuda:7")
    monkeypatch.setattr(module, "run_shard", complain)
    with pytest.raises(MatPropError, match="^the worker on far-away does not see the results folder$"):
        screen(settings, tmp_path / "other", workers=chosen)


def test_an_interrupted_run_keeps_its_shards(
    scheduler: Any, settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(state: ScreeningProgress) -> None:
        if state.shards_done == 1:
            raise KeyboardInterrupt

    chosen = Workers(scheduler=scheduler.scheduler_address)
    monkeypatch.setattr(module, "run_shard", take_a_while)
    with pytest.raises(KeyboardInterrupt):
        screen(settings, tmp_path / "out", workers=chosen, progress=interrupt)
    assert 1 <= len(list((tmp_path / "out" / "shards").glob("*.parquet"))) < Results(tmp_path / "out").n_shards
    monkeypatch.undo()
    screen(settings, tmp_path / "out", workers=chosen)
    time.sleep(0.5)  # what workers had begun is written all the same
    assert_same_results(whole, tmp_path / "out")


def test_a_scheduler_that_does_not_answer(
    settings: ScreeningSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS_FOR_SCHEDULER", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        for wrong in (address, "tcp://no-such-host.invalid:8786"):
            start = time.monotonic()
            with pytest.raises(MatPropError, match="cannot be reached .*; give the address that `dask sch") as caught:
                screen(settings, tmp_path / "out", workers=Workers(scheduler=wrong))
            assert "\n" not in str(caught.value) and wrong in str(caught.value)
            assert time.monotonic() - start < 10


def test_a_scheduler_without_workers_is_waited_for(
    settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(module, "_SECONDS_WITHOUT_WORKERS", 0.3)
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=2, dashboard_address=None, memory_limit=0, silence_logs=logging.CRITICAL
    ) as cluster:
        add = logging.Handler()
        add.emit = lambda record: cluster.scale(1)  # type: ignore[method-assign]
        module.logger.addHandler(add)
        try:
            screen(settings, tmp_path / "out", workers=Workers(scheduler=cluster.scheduler_address))
        finally:
            module.logger.removeHandler(add)
    assert caplog.text.count("the scheduler has no workers so far") == 1
    assert_same_results(whole, tmp_path / "out")


def test_a_lost_scheduler(settings: ScreeningSettings, whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", port, "--no-dashboard"], **options
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard",
         "--death-timeout", "20", "--local-directory", str(tmp_path / "scratch")],
        **options,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        monkeypatch.setattr(module, "run_shard", take_a_while)
        monkeypatch.setattr(module, "_SECONDS_BETWEEN_LOOKS", 0.5)

        def kill(state: ScreeningProgress) -> None:
            if state.shards_done == 1:
                scheduler.kill()

        with pytest.raises(MatPropError, match="the connection to the scheduler was lost .*start the same run again"):
            screen(settings, tmp_path / "out", workers=Workers(scheduler=address), progress=kill)
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(20)
    monkeypatch.undo()
    screen(settings, tmp_path / "out")
    assert_same_results(whole, tmp_path / "out")


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    space = write_toml(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(
        f"from ase_matprop.screening import screen\nscreen({str(space)!r}, {str(tmp_path / 'out')!r}, workers=2)\n"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "MatPropError: the worker processes cannot be started" in done.stderr and "__main__" in done.stderr
    assert time.monotonic() - start < 60


def test_threads_are_shared_among_local_workers(
    settings: ScreeningSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int | None]] = []

    def note(n_workers: int) -> Any:
        seen.append((n_workers, None))
        raise MatPropError("enough")

    monkeypatch.setattr(module, "_local_cluster", note)
    monkeypatch.setattr(module, "available_cores", lambda: 8)
    with pytest.raises(MatPropError, match="enough"):
        screen(settings, tmp_path / "out", workers=100)
    assert seen == [(Results(tmp_path / "out").n_shards, None)]  # no more than there are shards


@pytest.mark.parametrize(("chosen", "threads"), [(Workers(local=2), 4), (Workers(local=3), 2), (Workers(local=16), 1),
                                                 (Workers(local=2, threads=3), 3)])  # fmt: skip
def test_threads_of_a_worker(
    chosen: Workers, threads: int, settings: ScreeningSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import ExitStack, nullcontext
    from unittest.mock import Mock

    monkeypatch.setattr(module, "_local_cluster", lambda n_workers: nullcontext("cluster"))
    monkeypatch.setattr(module, "available_cores", lambda: 8)
    monkeypatch.setattr(distributed, "Client", lambda cluster, **options: nullcontext(Mock()))
    with ExitStack() as stack:
        _, job = module._connect(stack, Job(settings, tmp_path, "0"), chosen)
    assert job.threads == threads


def test_cores_are_those_that_the_process_may_use() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


WRONG = [{}, {"local": 2, "slurm": 3}, {"local": 2, "scheduler": "tcp://a:1"}, {"local": 0}, {"local": -1},
         {"slurm": 0}, {"local": 2, "threads": 0}, {"local": 1.5}, {"local": True}]  # fmt: skip


@pytest.mark.parametrize("options", WRONG, ids=map(str, WRONG))
def test_workers_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(MatPropError, match="give a number of local workers|must be positive|0 local workers"):
        Workers(**options)


SLURM = {"cores": 4, "memory": "8GB", "queue": "long", "walltime": "12:00:00", "account": "materials"}


def test_jobs_of_slurm_have_what_was_given() -> None:
    pytest.importorskip("dask_jobqueue")
    with slurm_cluster(Workers(slurm=2, slurm_options=SLURM)) as cluster:
        script = cluster.job_script()
    for line in ("#SBATCH -p long", "#SBATCH -A materials", "#SBATCH -t 12:00:00", "#SBATCH --cpus-per-task=4"):
        assert line in script
    assert "--mem=8G" in script
    assert "--nworkers 4" in script and "--nthreads 1" in script  # a shard is scored by one process
    with slurm_cluster(Workers(slurm=2, slurm_options={**SLURM, "processes": 2})) as cluster:
        assert "--nworkers 2" in cluster.job_script()


def test_jobs_of_slurm_that_are_not_described() -> None:
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(MatPropError, match=r"the SLURM jobs cannot be described: .*cores.* in the table \[slurm\]"):
        slurm_cluster(Workers(slurm=2))
    with pytest.raises(MatPropError, match="the SLURM jobs cannot be described: .*colour"):
        slurm_cluster(Workers(slurm=2, slurm_options={**SLURM, "colour": "blue"}))


@pytest.mark.parametrize("address", ["foo", "10.0.0.1:8786", "tcp://10.0.0.1", "nonsense://1"])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(MatPropError, match="is no address of a scheduler; give the one"):
        Workers(scheduler=address)


def test_no_local_workers() -> None:
    with pytest.raises(MatPropError, match="give workers=None"):
        Workers.of(0)

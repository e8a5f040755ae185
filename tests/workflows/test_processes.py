"""One copy of the weights in a process, and no more threads than a worker should take."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from joblib import Parallel, delayed

from ase_matprop import MatPropError
from ase_matprop.models import Predictor, artefact, sharing
from ase_matprop.workflows import cached_model, rank, scoring_function
from ase_matprop.workflows.loading import evaluation_threads
from tests.conftest import untrained_model


def counted_scores(score: object, cells: list[Atoms]) -> tuple[int, list[float], int, int]:
    """In a worker: its number, the scores, how often weights were read, and the threads while it evaluates."""
    n_reads = 0
    read = artefact.read_weights

    def counting(folder: Path, card: object) -> object:
        nonlocal n_reads
        n_reads += 1
        return read(folder, card)

    artefact.read_weights = counting
    try:
        values = [score(atoms) for atoms in cells]
    finally:
        artefact.read_weights = read
    with evaluation_threads():
        threads = torch.get_num_threads()
    return os.getpid(), values, n_reads, threads


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_multiprocessing(
    start: str, alloy_model: Path, ni_al_cells: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool whose parent has computed with several threads: without care a forked one never comes back."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.tanh(torch.randn(1_000_000)).sum()
        score = scoring_function(alloy_model)
        expected = [score(atoms) for atoms in ni_al_cells]
        parts = [ni_al_cells[:4], ni_al_cells[4:8], ni_al_cells[8:]] * 2
        with multiprocessing.get_context(start).Pool(2) as pool:
            tasks = pool.starmap_async(counted_scores, [(score, part) for part in parts])
            results = tasks.get(timeout=120)
    finally:
        torch.set_num_threads(before)
    found = np.concatenate([values for _, values, _, _ in results])
    np.testing.assert_allclose(found, np.tile(expected, 2), atol=1e-6)
    assert {threads for *_, threads in results} == {1}
    reads_of = {pid: sum(n for other, _, n, _ in results if other == pid) for pid, *_ in results}
    assert set(reads_of.values()) == {0 if start == "fork" else 1}  # a forked one has its parent's


def test_workers_of_joblib(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    score = scoring_function(alloy_model)
    expected = [score(atoms) for atoms in ni_al_cells]
    results = Parallel(n_jobs=2)(delayed(counted_scores)(score, ni_al_cells) for _ in range(6))
    for _, values, _, threads in results:
        np.testing.assert_allclose(values, expected, atol=1e-6)
        assert threads <= max(1, (os.cpu_count() or 1) // 2)
    reads_of = {pid: sum(n for other, _, n, _ in results if other == pid) for pid, *_ in results}
    assert set(reads_of.values()) == {1}


def test_threads_read_the_weights_once(alloy_model: Path, ni_al_cells: list[Atoms], reads: list[Path]) -> None:
    scores = [scoring_function(alloy_model) for _ in range(8)]
    threads = [threading.Thread(target=score, args=(ni_al_cells[0],)) for score in scores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


def test_cache_follows_the_weights(tmp_path: Path, reads: list[Path]) -> None:
    folder = untrained_model(tmp_path / "m", descriptor="structure", n_members=1)
    first = cached_model(folder)
    assert cached_model(str(folder)) is first and cached_model(folder / ".." / "m") is first and len(reads) == 1
    assert cached_model(first) is first
    untrained_model(tmp_path / "m", descriptor="structure", n_members=2)
    assert cached_model(folder) is not first and len(reads) == 2


def test_no_more_models_than_so_many_stay(alloy_model: Path, tmp_path: Path, reads: list[Path]) -> None:
    folders = [untrained_model(tmp_path / str(number)) for number in range(sharing.MODELS_KEPT + 1)]
    for folder in folders:
        cached_model(folder)
    assert len(sharing._loaded) == sharing.MODELS_KEPT
    cached_model(folders[-1])
    assert len(reads) == len(folders)
    cached_model(folders[0])
    assert len(reads) == len(folders) + 1


def test_threads_are_set_back(alloy_model: Path, ni_al_cells: list[Atoms]) -> None:
    before = torch.get_num_threads()
    for threads in (None, 1, 2):
        rank(ni_al_cells, alloy_model, threads=threads)
        assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), evaluation_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
    with pytest.raises(MatPropError, match="threads must be a positive integer, or None. Got 'two'"):
        rank(ni_al_cells, alloy_model, threads="two")


def test_single_structures_are_evaluated_by_one_thread(
    alloy_model: Path, ni_al_cells: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SchNet is fifty times slower with two threads on two busy cores."""
    seen: list[int] = []
    predict = Predictor.predict_entries

    def watched(self: Predictor, *args: Any, **kwargs: Any) -> Any:
        seen.append(torch.get_num_threads())
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "predict_entries", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for threads in (1, 2, None):
            scoring_function(alloy_model, threads=threads)(ni_al_cells[0])
        scoring_function(alloy_model)(ni_al_cells[0])
        assert seen == [1, 2, 3, 1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_number_of_threads_that_the_user_asked_for_counts_in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is imitated; the pools above are real."""
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "a process")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        for asked, expected in ((None, 1), ("3", 3)):
            if asked is None:
                monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
            else:
                monkeypatch.setenv("OMP_NUM_THREADS", asked)
            with evaluation_threads():
                assert torch.get_num_threads() == expected
            with evaluation_threads(2):
                assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

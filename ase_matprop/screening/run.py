"""A screening run: what is missing is scored, by this process or by many, and every finished shard is kept."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import ase_matprop
from ase_matprop.errors import MatPropError, missing_dependency
from ase_matprop.properties import get_property
from ase_matprop.screening.engine import Engine
from ase_matprop.screening.jobs import (
    Job,
    clear_write_errors,
    has_part,
    is_unfinished,
    keep_engine,
    remove_unfinished,
    run_shard,
    write_first,
    write_table,
)
from ase_matprop.screening.results import RUN_FILE, SHARDS_FOLDER, Results, read_run
from ase_matprop.screening.settings import HullSection, ScreeningSettings
from ase_matprop.screening.workers import Workers, run_on_workers

logger = logging.getLogger(__name__)

REFERENCES_FILE = "references.parquet"  # of the Materials Project, as they were when the run began
_LEAST_SPACE = 50_000_000  # bytes


@dataclass(frozen=True)
class ScreeningProgress:
    """How far a run is.

    Attributes:
        n_shards: shards that this run has to do.
        shards_done: those that are done.
        n_candidates: candidates of these shards, before filters.
        candidates_done: those of the shards that are done.
        n_kept: kept candidates of these.
        seconds: time since the first shard was begun.
    """

    n_shards: int
    shards_done: int
    n_candidates: int
    candidates_done: int
    n_kept: int
    seconds: float

    @property
    def rate(self) -> float:
        """Candidates a second."""
        return self.candidates_done / self.seconds if self.seconds else 0.0


Progress = Callable[[ScreeningProgress], None]


def screen(
    settings: ScreeningSettings | str | Path,
    output: str | Path,
    *,
    workers: Workers | int | None = None,
    device: str = "cpu",
    shards: range | None = None,
    progress: Progress | None = None,
) -> Results:
    """Score all candidates of a search space and keep the good ones.

    The results are a folder with ``run.json`` and a Parquet file for each shard, written as a whole or not at all.  A
    run that was stopped, at whatever moment, goes on when the same call is made again: it does what is missing, and
    the result is that of a run that was not stopped.

    Args:
        settings: the settings, or the TOML file with them.
        output: results folder; it is made if it does not exist.  Workers on other machines must see it under the same
            path.
        workers: number of worker processes on this machine (a script must then call this function under ``if __name__
            == "__main__":``, as they are spawned), or a :class:`~ase_matprop.screening.workers.Workers` for
            a Dask scheduler or a batch system.  None: no other process than this one.
        device: torch device of the networks; ``"auto"`` for a GPU on workers that have one.
        shards: only these, as far as they are missing.
        progress: called at the beginning, and after each shard.

    Returns:
        What is in the results folder.

    Raises:
        MatPropError: if the settings cannot be used, or the folder has the results of another run.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise missing_dependency("pyarrow", "writing the results of a screening", extra="screening") from None
    if not isinstance(settings, ScreeningSettings):
        settings = ScreeningSettings.read(settings)
    folder = Path(output).resolve()
    chosen = None if workers is None else Workers.of(workers)
    settings, engine = prepare(settings, folder, device if chosen is None or chosen.local else _checked(device))
    wanted = range(engine.space.n_shards) if shards is None else _check_shards(shards, engine.space.n_shards)
    _check_space_left(folder)
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if settings.hull is not None and settings.hull.materials_project:
            settings, engine = _with_saved_references(folder, settings, engine, device)
        fingerprint = engine.fingerprint
        run = _begin(folder, settings, engine, fingerprint)
        remove_unfinished(folder)
    missing = [shard for shard in wanted if not has_part(folder, shard, fingerprint)]
    if missing:
        job = Job(settings, folder, fingerprint, device)
        sizes = {shard: engine.space.shard_size(shard) for shard in missing}
        if chosen is None:
            keep_engine(job, replace(engine, known_margin=run.get("margin")))
        del engine  # which takes memory that workers may need
        done = _serially(job, missing) if chosen is None else run_on_workers(job, missing, chosen)
        try:
            with closing(done):  # also when it is interrupted, at once
                _follow(done, sizes, progress)
        finally:
            remove_unfinished(folder)
    return Results(folder)


def prepare(settings: ScreeningSettings, folder: Path, device: str = "cpu") -> tuple[ScreeningSettings, Engine]:
    """Load and check all that a run needs, and refuse a folder that has another one; nothing is written.

    What may put hull distances off is logged as a warning.

    Returns:
        The settings, with the precision that is taken, and space, model and hull.

    Raises:
        MatPropError: if the settings cannot be used, or the folder has the results of another run.
    """
    if folder.exists() and not folder.is_dir():
        raise MatPropError(f"the output {folder} is a file; give a folder")
    begun = (folder / RUN_FILE).exists()
    if folder.is_dir() and not begun and not all(map(_is_own, folder.iterdir())):
        raise MatPropError(f"the folder {folder} has other files and no screening run; give a new or an empty folder")
    before = read_run(folder) if begun else {}
    if settings.precision == "auto" and before.get("precision") in ("float32", "bfloat16"):
        settings = settings.model_copy(update={"precision": before["precision"]})  # whatever this machine is fast in
    if settings.hull is not None and settings.hull.materials_project and (folder / REFERENCES_FILE).exists():
        settings = _reading_saved_references(settings, folder)
    engine = Engine.build(settings, device)
    if begun:
        _check_same(folder, before, engine)
    for warning in engine.warnings:
        logger.warning("%s", warning)
    return settings.model_copy(update={"precision": engine.precision}), engine


def _checked(device: str) -> str:
    """Return the device for a process that scores nothing, of a run on machines that may have another one."""
    try:
        if device != "auto":
            torch.device(device)
    except RuntimeError as error:
        raise MatPropError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
    return "cpu"


def _is_own(path: Path) -> bool:
    """Return whether something in a folder without ``run.json`` is there because a run was stopped before that."""
    if path.name in (REFERENCES_FILE, Path(REFERENCES_FILE).with_suffix(".json").name) or is_unfinished(path):
        return True
    return path.name == SHARDS_FOLDER and path.is_dir() and not any(path.iterdir())


def _serially(job: Job, shards: list[int]) -> Generator[dict[str, Any]]:
    for shard in shards:
        yield run_shard(job, shard)


def _follow(done: Iterator[dict[str, Any]], sizes: dict[int, int], progress: Progress | None) -> None:
    n_candidates, start = sum(sizes.values()), time.monotonic()
    candidates_done = n_kept = 0
    warned = False
    if progress is not None:
        progress(ScreeningProgress(len(sizes), 0, n_candidates, 0, 0, 0.0))
    for number, counts in enumerate(done, start=1):
        candidates_done += sizes[counts["shard"]]
        n_kept += counts["n_kept"]
        if counts["n_rescored"] and not warned:
            logger.warning(
                "bfloat16 changes values of shard %d by up to %.3f, more than was allowed for; it was scored again in "
                "float32, as others will be of which this is seen", counts["shard"], counts["largest_change"],
            )  # fmt: skip
            warned = True
        if progress is not None:
            seconds = time.monotonic() - start
            progress(ScreeningProgress(len(sizes), number, n_candidates, candidates_done, n_kept, seconds))


def _begin(folder: Path, settings: ScreeningSettings, engine: Engine, fingerprint: str) -> dict[str, Any]:
    """Write ``run.json``, unless another process was first, and return what it says."""
    (folder / SHARDS_FOLDER).mkdir(exist_ok=True)
    if not (folder / RUN_FILE).exists():
        write_first(folder / RUN_FILE, json.dumps(_described(settings, engine, fingerprint), indent=2) + "\n")
    run = read_run(folder)
    _check_same(folder, run, engine)
    return run


def _described(settings: ScreeningSettings, engine: Engine, fingerprint: str) -> dict[str, Any]:
    card, hull = engine.predictor.card, engine.hull
    model: dict[str, Any] = {"name": card.name, "description": card.description, "sha256": card.weights.sha256}
    if "test" in card.errors:
        model["test_mae"] = card.errors["test"].mae
    return {
        "format_version": 1,
        "created_by": f"ase_matprop {ase_matprop.__version__}",
        "n_shards": engine.space.n_shards,
        "n_candidates": engine.space.n_candidates,
        "fingerprint": fingerprint,
        "identity": engine.identity,
        "space": engine.identity["space"],
        "model": model,
        "property": card.property,
        "unit": get_property(card.property).unit,
        "references": None if hull is None else {
            "source": hull.references.source, "n": len(hull.references), "functional": hull.references.functional,
        },
        "warnings": engine.warnings,
        "keep": settings.keep.model_dump(exclude_none=True),
        "cut": settings.keep.highest_distance if hull is not None else settings.keep.maximum,
        "precision": engine.precision,
        "margin": engine.margin,
        "settings": settings.model_dump(mode="json", exclude_none=True),
        "folder": str(settings.folder),
    }  # fmt: skip


def _check_same(folder: Path, before: dict[str, Any], engine: Engine) -> None:
    if before.get("fingerprint") == engine.fingerprint:
        return
    now, then = engine.identity, before.get("identity") or {}
    words = {
        "space": "search space", "model": "model", "compare_with": "models for comparison", "references": "references",
        "keep": "cut", "precision": "precision", "version": "version of the results",
        "margin_rule": "rule for the margin of the sieve",
    }  # fmt: skip
    now = json.loads(json.dumps(now))  # lists in place of tuples
    other = [word for name, word in words.items() if then.get(name) != now[name]]
    raise MatPropError(
        f"the folder {folder} has the results of another run ({', '.join(other) or 'unknown'}); give another output, "
        "or delete it"
    )


def _with_saved_references(
    folder: Path, settings: ScreeningSettings, engine: Engine, device: str
) -> tuple[ScreeningSettings, Engine]:
    """Write references that came over the network, and let the run read them from its folder from then on."""
    import pyarrow as pa

    assert engine.hull is not None
    references = engine.hull.references
    columns = {
        "id": references.ids, "formula": references.formulas(), "formation_energy_per_atom": references.energies,
    }  # fmt: skip
    saved = folder / REFERENCES_FILE
    write_first(saved.with_suffix(".json"), json.dumps({"functional": references.functional}))
    if not saved.exists():  # another process may have begun the same run in the meantime
        write_table(saved, pa.table(columns))
    settings = _reading_saved_references(settings, folder)
    return settings, Engine.build(settings, device)


def _reading_saved_references(settings: ScreeningSettings, folder: Path) -> ScreeningSettings:
    saved = folder / REFERENCES_FILE
    functional = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))["functional"]
    return settings.model_copy(update={"hull": HullSection(file=str(saved), functional=functional)})


def _check_shards(shards: range, n_shards: int) -> range:
    if not len(shards) or shards[0] < 0 or shards[-1] >= n_shards:
        raise MatPropError(f"the run has the shards 0 to {n_shards - 1}. Got {shards.start} to {shards.stop - 1}.")
    return shards


def _check_space_left(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if free < _LEAST_SPACE:
        raise MatPropError(
            f"the disk of {folder} has {free / 1e6:.0f} MB left, too little for results; free some space or give "
            "another folder"
        )

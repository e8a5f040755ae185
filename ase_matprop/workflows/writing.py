"""Predictions for a generator, written to a table as they come; a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from ase_matprop.errors import MatPropError
from ase_matprop.models import DEFAULT_MODEL, Predictions, Predictor
from ase_matprop.models.loading import Names
from ase_matprop.models.predictor import Entry
from ase_matprop.table_files import FLOAT_FORMAT, TableFile
from ase_matprop.workflows.fingerprints import fingerprint
from ase_matprop.workflows.loading import Model, cached_model, check_threads, compared_tags
from ase_matprop.workflows.streaming import Progress, batches_after

_VERSION = 2


@dataclass(frozen=True)
class WrittenPredictions:
    """What :func:`write_predictions` did.

    Attributes:
        path: the table.
        n_rows: rows in it.
        n_resumed: those of them that an earlier, stopped run had written.
        n_failed: rows of this run without a value; the table has the reasons.
    """

    path: Path
    n_rows: int
    n_resumed: int
    n_failed: int


def write_predictions(
    structures: Any,
    model: Model = DEFAULT_MODEL,
    *,
    output: str | os.PathLike[str],
    resume: bool = False,
    batch_size: int | None = None,
    n_jobs: int = 1,
    device: str = "cpu",
    threads: int | None = None,
    compare_with: Names = (),
    progress: Progress | None = None,
) -> WrittenPredictions:
    """Predict for the structures of an iterable and write a table batch by batch.

    The rows are those of :meth:`ase_matprop.models.Predictions.to_frame`, with a column "warning" in any case.  They
    go to ``<output>.partial``, which takes the name of the output when all is done.

    Args:
        structures: iterable of whatever :meth:`ase_matprop.models.Predictor.predict` takes.
        model: name of a shipped model, path of a model folder, or a predictor.
        output: file to write, ending in .csv, .json or .parquet.
        resume: go on where a run of the same model was stopped: as many structures as there are rows in
            ``<output>.partial`` are taken from the iterable and passed over, so it must give the same ones again; that
            it does is checked by their names, formulas and geometries.  CSV only: other formats cannot be appended to.
        batch_size: number of structures that are held and evaluated together.
        n_jobs: number of processes for the descriptor; -1 for one per core.
        device: torch device of the network.
        threads: threads of the network's evaluation.
        compare_with: other models of the same property, for a column with the disagreement with them.
        progress: called with the number of rows in the table after each batch.

    Raises:
        UnknownNameError: if there is no such model.
        MatPropError: if the output exists already, cannot be written or resumed, an option cannot be used, or the
            models cannot be compared.
    """
    path = Path(output)
    if path.exists():
        raise MatPropError(f"the output {path} exists; delete it, or choose another name")
    predictor = cached_model(model, device, compare_with)
    check_threads(threads)
    if path.suffix == ".csv":
        return _write_csv(path, structures, predictor, resume, (batch_size, n_jobs, threads), progress)
    if resume:
        raise MatPropError(f"a table ending in {path.suffix} cannot be appended to; write CSV to be able to resume")
    n_failed = 0
    with TableFile(path) as file:
        for batch, _ in batches_after(0, lambda entry: None, structures, predictor, batch_size, n_jobs, threads):
            file.write(batch.predictions.to_frame())
            n_failed += batch.predictions.n_failed
            if progress is not None:
                progress(file.n_rows)
    return WrittenPredictions(path, file.n_rows, 0, n_failed)


def _write_csv(
    path: Path,
    structures: Any,
    predictor: Predictor,
    resume: bool,
    options: tuple[int | None, int, int | None],
    progress: Progress | None,
) -> WrittenPredictions:
    unfinished = _Unfinished(path, predictor)
    unfinished.check_beginning(resume)
    n_resumed = unfinished.resume()
    if not n_resumed:
        TableFile(path)  # for its checks of the place
        unfinished.partial.write_bytes(b"")
    n_failed = 0
    for batch, given in batches_after(n_resumed, unfinished.passed, structures, predictor, *options):
        if batch.start == n_resumed:
            unfinished.check_passed(n_resumed)
        unfinished.write(batch.predictions, [entry for _, entry in given])
        n_failed += batch.predictions.n_failed
        if progress is not None:
            progress(unfinished.n_rows)
    if unfinished.n_rows <= n_resumed:  # no batch came
        unfinished.check_passed(n_resumed)
    if not unfinished.n_rows:
        unfinished.write(predictor.predict([]), [])  # a table without rows has columns
    unfinished.finish(path)
    return WrittenPredictions(path, unfinished.n_rows, n_resumed, n_failed)


class _Unfinished:
    """A CSV file in the making, and beside it how much of it is sound and which rows these are.

    Attributes:
        n_rows: rows of the table so far.
    """

    def __init__(self, path: Path, predictor: Predictor) -> None:
        self.partial = path.with_name(path.name + ".partial")
        self.record = path.with_name(path.name + ".progress.json")
        self._of_model = {
            "version": _VERSION, "model": predictor.card.name, "sha256": predictor.card.weights.sha256,
            "compared_with": compared_tags(predictor),
        }  # fmt: skip
        self._rows = hashlib.sha256()
        self._n_bytes = 0
        self.n_rows = 0

    def check_beginning(self, resume: bool) -> None:
        """Raise a MatPropError if there is a table in the making that must not be written over."""
        if not self.partial.exists():
            return
        if self.record.exists() and not resume:
            raise MatPropError(
                f"a run that was stopped has left {self.partial}; give resume=True to go on, or delete it"
            )
        if not self.record.exists() and self.partial.stat().st_size:
            raise MatPropError(
                f"{self.partial} is there without {self.record}, so that no run can go on with it, and it would be "
                "written over; move or delete it, or choose another output"
            )

    def resume(self) -> int:
        """Return how many rows are there, after the file was cut behind the last one that is recorded.

        Raises:
            MatPropError: if they are of another model, or the two files cannot be used together.
        """
        if not (self.record.exists() and self.partial.exists()):
            return 0
        record = self._read()
        if record.get("version") != _VERSION:
            raise MatPropError(
                f"{self.partial} was begun by another version of ase_matprop, and this one cannot go on with it; "
                "delete it, or choose another output"
            )
        if {name: record.get(name) for name in self._of_model} != self._of_model:
            raise MatPropError(
                f"{self.partial} has predictions of {record.get('model')} with other weights or of another model, or "
                "compared with other models; delete it, or choose another output"
            )
        self._expected = record["rows"]
        self._n_bytes = record["n_bytes"]
        size = self.partial.stat().st_size
        if size < self._n_bytes:
            raise MatPropError(
                f"{self.partial} has {size} bytes, fewer than the {self._n_bytes} of which {self.record} knows; "
                "restore the table, or delete both files to start again"
            )
        os.truncate(self.partial, self._n_bytes)
        return int(record["n_rows"])

    def _read(self) -> dict[str, Any]:
        problem = "it is not what write_predictions wrote"
        try:
            record = json.loads(self.record.read_text())
            if isinstance(record, dict) and isinstance(record.get("rows"), str):
                numbers = [record.get(name) for name in ("n_rows", "n_bytes")]
                if all(type(number) is int and number >= 0 for number in numbers):
                    return record
        except OSError as error:
            problem = str(error.strerror)
        except ValueError as error:
            problem = f"it is no JSON: {error}"
        raise MatPropError(
            f"{self.record}, which says how much of {self.partial} is sound, cannot be read ({problem}); delete both "
            "files to start again"
        )

    def passed(self, entry: Entry) -> None:
        """Take note of a structure that has its row already."""
        self._note(entry)

    def check_passed(self, n_rows: int) -> None:
        """Raise a MatPropError unless the structures of the first ``n_rows`` rows were passed."""
        if self.n_rows != n_rows or (n_rows and self._rows.hexdigest() != self._expected):
            raise MatPropError(
                f"the first {n_rows} structures are not those whose rows are in {self.partial}; give the same ones in "
                "the same order, or delete that file to start again"
            )

    def write(self, predictions: Predictions, entries: Iterable[Entry]) -> None:
        """Append the rows of a batch and record them; the entries are what was predicted for."""
        if not self._n_bytes:
            self._save()  # so that rows are never there without a record
        text = predictions.to_frame().to_csv(index=False, header=self._n_bytes == 0, float_format=FLOAT_FORMAT)
        with self.partial.open("ab") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())  # before the record says that they are there
        self._n_bytes = self.partial.stat().st_size
        for entry in entries:
            self._note(entry)
        self._save()

    def _save(self) -> None:
        record = {**self._of_model, "n_rows": self.n_rows, "n_bytes": self._n_bytes, "rows": self._rows.hexdigest()}
        following = self.record.with_name(self.record.name + ".new")
        with following.open("w") as stream:
            stream.write(json.dumps(record))
            stream.flush()
            os.fsync(stream.fileno())
        following.replace(self.record)

    def finish(self, path: Path) -> None:
        self.partial.replace(path)
        self.record.unlink(missing_ok=True)

    def _note(self, entry: Entry) -> None:
        geometry = fingerprint(entry.item) if isinstance(entry.item, Atoms) else ""  # a composition has none
        self._rows.update(f"{entry.name}\t{entry.formula}\t{geometry}\n".encode())
        self.n_rows += 1

"""The error on held-out rows against the number of a laboratory's rows: how much more calculations would bring.

Figures 3.6, 3.7 and 3.9 of SIPFENN (A. M. Krajewski et al., Comput. Mater. Sci. 208, 111254 (2022),
doi:10.1016/j.commatsci.2022.111254) and Tables 2 and 3 of S. Krawczuk and D. Venturi, J. Mach. Learn. Model. Comput. 1
(2020), for the rows of the user.
"""

from __future__ import annotations

import csv
import itertools
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ase_matprop.errors import FinetuneError
from ase_matprop.finetune import curve_summary
from ase_matprop.finetune.adapt import adapt, moved
from ase_matprop.finetune.curve_summary import KEPT, KEYS, MEASURED, SCRATCH, SHIFTED, SOURCE
from ase_matprop.finetune.data import Progress, read_data
from ase_matprop.finetune.division import Part, divisions, hold_out, part_of, sha256_of
from ase_matprop.finetune.evaluation import measure
from ase_matprop.finetune.prepared import Prepared, prepare
from ase_matprop.finetune.schemes import LEARNING_RATE_FRACTION, default_training, get_scheme
from ase_matprop.finetune.starting import check_free, claim, load_source, training_settings
from ase_matprop.finetune.targets import ReferencesLike
from ase_matprop.finetune.writing import write_text
from ase_matprop.models.artefact import Artefact
from ase_matprop.properties import MaterialProperty, get_property
from ase_matprop.training.recipe import TrainingSection
from ase_matprop.training.splits import Split
from ase_matprop.training.trainer import check_device

logger = logging.getLogger(__name__)

Ints = NDArray[np.int64]

SETTINGS_FILE, RUNS_FILE = "learning_curve_settings.json", "learning_curve.csv"
_WORK = "work"  # checkpoints of the run that goes on
_SMALLEST = 4  # rows
_COLUMNS = (*KEYS, "train_rows", "validation_rows", "test_rows", "learning_rate", *MEASURED, KEPT)


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Errors on held-out rows against the number of rows that were learnt from.

    Attributes:
        output: folder with ``learning_curve.csv``, ``learning_curve.json`` and ``learning_curve.png``.
        runs: one row per training.
        summary: mean and standard deviation over the repeats for each scheme, learning rate, rounds and number of rows.
        outlook: sentences: how much the error fell with each doubling of the rows, and what the next one would bring.
        property: what is predicted.
        unit: of the errors.
        n_used: number of rows that were learnt from or held out.
        rejected: name -> reason, for the rows that could not be used.
    """

    output: Path
    runs: pd.DataFrame
    summary: pd.DataFrame
    outlook: list[str]
    property: str
    unit: str
    n_used: int = 0
    rejected: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Run:
    """One training; ``learning_rate_fraction`` and ``rounds`` are None where the default is taken."""

    scheme: str
    learning_rate_fraction: float | None
    rounds: int | None
    rows: int
    repeat: int

    @property
    def label(self) -> str:
        return curve_summary.label(self.scheme, self.learning_rate_fraction, self.rounds)

    @property
    def key(self) -> tuple[str, ...]:
        return tuple("" if value is None else str(value) for value in (getattr(self, name) for name in KEYS))


def learning_curve(
    model: str | os.PathLike[str],
    data: Any,
    output: str | os.PathLike[str] = "learning_curve",
    *,
    sizes: Sequence[int] | None = None,
    schemes: Sequence[str] = ("TL1",),
    learning_rate_fractions: Sequence[float] = (LEARNING_RATE_FRACTION,),
    rounds: Sequence[int] | None = None,
    repeats: int = 3,
    test: float = 0.2,
    validation: float = 0.1,
    property: str | None = None,
    column: str | None = None,
    references: ReferencesLike = None,
    forces: bool = False,
    steps: str | None = None,
    allow_mixed: bool = False,
    seed: int = 0,
    batch_size: int | None = None,
    l2: float = 0.0,
    resume: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
) -> LearningCurve:
    """Fine-tune on more and more of the rows, and measure each time on the same held-out rows.

    Each finished training is a row of ``learning_curve.csv`` at once.  With ``resume`` those that are there are not
    repeated, so that further sizes, schemes and repeats can be added to a curve.

    Args:
        model: name or folder of the model to start from.
        data: see :func:`ase_matprop.finetune.data.read_data`.
        output: folder of the result.
        sizes: numbers of rows; of each the share ``validation`` chooses the epoch.  By default all rows that are not
            held out, half of them, a quarter and so on down to about ten.  The source as it is is always measured.
        schemes: ``"TL1"``, ``"TL2"``, ``"TL3"``, and ``"scratch"`` for random weights.
        learning_rate_fractions: learning rates as parts of that from scratch; a tenth is what ``finetune`` takes.
        rounds: numbers of epochs; by default what ``finetune`` takes.
        repeats: how often each is trained, with other rows and another order of them.
        test: share of the groups that is held out; the same rows every time.
        validation: share of the other rows that chooses the epoch.
        property: what is learnt; the property of the model by default.
        column: name under which the property stands in the data.
        references: what makes formation energies of total energies; see ``read_data``.
        forces: whether forces are learnt besides.
        steps: ``"last"`` or ``"all"`` ionic steps of VASP runs.
        allow_mixed: whether VASP runs with incompatible settings may come together.
        seed: of the division; of the first repeat.
        batch_size: rows per step.
        l2: weight of an l2 penalty on the weights.
        resume: go on with, or add to, a learning curve in ``output``.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        progress: called with the numbers of finished and of all trainings.

    Raises:
        FinetuneError: if model, data and settings do not go together, or ``output`` is in use.
        MatPropError: for data that cannot be read, missing references, runs with different settings.
    """
    folder = Path(output)
    check_device(device)
    check_free(folder, file=SETTINGS_FILE, what="learning curve", resume=resume, data=data)
    predictor, source = load_source(model)
    chosen = [scheme if scheme == SCRATCH else get_scheme(scheme, source.card).name for scheme in schemes]
    lab = read_data(
        data,
        property=property or source.card.property,
        column=column,
        references=references,
        forces=forces,
        steps=steps,
        allow_mixed=allow_mixed,
        needs_structure=predictor.needs_structure,
    )
    prepared = prepare(lab, predictor)
    (part,) = divisions(prepared, test=test, validation=validation, folds=None, seed=seed)
    pool = np.sort(np.concatenate([part.train, part.validation]))
    if not chosen:
        raise FinetuneError("no scheme was given; give TL1, TL2, TL3 or scratch (--schemes TL1,scratch)")
    if repeats < 1:
        raise FinetuneError(f"repeats must be positive. Got {repeats!r}.")
    sizes = _sizes(prepared, pool, sizes, [seed + repeat for repeat in range(repeats)])
    entry = get_property(lab.property)
    experiment = _Experiment(
        source, prepared, entry, part, pool, seed, validation, batch_size, l2, folder / _WORK, device
    )
    trainings = list(_plan(chosen, learning_rate_fractions, rounds, sizes, repeats))
    for run in trainings:  # an impossible setting is an error before anything is trained
        experiment.settings(run)
    untrained = [_Run(SHIFTED, None, None, size, repeat) for repeat in range(repeats) for size in sizes]
    with warnings.catch_warnings():  # the trainings give the same once more
        warnings.simplefilter("ignore")
        for run in untrained:  # and so is a choice of rows that cannot be divided
            experiment.divided(run)
    identity = {
        "model": source.card.name,
        "weights": source.card.weights.sha256,
        "property": entry.name,
        "shares": [test, validation],
        "seed": seed,
        "batch_size": batch_size,
        "l2": l2,
        "forces": forces,
        "n_rows": len(prepared),
        "sha256": sha256_of(prepared, [part]),
    }
    claim(folder, identity, file=SETTINGS_FILE, what="learning curve", resume=resume)
    table = _RunTable(folder / RUNS_FILE)
    if experiment.same_property:
        untrained.insert(0, _Run(SOURCE, None, None, 0, 0))
    for done, run in enumerate([*untrained, *trainings], start=1 - len(untrained)):
        if run.key not in table.keys:
            row = experiment.result(run)
            table.append(row)
            logger.info("%s, rows %d, repeat %d: MAE %.4f %s", run.label, run.rows, run.repeat, row["mae"], entry.unit)
        if progress is not None and done > 0:
            progress(done, len(trainings))
    shutil.rmtree(folder / _WORK, ignore_errors=True)
    runs = table.frame()
    summary = curve_summary.summarize(runs)
    outlook = curve_summary.outlook(runs, summary, entry.unit)
    counts = {"held_out_rows": len(part.test), "rows": len(pool)}
    curve_summary.write(folder, summary, outlook, entry, source.card.name, counts, prepared.rejected)
    return LearningCurve(folder, runs, summary, outlook, entry.name, entry.unit, len(prepared), prepared.rejected)


def _plan(
    schemes: Sequence[str],
    fractions: Sequence[float],
    rounds: Sequence[int] | None,
    sizes: Sequence[int],
    repeats: int,
) -> Iterator[_Run]:
    """Yield the trainings: all of one repeat before the next, so that an interrupted curve has all its parts."""
    for repeat, scheme in itertools.product(range(repeats), dict.fromkeys(schemes)):
        rates = [None] if scheme == SCRATCH else dict.fromkeys(map(float, fractions))
        for rate, n_rounds, size in itertools.product(rates, dict.fromkeys(rounds or [None]), sizes):  # type: ignore[list-item]
            yield _Run(scheme, rate, n_rounds, size, repeat)


def _sizes(prepared: Prepared, pool: Ints, sizes: Sequence[int] | None, seeds: Sequence[int]) -> list[int]:
    """Return the numbers of rows in order, checked."""

    def fits(size: int) -> bool:
        """Whether there are groups for training and for validation in each choice of so many rows."""
        return all(len(np.unique(prepared.groups[choose(prepared, pool, size, seed)])) > 1 for seed in seeds)

    if sizes is None:
        found = [len(pool)]
        while found[-1] // 2 >= 2 * _SMALLEST and fits(found[-1] // 2):
            found.append(found[-1] // 2)
        return found[::-1]
    for size in sizes:
        if not isinstance(size, int) or not _SMALLEST <= size <= len(pool):
            raise FinetuneError(
                f"the sizes must be whole numbers from {_SMALLEST} to {len(pool)}, the rows that are not held "
                f"out. Got {size!r}."
            )
        if not fits(size):
            raise FinetuneError(
                f"{size} rows are of one group (by {prepared.grouping}), which cannot be divided into training and "
                "validation; give larger sizes"
            )
    if not sizes:
        raise FinetuneError("no size was given; leave sizes out for halves of all rows")
    return sorted(set(sizes))


def choose(prepared: Prepared, pool: Ints, size: int, seed: int) -> Ints:
    """Return ``size`` of the rows ``pool``, group by group at random; a smaller choice is part of each larger one.

    Groups come as a whole (only the last one may be cut), since a laboratory calculates more materials, and not more
    frames of all of them.
    """
    rng = np.random.default_rng([seed, 2])
    labels, groups = np.unique(prepared.groups[pool], return_inverse=True)
    place = rng.permutation(len(labels))
    shuffled = rng.permutation(len(pool))
    return np.sort(pool[shuffled[np.argsort(place[groups[shuffled]], kind="stable")]][:size])


@dataclass(frozen=True, eq=False)
class _Experiment:
    """What all trainings of a curve share; ``part`` has the held-out rows, ``pool`` all others."""

    source: Artefact
    prepared: Prepared
    entry: MaterialProperty
    part: Split
    pool: Ints
    seed: int
    validation: float
    batch_size: int | None
    l2: float
    folder: Path
    device: str

    @property
    def same_property(self) -> bool:
        # energies above references of their own are another property for each fit
        return self.entry.name == self.source.card.property and not self.prepared.fit_references

    def settings(self, run: _Run) -> TrainingSection:
        card = self.source.card
        full = default_training(card, from_scratch=True).learning_rate
        return training_settings(
            card,
            learning_rate=None if run.learning_rate_fraction is None else full * run.learning_rate_fraction,
            epochs=run.rounds,
            batch_size=self.batch_size,
            l2=self.l2,
            from_scratch=run.scheme == SCRATCH,
        )

    def divided(self, run: _Run) -> Part:
        """Return the division of the rows of a run, with the held-out rows of all."""
        seed = self.seed + run.repeat
        train, held = hold_out(self.prepared, choose(self.prepared, self.pool, run.rows, seed), self.validation, seed)
        return part_of(self.prepared, replace(self.part, train=train, validation=held))

    def result(self, run: _Run) -> dict[str, Any]:
        """Train, unless there is nothing to train, and return the row of the table."""
        if run.scheme == SOURCE:
            return self._row(run, self.source, part_of(self.prepared, self.part))
        part = self.divided(run)
        train, held = part.split.train, part.split.validation
        counts: dict[str, Any] = {"train_rows": len(train), "validation_rows": len(held)}
        if run.scheme == SHIFTED:
            return counts | self._row(run, moved(self.source, part.rows, train), part)
        settings = self.settings(run)
        work = self.folder / "_".join(run.key)
        adapted = adapt(
            self.source,
            part.rows,
            train,
            held,
            None if run.scheme == SCRATCH else get_scheme(run.scheme),
            settings,
            seed=self.seed + run.repeat,
            folder=work,
            same_property=self.same_property,
            device=self.device,
        )
        counts |= {"learning_rate": settings.learning_rate, KEPT: int(adapted.kept_start)}
        row = counts | self._row(run, adapted.artefact, part)
        shutil.rmtree(work)
        return row

    def _row(self, run: _Run, model: Artefact, part: Part) -> dict[str, Any]:
        errors, _ = measure({run.scheme: [model]}, [part], self.entry)
        values = errors[run.scheme].to_dict()
        row = dict(zip(KEYS, run.key, strict=True)) | {"test_rows": values["n"]}
        return row | {name: values[name] for name in MEASURED}


class _RunTable:
    """The table of finished trainings; a row is in the file as soon as it is appended.

    Args:
        path: CSV file; a last line that was cut off is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        complete = text[: text.rfind("\n") + 1]
        rows = list(csv.DictReader(complete.splitlines()))
        header = ",".join(_COLUMNS)
        if complete != text or complete.partition("\n")[0] != header:  # also one of a version with fewer columns
            lines = [",".join(row.get(name) or "" for name in _COLUMNS) for row in rows]
            write_text(path, "\n".join([header, *lines]) + "\n")
        self.keys = {tuple(row[name] for name in KEYS) for row in rows}

    def append(self, row: dict[str, Any]) -> None:
        """Add a row."""
        with self.path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, _COLUMNS, lineterminator="\n").writerow(row)
            stream.flush()
            os.fsync(stream.fileno())

    def frame(self) -> pd.DataFrame:
        """Return the rows in a fixed order, whatever order they came in."""
        return pd.read_csv(self.path).sort_values(list(KEYS), kind="stable", ignore_index=True)

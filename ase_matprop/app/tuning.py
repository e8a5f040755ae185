"""Fine-tuning from the page: ``matprop finetune`` in a process of its own, which can be stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ase_matprop.app.jobs import Job, StoppedError
from ase_matprop.app.sessions import Session
from ase_matprop.errors import FinetuneError, MatPropError
from ase_matprop.models.folder import CARD_FILE

SCHEMES = {"TL1": "all weights", "TL2": "all but the embedding", "TL3": "the output layers"}
REFERENCES = {"": "the elements' own runs", "fitted": "fitted to the training rows", "none": "none: total energies"}
STAGES = ("reading the calculations", "training", "writing the report")

_PAUSE = 0.5  # seconds between two looks
_GRACE = 5.0  # seconds that a stopped process has
_TRAINING = re.compile(r"training (?P<what>[\w ,-]+?): (?P<rows>\d+) rows.*?up to (?P<epochs>\d+) epochs")
_REPORT, _HISTORY = "report.html", "work/*/member_*/history.csv"


@dataclass(frozen=True)
class TuningSettings:
    """What a person chooses.

    Attributes:
        model: folder of the model to start from.
        name: of the new model.
        data: what it learns from, paths in the folder of the session.
        scheme: a key of :data:`SCHEMES`.
        references: a key of :data:`REFERENCES`.
        column: name of the property in a table, empty for the usual ones.
        epochs: most rounds through the rows, None for the default.
        from_scratch: whether random weights are trained too, for comparison.
    """

    model: Path
    name: str
    data: list[str]
    scheme: str = "TL1"
    references: str = ""
    column: str = ""
    epochs: int | None = None
    from_scratch: bool = True

    def check(self) -> None:
        """Check what was typed.

        Raises:
            FinetuneError: if something cannot be used.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", self.name):
            raise FinetuneError(
                "the name of the new model must begin with a letter or digit, and have letters, digits, - and _ only "
                f"(up to 41). Got {self.name[:60]!r}."
            )
        if self.scheme not in SCHEMES or self.references not in REFERENCES:
            raise FinetuneError("the scheme and the references must be one of those in the lists")
        if self.epochs is not None and not 1 <= self.epochs <= 10_000:
            raise FinetuneError(f"the number of epochs must be 1 to 10000. Got {self.epochs}.")
        if len(self.column) > 80 or self.column.startswith("-"):
            raise FinetuneError("the name of the column must have up to 80 characters, and not begin with -")

    def command(self, output: Path) -> list[str]:
        """Return the command line; every value is one argument, and no shell sees it."""
        options = [f"--scheme={self.scheme}", f"--output={output}"]
        options += [f"--references={self.references}"] if self.references else []
        options += [f"--column={self.column}"] if self.column else []
        options += [f"--epochs={self.epochs}"] if self.epochs is not None else []
        options += [] if self.from_scratch else ["--no-scratch"]
        start = "from ase_matprop.cli import app; app()"
        return [sys.executable, "-c", start, "finetune", *options, "--", str(self.model), *self.data]


@dataclass(eq=False)
class Tuning:
    """A fine-tuning and what came of it.

    Attributes:
        settings: what was chosen.
        output: folder of the result.
        lines: what the process said, the last lines of it.
        saved: whether there is a model.
    """

    settings: TuningSettings
    output: Path
    lines: list[str] = field(default_factory=list)
    saved: bool = False

    def report(self) -> str | None:
        """Return the report as HTML, None where there is none."""
        path = self.output / _REPORT
        return path.read_text(encoding="utf-8") if path.is_file() else None


def tune(job: Job, session: Session, tuning: Tuning) -> str:
    """Fine-tune in another process; the report and the model are in the folder of the session afterwards.

    Args:
        job: takes the progress, in epochs.
        session: gets the model.
        tuning: what to do.

    Returns:
        The verdict, in a sentence.

    Raises:
        StoppedError: if the job was stopped.
        FinetuneError: if the fine-tuning failed; the message is its own.
    """
    log = tuning.output.with_name(f"{tuning.output.name}.log")
    job.message = STAGES[0]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
    environment["TMPDIR"] = str(tuning.output.parent)  # PyTorch leaves folders behind; these go with the session
    with log.open("wb") as stream:
        process = subprocess.Popen(
            tuning.settings.command(tuning.output), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
            cwd=tuning.output.parent, env=environment, start_new_session=os.name == "posix",
        )  # fmt: skip
        try:
            while process.poll() is None:
                tuning.lines = _last_lines(log)
                done, total, message = progress_of("\n".join(tuning.lines), tuning.output)
                job.total = total
                job.step(done, message)
                time.sleep(_PAUSE)
        except StoppedError:
            stop(process)
            raise
        finally:
            stop(process)
    tuning.lines = _last_lines(log)
    if process.returncode not in (0, 1) or tuning.report() is None:
        raise FinetuneError(reason_of(tuning.lines))
    tuning.saved = (tuning.output / CARD_FILE).is_file()
    with session.lock:
        session.version += 1
        if tuning.saved:
            session.models[tuning.settings.name] = tuning.output
    verdict = next(
        (line for line in tuning.lines if line.startswith(tuning.settings.name) and " better than " in line), ""
    )
    ending = f"the model {tuning.settings.name} can be chosen now" if tuning.saved else "the model was not saved"
    return f"finished: {verdict.strip()} {ending}".replace("  ", " ")


def progress_of(text: str, output: Path) -> tuple[int, int, str]:
    """Return epochs that are done and that there are at most, and what is being done.

    Args:
        text: what the process said so far.
        output: its folder; the training writes a table with a row for each epoch there.
    """
    trainings = list(_TRAINING.finditer(text))
    if not trainings:
        return 0, 0, STAGES[0]
    histories = sorted(output.glob(_HISTORY), key=lambda path: path.stat().st_mtime)
    epochs = int(trainings[-1]["epochs"])
    done = 0
    if histories and len({path.parent.parent for path in histories}) >= len(trainings):
        with histories[-1].open("rb") as stream:
            done = max(0, sum(1 for _ in stream) - 1)
    what = trainings[-1]["what"]
    message = f"training {what} on {trainings[-1]['rows']} rows: epoch {done} of at most {epochs}"
    return min(done, epochs), epochs, message


def reason_of(lines: list[str]) -> str:
    """Return why a process failed: its own message, or its last line."""
    said = [line.removeprefix("matprop: ") for line in lines if line.startswith("matprop: ")]
    if said:
        return said[-1]
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"the fine-tuning ended early: {last or 'it said nothing'}"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, if it still runs."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError, PermissionError):
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return
        _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait(_GRACE)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    if os.name == "posix":
        os.killpg(process.pid, number)  # it leads a group of its own
    else:
        process.send_signal(number)


def _last_lines(log: Path, most: int = 200) -> list[str]:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 100_000))
        text = stream.read().decode("utf-8", "replace")
    return re.split(r"[\r\n]+", text)[-most:]


def new_output(session: Session, name: str) -> Path:
    """Return a folder for the result, which is not there yet.

    Raises:
        MatPropError: if the session has a model of that name.
    """
    folder = session.folder / "tuned"
    folder.mkdir(exist_ok=True)
    if name in session.models:
        raise MatPropError(f"there is a model {name} already; give another name")
    number = 1
    while (folder / str(number)).exists():
        number += 1
    (folder / str(number)).mkdir()
    return folder / str(number) / name

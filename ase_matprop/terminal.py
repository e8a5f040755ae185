"""What the command line draws on a terminal: cards, tables, progress, errors."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ase_matprop.errors import MatPropError
from ase_matprop.properties import PROPERTIES, get_property

if TYPE_CHECKING:
    import pandas as pd

    from ase_matprop.models import ModelCard

_FEW = 20  # structures; below, no progress bar


def print_card(card: ModelCard) -> None:
    """Print a model card."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    facts = Table.grid(padding=(0, 2))
    rows = card.training_set.rows
    facts.add_row("model", card.name)
    facts.add_row("", escape(card.description))
    for name in card.properties:
        each = get_property(name)
        facts.add_row("property", f"{name}{f' in {each.unit}' if each.unit else ''}; {each.convention}")
    settings = ", ".join(f"{key}={value}" for key, value in card.network.settings.items())
    network = f"{card.network.n_members} x {card.network.name} ({settings}), {card.network.n_parameters:,} parameters"
    facts.add_row("network", network)
    facts.add_row(
        "descriptor", f"{card.descriptor.name} (version {card.descriptor.version}), {card.network.n_inputs} features"
    )
    facts.add_row("training set", f"{card.training_set.name} ({card.training_set.licence})")
    facts.add_row("rows", ", ".join(f"{name} {n}" for name, n in rows.items()))
    facts.add_row("split", ", ".join(f"{key} {value}" for key, value in card.training_set.split.items()))
    facts.add_row("elements", f"{len(card.elements)}: {' '.join(card.elements)}")
    for note in card.notes:
        facts.add_row("note", escape(note))
    for citation in card.citation:
        facts.add_row("cite", escape(citation))
    facts.add_row("weights", f"{card.weights.dtype}, sha256 {card.weights.sha256[:16]}..., made {card.created}")
    console.print(facts)
    if card.errors:
        columns = ("errors on", "rows", "MAE", "median", "90th percentile", "RMSE")
        errors = Table(*columns, title=f"absolute errors in {card.unit}")
        for name, summary in card.all_errors().items():
            values = (summary.mae, summary.median, summary.percentile_90, summary.rmse)
            errors.add_row(name, str(summary.n), *(f"{value:.4f}" for value in values))
        console.print(errors)
    if card.classification:
        quality = Table("quality on", "rows", "accuracy", "balanced accuracy", "ROC AUC", "log loss")
        for name, measured in card.classification.items():
            area = "" if measured.roc_auc is None else f"{measured.roc_auc:.4f}"
            numbers = (measured.accuracy, measured.balanced_accuracy, area, measured.log_loss)
            cells = (number if isinstance(number, str) else f"{number:.4f}" for number in numbers)
            quality.add_row(name, str(measured.n), *cells)
        console.print(quality)
    if not card.headline():
        console.print("no error of this model was measured by ase_matprop")


@contextlib.contextmanager
def clean_errors() -> Iterator[None]:
    """Print errors of this package and of the system as one line, without a traceback; exit code 2."""
    try:
        yield
    except BrokenPipeError:  # the reader of the pipe has seen enough
        raise
    except (MatPropError, OSError) as error:
        typer.echo(f"matprop: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo("matprop: interrupted", err=True)
        raise typer.Exit(130) from None


@contextlib.contextmanager
def progress(label: str, *, transient: bool = True, few: int = _FEW) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function (done, known so far) that draws a bar on a terminal, once there is more than a ``few`` to do."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=transient)
    task = bar.add_task(label, total=None)
    shown = sys.stderr.isatty()

    def advance(done: int, total: int | None = None) -> None:
        if shown and max(done, total or 0) > few and not bar.finished:
            bar.start()
        bar.update(task, completed=done)
        if total is not None:
            bar.update(task, total=total)
        if bar.finished and bar.live.is_started:
            bar.stop()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def show_predictions(frame: pd.DataFrame) -> None:
    """Print a table of :meth:`ase_matprop.models.Predictions.to_frame`."""
    import pandas as pd

    names = [name for name in PROPERTIES if name in frame]
    classes = [column for column in frame if str(column).startswith("probability of ")]
    headers = []
    for name in names:
        column = f"{name} unit" if f"{name} unit" in frame else "unit"  # the first property has the plain column
        unit = frame[column].iloc[0] if column in frame else ""
        headers.append(PROPERTIES[name].long_name + (f" ({unit})" if unit else ""))
    trust = [name for name in ("spread", "disagreement", "distance") if name in frame and frame[name].notna().any()]
    known = ["reference"] if "reference" in frame else []
    table = Table("input", "formula", "atoms", *headers, *known, *map(str, classes), *trust)
    table.columns[0].overflow = "fold"
    for label, row in zip(_short_names(frame["name"]), frame.to_dict("records"), strict=True):
        if row["error"] is not None:
            table.add_row(escape(label), row["formula"], "", "[red]failed[/red]")
            continue
        n_atoms = "" if pd.isna(row["n_atoms"]) else str(row["n_atoms"])
        cells = [
            c if isinstance(c, str) else f"{c:.4f}" for c in (row[column] for column in (*names, *known, *classes))
        ]
        digits = {"distance": 2}
        cells += ["" if pd.isna(row[name]) else f"{row[name]:.{digits.get(name, 4)}f}" for name in trust]
        table.add_row(escape(label), row["formula"], n_atoms, *cells)
    console = Console()
    console.print(table)
    if "warning" in frame:
        warned = frame[frame["warning"].notna()]
        for label, warning in zip(_short_names(warned["name"]), warned["warning"], strict=True):
            console.print(f"[yellow]{escape(label)}: {escape(warning)}[/yellow]", highlight=False)
    console.print(f"model {frame['model'].iloc[0]}", highlight=False)


def show_candidates(frame: pd.DataFrame, units: Mapping[str, str]) -> None:
    """Print a table of candidates with their distance to the hull; columns of ``units`` have theirs in the header."""
    import pandas as pd

    hidden = ("shard", "row", "system", "n_elements", "warning", "stable", "error")
    shown = [str(name) for name in frame.columns if name not in hidden and frame[name].notna().any()]
    titles = [PROPERTIES[name].long_name if name in PROPERTIES else name for name in shown]
    headers = (
        f"{title}\n({units[name]})" if name in units else title for name, title in zip(shown, titles, strict=True)
    )
    table = Table(*headers)
    for row in frame.to_dict("records"):
        cells = ["" if pd.isna(row[name]) else row[name] for name in shown]
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else escape(str(cell)) for cell in cells))
    console = Console()
    console.print(table)
    for column, colour in (("warning", "yellow"), ("error", "red")):
        if column in frame:
            for row in frame[frame[column].notna()].to_dict("records"):
                text = escape(f"{row['formula']}: {row[column]}")
                console.print(f"[{colour}]{text}[/{colour}]", highlight=False)


def show_features(frame: pd.DataFrame) -> None:
    """Print the first and the last features of a table with the columns name, features, error."""
    columns = [name for name in frame.columns if name not in ("name", "error")]
    shown = [*columns[:3], columns[-1]] if len(columns) > 4 else columns
    table = Table("structure", *shown)
    for label, row in zip(_short_names(frame["name"]), frame.to_dict("records"), strict=True):
        table.add_row(escape(label), *(f"{row[name]:.5g}" for name in shown))
    console = Console()
    console.print(table)
    console.print(f"{len(columns)} features; write all of them with --output FILE", highlight=False)


def _short_names(names: Iterable[str]) -> list[str]:
    """Return the names without the folder that they have in common."""
    names = list(names)
    try:
        common = os.path.commonpath([name.rpartition("/")[0] for name in names])
    except ValueError:  # absolute and relative paths together
        return names
    return [name.removeprefix(f"{common}/") for name in names] if common else names

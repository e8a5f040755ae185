"""``matprop finetune`` and ``matprop learning-curve``: a model adapted to one's own calculations."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ase_matprop.cli.completion import model_names
from ase_matprop.errors import MatPropError
from ase_matprop.terminal import clean_errors, progress

if TYPE_CHECKING:
    from ase_matprop.finetune import FinetuneResult, LearningCurve

Number = TypeVar("Number", int, float)

Model = Annotated[
    str,
    typer.Argument(
        help="Name of a shipped model, or path of a model folder.", show_default=False, autocompletion=model_names
    ),
]
Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Folders of VASP runs; or an ASE database (.db), extended XYZ or CSV file.",
        show_default=False,
    ),
]
PropertyOption = Annotated[
    str | None, typer.Option("--property", help="What is learnt; that of the model by default.", show_default=False)
]
Column = Annotated[
    str | None, typer.Option(help="Name of the property, or of total energies, in the data.", show_default=False)
]
References = Annotated[
    str | None,
    typer.Option(
        help="Energies of the elements: a table (.csv, .json, .yaml), fitted (to the training rows), or none to learn "
        "total energies. By default the elements' own runs in the folder.",
        show_default=False,
    ),
]
Forces = Annotated[bool, typer.Option("--forces", help="Learn forces too (SchNet; with --references none or others).")]
Steps = Annotated[
    str | None,
    typer.Option(help="Ionic steps of VASP runs: last or all; all where forces are learnt.", show_default=False),
]
AllowMixed = Annotated[bool, typer.Option("--allow-mixed", help="Take runs whose settings do not go together.")]
TestShare = Annotated[float, typer.Option("--test", help="Share of the compositions that is held out.")]
ValidationShare = Annotated[float, typer.Option("--validation", help="Share that chooses the epoch.")]
Seed = Annotated[int, typer.Option(help="Of the division and of the training.")]
BatchSize = Annotated[int | None, typer.Option(help="Rows per step.", show_default=False)]
L2 = Annotated[float, typer.Option("--l2", help="Weight of an l2 penalty on the weights.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(finetune)
    app.command()(learning_curve)


def finetune(
    model: Model,
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the result; its name is the model's.", show_default=False)
    ],
    scheme: Annotated[
        str,
        typer.Option(help="TL1 or all: all weights; TL2: all but the embedding; TL3 or last_layers: output layers."),
    ] = "TL1",
    references: References = None,
    property: PropertyOption = None,
    column: Column = None,
    forces: Forces = False,
    steps: Steps = None,
    allow_mixed: AllowMixed = False,
    test: TestShare = 0.2,
    validation: ValidationShare = 0.1,
    folds: Annotated[
        int | None, typer.Option(help="Measure by cross-validation with so many parts.", show_default=False)
    ] = None,
    seed: Seed = 0,
    learning_rate: Annotated[float | None, typer.Option(help="Of the fine-tuning.", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(help="Most rounds through the rows.", show_default=False)] = None,
    batch_size: BatchSize = None,
    l2: L2 = 0.0,
    no_scratch: Annotated[
        bool, typer.Option("--no-scratch", help="Do not train random weights too, for comparison.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Save a model that is not better than the original.")] = False,
    resume: Resume = False,
    device: Device = "cpu",
) -> None:
    """Adapt a model to your own calculations, and say whether it became better than the original.

    **Examples**

    - `matprop finetune schnet-mp my_vasp_runs/ --scheme TL2 --output my_oxides`
    - `matprop finetune irnet17-mp my_oxides.extxyz --column e_form --output my_oxides`
    - `matprop finetune schnet-mp my_vasp_runs/ --references none --forces --output my_forces`

    The result is a model folder: `MatProp("my_oxides")`, `matprop predict POSCAR --model my_oxides`.  Its report.html
    shows the errors on held-out compositions.  Exit code 1: the model is not better and was not saved.
    """
    with clean_errors():
        from ase_matprop.finetune import finetune as run
        from ase_matprop.finetune.reasons import used

        interactive = _bars_or_lines("ase_matprop")
        with progress("VASP runs", transient=False) as advance:
            try:
                result = run(
                    model,
                    data,
                    scheme,
                    output,
                    property=property,
                    column=column,
                    references=references,
                    forces=forces,
                    steps=steps,
                    allow_mixed=allow_mixed,
                    test=test,
                    validation=validation,
                    folds=folds,
                    seed=seed,
                    learning_rate=learning_rate,
                    epochs=epochs,
                    batch_size=batch_size,
                    l2=l2,
                    from_scratch=not no_scratch,
                    force=force,
                    resume=resume,
                    device=device,
                    progress_bar=interactive,
                    progress=advance,
                )
            except KeyboardInterrupt:
                typer.echo("finished epochs are kept: go on with the same command and --resume", err=True)
                raise
        typer.echo(used(result.n_used, result.rejected), err=True)
        _show_result(result)
        if not result.saved:
            raise typer.Exit(1)


def learning_curve(
    model: Model,
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the result.", show_default=False)],
    sizes: Annotated[
        str | None,
        typer.Option(help="Numbers of rows, such as 25,50,100; halves of all rows by default.", show_default=False),
    ] = None,
    schemes: Annotated[str, typer.Option(help="Schemes, such as TL1,TL3,scratch.")] = "TL1",
    learning_rates: Annotated[
        str, typer.Option(help="Learning rates as parts of that of a training from scratch, such as 0.1,1.")
    ] = "0.1",
    rounds: Annotated[str | None, typer.Option(help="Numbers of epochs, such as 10,25.", show_default=False)] = None,
    repeats: Annotated[int, typer.Option(help="How often each is trained, with other rows.")] = 3,
    references: References = None,
    property: PropertyOption = None,
    column: Column = None,
    forces: Forces = False,
    steps: Steps = None,
    allow_mixed: AllowMixed = False,
    test: TestShare = 0.2,
    validation: ValidationShare = 0.1,
    seed: Seed = 0,
    batch_size: BatchSize = None,
    l2: L2 = 0.0,
    resume: Resume = False,
    device: Device = "cpu",
) -> None:
    """Fine-tune on more and more of your calculations: how much would further ones bring?

    **Examples**

    - `matprop learning-curve schnet-mp my_vasp_runs/ --output curve --sizes 25,50,100 --schemes TL1,scratch`
    - `matprop learning-curve irnet17-mp data.extxyz --output curve --learning-rates 0.01,0.1,1 --rounds 10,25`

    Every finished training is a row of learning_curve.csv at once; --resume goes on, or adds sizes, schemes, repeats.
    """
    with clean_errors():
        from ase_matprop.finetune import learning_curve as run
        from ase_matprop.finetune.reasons import used

        _bars_or_lines("ase_matprop.finetune.curves")
        with progress("trainings", few=0) as advance:
            try:
                result = run(
                    model,
                    data,
                    output,
                    sizes=_numbers("--sizes", sizes, int),
                    schemes=[part.strip() for part in schemes.split(",")],
                    learning_rate_fractions=_numbers("--learning-rates", learning_rates, float) or (),
                    rounds=_numbers("--rounds", rounds, int),
                    repeats=repeats,
                    test=test,
                    validation=validation,
                    property=property,
                    column=column,
                    references=references,
                    forces=forces,
                    steps=steps,
                    allow_mixed=allow_mixed,
                    seed=seed,
                    batch_size=batch_size,
                    l2=l2,
                    resume=resume,
                    device=device,
                    progress=advance,
                )
            except KeyboardInterrupt:
                typer.echo("finished trainings are kept: go on with the same command and --resume", err=True)
                raise
        typer.echo(used(result.n_used, result.rejected), err=True)
        _show_curve(result)


def _bars_or_lines(logger: str) -> bool:
    """Return whether there is a terminal for bars; a log file gets the lines of a logger instead."""
    interactive = sys.stderr.isatty()
    if not interactive:
        logging.getLogger(logger).setLevel(logging.INFO)
    return interactive


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def _show_result(result: FinetuneResult) -> None:
    from ase_matprop.finetune.report import HTML_FILE, error_columns

    console = _console()
    console.print(escape(result.verdict), style="green" if result.improved else "red", soft_wrap=True)
    for caution in result.cautions:
        console.print(f"[yellow]Caution:[/yellow] {escape(caution)}", soft_wrap=True)
    unit = result.card.unit
    columns = error_columns(result.errors, unit)
    # headers of several lines: the numbers have their room on 80 columns too
    titles = [title.replace(f" ({unit})", "") for title, _ in columns]
    for words in (" kcal", " per", " MAE (", "/Angstrom"):
        titles = [title.replace(words, f"{words[0].strip()}\n{words[1:]}") for title in titles]
    n_rows = next(iter(result.errors.values())).n
    table = Table("model", *titles, title=f"errors on the {n_rows} held-out rows, {unit}", box=SIMPLE)
    table.collapse_padding, table.pad_edge, table.show_edge = True, False, False
    for column in table.columns:
        column.no_wrap = True
    for name in result.errors:
        table.add_row(name, *(cells[name] for _, cells in columns))
    console.print(table)
    console.print(f"Report: {escape(str(result.output / HTML_FILE))}", soft_wrap=True)
    if result.saved:
        console.print(f"Model folder: {escape(str(result.output))}", soft_wrap=True)
    else:
        console.print("The model was not saved; --resume --force with the same command saves it.", soft_wrap=True)


def _show_curve(result: LearningCurve) -> None:
    from ase_matprop.finetune.curve_summary import FIGURE_FILE, label

    console = _console()
    for sentence in result.outlook:
        console.print(escape(sentence), soft_wrap=True)
    shares = "within_chemical_accuracy_per_atom" in result.summary
    headers = ["scheme", "rows", "repeats", f"MAE\n{result.unit}"] + ["within 1\nkcal/mol\nper atom"] * shares
    table = Table(*headers, title="errors on the held-out rows, mean and standard deviation")
    for row in result.summary.to_dict("records"):
        cells = [label(row["scheme"], row["learning_rate_fraction"], row["rounds"]), str(row["rows"])]
        cells += [str(row["repeats"]), _with_spread(row["mae"], row["mae_std"], ".4f")]
        if shares:
            name = "within_chemical_accuracy_per_atom"
            cells.append(_with_spread(row[name], row[f"{name}_std"], ".0%"))
        table.add_row(*cells)
    for column in table.columns[1:]:
        column.no_wrap = True
    console.print(table)
    console.print(f"Figure: {escape(str(result.output / FIGURE_FILE))}", soft_wrap=True)


def _with_spread(mean: float, spread: float, form: str) -> str:
    return f"{mean:{form}}" + (f" +- {spread:{form}}" if math.isfinite(spread) else "")  # NaN for one repeat


def _numbers(option: str, text: str | None, kind: Callable[[str], Number]) -> list[Number] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise MatPropError(f"{option} must be {what} with commas between them. Got {text!r}.") from None

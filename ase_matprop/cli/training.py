"""``matprop train`` and ``matprop baseline``: from a recipe to a model folder, or to what it has to beat."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ase_matprop.terminal import clean_errors, print_card, progress

if TYPE_CHECKING:
    from ase_matprop.training.baselines import BaselineResult

DATA_VARIABLE = "MATPROP_DATA"

OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.", show_default=False)]
DataFolder = Annotated[
    Path, typer.Option(envvar=DATA_VARIABLE, help="Folder to which the recipe's data file is relative.")
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(help="Folder of cached features; 'cache' beside the output by default.", show_default=False),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(train)
    app.command()(baseline)


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the training run (TOML).", show_default=False)],
    output: OutputFolder,
    data_dir: DataFolder = Path(),
    cache_dir: CacheFolder = None,
    resume: Resume = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
) -> None:
    """Train a network from a recipe; the run's folder gets the model, its card, history and figures.

    **Example**

    - `matprop train recipes/irnet17-mp.toml --data-dir ../shared/data --output runs/irnet17-mp`
    """
    with clean_errors():
        from ase_matprop.training.run import train as run

        interactive = sys.stderr.isatty()
        if not interactive:  # a log file gets a line per epoch where a terminal has a bar
            logging.getLogger("ase_matprop").setLevel(logging.INFO)
        with progress("features", transient=False) as advance:
            try:
                result = run(
                    recipe,
                    data_dir=data_dir,
                    output=output,
                    cache_dir=cache_dir,
                    resume=resume,
                    device=device,
                    progress_bar=interactive,
                    feature_progress=advance,
                )
            except KeyboardInterrupt:
                typer.echo("finished epochs are kept: go on with the same command and --resume", err=True)
                raise
        print_card(result.card)
        typer.echo(f"\nModel folder: {result.model_folder}")


def baseline(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the baselines (TOML).", show_default=False)],
    output: OutputFolder,
    data_dir: DataFolder = Path(),
    cache_dir: CacheFolder = None,
    resume: Resume = False,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", help="Threads of the methods that can use several; -1 for one per core.")
    ] = 1,
) -> None:
    """Fit random forest and other scikit-learn methods on the rows of a network, with a grid search.

    **Example**

    - `matprop baseline recipes/baselines-mp.toml --data-dir ../shared/data --output runs/baselines-mp --jobs 2`

    Parameters are chosen on the validation rows; the errors of the best are those on the test rows.  On a terminal the
    result is a table, in a pipe it is CSV.
    """
    with clean_errors():
        from ase_matprop.training.baselines import run_baselines

        logging.getLogger("ase_matprop").setLevel(logging.INFO)  # a line per point of the grids
        with progress("features", transient=False) as advance:
            try:
                result = run_baselines(
                    recipe,
                    data_dir=data_dir,
                    output=output,
                    cache_dir=cache_dir,
                    resume=resume,
                    n_jobs=jobs,
                    feature_progress=advance,
                )
            except KeyboardInterrupt:
                typer.echo("finished points are kept: go on with the same command and --resume", err=True)
                raise
        if sys.stdout.isatty():
            _print_baselines(result)
        else:
            typer.echo(result.summary.to_csv(index=False), nl=False)


def _print_baselines(result: BaselineResult) -> None:
    numbers = [column for column in result.summary if str(column).startswith(("validation_", "test_"))]
    title = f"{result.recipe.name}: {result.recipe.data.property}" + (
        f", errors in {result.unit}" if result.unit else ""
    )
    table = Table("baseline", "parameters", "train rows", "fit (s)", title=title)
    for name in numbers:
        table.add_column(str(name).replace("_", " "))
    for row in result.summary.to_dict("records"):
        parameters = ", ".join(f"{name}={value}" for name, value in json.loads(row["parameters"]).items())
        cells = (f"{row[name]:.4f}" if isinstance(row[name], float) else str(row[name] or "") for name in numbers)
        table.add_row(row["baseline"], parameters, str(row["train_rows"]), f"{row['fit_seconds']:.1f}", *cells)
    console = Console()
    console.print(table)
    console.print(f"Folder: {result.output}", highlight=False)

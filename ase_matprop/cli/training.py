"""``matprop train``: from a recipe to a model folder."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from ase_matprop.terminal import clean_errors, print_card, progress

DATA_VARIABLE = "MATPROP_DATA"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(train)


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe of the training run (TOML).", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.", show_default=False)],
    data_dir: Annotated[
        Path, typer.Option(envvar=DATA_VARIABLE, help="Folder to which the recipe's data file is relative.")
    ] = Path(),
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of cached features; 'cache' beside the output by default.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
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

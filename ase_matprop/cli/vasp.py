"""``matprop vasp``: what a folder of VASP runs holds, before anything is trained."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ase_matprop.errors import MatPropError
from ase_matprop.table_files import FLOAT_FORMAT, TableFile
from ase_matprop.terminal import clean_errors, progress

if TYPE_CHECKING:
    from ase_matprop.finetune.vasp import VaspRuns

_SHOWN_ROWS = 100
_SHOWN_REASONS = 20


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(vasp)


def vasp(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER...",
            help="Folders with VASP runs at any depth; also files (vasprun.xml, OUTCAR) and quoted glob patterns.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, ending in .csv, .json or .parquet.", show_default=False),
    ] = None,
    steps: Annotated[str, typer.Option(help="last: the result of each run; all: every sound ionic step.")] = "last",
    energy: Annotated[
        str, typer.Option(help="sigma0: energy(sigma->0), for formation energies; free: what forces belong to.")
    ] = "sigma0",
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Do not warn of runs whose energies cannot be compared.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Processes that read files; -1 for one per core.")] = 1,
) -> None:
    """Show what folders of VASP runs hold: one row per run, with the reason where it is not used.

    **Examples**

    - `matprop vasp my_runs/`
    - `matprop vasp my_runs/ --output runs.csv --steps all`

    On a terminal the result is a table, in a pipe it is CSV.  Nothing is written into the folders.  Exit code 1: no run
    can be used.
    """
    with clean_errors():
        from ase_matprop.finetune import read_vasp

        if jobs == 0:
            raise MatPropError("the number of processes must be positive, or -1 for one per core. Got 0")
        file = TableFile(output) if output is not None else None  # a wrong name is an error before anything is read
        with progress("runs") as advance:
            runs = read_vasp(
                inputs,
                steps=steps,  # type: ignore[arg-type]
                energy=energy,  # type: ignore[arg-type]
                check=False,
                n_jobs=jobs,
                progress=advance,
            )
        frame = runs.to_frame()
        if file is not None:
            with file:
                file.write(frame)
        elif sys.stdout.isatty():
            _show(runs)
        else:
            typer.echo(frame.to_csv(index=False, float_format=FLOAT_FORMAT), nl=False)
        _summarise(runs, output, allow_mixed=allow_mixed)
        if not runs.used:
            raise typer.Exit(1)


def _show(runs: VaspRuns) -> None:
    table = Table("run", "formula", "atoms", "eV/atom", "formation", "functional", "status", "notes")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:7]:
        column.no_wrap = True
    common = os.path.commonpath([os.path.dirname(os.path.abspath(run.path)) for run in runs])  # noqa: PTH100, PTH120
    entries = list(zip(runs, runs.formation_energies_per_atom(), strict=True))
    for run, formation in entries[:_SHOWN_ROWS]:
        name = os.path.relpath(run.path, common)
        functional = run.settings.label if run.settings else ""
        status = "used" if run.is_used else "[red]rejected[/red]"
        numbers = ("" if math.isnan(value) else f"{value:.4f}" for value in (run.energy_per_atom, formation))
        notes = escape("; ".join(note.partition(":")[0] for note in run.notes))
        table.add_row(escape(name), run.formula, str(run.n_atoms or ""), *numbers, functional, status, notes)
    console = Console()
    console.print(table)
    if len(entries) > _SHOWN_ROWS:
        console.print(f"... and {len(entries) - _SHOWN_ROWS} more rows; write all of them with --output FILE")


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


def _summarise(runs: VaspRuns, output: Path | None, *, allow_mixed: bool) -> None:
    """Say on standard error what the table does not: how many, why not, and what stands in the way."""
    from ase_matprop.finetune.vasp.runs import describe_sets

    n_frames = len(runs.frames)
    place = f" in {output}" if output is not None else ""
    typer.echo(
        f"{_counted(len(runs), 'run')}{place}: {len(runs.used)} used ({_counted(n_frames, 'structure')}), "
        f"{len(runs.rejected)} rejected",
        err=True,
    )
    for run in runs.rejected[:_SHOWN_REASONS]:
        typer.echo(f"  {run.path}: {run.reason}", err=True)
    if len(runs.rejected) > _SHOWN_REASONS:
        typer.echo(f"  ... and {len(runs.rejected) - _SHOWN_REASONS} more, in the column reason of the table", err=True)
    sets = runs.settings_sets()
    if len(sets) > 1 and not allow_mixed:
        typer.echo(
            f"warning: {describe_sets(sets)}. Training refuses them together unless --allow-mixed says that it is "
            "meant",
            err=True,
        )
    if missing := runs.missing_elements():
        typer.echo(
            "formation energies need runs of the elements with the same settings; there is none of "
            f"{', '.join(missing)}: calculate it, or give a table of reference energies to the training "
            "(--references table.csv)",
            err=True,
        )
    if not runs.used and len(runs):
        typer.echo("no run can be used: see the reasons above, and what each says to do", err=True)

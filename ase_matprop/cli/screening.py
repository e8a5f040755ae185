"""``matprop screen | hull | top | report``: search spaces, hull distances, ranked candidates."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ase_matprop.errors import MatPropError, missing_dependency
from ase_matprop.terminal import clean_errors, show_candidates

if TYPE_CHECKING:
    from ase_matprop.screening import ScreeningProgress, ScreeningSettings, Workers

SpaceFile = Annotated[Path, typer.Argument(help="TOML file of the search space.", show_default=False)]
ResultsFolder = Annotated[Path, typer.Argument(help="Results folder of a screening.", show_default=False)]
System = Annotated[
    list[str] | None,
    typer.Option(
        "--system",
        help="Only systems of this pattern: Fe-O these two elements, Li-\\*-O one more, Li-O-\\*\\* any number more; "
        "may be repeated.",
        show_default=False,
    ),
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", help="HTML report to write; report.html in the folder by default.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``matprop``."""
    app.command()(screen)
    app.command()(hull)
    app.command()(top)
    app.command()(report)


def screen(
    space: SpaceFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Results folder; a stopped run goes on there.")],
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-w",
            help="Worker processes on this machine; one per core by default.",
            min=0,
            show_default=False,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, such as tcp://10.0.0.1:8786.", show_default=False),
    ] = None,
    slurm: Annotated[
        int | None,
        typer.Option(help="Number of SLURM jobs, as dask-jobqueue is configured.", min=1, show_default=False),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the network in a worker.", min=1, show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device: cpu, cuda, or auto for a GPU where there is one.")] = "cpu",
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Model, in place of that of the file.", show_default=False)
    ] = None,
    below_hull: Annotated[
        float | None,
        typer.Option(
            help="Keep what is so far below the hull (eV/atom), not as [keep] has it.", min=0, show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and count, but score nothing.")] = False,
) -> None:
    """Score all candidates of a search space, and keep the good ones.

    **Examples**

    - `matprop screen space.toml --output results`
    - `matprop screen space.toml --output results --below-hull 0.2 --workers 8`
    - `matprop screen space.toml --output /shared/results --scheduler tcp://10.0.0.1:8786`

    The same command again goes on where it was stopped.  `--workers 0` takes no other process than this one.
    """
    with clean_errors():
        from ase_matprop.screening import ScreeningSettings, prepare, write_report
        from ase_matprop.screening import screen as run

        settings = _changed(ScreeningSettings.read(space), space, model, below_hull)
        chosen = _workers(workers, scheduler, slurm, threads, settings.slurm)
        if dry_run:
            _, engine = prepare(settings, output.resolve(), device)
            typer.echo(
                f"{engine.space.n_candidates:,} candidates in {engine.space.n_shards:,} shards; model "
                f"{engine.predictor.card.name}, sieve in {engine.precision}"
            )
            return
        _check_report()
        with _progress() as advance, _reminder():
            results = run(settings, output, workers=chosen, device=device, progress=advance)
        summary = results.summary()
        path = output / "report.html"
        write_report(results, path)
        typer.echo(
            f"{summary.n_candidates:,} candidates, {summary.n_filtered:,} filtered out, {summary.n_scored:,} scored, "
            f"{summary.n_failed:,} failed, {summary.n_kept:,} kept in {output}; report in {path}",
            err=True,
        )
        if summary.caution is not None:
            typer.echo(f"caution: {summary.caution}", err=True)
        for name, reason in summary.failures[:5]:
            typer.echo(f"  {name}: {reason}", err=True)
        if summary.n_kept:
            _show(results.top(10), None, results.units)
        if summary.n_failed and not summary.n_scored:
            raise typer.Exit(1)


def hull(
    candidates: Annotated[
        Path, typer.Argument(help="Table (.csv, .parquet) with formulas and formation energies.", show_default=False)
    ],
    references: Annotated[
        Path,
        typer.Option("--references", "-r", help="Reference table (.csv, .parquet) or entries of pymatgen (.json)."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, .csv, .json or .parquet.", show_default=False)
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column of the formation energies (eV/atom).", show_default=False)
    ] = None,
    elements_at_zero: Annotated[
        bool, typer.Option("--elements-at-zero", help="Add the elements at 0 eV/atom where they are missing.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad-rows", help="Leave out references that cannot be used.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Phase diagram to draw: .html (interactive), .png, .svg or .pdf.", show_default=False),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="System of the phase diagram, such as Li-Fe-O.", show_default=False)
    ] = None,
) -> None:
    """Compute the distance to the convex hull of reference compounds, and draw phase diagrams.

    **Examples**

    - `matprop hull energies.csv --references known.csv --output stability.csv`
    - `matprop hull energies.csv --references known.csv --plot diagram.html --system Li-Fe-O`
    """
    with clean_errors():
        from ase_matprop.compositions import composition_entries
        from ase_matprop.screening import read_references, stability_table, write_phase_diagram
        from ase_matprop.screening.hull.reading import read_table

        if (plot is None) != (system is None):
            raise MatPropError("a phase diagram needs both --plot FILE and --system, such as Li-Fe-O")
        known = read_references(references, skip_bad=skip_bad)
        rows = read_table(candidates, None, column, None)
        formulas, energies = rows.formulas, rows.energies
        elements = {number for entry in composition_entries(formulas) for number in entry.elements}
        if elements_at_zero:
            known = known.with_elements_at_zero(elements | known.elements)
        table = _joined(rows.frame, stability_table(formulas, energies, known))
        _show(table, output, dict.fromkeys(("formation_energy_per_atom", "e_above_hull"), "eV/atom"))
        if bare := known.without_compounds(elements):
            typer.echo(
                f"warning: {references} has no compound of {', '.join(bare)} with other elements of the candidates: "
                "their distances are relative to the bare elements, and too low where such compounds exist",
                err=True,
            )
        if plot is not None and system is not None:
            write_phase_diagram(plot, known, formulas, energies, system)
            typer.echo(f"phase diagram in {plot}", err=True)
        if "error" in table and table["error"].notna().any():
            failed = table["error"].notna().sum()
            typer.echo(f"{failed} of {len(table)} rows failed; see the column error", err=True)
            raise typer.Exit(1)


def top(
    results: ResultsFolder,
    n: Annotated[int, typer.Option("--n", "-n", help="Number of candidates.", min=1)] = 50,
    system: System = None,
    by: Annotated[
        str | None, typer.Option(help="Column to order by; the distance to the hull by default.", show_default=False)
    ] = None,
    highest: Annotated[bool, typer.Option("--highest", help="The highest value first.")] = False,
    max_elements: Annotated[
        int | None, typer.Option(help="Greatest number of elements.", min=1, show_default=False)
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Element that must not be there; may be repeated.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, .csv, .json or .parquet.", show_default=False)
    ] = None,
    structures: Annotated[
        Path | None,
        typer.Option(help="Folder for the structures of the candidates, as CIF files.", show_default=False),
    ] = None,
) -> None:
    """Show the best candidates of a screening, finished or not.

    **Examples**

    - `matprop top results --n 50 --system "Li-*-O"`
    - `matprop top results --without Pb --without Cd --output best.csv`
    """
    with clean_errors():
        from ase_matprop.screening import Results, write_structures

        found = Results(results)
        table = found.top(
            n, system=system, by=by, highest_first=highest or None, max_elements=max_elements, without=without or ()
        )
        if table.empty:
            typer.echo(
                f"no candidate that was kept fits, or has a value of {by or 'what they are ordered by'}", err=True
            )
        summary = found.summary()
        for kind, text in (("note", summary.note), ("caution", summary.caution)):
            if text is not None:
                typer.echo(f"{kind}: {text}", err=True)
        if structures is not None:
            write_structures(found, table, structures)
            typer.echo(f"{len(table)} structures in {structures}", err=True)
        _show(table, output, found.units)


def report(results: ResultsFolder, output: ReportFile = None) -> None:
    """Write the HTML report of a screening, finished or not."""
    with clean_errors():
        from ase_matprop.screening import Results, write_report

        path = output or results / "report.html"
        write_report(Results(results), path)
        typer.echo(str(path))


def _check_report() -> None:
    """Raise an error for what the report needs, before anything is scored."""
    for name in ("plotly", "pymatviz"):
        if find_spec(name) is None:
            raise missing_dependency(name, "the report on a screening", extra="screening")


def _changed(settings: ScreeningSettings, file: Path, model: str | None, below_hull: float | None) -> ScreeningSettings:
    """Return the settings with what was given on the command line instead."""
    from ase_matprop.screening import ScreeningSettings

    content = settings.model_dump(exclude_none=True)
    if model is not None:
        content["model"] = str(Path(model).resolve()) if Path(model).is_dir() else model
    if below_hull is not None:
        keep = {name: value for name, value in content["keep"].items() if name != "e_above_hull"}
        content["keep"] = {**keep, "below_hull": below_hull}
    return ScreeningSettings.of(content, folder=settings.folder, name=str(file))


def _workers(
    local: int | None, scheduler: str | None, slurm: int | None, threads: int | None, slurm_options: dict[str, Any]
) -> Workers | None:
    from ase_matprop.screening import Workers
    from ase_matprop.screening.workers import available_cores

    if sum(choice is not None for choice in (local, scheduler, slurm)) > 1:
        raise MatPropError("give only one of --workers, --scheduler and --slurm")
    if local == 0:
        if threads is not None:
            raise MatPropError("--threads is for workers, and --workers 0 has none; set OMP_NUM_THREADS instead")
        return None
    if scheduler is None and slurm is None:
        local = local or available_cores()
    return Workers(local=local, scheduler=scheduler, slurm=slurm, slurm_options=slurm_options, threads=threads)


@contextmanager
def _reminder() -> Iterator[None]:
    """Say on Ctrl-C, and when a batch system ends the process, that nothing is lost; workers are ended first."""

    def end(number: int, _: object) -> None:
        ended.append(number)
        raise KeyboardInterrupt

    ended: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, end) if is_main else None
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            "matprop: interrupted; finished shards are kept, and the same command goes on with the others", err=True
        )
        raise typer.Exit(128 + (ended or [signal.SIGINT])[0]) from None
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress() -> Iterator[Callable[[ScreeningProgress], None]]:
    """Yield a function that draws a bar with rate and remaining time; in a pipe, a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )  # fmt: skip
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task("candidates", total=None, state="")
    said = [0]

    def advance(state: ScreeningProgress) -> None:
        text = f"{state.rate:,.0f}/s, {state.n_kept:,} kept"
        bar.update(task, completed=state.candidates_done, total=state.n_candidates, state=text)
        tenth = 10 * state.candidates_done // max(state.n_candidates, 1)
        if not sys.stderr.isatty() and tenth > said[0]:
            said[0] = tenth
            typer.echo(f"{state.candidates_done:,} of {state.n_candidates:,} candidates, {text}", err=True)

    with bar:
        yield advance


def _joined(given: Any, found: Any) -> Any:
    """Return the columns that a user gave, and beside them what was found; of a failed row the first reason stays."""
    columns = [name for name in found.columns if name not in ("formula", "formation_energy_per_atom")]
    joined = given.drop(columns=[name for name in ("error", *columns) if name in given])
    joined = joined.assign(**{name: found[name] for name in columns})
    if "error" in found and "error" in given:
        before = given["error"].replace("", None)
        joined["error"] = before.where(before.notna(), found["error"]).where(found["error"].notna(), None)
    return joined


def _show(table: Any, output: Path | None, units: Mapping[str, str]) -> None:
    """Write a table to a file, the terminal or a pipe, and its units, which columns of files do not have, to stderr."""
    from ase_matprop.table_files import FLOAT_FORMAT, TableFile

    if output is not None:
        with TableFile(output) as file:
            file.write(table)
        typer.echo(f"{len(table)} rows in {output}", err=True)
    elif sys.stdout.isatty():
        show_candidates(table, units)
        return
    else:
        typer.echo(table.to_csv(index=False, float_format=FLOAT_FORMAT), nl=False)
    named = [f"{name} in {unit}" for name, unit in units.items() if name in table and table[name].notna().any()]
    if named:
        typer.echo(f"units of the candidates: {', '.join(named)}", err=True)

"""``matprop predict | featurize``, and the commands of the other modules."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ase_matprop
from ase_matprop.cli import app as page
from ase_matprop.cli import ebsd, exchange, finetuning, info, models, screening, training, vasp, xrd
from ase_matprop.cli.completion import model_names
from ase_matprop.errors import MatPropError
from ase_matprop.table_files import FLOAT_FORMAT, TableFile
from ase_matprop.terminal import clean_errors, progress, show_features, show_predictions

if TYPE_CHECKING:
    import pandas as pd

    from ase_matprop.compositions import CompositionEntry
    from ase_matprop.structures import StructureEntry

    Entry = StructureEntry | CompositionEntry

app = typer.Typer(
    help="Predict properties of crystals with neural networks.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
exchange.register(models.app)
app.add_typer(models.app, name="models")
training.register(app)
vasp.register(app)
finetuning.register(app)
screening.register(app)
ebsd.register(app)
xrd.register(app)
info.register(app)
page.register(app)

_FEATURES_AT_ONCE = 256
_SHOWN_FAILURES = 100  # the table has all
_SHOWN_ROWS = 50  # of a table on a terminal; the file of --output has all

Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Structure files, folders or quoted glob patterns; formulas, or CSV tables with a column 'formula', where "
        "the composition is enough.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="Name of a shipped model, or path of a model folder.", autocompletion=model_names
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File to write, ending in .csv, .json or .parquet.", show_default=False),
]
JobsOption = Annotated[int, typer.Option("--jobs", "-j", help="Processes for the descriptor; -1 for one per core.")]
BatchOption = Annotated[
    int | None,
    typer.Option(
        help="Inputs held and evaluated together: 256 structures or 4096 compositions by default.",
        min=1,
        show_default=False,
    ),
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ase_matprop {ase_matprop.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, to standard error.")] = False,
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if verbose:
        logging.getLogger("ase_matprop").setLevel(logging.INFO)


@app.command()
def predict(
    inputs: Inputs,
    model: ModelOption = "irnet17-mp",
    output: OutputOption = None,
    jobs: JobsOption = 1,
    device: Annotated[str, typer.Option(help="Torch device of the network, such as cpu or cuda.")] = "cpu",
    batch_size: BatchOption = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of the values, such as meV/atom or kJ/mol-atom.", show_default=False)
    ] = None,
    compare_with: Annotated[
        list[str] | None,
        typer.Option(
            help="Another model of the same property, for a column with their disagreement; may be repeated.",
            show_default=False,
            autocompletion=model_names,
        ),
    ] = None,
    reference_values: Annotated[
        Path | None,
        typer.Option(
            help="CSV table of known values, with a column name or formula: adds a column reference, and the error.",
            show_default=False,
        ),
    ] = None,
    reference_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the known values, in the unit of the predicted ones; named like the property by default.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Parity plot to draw of the reference values: .png, .svg, .pdf or .html.", show_default=False
        ),
    ] = None,
) -> None:
    """Predict a property of every structure in files and folders, or of formulas.

    **Examples**

    - `matprop predict POSCAR other.cif folder/`
    - `matprop predict "runs/*/CONTCAR" --output energies.csv --jobs 2`
    - `matprop predict Fe2O3 "Ca3(PO4)2" --model elemnet-mp`
    - `matprop predict candidates.csv --model elemnet-mp --output energies.csv`
    - `matprop predict POSCAR --compare-with schnet-mp --compare-with nn24-mp`
    - `matprop predict folder/ --reference-values known.csv --plot parity.png`

    The column distance says how far from the training set an input lies, warning what was never seen in it: see
    docs/uncertainty.md for what they are worth.  On a terminal the result is a table, in a pipe it is CSV.  Exit code
    1: at least one input failed.
    """
    with clean_errors():
        from ase_matprop.cli.against import KnownValues
        from ase_matprop.models import load_model
        from ase_matprop.units import conversion_factor

        _check_output(output, inputs)
        if reference_values is None and (plot or reference_column) is not None:
            raise MatPropError("a parity plot is of known values: give their table with --reference-values FILE")
        if plot is not None:
            from ase_matprop.plots.files import check_path

            check_path(plot)
        predictor = load_model(model, device=device, compare_with=compare_with or ())
        if unit is not None:
            conversion_factor(predictor.card.unit, unit)  # a wrong unit is an error before anything is computed
        card = predictor.card
        known = None
        if reference_values is not None:
            known = KnownValues(reference_values, reference_column, card.property, inputs)
            known.expect(entry.name for entry in _entries(inputs, needs_structure=predictor.needs_structure))

        def blocks(entries: Iterable[Entry]) -> Iterator[pd.DataFrame]:
            for part in predictor.iter_batches(entries, batch_size=batch_size, n_jobs=jobs):
                frame = (part.to_unit(unit) if unit else part).to_frame()
                yield frame if known is None else known.beside(frame)

        entries = _entries(inputs, needs_structure=predictor.needs_structure)
        failures = _write(entries, blocks, output, show=show_predictions)
        if known is not None:
            known.finish(unit or card.unit, card.name, plot)
        _finish(failures)


@app.command()
def featurize(
    inputs: Inputs,
    descriptor: Annotated[
        str,
        typer.Option(
            "--descriptor", "-d", help="ward2017, ks2022, structure, composition, fractions, or several joined by +."
        ),
    ] = "ward2017",
    output: OutputOption = None,
    jobs: JobsOption = 1,
    batch_size: BatchOption = None,
) -> None:
    """Compute a descriptor of every structure in files and folders, or of formulas.

    **Examples**

    - `matprop featurize folder/ --descriptor ward2017 --output features.parquet`
    - `matprop featurize Fe2O3 NaCl --descriptor composition`
    """
    with clean_errors():
        from ase_matprop.descriptors.registry import get_descriptor

        _check_output(output, inputs)
        chosen = get_descriptor(descriptor)
        size = batch_size or _FEATURES_AT_ONCE

        def block(batch: list[Entry]) -> pd.DataFrame:
            import pandas as pd

            features, errors = chosen.compute_sound(
                [entry.item for entry in batch], [entry.error for entry in batch], n_jobs=jobs
            )
            frame = pd.DataFrame(features, columns=list(chosen.labels))
            frame.insert(0, "name", [entry.name for entry in batch])
            frame["error"] = pd.Series(errors, dtype=object)
            return frame

        def blocks(entries: Iterable[Entry]) -> Iterator[pd.DataFrame]:
            iterator = iter(entries)
            while batch := list(islice(iterator, size)):
                yield block(batch)

        entries = _entries(inputs, needs_structure=chosen.needs_structure)
        _finish(_write(entries, blocks, output, show=show_features))


def _entries(inputs: list[str], *, needs_structure: bool) -> Iterator[Entry]:
    if needs_structure:
        from ase_matprop.structures import iter_structures

        return iter_structures(inputs)
    from ase_matprop.compositions import iter_compositions

    return iter_compositions(inputs)


def _check_output(output: Path | None, inputs: Iterable[str]) -> None:
    if output is not None and any(Path(name).resolve() == output.resolve() for name in inputs):
        raise MatPropError(f"the output {output} is one of the inputs; choose another name")


def _write(
    entries: Iterable[Entry],
    blocks: Callable[[Iterable[Entry]], Iterator[pd.DataFrame]],
    output: Path | None,
    *,
    show: Callable[[pd.DataFrame], None],
) -> list[tuple[str, str]]:
    """Write the blocks that are made of the entries as they come; return name and reason of the failed rows."""
    import pandas as pd

    failures: list[tuple[str, str]] = []
    kept: list[pd.DataFrame] = []
    n_rows = 0
    to_terminal = output is None and sys.stdout.isatty()
    with (
        TableFile(output) if output is not None else contextlib.nullcontext() as file,
        progress("inputs") as advance,
    ):

        def counted() -> Iterator[Entry]:
            for number, entry in enumerate(entries, start=1):
                advance(n_rows, number)
                yield entry

        for frame in _saying_what_is_done(blocks(counted()), file):
            bad = frame["error"].notna()
            failures += list(zip(frame.loc[bad, "name"], frame.loc[bad, "error"], strict=True))
            if file is not None:
                file.write(frame)
            elif not to_terminal:
                typer.echo(frame.to_csv(index=False, header=n_rows == 0, float_format=FLOAT_FORMAT), nl=False)
            if n_rows < _SHOWN_ROWS:
                kept.append(frame.head(_SHOWN_ROWS - n_rows))
            n_rows += len(frame)
            advance(n_rows, None)
    if to_terminal and kept:
        show(pd.concat(kept))
        if n_rows > _SHOWN_ROWS:
            typer.echo(f"... and {n_rows - _SHOWN_ROWS} more rows; write all of them with --output FILE")
    if output is not None:
        typer.echo(f"{n_rows} rows in {output}, {len(failures)} of them failed", err=True)
    return failures


def _saying_what_is_done(blocks: Iterator[pd.DataFrame], file: TableFile | None) -> Iterator[pd.DataFrame]:
    """Pass the blocks on; where the job is stopped, say where the finished rows are."""
    try:
        yield from blocks
    except BaseException:
        if file is not None and file.n_rows:
            typer.echo(f"stopped; {file.n_rows} finished rows are in {file.partial}", err=True)
        raise


def _finish(failures: list[tuple[str, str]]) -> None:
    if not failures:
        return
    typer.echo(f"{len(failures)} input{'s' if len(failures) > 1 else ''} failed:", err=True)
    for name, reason in failures[:_SHOWN_FAILURES]:
        typer.echo(f"  {name}: {reason}", err=True)
    if len(failures) > _SHOWN_FAILURES:
        typer.echo(f"  ... and {len(failures) - _SHOWN_FAILURES} more, in the column error of the table", err=True)
    raise typer.Exit(1)

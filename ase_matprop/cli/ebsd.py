"""``matprop ebsd predict | train | info``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ase_matprop.errors import MatPropError
from ase_matprop.table_files import FLOAT_FORMAT, FORMATS, TableFile
from ase_matprop.terminal import clean_errors, progress

if TYPE_CHECKING:
    from ase_matprop.diffraction.ebsd.geometry import Detector
    from ase_matprop.diffraction.ebsd.maps import ScanGrid
    from ase_matprop.diffraction.ebsd.pattern_files import PatternFile
    from ase_matprop.diffraction.ebsd.predictor import EbsdPredictor, OrientationPredictions

app = typer.Typer(help="Crystal orientations from electron backscatter patterns.", no_args_is_help=True)
_SHOWN_FAILURES = 20
_ENDINGS = (".ang", ".ctf", ".png", *FORMATS)

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Name of a shipped EBSD model, or a folder of matprop ebsd train.")
]
_DEFAULT_MODEL = "omnet-nickel"  # as in the predictor, which is not imported for the help text


def register(parent: typer.Typer) -> None:
    """Add the commands of this module."""
    parent.add_typer(app, name="ebsd")


@app.command()
def predict(
    file: Annotated[
        Path,
        typer.Argument(help="Patterns: .h5 of kikuchipy, EDAX or Bruker, .up1, .up2, .tif.", show_default=False),
    ],
    model: ModelOption = _DEFAULT_MODEL,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write, ending in .ang, .ctf, .png (map), .csv, .json or .parquet; may be repeated.",
            show_default=False,
        ),
    ] = None,
    pattern_center: Annotated[
        str | None,
        typer.Option(
            help="x,y,z in Bruker's convention; by default the file's, or else the model's.", show_default=False
        ),
    ] = None,
    sample_tilt: Annotated[float | None, typer.Option(help="Degrees.", show_default=False)] = None,
    detector_tilt: Annotated[float | None, typer.Option(help="Degrees.", show_default=False)] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Rows and columns of the scan, such as 120x200, where the file does not say.", show_default=False
        ),
    ] = None,
    step: Annotated[float | None, typer.Option(help="Step of the scan, micrometres.", show_default=False)] = None,
    scan: Annotated[str | None, typer.Option(help="Scan of an HDF5 file that has several.", show_default=False)] = None,
    static_background: Annotated[
        bool, typer.Option(help="Subtract the static background that the file has, if any.")
    ] = True,
) -> None:
    """Predict the crystal orientation of every pattern of a file.

    **Examples**

    - `matprop ebsd predict scan.h5 --output scan.ang --output map.png`
    - `matprop ebsd predict scan.up2 --model my-model/ --pattern-center 0.48,0.30,0.55 --grid 120x200 -o scan.ctf`

    Angles are Bunge's in degrees, passive (sample to crystal).  Without --output the result goes to standard output as
    CSV.  Exit code 1: at least one pattern failed.
    """
    with clean_errors():
        from ase_matprop.diffraction.ebsd.pattern_files import open_patterns
        from ase_matprop.diffraction.ebsd.predictor import EbsdPredictor

        for path in output or []:
            _check_output(path, file)
        predictor = EbsdPredictor.load(model)
        patterns = open_patterns(file, scan=scan)
        points = _grid(grid, step, patterns)
        if points is not None:
            points.check(patterns.n)
        elif output:
            typer.echo(f"{file} does not say how its points lie: one row of them is written; give --grid", err=True)
        detector = _detector(pattern_center, sample_tilt, detector_tilt, patterns, predictor)
        centers = patterns.centers if pattern_center is None else None
        background = patterns.static_background if static_background else None
        results = _run(predictor, patterns, detector, centers, background)
        _write(results, predictor, points, output or [])
        _finish(results)


def _run(
    predictor: EbsdPredictor, patterns: PatternFile, detector: Detector, centers: object, background: object
) -> OrientationPredictions:
    import numpy as np

    from ase_matprop.diffraction.ebsd.predictor import OrientationPredictions

    parts, done = [], 0
    with progress("patterns") as advance:
        advance(0, patterns.n)
        for block in patterns.blocks():
            chosen = None if centers is None else np.asarray(centers)[done : done + len(block)]
            parts.append(
                predictor.predict(block, detector=detector, centers=chosen, static_background=background)  # type: ignore[arg-type]
            )
            done += len(block)
            advance(done, None)
    return OrientationPredictions.concatenate(parts)


def _check_output(path: Path, file: Path) -> None:
    """Raise if nothing can be written to ``path``, before a long scan is read for it."""
    if path.suffix not in _ENDINGS:
        raise MatPropError(f"the output {path} must end in {', '.join(_ENDINGS)}")
    if path.resolve() == file.resolve():
        raise MatPropError(f"the output {path} is the input; choose another name")
    if path.suffix in FORMATS:
        TableFile(path).partial.unlink()
        return
    if not path.resolve().parent.is_dir():
        raise MatPropError(f"the folder of the output {path} does not exist; make it first")
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise MatPropError(f"the output {path} cannot be written: {error.strerror}") from None
    if path.is_dir():
        raise MatPropError(f"the output {path} is a folder; give the name of a file")


def _write(
    results: OrientationPredictions, predictor: EbsdPredictor, points: ScanGrid | None, output: list[Path]
) -> None:
    from ase_matprop.diffraction.ebsd.maps import ScanGrid, draw_map, write_ang, write_ctf

    frame = results.to_frame()
    frame.insert(0, "pattern", range(len(frame)))
    phase = predictor.card.phase
    for path in output:
        if path.suffix in FORMATS:
            with TableFile(path) as table:
                table.write(frame)
            continue
        partial = path.with_name(f"{path.name}.partial")
        if path.suffix == ".png":
            figure = draw_map(results, phase, points or ScanGrid.line(len(results)))
            figure.savefig(partial, dpi=150, format="png")
        else:
            (write_ang if path.suffix == ".ang" else write_ctf)(partial, results, phase, points)
        partial.replace(path)
    for path in output:
        typer.echo(f"{len(frame)} orientations in {path}", err=True)
    if not output:
        typer.echo("phi1, Phi, phi2 (Bunge) and spread in degrees", err=True)
        sys.stdout.write(frame.to_csv(index=False, float_format=FLOAT_FORMAT))


def _finish(results: OrientationPredictions) -> None:
    doubtful = sum(warning is not None for warning in results.warnings)
    if doubtful:
        typer.echo(
            f"{doubtful} of {len(results)} orientations are doubtful: see the column warning of a table", err=True
        )
    failed = [(row, error) for row, error in enumerate(results.errors) if error is not None]
    if failed:
        typer.echo(f"{len(failed)} patterns failed:", err=True)
        for row, error in failed[:_SHOWN_FAILURES]:
            typer.echo(f"  pattern {row}: {error}", err=True)
        if len(failed) > _SHOWN_FAILURES:
            typer.echo(f"  ... and {len(failed) - _SHOWN_FAILURES} more", err=True)
        raise typer.Exit(1)


def _grid(text: str | None, step: float | None, patterns: PatternFile) -> ScanGrid | None:
    from dataclasses import replace

    from ase_matprop.diffraction.ebsd.maps import ScanGrid

    if step is not None and not step > 0.0:
        raise MatPropError(f"the step of the scan must be positive. Got {step}")
    grid = patterns.grid
    if text is not None:
        parts = text.lower().split("x")
        if len(parts) != 2 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            raise MatPropError(f"the grid must be rows x columns, such as 120x200. Got {text!r}")
        grid = ScanGrid(int(parts[0]), int(parts[1]))
    if step is None:
        return grid
    return replace(grid or ScanGrid.line(patterns.n), step_x=step, step_y=step)


def _detector(
    center: str | None,
    sample_tilt: float | None,
    detector_tilt: float | None,
    patterns: PatternFile,
    predictor: EbsdPredictor,
) -> Detector:
    known = patterns.detector
    if center is not None:
        try:
            x, y, z = (float(part) for part in center.split(","))
        except ValueError:
            raise MatPropError(f"the pattern centre must be three numbers x,y,z. Got {center!r}") from None
        base = known or predictor.card.detector
        known = base.model_copy(update={"shape": patterns.shape, "pattern_center": (x, y, z)})
    if known is None:
        known = predictor.card.detector
        if known.shape != patterns.shape:
            raise MatPropError(
                f"{patterns.path} has patterns of {patterns.shape[0]} x {patterns.shape[1]} pixels and no pattern "
                f"centre, the model was trained for {known.shape[0]} x {known.shape[1]}; give --pattern-center x,y,z"
            )
        typer.echo(
            f"{patterns.path} has no pattern centre: that of the model's detector is taken, {known.pattern_center}",
            err=True,
        )
    tilts = {"sample_tilt": sample_tilt, "tilt": detector_tilt}
    return known.model_copy(update={name: value for name, value in tilts.items() if value is not None})


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file, see recipes/ebsd/.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for checkpoints and the model.", show_default=False)
    ],
    start_from: Annotated[
        str | None,
        typer.Option(help="Model whose weights to start with: name of a shipped one, or a folder.", show_default=False),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of torch; by default one per core.", min=1, show_default=False)
    ] = None,
) -> None:
    """Train the networks of a recipe on simulated patterns; one that was interrupted goes on where it stopped.

    With --start-from a recipe for another detector, or other disturbances, needs fewer steps.

    Needs the master pattern of kikuchipy: `pip install 'ase-matprop[ebsd]'`.
    """
    with clean_errors():
        import torch

        from ase_matprop.diffraction.ebsd import artefact
        from ase_matprop.diffraction.ebsd.recipe import EbsdRecipe
        from ase_matprop.diffraction.ebsd.run import run_recipe
        from ase_matprop.diffraction.shipped import model_path

        settings = EbsdRecipe.read(recipe)
        start = None if start_from is None else artefact.load(model_path(start_from, "ebsd"))
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads or before)
            with progress("steps") as advance:
                card = run_recipe(settings, output, start_from=start, progress=advance)
        finally:
            torch.set_num_threads(before)
        typer.echo(f"{output / settings.name}: {card.headline()}")


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="Name of a shipped EBSD model, or a folder.")] = _DEFAULT_MODEL,
) -> None:
    """Show the card of an EBSD model as JSON."""
    with clean_errors():
        from ase_matprop.diffraction.ebsd.card import EbsdCard
        from ase_matprop.diffraction.shipped import model_path

        typer.echo(EbsdCard.read(model_path(model, "ebsd")).model_dump_json(indent=2))

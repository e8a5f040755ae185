"""``matprop xrd predict | background``: phase regions from X-ray diffraction images, and their background."""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ase_matprop.terminal import clean_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ase_matprop.diffraction.xrd import PhaseRegionPredictions

xrd_app = typer.Typer(help="Phase regions from X-ray diffraction images, and their background.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to ``matprop``."""
    app.add_typer(xrd_app, name="xrd")


@xrd_app.command()
def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Images: .gfrm, .tif or what else fabio reads; for a network with two frames the two of a "
            "sample one after the other.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="padnet-slac-sim, padnet-nist-sim, or a model folder.", show_default=False),
    ],
    geometry: Annotated[
        list[Path] | None,
        typer.Option(
            "--geometry",
            "-g",
            help="Where the detector was: a .poni file of pyFAI or JSON, one for each frame.",
            show_default=False,
        ),
    ] = None,
    compositions: Annotated[
        Path | None,
        typer.Option(
            "--compositions",
            "-c",
            help="CSV file with a column for each metal (Sn, Ti, Zn), and one row for each sample in the order of the "
            "images; a column name is compared with the first file name of the sample.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Table to write: .csv, .json, .parquet.", show_default=False)
    ] = None,
    saturation: Annotated[
        float | None,
        typer.Option(
            help="Count at which the detector saturates; by default the largest of the image, if that is 1000 or more.",
            min=1,
        ),
    ] = None,
) -> None:
    """Predict the phase region of each sample from its raw image and composition.

    **Examples**

    - `matprop xrd predict sample-*.tif --model padnet-slac-sim --geometry slac.poni --compositions wafer.csv`
    - `matprop xrd predict a-25.gfrm a-45.gfrm -m runs/xrd-nist -g low.poni -g high.poni -c wafer.csv -o regions.csv`
    """
    with clean_errors():
        from ase_matprop.diffraction.xrd import DetectorGeometry, PatternPredictor
        from ase_matprop.diffraction.xrd.files import check_outputs, read_compositions
        from ase_matprop.table_files import TableFile

        predictor = PatternPredictor.load(model)
        n_frames = len(predictor.geometries)
        samples = _group(images, n_frames)
        check_outputs(
            [*images, *(geometry or []), *([compositions] if compositions else [])], [output] if output else []
        )
        names = [str(paths[0]) for paths in samples]
        cations = None
        if compositions is not None:
            cations = read_compositions(compositions, predictor.card.inputs.composition, names)
        geometries = [DetectorGeometry.read(path) for path in geometry] if geometry else None
        with contextlib.ExitStack() as stack:
            table = None if output is None else stack.enter_context(TableFile(output))  # refused before the work
            predictions = predictor.predict_files(samples, cations, geometries=geometries, saturation=saturation)
            if table is not None:
                table.write(predictions.to_frame())
        _show(predictions)
        if predictions.n_failed:
            raise typer.Exit(1)


@xrd_app.command()
def background(
    image: Annotated[
        Path, typer.Argument(help="Image: .gfrm, .tif, .npy or what else fabio reads.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Image without background to write: .npy or .tif.")],
    method: Annotated[
        str, typer.Option(help="minimum: minimum filter (I-MF); minimum_mean: minimum and mean filter (I-CS).")
    ] = "minimum_mean",
    size: Annotated[
        int | None,
        typer.Option(help="Filter size in pixels; 200 for 2048 pixels by default.", min=1, show_default=False),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="PNG figure of image, backgrounds and results to write.", show_default=False)
    ] = None,
    response: Annotated[
        Path | None,
        typer.Option(help="PNG figure of PADNet's slope filters and their response to write.", show_default=False),
    ] = None,
) -> None:
    """Remove the background of one image.

    **Examples**

    - `matprop xrd background pattern.tif --output pattern-without.tif --figure pattern.png --response slopes.png`
    - `matprop xrd background pattern.gfrm -o pattern.npy --method minimum --size 150`
    """
    with clean_errors():
        from ase_matprop.diffraction.xrd import DiffractionImageError, read_image, remove_background
        from ase_matprop.diffraction.xrd.files import check_image_output, check_outputs, write_image
        from ase_matprop.diffraction.xrd.images import check_image

        check_image_output(output)
        check_outputs([image], [path for path in (output, figure, response) if path is not None])
        for path in (figure, response):
            if path is not None and path.suffix.lower() != ".png":
                raise DiffractionImageError(f"the figure {path} must end in .png")
        counts = check_image(read_image(image))
        cleaned, taken = remove_background(counts, method, size)
        write_image(output, cleaned)
        if figure is not None:
            from ase_matprop.diffraction.xrd.figures import background_figure

            background_figure(counts, figure, size=size)
        if response is not None:
            _draw_response(counts, response)
        typer.echo(
            f"{image}: {counts.shape[0]} x {counts.shape[1]} pixels, background "
            f"{100.0 * taken.sum() / counts.sum():.1f} % of all counts; wrote {output}"
        )


def _draw_response(counts: NDArray[np.float64], path: Path) -> None:
    """Draw what slope filters of the thesis's share of the image make of it."""
    from ase_matprop.diffraction.xrd.background import scaled_filter_size
    from ase_matprop.diffraction.xrd.figures import filter_response_figure
    from ase_matprop.diffraction.xrd.networks import PeakAreaDetection
    from ase_matprop.diffraction.xrd.slope_filters import FILTER_SIZE

    half = scaled_filter_size(counts.shape, FILTER_SIZE) / 2.0
    filter_response_figure(counts, PeakAreaDetection(2 * math.ceil(half)), path)


def _group(images: list[Path], n_frames: int) -> list[list[Path]]:
    from ase_matprop.diffraction.xrd import DiffractionImageError

    if len(images) % n_frames:
        raise DiffractionImageError(
            f"{len(images)} images were given, but each sample has {n_frames} frames; give them sample by sample"
        )
    return [images[start : start + n_frames] for start in range(0, len(images), n_frames)]


def _show(predictions: PhaseRegionPredictions) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not sys.stdout.isatty():
        typer.echo("name,phase_region,probability")
    table = Table("sample", "phase region", "probability")
    console = Console()
    for row, name in enumerate(predictions.names):
        label = predictions.labels[row]
        if not sys.stdout.isatty():
            typer.echo(f"{name},{label or ''},{'' if label is None else f'{predictions.probabilities[row].max():.4f}'}")
        elif label is None:
            table.add_row(escape(name), "[red]failed[/red]", "")
        else:
            table.add_row(escape(name), label, f"{predictions.probabilities[row].max():.4f}")
    if sys.stdout.isatty():
        console.print(table)
    for kind, messages in (("warning", predictions.warnings), ("error", predictions.errors)):
        for name, message in zip(predictions.names, messages, strict=True):
            if message is not None:
                typer.echo(f"{name}: {kind}: {message}", err=True)

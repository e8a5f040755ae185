"""The commands ``matprop models import | download | export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ase_matprop.cli.completion import model_names
from ase_matprop.terminal import clean_errors, print_card, progress

_Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Model folder to write; named after FILE or NAME by default.", show_default=False
    ),
]


def register(models_app: typer.Typer) -> None:
    """Add the commands to the application of ``matprop models``."""
    models_app.command("import")(import_model)
    models_app.command("download")(download)
    models_app.command("export")(export)


def import_model(
    file: Annotated[Path, typer.Argument(help="ONNX or Keras HDF5 file.", show_default=False)],
    as_: Annotated[
        str, typer.Option("--as", help="Network of the weights: nn24, nn20, nn9 or elemnet.", show_default=False)
    ],
    output: _Output = None,
) -> None:
    """Make a model folder of weights that the authors of a network published.

    **Example**

    - `matprop models import SIPFENN_Krajewski2020_NN24.onnx --as nn24 --output sipfenn-nn24`
    """
    with clean_errors():
        from ase_matprop.models.exchange import import_weights

        _show(import_weights(file, as_, output))


def download(
    name: Annotated[
        str | None, typer.Argument(help="Which weights; without it, they are listed.", show_default=False)
    ] = None,
    output: _Output = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 that the file must have, if you know it.", show_default=False)
    ] = None,
) -> None:
    """Download weights that the authors of a network published, and make a model folder of them.

    **Example**

    - `matprop models download sipfenn-nn24`
    """
    with clean_errors():
        from ase_matprop.models.exchange import download_model, list_remote_models

        if name is None:
            typer.echo("name,network,megabytes,url")
            for known, remote in list_remote_models().items():
                typer.echo(f"{known},{remote.network},{remote.megabytes},{remote.url}")
            return
        with progress(f"{name}, MB") as advance:

            def in_megabytes(done: int, total: int | None) -> None:
                advance(done // 1_000_000, None if total is None else max(1, total // 1_000_000))

            folder = download_model(name, output, sha256=sha256, progress=in_megabytes)
        _show(folder)


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="Name of a shipped model, or path of a model folder.", show_default=False, autocompletion=model_names
        ),
    ],
    format: Annotated[str, typer.Option("--format", "-f", help="onnx or torchscript.")] = "onnx",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write; MODEL.onnx or MODEL.pt here by default.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a model as one ONNX or TorchScript file: features in, property in its unit out.

    **Example**

    - `matprop models export irnet17-mp --format onnx --output irnet17-mp.onnx`
    """
    with clean_errors():
        from ase_matprop.models.exchange import export_model

        typer.echo(f"{export_model(model, output, format=format)}: gives what the model gives, on random features")


def _show(folder: Path) -> None:
    from ase_matprop.models.registry import read_card

    print_card(read_card(folder))
    typer.echo(f"\nModel folder: {folder}")

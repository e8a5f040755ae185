"""``matprop app``: the page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ase_matprop.terminal import clean_errors


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("app")(show_page)


def show_page(
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.", min=0, max=65_535)] = 8050,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the page in the browser, only print its address.")
    ] = False,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which downloaded models are kept, and model folders of your own are found; "
            "~/.matprop/models by default.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show a page in the browser: drop structures, choose models, compare, download.

    **Examples**

    - `matprop app`
    - `matprop app --port 8051 --no-browser`

    The page is reached from this machine only.  It ends with Ctrl-C, and keeps nothing but downloaded models.
    """
    with clean_errors():
        from ase_matprop.app.server import serve

        def announce(address: str) -> None:
            typer.echo(f"matprop app is at {address} (Ctrl-C ends it)")

        serve(port=port, models_folder=models, open_browser=not no_browser, announce=announce)
        typer.echo("matprop app has ended; the data of its sessions are deleted")

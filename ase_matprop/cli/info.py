"""``matprop info``: what a bug report needs."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ase_matprop.terminal import clean_errors, print_environment


def register(app: typer.Typer) -> None:
    """Add the command to ``matprop``."""
    app.command()(info)


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for machines.")] = False,
) -> None:
    """Show versions, optional packages, devices, models and folders, for a bug report.

    The weights of the shipped models are compared with the SHA-256 of their cards.  The paths that are shown may have
    your user name in them.
    """
    with clean_errors():
        from ase_matprop.environment import describe_environment

        environment = describe_environment()
        if as_json:
            typer.echo(json.dumps(environment.to_dict(), indent=2))
        else:
            print_environment(environment)

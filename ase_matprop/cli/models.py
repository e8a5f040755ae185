"""``matprop models list | info | verify``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ase_matprop.cli.completion import model_names
from ase_matprop.errors import ArtefactError
from ase_matprop.terminal import clean_errors, print_card

app = typer.Typer(help="List, describe, check, import and export models.", no_args_is_help=True)


@app.command("list")
def models_list() -> None:
    """List the shipped models with their measured errors."""
    with clean_errors():
        from ase_matprop.descriptors.registry import get_descriptor
        from ase_matprop.models import list_models
        from ase_matprop.models.registry import read_card
        from ase_matprop.properties import get_property

        cards = [read_card(name) for name in list_models()]
        if not sys.stdout.isatty():
            typer.echo("name,property,unit,inputs,test_rows,test_mae,test_accuracy,elements")
            for card in cards:
                mae = f"{card.errors['test'].mae:.4f}" if card.errors else ""
                accuracy = f"{card.classification['test'].accuracy:.4f}" if card.classification else ""
                n_rows = card.training_set.rows["test"]
                typer.echo(
                    f"{card.name},{'+'.join(card.properties)},{card.unit},{card.descriptor.name},{n_rows},{mae},{accuracy},"
                    f"{len(card.elements)}"
                )
            return
        table = Table("model", "property", "from", "on test rows", "test rows", "elements")
        table.columns[0].no_wrap = True
        for card in cards:
            properties = ", ".join(get_property(name).long_name for name in card.properties)
            needed = "structure" if get_descriptor(card.descriptor.name).needs_structure else "formula"
            rows = str(card.training_set.rows["test"])
            table.add_row(card.name, properties, needed, card.headline(), rows, str(len(card.elements)))
        console = Console()
        console.print(table)
        console.print("matprop models info MODEL shows the card of a model", highlight=False)


@app.command("info")
def models_info(
    model: Annotated[
        str,
        typer.Argument(
            help="Name of a shipped model, or path of a model folder.", show_default=False, autocompletion=model_names
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
) -> None:
    """Show the card of a model."""
    with clean_errors():
        from ase_matprop.models.registry import read_card

        card = read_card(model)
        if as_json:
            typer.echo(card.model_dump_json(indent=2))
        else:
            print_card(card)


@app.command("verify")
def models_verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names or model folders; all shipped models by default.",
            show_default=False,
            autocompletion=model_names,
        ),
    ] = None,
) -> None:
    """Check that model folders are complete and unaltered: hash of the weights, shapes, card."""
    with clean_errors():
        from ase_matprop.models import artefact, list_models
        from ase_matprop.models.registry import find_model

        failed = False
        for name in models or list_models():
            try:
                loaded = artefact.load(find_model(name))
                typer.echo(f"{name}: ok (sha256 {loaded.card.weights.sha256[:16]})")
            except (ArtefactError, LookupError) as error:
                failed = True
                typer.echo(f"{name}: {error}", err=True)
        if failed:
            raise typer.Exit(1)

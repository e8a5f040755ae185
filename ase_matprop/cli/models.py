"""``matprop models list | info | verify``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ase_matprop.cli.completion import model_names
from ase_matprop.errors import ArtefactError
from ase_matprop.terminal import clean_errors, print_card, print_fields

if TYPE_CHECKING:
    from ase_matprop.models.folder import FolderCard

app = typer.Typer(help="List, describe, check, import and export models.", no_args_is_help=True)


@app.command("list")
def models_list() -> None:
    """List the shipped models with their measured errors."""
    with clean_errors():
        from ase_matprop.diffraction import shipped
        from ase_matprop.models import ModelCard, list_models
        from ase_matprop.models.registry import read_card

        cards: list[FolderCard] = [read_card(name) for name in list_models()]
        cards += map(shipped.read_card, shipped.list_models().values())
        if not sys.stdout.isatty():
            typer.echo("name,property,unit,inputs,test_rows,test_mae,test_accuracy,elements")
            for card in cards:
                told = card.summary()
                numbers = ("" if value is None else f"{value:.4f}" for value in (told.error, told.accuracy))
                n_elements = len(card.elements) if isinstance(card, ModelCard) else ""
                cells = (card.name, told.property, told.unit, told.inputs, told.n_test, *numbers, n_elements)
                typer.echo(",".join("" if cell is None else str(cell) for cell in cells))
            return
        table = Table("model", "property", "from", "on test rows", "test rows", "elements")
        table.columns[0].no_wrap = True
        for card in cards:
            told = card.summary()
            rows = "" if told.n_test is None else str(told.n_test)
            n_elements = str(len(card.elements)) if isinstance(card, ModelCard) else ""
            table.add_row(card.name, _property(card), _inputs(card), card.headline(), rows, n_elements)
        console = Console()
        console.print(table)
        console.print("matprop models info MODEL shows the card of a model", highlight=False)


def _property(card: FolderCard) -> str:
    from ase_matprop.models import ModelCard
    from ase_matprop.properties import get_property

    if isinstance(card, ModelCard):
        return ", ".join(get_property(name).long_name for name in card.properties)
    return card.summary().property.replace("_", " ")


def _inputs(card: FolderCard) -> str:
    from ase_matprop.descriptors.registry import get_descriptor
    from ase_matprop.models import ModelCard

    if isinstance(card, ModelCard):
        return "structure" if get_descriptor(card.descriptor.name).needs_structure else "formula"
    return card.summary().inputs


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
        from ase_matprop.diffraction import shipped
        from ase_matprop.models import ModelCard
        from ase_matprop.models.registry import read_card

        folder = shipped.find_model(model)
        card = read_card(model) if folder is None else shipped.read_card(folder)
        if as_json:
            typer.echo(card.model_dump_json(indent=2))
        elif isinstance(card, ModelCard):
            print_card(card)
        else:
            print_fields(card)


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
        from ase_matprop.diffraction import shipped
        from ase_matprop.models import artefact, list_models
        from ase_matprop.models.registry import find_model

        failed = False
        for name in models or [*list_models(), *shipped.list_models()]:
            try:
                folder = shipped.find_model(name)
                card = artefact.load(find_model(name)).card if folder is None else shipped.verify(folder)
                typer.echo(f"{name}: ok (sha256 {card.weights.sha256[:16]})")
            except (ArtefactError, LookupError) as error:
                failed = True
                typer.echo(f"{name}: {error}", err=True)
        if failed:
            raise typer.Exit(1)

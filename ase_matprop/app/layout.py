"""What stands on the page before anything happens."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from ase_matprop.app.limits import Limits, in_words
from ase_matprop.app.predicting import Choice
from ase_matprop.app.tuning import REFERENCES, SCHEMES
from ase_matprop.models import DEFAULT_MODEL

EXAMPLES = "Fe2O3\nCa3(PO4)2\nNaCl"
PARTS = {"predict": "Predict", "tune": "Fine-tune", "models": "Models"}
STATES = {"all": "all rows", "good": "no mark", "warned": "marked", "failed": "failed"}


def page(choices: dict[str, Choice], limits: Limits) -> Any:
    """Return the whole page.

    Args:
        choices: models that can be chosen from the start.
        limits: which the texts name.
    """
    return html.Div(
        [
            *_stores(),
            html.A("Skip to the content", href="#main", className="skip"),
            html.Header(
                [
                    html.Div([html.H1("matprop"), html.P("properties of crystals, predicted by neural networks")]),
                    html.Nav(
                        dcc.RadioItems(
                            id="part",
                            options=[{"label": text, "value": name} for name, text in PARTS.items()],
                            value="predict",
                            inline=True,
                            className="parts",
                        ),
                        **{"aria-label": "Parts of the page"},
                    ),
                ]
            ),
            html.Div(id="session-error", role="alert"),
            html.Main(
                [
                    html.Div(_predict(choices, limits), id="part-predict"),
                    html.Div(_tune(choices, limits), id="part-tune", hidden=True),
                    html.Div(_models(), id="part-models", hidden=True),
                ],
                id="main",
            ),
            html.Footer(
                "This page runs on your own machine: what you give it stays here, and is deleted when you close it."
            ),
        ]
    )


def _stores() -> list[Any]:
    return [
        dcc.Store(id="boot", data=1),
        dcc.Store(id="session"),
        dcc.Store(id="theme", data="light"),
        dcc.Store(id="uploaded"),
        dcc.Store(id="version", data=0),
        dcc.Store(id="order", data={"sort": "", "descending": False}),
        dcc.Store(id="page", data=0),
        dcc.Store(id="opened"),
        dcc.Store(id="turned"),
        dcc.Download(id="download"),
        dcc.Interval(id="predict-poll", interval=400, disabled=True),
        dcc.Interval(id="tune-poll", interval=1000, disabled=True),
        dcc.Interval(id="models-poll", interval=500, disabled=True),
    ]


def _predict(choices: dict[str, Choice], limits: Limits) -> list[Any]:
    return [
        section(
            "entries-section",
            "1. Structures and formulas",
            [
                drop(
                    "structures",
                    "Choose files",
                    "or drop them here: POSCAR, CIF, extxyz, vasprun.xml, zip files of these, folders, or a CSV table "
                    f"with a column “formula”. Up to {in_words(limits.upload)} each, {limits.entries:,} structures, "
                    f"{limits.atoms} atoms.",
                    limits,
                ),
                html.Div(
                    [
                        html.Label("Formulas, one on each line or with commas between them", htmlFor="formulas"),
                        dcc.Textarea(
                            id="formulas",
                            value="",
                            placeholder=EXAMPLES,
                            rows=3,
                            className="formulas",
                            spellCheck=False,
                        ),
                        html.Div(
                            [
                                html.Button("Add formulas", id="add-formulas", className="primary"),
                                html.Button("Clear the table", id="clear"),
                            ],
                            className="buttons",
                        ),
                    ],
                    className="field",
                ),
                html.Div(id="notice", role="status", className="notice"),
            ],
        ),
        section(
            "models-section",
            "2. Models",
            [
                html.Div(
                    dcc.Checklist(
                        id="models", options=model_options(choices), value=[DEFAULT_MODEL], className="models"
                    ),
                    role="group",
                    **{"aria-label": "Models to predict with"},
                ),
                html.Div(id="cards", **{"aria-live": "off"}),
            ],
        ),
        run_section("run-section", "Predict", run="run", stop="stop", prefix="predict"),
        section(
            "table-section",
            "4. Table",
            [*_filters(), html.Div(id="table"), _pager(), html.Div(id="failures"), html.Div(id="detail")],
            wide=True,
        ),
        section("compare-section", "5. Compare", _compare(limits)),
        section("phases-section", "6. Phase diagram", _phases()),
    ]


def _filters() -> list[Any]:
    return [
        html.Div(
            [
                field("Name or formula has", dcc.Input(id="filter-text", type="text", value="", debounce=0.3)),
                field("Rows", _select("filter-state", STATES, "all")),
                field("Column of numbers", _select("filter-column", {}, "")),
                field("from", dcc.Input(id="filter-low", type="number", step="any", debounce=0.3, className="short")),
                field("to", dcc.Input(id="filter-high", type="number", step="any", debounce=0.3, className="short")),
            ],
            className="filters",
        ),
        html.Div(id="count", role="status", className="count"),
    ]


def _pager() -> Any:
    return html.Div(
        [
            html.Button("Previous rows", id="previous"),
            html.Button("Next rows", id="next"),
            html.Button("Download CSV", id="download-csv"),
            html.Button("Download JSON", id="download-json"),
        ],
        className="buttons",
    )


def _compare(limits: Limits) -> list[Any]:
    return [
        drop(
            "references",
            "Choose a table of reference values",
            "(CSV) or drop it here: a column “name” or “formula”, and columns of numbers in the unit of the model.",
            limits,
        ),
        html.Div(id="reference-notice", role="status", className="notice"),
        html.Div(
            [
                field("Compare with", _select("baseline", {}, "")),
            ],
            className="filters",
        ),
        html.Div(id="comparison"),
    ]


def _phases() -> list[Any]:
    return [
        html.Div(
            [
                field("Formation energies of", _select("hull-energies", {}, "")),
                field("Chemical system", _select("hull-system", {}, "")),
                field("Beside them", _select("hull-reference", {"": "nothing"}, "")),
            ],
            className="filters",
        ),
        html.Div(id="phases"),
    ]


def _tune(choices: dict[str, Choice], limits: Limits) -> list[Any]:
    shipped = {name: name for name in choices}
    return [
        section(
            "runs-section",
            "1. Your calculations",
            [
                drop(
                    "runs",
                    "Choose runs",
                    "or drop them here: folders or zip files with vasprun.xml or OUTCAR files, one .extxyz file, or a "
                    f"CSV table of formulas. Up to {in_words(limits.upload)} each.",
                    limits,
                ),
                html.Div("no runs yet", id="runs-notice", role="status", className="notice"),
                html.Button("Clear the runs", id="clear-runs"),
            ],
        ),
        section(
            "settings-section",
            "2. Settings",
            [
                html.Div(
                    [
                        field("Model to start from", _select("tune-model", shipped, "schnet-mp")),
                        field("What is trained", _select("tune-scheme", SCHEMES, "TL1")),
                        field("Energies of the elements", _select("tune-references", REFERENCES, "")),
                        field("Name of the new model", dcc.Input(id="tune-name", type="text", value="my-model")),
                        field("Column of a table (if any)", dcc.Input(id="tune-column", type="text", value="")),
                        field(
                            "Most epochs (empty: default)",
                            dcc.Input(id="tune-epochs", type="number", min=1, max=10_000, step=1),
                        ),
                    ],
                    className="filters",
                ),
                dcc.Checklist(
                    id="tune-scratch",
                    options=[{"label": "train random weights too, for comparison (takes longer)", "value": "scratch"}],
                    value=["scratch"],
                ),
            ],
        ),
        run_section("tune-section", "Fine-tune", run="tune-run", stop="tune-stop", prefix="tune"),
        section("report-section", "4. Report", [html.Div(id="report")], wide=True),
    ]


def _models() -> list[Any]:
    return [
        section(
            "verify-section",
            "Check the models",
            [
                html.P("Hash of the weights, shapes and card of every model that can be chosen."),
                html.Button("Verify", id="verify", className="primary"),
                *progress("models"),
                html.Div(id="verified"),
            ],
        ),
        section(
            "downloads-section",
            "Weights that others published",
            [
                html.P(id="downloads-folder"),
                html.Div(id="downloads"),
                html.Div(html.Button("Stop the download", id="models-stop", disabled=True), className="buttons"),
            ],
        ),
    ]


def section(name: str, title: str, children: list[Any], *, wide: bool = False) -> Any:
    """Return a part of the page with a heading; ``name`` is its id."""
    return html.Section(
        [html.H2(title, id=f"{name}-heading"), *children],
        id=name,
        className="wide card" if wide else "card",
        **{"aria-labelledby": f"{name}-heading"},
    )


def run_section(name: str, label: str, *, run: str, stop: str, prefix: str) -> Any:
    """Return the part of the page where a job is started and stopped, and shows how far it is."""
    buttons = [html.Button(label, id=run, className="primary"), html.Button("Stop", id=stop, disabled=True)]
    return section(name, "3. Run", [html.Div(buttons, className="buttons"), *progress(prefix)])


def field(label: str, control: Any) -> Any:
    """Return a control with its label."""
    name = f"{control.id}-label"  # lists of Dash are named by their values only, so that the group has the label
    return html.Div(
        [html.Label(label, htmlFor=control.id, id=name), control],
        className="field",
        role="group",
        **{"aria-labelledby": name},
    )


def drop(purpose: str, title: str, text: str, limits: Limits) -> Any:
    """Return a place for files, which upload.js furnishes."""
    data = {"data-purpose": purpose, "data-title": title, "data-text": text, "data-most": str(limits.upload)}
    return html.Div(id=f"drop-{purpose}", className="drop", **data)


def progress(name: str) -> list[Any]:
    """Return a bar, what is done in words, and the same for screen readers, which changes less often."""
    return [
        html.Progress(id=f"{name}-bar", value="0", max="1", hidden=True, **{"aria-label": "progress"}),
        html.Div(id=f"{name}-text", className="progress-text"),
        html.Div(id=f"{name}-said", role="status", className="visually-hidden"),
    ]


def model_options(choices: dict[str, Choice]) -> list[dict[str, Any]]:
    """Return the options of the list of models."""
    return [
        {"label": html.Span([html.B(name), html.Span(f" {_summary(choice)}")]), "value": name}
        for name, choice in choices.items()
    ]


def options(names: dict[str, str]) -> list[dict[str, str]]:
    """Return the options of a list: value -> text."""
    return [{"label": text, "value": value} for value, text in names.items()]


def _summary(choice: Choice) -> str:
    from ase_matprop.properties import get_property

    card = choice.card
    what = " and ".join(get_property(name).long_name for name in card.properties)
    needs = "from structures" if choice.needs_structure else "from formulas or structures"
    origin = "" if choice.origin == "shipped" else f", {choice.origin}"
    return f"{what}, {needs}, {card.headline() or 'error not measured'}{origin}"


def _select(name: str, names: dict[str, str], value: str) -> Any:
    return dcc.Dropdown(id=name, options=options(names), value=value, clearable=False, searchable=False)

"""The table, one of its structures in three dimensions, and downloads."""

from __future__ import annotations

from typing import Any

from dash import ALL, ClientsideFunction, Input, Output, State, ctx, dcc, html, no_update

from ase_matprop.app import downloads, rows, viewer
from ase_matprop.app.callbacks.common import hint, scrolling, session_of
from ase_matprop.app.layout import options
from ase_matprop.app.sessions import Session
from ase_matprop.app.state import State as ServerState
from ase_matprop.structures import StructureEntry

ROWS_AT_ONCE = 50
_MOST_REASONS, _FEW_REASONS = 100, 8


def register(app: Any, state: ServerState) -> None:
    """Add the callbacks."""

    def whole_table(token: object) -> rows.Table | None:
        session = session_of(state, token)
        if session is None:
            return None
        return rows.build(session, {name: choice.card for name, choice in state.choices(session).items()})

    def show(
        _version: object, order: dict[str, Any], page: int, text: str | None, chosen: str, column: str | None, low: Any,
        high: Any, token: object,
    ) -> tuple[Any, ...]:  # fmt: skip
        table = whole_table(token)
        if table is None or not table.rows:
            return hint("Nothing here yet: add structures or formulas above."), "", True, True, True, True, [], []
        view = rows.View(
            order["sort"], order["descending"], text or "", chosen, column or "", number_of(low), number_of(high)
        )
        found = rows.arrange(table, view)
        first = min(page * ROWS_AT_ONCE, max(0, (len(found) - 1) // ROWS_AT_ONCE * ROWS_AT_ONCE))
        shown = found[first : first + ROWS_AT_ONCE]
        named = {key.key: " · ".join(filter(None, (key.model, key.title))) for key in table.columns if key.numeric}
        return (
            table_of(table, shown, view) if shown else hint("No row is like this; change the filters."),
            counted(table, found, first, len(shown)),
            first == 0,
            first + ROWS_AT_ONCE >= len(found),
            False,
            False,
            options(named),
            failures_of(table, found),
        )

    def sort(_clicks: list[int | None], order: dict[str, Any]) -> tuple[Any, Any]:
        if not isinstance(ctx.triggered_id, dict) or not any(_clicks):
            return no_update, no_update
        return next_order(order, ctx.triggered_id["key"]), 0

    def turn_page(_previous: object, _next: object, page: int, *_: object) -> int:
        step = {"previous": -1, "next": 1}.get(str(ctx.triggered_id))
        return 0 if step is None else max(0, page + step)

    def open_row(clicks: list[int | None], token: object) -> Any:
        if not isinstance(ctx.triggered_id, dict) or not any(clicks):
            return no_update
        session, number = session_of(state, token), int(ctx.triggered_id["number"])
        if session is None or number >= len(session.entries):
            return no_update
        return {"number": number, "name": session.entries[number].name, "times": sum(filter(None, clicks))}

    def show_detail(opened: dict[str, Any] | None, version: object, theme: str, token: object) -> Any:
        session = session_of(state, token)
        table = whole_table(token)
        if session is None or table is None or not opened or opened["number"] >= len(table.rows):
            return []
        row = table.rows[opened["number"]]
        if row.cells["name"].text != opened["name"]:  # the table was cleared meanwhile
            return []
        return detail(session, table, row, dark=theme == "dark")

    def download(_csv: object, _json: object, token: object) -> Any:
        session = session_of(state, token)
        if session is None or not session.entries:
            return no_update
        form = "json" if ctx.triggered_id == "download-json" else "csv"
        return {"content": downloads.as_text(session, form), "filename": f"matprop.{form}",
                "type": "text/csv" if form == "csv" else "application/json"}  # fmt: skip

    filters = ("filter-text", "filter-state", "filter-column", "filter-low", "filter-high")
    app.callback(
        Output("table", "children"),
        Output("count", "children"),
        Output("previous", "disabled"),
        Output("next", "disabled"),
        Output("download-csv", "disabled"),
        Output("download-json", "disabled"),
        Output("filter-column", "options"),
        Output("failures", "children"),
        Input("version", "data"),
        Input("order", "data"),
        Input("page", "data"),
        *(Input(name, "value") for name in filters),
        State("session", "data"),
    )(show)
    app.callback(
        Output("order", "data"),
        Output("page", "data", allow_duplicate=True),
        Input({"type": "sort", "key": ALL}, "n_clicks"),
        State("order", "data"),
        prevent_initial_call=True,
    )(sort)
    app.callback(
        Output("page", "data"),
        Input("previous", "n_clicks"),
        Input("next", "n_clicks"),
        State("page", "data"),
        *(Input(name, "value") for name in filters),
        prevent_initial_call=True,
    )(turn_page)
    app.callback(
        Output("opened", "data"),
        Input({"type": "open", "number": ALL}, "n_clicks"),
        State("session", "data"),
        prevent_initial_call=True,
    )(open_row)
    app.callback(
        Output("detail", "children"),
        Input("opened", "data"),
        Input("version", "data"),
        Input("theme", "data"),
        State("session", "data"),
    )(show_detail)
    app.clientside_callback(
        ClientsideFunction("matprop", "turn"),
        Output("structure-figure", "figure"),
        Output("turned", "data"),
        *(Input(f"turn-{name}", "n_clicks") for name in ("left", "right", "up", "down", "near", "far")),
        State("structure-figure", "figure"),
        State("turned", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("matprop", "show_detail"),
        Output("turned", "data", allow_duplicate=True),
        Input("opened", "data"),
        prevent_initial_call=True,
    )
    app.callback(
        Output("download", "data"),
        Input("download-csv", "n_clicks"),
        Input("download-json", "n_clicks"),
        State("session", "data"),
        prevent_initial_call=True,
    )(download)


def number_of(value: Any) -> float | None:
    """Return a number that was typed, None for none."""
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None


def next_order(order: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the order after a click on a heading: ascending, then descending, then as it came."""
    if order["sort"] != key:
        return {"sort": key, "descending": False}
    return {"sort": "", "descending": False} if order["descending"] else {"sort": key, "descending": True}


def counted(table: rows.Table, found: list[rows.Row], first: int, n_shown: int) -> str:
    """Return in words which rows are shown, and how many are marked."""
    counts = rows.counts(table.rows)
    some = f"Rows {first + 1:,} to {first + n_shown:,} of {len(found):,}" if n_shown else "No rows"
    if len(found) < len(table.rows):
        some += f" (filtered, {len(table.rows):,} in all)"
    return f"{some}; {counts['failed']:,} failed, {counts['warned']:,} marked."


def table_of(table: rows.Table, shown: list[rows.Row], view: rows.View) -> Any:
    """Return the table of some rows."""
    models = [column.model for column in table.columns]
    groups: list[tuple[str, int]] = []
    for model in models:
        if groups and groups[-1][0] == model:
            groups[-1] = (model, groups[-1][1] + 1)
        else:
            groups.append((model, 1))
    group_row = html.Tr([html.Th(name, colSpan=n, scope="colgroup", className="group") for name, n in groups])
    head = [group_row] if len(groups) > 1 else []
    caption = "Structures and formulas with what was predicted for them. Press a heading to sort, a name to see more."
    return scrolling(
        html.Table(
            [
                html.Caption(caption, className="visually-hidden"),
                html.Thead([*head, html.Tr([_heading(column, view) for column in table.columns])]),
                html.Tbody([html.Tr([_cell(row, column) for column in table.columns]) for row in shown]),
            ],
            className="results",
        ),
        "Table of results",
    )


def _heading(column: rows.Column, view: rows.View) -> Any:
    active = view.sort == column.key
    arrow = (" ▼" if view.descending else " ▲") if active else ""
    order = ("descending" if view.descending else "ascending") if active else "none"
    unit = [html.Span(f" ({column.unit})", className="unit")] if column.unit else []
    button = html.Button([column.title, *unit, arrow], id={"type": "sort", "key": column.key}, className="sort")
    return html.Th(button, scope="col", className="number" if column.numeric else "", **{"aria-sort": order})


def _cell(row: rows.Row, column: rows.Column) -> Any:
    cell = row.cells.get(column.key, rows.Cell())
    if column.key == "name":
        content: list[Any] = [html.Button(cell.text, id={"type": "open", "number": row.number}, className="open")]
        if cell.flag:
            content += [" ", badge(cell)]
        return html.Th(content, scope="row")
    if cell.flag == "failed":
        return html.Td(badge(cell))
    content = [cell.text, *([" ", badge(cell)] if cell.flag else [])]
    return html.Td(content, className="number" if column.numeric else "")


def failures_of(table: rows.Table, found: list[rows.Row]) -> Any:
    """Return the reasons of the rows that are shown, on this page or another, and have failed; equal ones once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in found:
        for model, reason in row.failures.items():
            reasons.setdefault((model, reason), []).append(row.cells["name"].text)
    if not reasons:
        return []
    items = [
        html.Li([html.B(_some(names)), f" – {model}: {reason}" if model else f" – {reason}"])  # noqa: RUF001  a dash
        for (model, reason), names in list(reasons.items())[:_MOST_REASONS]
    ]
    more = len(reasons) - len(items)
    if more:
        items.append(html.Li(f"and {more} other reasons, in the downloads"))
    n = sum(bool(row.failures) for row in found)
    summary = html.Summary(f"✕ {n} row{'s' * (n != 1)} failed: why")
    return html.Details([summary, html.Ul(items)], open=len(items) <= _FEW_REASONS, className="failures")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def badge(cell: rows.Cell) -> Any:
    """Return the mark of a cell: sign, word and colour."""
    sign, words = rows.FLAGS[cell.flag]
    return html.Span([html.Span(sign, **{"aria-hidden": "true"}), f" {words}"], className=f"badge {cell.flag}",
                     title=cell.note)  # fmt: skip


def detail(session: Session, table: rows.Table, row: rows.Row, *, dark: bool) -> Any:
    """Return what there is to know of an entry, with its picture."""
    entry = session.entries[row.number]
    texts: list[Any] = [html.H3(entry.name, id="detail-heading", tabIndex=-1, **{"data-number": str(row.number)})]
    texts += [
        html.P([html.Span("✕ ", className="sign"), f"{model}: {reason}" if model else reason], className="problem")
        for model, reason in row.failures.items()
    ]
    notes = [
        (" · ".join(filter(None, (column.model, column.title))), row.cells[column.key])
        for column in table.columns
        if column.key in row.cells and row.cells[column.key].flag not in ("", "failed")
    ]
    texts += [html.P([badge(cell), f" {name}: {cell.note}"]) for name, cell in notes]
    atoms = entry.atoms if isinstance(entry, StructureEntry) else None
    if atoms is None:
        if entry.error is None:
            texts.append(hint("This is a formula: it has no structure to show."))
        return html.Div(texts, className="detail")
    terms = [("formula", entry.formula), *viewer.facts(atoms)]
    texts.append(html.Dl([html.Div([html.Dt(term), html.Dd(text)]) for term, text in terms]))
    words = (("left", "← Turn left"), ("right", "→ Turn right"), ("up", "↑ Tilt up"), ("down", "↓ Tilt down"),
             ("near", "+ Nearer"), ("far", "− Farther"))  # fmt: skip  # noqa: RUF001
    buttons = [html.Button(text, id=f"turn-{name}") for name, text in words]
    graph = dcc.Graph(
        id="structure-figure",
        figure=viewer.structure_figure(atoms, dark=dark),
        config={
            "displaylogo": False,
            "responsive": True,
            "modeBarButtonsToRemove": ["tableRotation", "resetCameraLastSave3d"],
        },
        style={"height": "100%"},
    )
    picture = html.Div(
        graph,
        className="structure",
        role="figure",
        **{"aria-label": f"Unit cell of {entry.formula}, described beside it"},
    )
    return html.Div(
        [html.Div(texts), html.Div([picture, html.Div(buttons, className="buttons small")])], className="detail two"
    )

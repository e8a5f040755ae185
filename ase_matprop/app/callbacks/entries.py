"""The session of a tab, and the structures and formulas in it."""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Input, Output, State, ctx, no_update

from ase_matprop.app.callbacks.common import problem
from ase_matprop.app.formulas import formula_entries
from ase_matprop.app.sessions import Session, SessionError
from ase_matprop.app.state import State as ServerState


def register(app: Any, state: ServerState) -> None:
    """Add the callbacks."""

    def open_session(_: object) -> tuple[Any, Any]:
        try:
            return state.sessions.open().token, []
        except SessionError as error:
            return no_update, problem(str(error))

    def change(_add: object, _clear: object, uploaded: dict | None, text: str | None, token: object) -> tuple[Any, ...]:
        try:
            session = state.sessions.get(token)
        except SessionError as error:
            return no_update, no_update, no_update, problem(str(error))
        if ctx.triggered_id == "clear":
            stop_all(session)
            session.clear()
            return session.version, "The table is empty.", no_update, []
        if ctx.triggered_id == "add-formulas":
            notice, left = add_formulas(session, text or "")
            return session.version, notice, left, []
        return session.version, upload_notice(uploaded or {}), no_update, []

    app.clientside_callback(
        ClientsideFunction("matprop", "opened"),
        Output("theme", "data"),
        Input("session", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("matprop", "part"),
        Output("part-predict", "hidden"),
        Output("part-tune", "hidden"),
        Output("part-models", "hidden"),
        Input("part", "value"),
    )
    app.callback(Output("session", "data"), Output("session-error", "children"), Input("boot", "data"))(open_session)
    app.callback(
        Output("version", "data", allow_duplicate=True),
        Output("notice", "children"),
        Output("formulas", "value"),
        Output("session-error", "children", allow_duplicate=True),
        Input("add-formulas", "n_clicks"),
        Input("clear", "n_clicks"),
        Input("uploaded", "data"),
        State("formulas", "value"),
        State("session", "data"),
        prevent_initial_call=True,
    )(change)


def stop_all(session: Session) -> None:
    """Stop the prediction of a session, whose entries go."""
    if "predict" in session.jobs:
        session.jobs["predict"].cancel()


def add_formulas(session: Session, text: str) -> tuple[str, str]:
    """Add the formulas of a text; return what to say, and what stays in the field."""
    found = list(formula_entries(text, room=session.room))
    if not found:
        return "Type a formula first, such as Fe2O3.", text
    session.add(found)
    failed = [entry for entry in found if entry.error is not None]
    said = f"{len(found) - len(failed)} formula{'s' * (len(found) - len(failed) != 1)} added."
    if failed:
        said += f" ✕ {len(failed)} cannot be read: " + "; ".join(str(entry.error) for entry in failed[:5])
    return said, ""


def upload_notice(uploaded: dict[str, Any]) -> Any:
    """Return what to say after files came."""
    if uploaded.get("purpose") != "structures":
        return no_update
    added, failed = int(uploaded.get("added", 0)), int(uploaded.get("failed", 0))
    refused = [str(text) for text in uploaded.get("refused", [])]
    said = f"{added - failed} entr{'y' if added - failed == 1 else 'ies'} added."
    if failed:
        said += f" ✕ {failed} cannot be used; the table says why."
    if refused:
        said += " ✕ " + "; ".join(refused[:5])
    return said

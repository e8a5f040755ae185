"""Choosing models, and predicting with them."""

from __future__ import annotations

from typing import Any

from dash import Input, Output, State, html, no_update

from ase_matprop.app.callbacks.common import follow_job, hint, problem, session_of
from ase_matprop.app.jobs import Job
from ase_matprop.app.layout import model_options
from ase_matprop.app.predicting import Choice, predict_all
from ase_matprop.app.sessions import Session, SessionError
from ase_matprop.app.state import State as ServerState
from ase_matprop.models.card import ModelCard
from ase_matprop.properties import get_property


def register(app: Any, state: ServerState) -> None:
    """Add the callbacks."""

    def show_options(_: object, token: object) -> Any:
        return model_options(state.choices(session_of(state, token)))

    def show_cards(names: list[str] | None, token: object) -> Any:
        known = state.choices(session_of(state, token))
        chosen = [known[name] for name in names or [] if name in known]
        return [card_details(choice) for choice in chosen] or hint("Choose one model or more.")

    def start(_: object, names: list[str] | None, token: object) -> tuple[Any, ...]:
        try:
            session = state.sessions.get(token)
        except SessionError as error:
            return no_update, problem(str(error)), no_update, no_update
        known = state.choices(session)
        fault = begin(state, session, [known[name] for name in names or [] if name in known])
        if fault:
            return True, problem(fault), no_update, no_update
        return False, "", True, False

    app.callback(Output("models", "options"), Input("version", "data"), State("session", "data"))(show_options)
    app.callback(Output("cards", "children"), Input("models", "value"), State("session", "data"))(show_cards)
    app.callback(
        Output("predict-poll", "disabled", allow_duplicate=True),
        Output("predict-text", "children", allow_duplicate=True),
        Output("run", "disabled", allow_duplicate=True),
        Output("stop", "disabled", allow_duplicate=True),
        Input("run", "n_clicks"),
        State("models", "value"),
        State("session", "data"),
        prevent_initial_call=True,
    )(start)
    follow_job(app, state, "predict", prefix="predict", run="run", stop="stop")


def begin(state: ServerState, session: Session, chosen: list[Choice]) -> str:
    """Start to predict; return why that is not possible, or an empty text."""
    if not session.entries:
        return "There is nothing to predict yet: add structures or formulas first."
    if not chosen:
        return "No model is chosen: choose one or more."
    with session.lock:
        running = session.jobs.get("predict")
        if running is not None and running.active and not running.cancelled:
            return "A prediction is running: wait, or stop it."
        session.runs = {}
        session.version += 1
        job = session.jobs["predict"] = Job(len(session.entries) * len(chosen))
    state.predictions.start(job, lambda job: predict_all(job, session, chosen))
    return ""


def card_details(choice: Choice) -> Any:
    """Return the card of a model, folded."""
    rows = [html.Div([html.Dt(term), html.Dd(text)]) for term, text in card_facts(choice.card)]
    return html.Details([html.Summary(f"Card of {choice.name}"), html.Dl(rows)], className="model-card")


def card_facts(card: ModelCard) -> list[tuple[str, str]]:
    """Return what a card says, in terms and texts."""
    facts = [("what it is", card.description)]
    for name in card.properties:
        each = get_property(name)
        facts.append((each.long_name, f"{f'in {each.unit}; ' if each.unit else ''}{each.convention}"))
    test = card.errors.get("test")
    if test is not None:
        facts.append(
            (
                "error",
                f"MAE {test.mae:.4f}, median {test.median:.4f}, RMSE {test.rmse:.4f} {card.unit} on {test.n:,} rows",
            )
        )
    for name, parts in card.further_errors.items():
        if "test" in parts:
            each = get_property(name)
            facts.append(
                (
                    f"error, {each.long_name}",
                    f"MAE {parts['test'].mae:.4f} {each.unit} on {parts['test'].n:,} test rows",
                )
            )
    if "test" in card.classification:
        found = card.classification["test"]
        facts.append(("accuracy", f"{found.accuracy:.4f} on {found.n:,} test rows"))
    rows = ", ".join(f"{name} {n:,}" for name, n in card.training_set.rows.items())
    facts += [
        ("training set", f"{card.training_set.name} ({card.training_set.licence}); rows: {rows}"),
        (f"{len(card.elements)} elements", " ".join(card.elements)),
        ("cite", "; ".join(card.citation)),
    ]
    return facts + [("note", note) for note in card.notes]

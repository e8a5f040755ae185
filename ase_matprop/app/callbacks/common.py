"""What several callbacks need."""

from __future__ import annotations

from typing import Any

from dash import Input, Output, html, no_update
from dash import State as Given

from ase_matprop.app.jobs import Job
from ase_matprop.app.sessions import Session, SessionError
from ase_matprop.app.state import State


def session_of(state: State, token: object) -> Session | None:
    """Return the session of a tab, None where it is over: the page says so when it is opened or used."""
    try:
        return state.sessions.get(token)
    except SessionError:
        return None


def problem(text: str) -> Any:
    """Return a message about something that went wrong."""
    return html.P([html.Span("✕ ", className="sign"), text], className="problem")


def hint(text: str) -> Any:
    """Return a message about what to do next."""
    return html.P(text, className="hint")


def bar(job: Job | None) -> tuple[Any, bool, str, str]:
    """Return for a job the value of its bar, whether that is hidden, the text, and what is said aloud.

    What is said changes in steps of a quarter, so that a screen reader is not interrupted all the time.
    """
    if job is None:
        return "0", True, "", ""
    text = job.message[:1].upper() + job.message[1:]
    if not job.active:
        sign = {"done": "✓", "failed": "✕"}.get(job.state, "■")
        return "1", True, f"{sign} {text}", text
    value = f"{job.share:.3f}" if job.total else None
    quarter = int(4 * job.share) * 25
    return value, False, text, f"{quarter} percent" if job.total else "working"


def follow_job(
    app: Any, state: State, job_name: str, *, prefix: str, run: str, stop: str, version_while_active: bool = True
) -> None:
    """Add the callbacks that show how far a job of the session is, and that stop it.

    Args:
        app: of Dash.
        state: of the server.
        job_name: of the job in the session.
        prefix: of the ids of its bar, texts and timer.
        run: id of the button that starts it, which is disabled while it runs.
        stop: id of the button that stops it, which is enabled while it runs.
        version_while_active: whether the page looks for changes of the session before the job is done.
    """

    def look(_: object, token: object, version: object) -> tuple[Any, ...]:
        session = session_of(state, token)
        job = session.jobs.get(job_name) if session is not None else None
        active = job is not None and job.active
        looked_for = session is not None and (version_while_active or not active)
        now = session.version if session is not None and looked_for else version
        return *bar(job), not active, active, not active, now if now != version else no_update

    def end(_: object, token: object) -> bool:
        session = session_of(state, token)
        if session is not None and job_name in session.jobs:
            session.jobs[job_name].cancel()
        return True

    app.callback(
        Output(f"{prefix}-bar", "value"),
        Output(f"{prefix}-bar", "hidden"),
        Output(f"{prefix}-text", "children"),
        Output(f"{prefix}-said", "children"),
        Output(f"{prefix}-poll", "disabled"),
        Output(run, "disabled"),
        Output(stop, "disabled"),
        Output("version", "data", allow_duplicate=True),
        Input(f"{prefix}-poll", "n_intervals"),
        Given("session", "data"),
        Given("version", "data"),
        prevent_initial_call=True,
    )(look)
    app.callback(
        Output(stop, "disabled", allow_duplicate=True),
        Input(stop, "n_clicks"),
        Given("session", "data"),
        prevent_initial_call=True,
    )(end)


def table(headings: list[str], rows: list[list[Any]], caption: str, numbers: tuple[int, ...] = ()) -> Any:
    """Return a table.

    Args:
        headings: of the columns.
        rows: cells; the first one of a row is its heading.
        caption: what the table has, for screen readers.
        numbers: which columns have numbers.
    """

    def kind(number: int) -> str:
        return "number" if number in numbers else ""

    head = html.Tr([html.Th(text, scope="col", className=kind(n)) for n, text in enumerate(headings)])
    body = [
        html.Tr(
            [
                html.Th(row[0], scope="row"),
                *(html.Td(cell, className=kind(n)) for n, cell in enumerate(row[1:], start=1)),
            ]
        )
        for row in rows
    ]
    parts = [html.Caption(caption, className="visually-hidden"), html.Thead(head), html.Tbody(body)]
    return scrolling(html.Table(parts, className="plain"), caption)


def scrolling(child: Any, label: str) -> Any:
    """Return a region that scrolls sideways where it has to, with the keyboard too."""
    return html.Div(child, className="scroll", tabIndex=0, role="region", **{"aria-label": label})

"""Fine-tuning from the page."""

from __future__ import annotations

from typing import Any

from dash import Input, Output, State, html, no_update

from ase_matprop.app.callbacks.common import follow_job, hint, problem, session_of
from ase_matprop.app.jobs import Job
from ase_matprop.app.layout import options
from ase_matprop.app.sessions import Session, SessionError
from ase_matprop.app.state import State as ServerState
from ase_matprop.app.tuning import Tuning, TuningSettings, new_output, tune
from ase_matprop.errors import MatPropError


def register(app: Any, state: ServerState) -> None:
    """Add the callbacks."""

    def show_runs(uploaded: dict[str, Any] | None, _clear: object, _version: object, token: object) -> Any:
        session = session_of(state, token)
        if session is None:
            return "no runs yet"
        return runs_notice(session, uploaded or {})

    def clear(_: object, token: object) -> Any:
        session = session_of(state, token)
        if session is None:
            return no_update
        forget_runs(session)
        return session.version

    def start(_: object, *values: Any) -> tuple[Any, ...]:
        *settings, token = values
        try:
            session = state.sessions.get(token)
            begin(state, session, *settings)
        except (SessionError, MatPropError) as error:
            return True, problem(str(error)), no_update, no_update
        return False, "", True, False

    def show_report(_: object, token: object) -> Any:
        session = session_of(state, token)
        return report_of(session.tuning if session is not None else None)

    def offer(_: object, token: object) -> Any:
        return options({name: name for name in state.choices(session_of(state, token))})

    app.callback(
        Output("runs-notice", "children"),
        Input("uploaded", "data"),
        Input("clear-runs", "n_clicks"),
        Input("version", "data"),
        State("session", "data"),
        prevent_initial_call=True,
    )(show_runs)
    app.callback(
        Output("version", "data", allow_duplicate=True),
        Input("clear-runs", "n_clicks"),
        State("session", "data"),
        prevent_initial_call=True,
    )(clear)
    app.callback(
        Output("tune-poll", "disabled", allow_duplicate=True),
        Output("tune-text", "children", allow_duplicate=True),
        Output("tune-run", "disabled", allow_duplicate=True),
        Output("tune-stop", "disabled", allow_duplicate=True),
        Input("tune-run", "n_clicks"),
        *(State(f"tune-{name}", "value")
          for name in ("model", "name", "scheme", "references", "column", "epochs", "scratch")),
        State("session", "data"),
        prevent_initial_call=True,
    )(start)  # fmt: skip
    follow_job(app, state, "tune", prefix="tune", run="tune-run", stop="tune-stop", version_while_active=False)
    app.callback(
        Output("report", "children"), Input("tune-poll", "disabled"), State("session", "data")
    )(show_report)  # fmt: skip
    app.callback(Output("tune-model", "options"), Input("version", "data"), State("session", "data"))(offer)


def begin(
    state: ServerState, session: Session, model: str | None, name: str | None, scheme: str, references: str | None,
    column: str | None, epochs: int | None, scratch: list[str] | None,
) -> None:  # fmt: skip
    """Start a fine-tuning.

    Raises:
        MatPropError: if something is missing or cannot be used.
    """
    if session.calculations is None:
        raise MatPropError("There are no runs yet: give files of your calculations first.")
    choice = state.choices(session).get(model or "")
    if choice is None:
        raise MatPropError("No model to start from is chosen.")
    with session.lock:
        running = session.jobs.get("tune")
        if running is not None and running.active and not running.cancelled:
            raise MatPropError("A fine-tuning is running: wait, or stop it.")
        settings = TuningSettings(
            choice.folder, (name or "").strip(), session.calculations.data, scheme, references or "",
            (column or "").strip(), None if epochs is None else int(epochs), bool(scratch),
        )  # fmt: skip
        settings.check()
        tuning = session.tuning = Tuning(settings, new_output(session, settings.name))
        job = session.jobs["tune"] = Job()
    state.tunings.start(job, lambda job: tune(job, session, tuning))


def forget_runs(session: Session) -> None:
    """Delete the uploaded runs, unless they are being learnt from."""
    import shutil

    with session.lock:
        job = session.jobs.get("tune")
        if session.calculations is not None and (job is None or not job.active):
            shutil.rmtree(session.calculations.folder, ignore_errors=True)
            session.calculations = None
            session.version += 1


def runs_notice(session: Session, uploaded: dict[str, Any]) -> Any:
    """Return in words what was uploaded, and what was refused."""
    found = session.calculations
    parts: list[Any] = [html.P("no runs yet" if found is None else found.summary())]
    refused = dict(found.refused) if found is not None else {}
    parts += [problem(f"{name} {reason}") for name, reason in list(refused.items())[:10]]
    if len(refused) > 10:
        parts.append(problem(f"and {len(refused) - 10} more files that cannot be used"))
    if uploaded.get("purpose") == "runs":
        told = set(refused)
        parts += [problem(str(text)) for text in uploaded.get("refused", []) if not any(name in text for name in told)]
    return parts


def report_of(tuning: Tuning | None) -> Any:
    """Return the report of a fine-tuning in a frame in which nothing is executed."""
    text = tuning.report() if tuning is not None else None
    if text is None:
        return hint("The report is shown here when a fine-tuning is done.")
    return html.Iframe(srcDoc=text, sandbox="", title="Report of the fine-tuning", className="report")

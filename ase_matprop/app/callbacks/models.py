"""Checking models, and downloading weights that others published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dash import ALL, Input, Output, State, ctx, html, no_update

from ase_matprop.app.callbacks.common import follow_job, session_of, table
from ase_matprop.app.jobs import Job
from ase_matprop.app.predicting import downloaded_folders
from ase_matprop.app.sessions import Session
from ase_matprop.app.state import State as ServerState
from ase_matprop.errors import MatPropError
from ase_matprop.models import list_models


def register(app: Any, state: ServerState) -> None:
    """Add the callbacks."""

    def start(_verify: object, downloads: list[int | None], token: object) -> tuple[Any, ...]:
        session = session_of(state, token)
        if session is None or not (ctx.triggered_id == "verify" or any(downloads)):
            return no_update, no_update, no_update
        running = session.jobs.get("models")
        if running is not None and running.active:
            return False, no_update, no_update
        job = session.jobs["models"] = Job()
        if ctx.triggered_id == "verify":
            state.others.start(job, lambda job: verify(job, session, state.models_folder))
            return False, True, True
        name = str(ctx.triggered_id["name"])
        state.others.start(job, lambda job: download(job, session, state.models_folder, name))
        return False, True, False

    def show_verified(_: object, token: object) -> Any:
        session = session_of(state, token)
        return verified(session.checked) if session is not None else []

    def show_downloads(_: object) -> tuple[Any, Any]:
        where = f"Models are kept in {state.models_folder}, also after you close this page; delete them there."
        return remote_table(downloaded_folders(state.models_folder)), where

    app.callback(
        Output("models-poll", "disabled", allow_duplicate=True),
        Output("verify", "disabled", allow_duplicate=True),
        Output("models-stop", "disabled", allow_duplicate=True),
        Input("verify", "n_clicks"),
        Input({"type": "download-model", "name": ALL}, "n_clicks"),
        State("session", "data"),
        prevent_initial_call=True,
    )(start)
    follow_job(app, state, "models", prefix="models", run="verify", stop="models-stop")
    app.callback(Output("verified", "children"), Input("models-poll", "disabled"), State("session", "data"))(
        show_verified
    )
    app.callback(
        Output("downloads", "children"), Output("downloads-folder", "children"), Input("version", "data")
    )(show_downloads)  # fmt: skip


def verify(job: Job, session: Session, models_folder: Path) -> str:
    """Check every model as ``matprop models verify`` does; the session gets name -> what was found."""
    from ase_matprop.models import artefact

    folders = {**list_models(), **downloaded_folders(models_folder), **session.models}
    job.total = len(folders)
    session.checked = {}
    for number, (name, folder) in enumerate(folders.items()):
        job.step(number, f"checking {name}")
        try:
            found = artefact.load(folder)
            session.checked[name] = (True, f"sha256 {found.card.weights.sha256[:16]}…")
        except (MatPropError, LookupError, OSError) as error:
            session.checked[name] = (False, str(error))
    bad = sum(not good for good, _ in session.checked.values())
    return f"{len(folders) - bad} of {len(folders)} models are as they should be"


def download(job: Job, session: Session, models_folder: Path, name: str) -> str:
    """Fetch published weights into the user's folder of models.

    Raises:
        MatPropError: if that fails; the message says why.
    """
    from ase_matprop.models.exchange import download_model

    models_folder.mkdir(parents=True, exist_ok=True)

    def progress(done: int, total: int | None) -> None:
        job.total = total or 0
        job.step(done, f"{name}: {done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f} MB" if total else ""))

    job.message = f"asking for {name}"
    folder = download_model(name, models_folder / name, progress=progress)
    with session.lock:
        session.version += 1
    return f"{name} is in {folder} and can be chosen now"


def verified(checked: dict[str, tuple[bool, str]]) -> Any:
    """Return what a check found."""
    rows = []
    for name, (good, text) in checked.items():
        sign, word, flag = ("✓", "as it should be", "good") if good else ("✕", "not usable", "failed")
        rows.append(
            [name, html.Span([html.Span(sign, **{"aria-hidden": "true"}), f" {word}"], className=f"badge {flag}"), text]
        )
    return table(["model", "state", "what was found"], rows, "Checked models") if rows else []


def remote_table(there: dict[str, Path]) -> Any:
    """Return what can be downloaded."""
    from ase_matprop.models.exchange import list_remote_models

    rows = []
    for name, remote in list_remote_models().items():
        button = html.Button(
            "Downloaded" if name in there else "Download", id={"type": "download-model", "name": name},
            disabled=name in there, **{"aria-label": f"Download {name}"},
        )  # fmt: skip
        checked = "checked by its hash" if remote.sha256 else "hash not known"
        rows.append(
            [name, remote.network, f"{remote.megabytes:,} MB", f"{remote.licence}; {checked}", remote.citation, button]
        )
    return table(
        ["name", "network", "size", "licence", "cite", ""], rows, "Weights that others published", numbers=(2,)
    )

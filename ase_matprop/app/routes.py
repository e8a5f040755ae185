"""Addresses of the server beside those of Dash: uploads, and the signs that a tab gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from flask import Flask, Response, jsonify, request

from ase_matprop.app import runs, security
from ase_matprop.app.archives import UploadError
from ase_matprop.app.limits import MB
from ase_matprop.app.reference_values import ValueTable, formulas_of, match
from ase_matprop.app.sessions import Session, SessionError
from ase_matprop.app.state import State
from ase_matprop.app.uploads import display_name, read_upload, receive

_CALLBACK_SIZE = 2 * MB  # bytes of what Dash sends
_SHOWN = 5


def register(server: Flask, state: State, script_hashes: Callable[[], list[str]]) -> None:
    """Add the routes, and the checks of all requests.

    Args:
        server: the application.
        state: what it holds.
        script_hashes: called once, when the first request comes, for the scripts that Dash writes into its page.
    """
    answer_headers: dict[str, str] = {}

    def check() -> Response | None:
        reason = security.refusal(
            request.method, request.headers.get("Host"), request.headers.get("Origin"),
            request.headers.get("Sec-Fetch-Site"),
        )  # fmt: skip
        if reason is not None:
            return Response(reason + "\n", status=403, mimetype="text/plain")
        request.max_content_length = state.limits.upload if request.path == "/upload" else _CALLBACK_SIZE
        return None

    def harden(response: Response) -> Response:
        if not answer_headers:
            answer_headers.update(security.headers(script_hashes()))
        response.headers.update(answer_headers)
        if not request.path.startswith(("/_dash-component-suites/", "/assets/")):
            response.headers["Cache-Control"] = "no-store"
        return response

    def upload() -> Response | tuple[Response, int]:
        name = unquote(request.headers.get("X-File-Name", ""))
        try:
            session = state.sessions.get(request.headers.get("X-Session"))
            purpose = request.args.get("purpose", "structures")
            result = accept(session, purpose, name, request.stream, request.content_length)
        except SessionError as error:
            return jsonify(text=str(error), added=0), 410
        except UploadError as error:
            return jsonify(text=f"{display_name(name)} {error}", added=0), 422
        except OSError as error:
            reason = error.strerror or type(error).__name__
            text = f"{display_name(name)} cannot be stored ({reason}); make room on the disk, and try again"
            return jsonify(text=text, added=0), 507
        return jsonify(result)

    def alive() -> tuple[str, int]:
        try:
            state.sessions.get(request.headers.get("X-Session"))
        except SessionError:
            return "", 410
        return "", 204

    def close() -> tuple[str, int]:
        state.sessions.close(request.get_data(as_text=True)[:200])
        return "", 204

    server.before_request(check)
    server.after_request(harden)
    server.add_url_rule("/upload", "upload", upload, methods=["POST"])
    server.add_url_rule("/alive", "alive", alive, methods=["POST"])
    server.add_url_rule("/close", "close", close, methods=["POST"])


def accept(session: Session, purpose: str, name: str, stream: IO[bytes], announced: int | None) -> dict[str, str | int]:
    """Take one uploaded file.

    Args:
        session: whose it is.
        purpose: ``"structures"``, ``"references"`` or ``"runs"``.
        name: what the browser calls it.
        stream: its bytes.
        announced: how many there are, as the browser says.

    Returns:
        ``added``, how many entries or files there are more now; ``failed``, how many of them cannot be used; ``text``,
        what a person should know.

    Raises:
        UploadError: if it is refused as a whole.
    """
    if purpose not in ("structures", "references", "runs"):
        raise UploadError("is for an unknown purpose; reload the page")
    with session.lock:
        path = receive(stream, session.shelf, announced=announced)
        if purpose == "runs":
            return _accept_runs(session, path, name)
        if purpose == "references" or name.lower().endswith(".csv"):
            try:
                return _accept_table(session, path, purpose)
            finally:
                path.unlink(missing_ok=True)
        entries = read_upload(path, name, session.shelf, room=session.room)
        session.add(entries)
    failed = [entry for entry in entries if entry.error is not None]
    text = "; ".join(f"{entry.name} {entry.error}" for entry in failed[:_SHOWN])
    return {"added": len(entries), "failed": len(failed), "text": text}


def _accept_table(session: Session, path: Path, purpose: str) -> dict[str, str | int]:
    table = ValueTable.read(path, largest=session.shelf.limits.largest["table"])
    if purpose == "references":
        columns, text = match(table, session.entries)
        for title, matched in columns.items():
            session.references[title] = session.references.get(title, {}) | matched
        session.version += 1
        return {"added": len(columns), "failed": 0, "text": text}
    entries = formulas_of(table, room=session.room)
    first = len(session.entries)
    session.add(entries)
    for title, values in table.columns.items():
        known = {first + row: value for row, value in enumerate(values) if math.isfinite(value)}
        session.references[title] = session.references.get(title, {}) | known
    failed = [entry for entry in entries if entry.error is not None]
    text = "; ".join(str(entry.error) for entry in failed[:_SHOWN])
    return {"added": len(entries), "failed": len(failed), "text": text}


def _accept_runs(session: Session, path: Path, name: str) -> dict[str, str | int]:
    folder = session.folder / "calculations"
    folder.mkdir(exist_ok=True)
    if session.calculations is None:
        session.calculations = runs.RunFiles(folder)
    found = session.calculations
    before = len(found.runs) + (found.table is not None)
    known = set(found.refused)
    runs.take(path, name, session.shelf, found)
    session.version += 1
    refused = [name for name in found.refused if name not in known]
    text = "; ".join(f"{name} {found.refused[name]}" for name in refused[:_SHOWN])
    added = len(found.runs) + (found.table is not None) - before
    return {"added": added, "failed": len(refused), "text": text}

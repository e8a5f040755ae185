"""The server: Dash behind waitress, on the loopback interface only."""

from __future__ import annotations

import errno
import logging
import signal
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ase_matprop.app.limits import MB, Limits
from ase_matprop.app.sessions import remove_leftovers
from ase_matprop.app.state import State
from ase_matprop.errors import MatPropError, missing_dependency

HOST = "127.0.0.1"
DEFAULT_PORT = 8050
_THREADS = 8


def create(state: State) -> Any:
    """Return the Dash application.

    Args:
        state: what the server holds.

    Raises:
        MissingDependencyError: without the packages of the extra ``app``.
    """
    try:
        import dash
    except ImportError:
        raise missing_dependency("dash", "the page", extra="app") from None
    from ase_matprop.app import callbacks, layout, routes

    app = dash.Dash(
        "ase_matprop.app",
        assets_folder=str(Path(__file__).with_name("assets")),
        title="matprop",
        update_title="",
        serve_locally=True,
        compress=False,
        use_pages=False,
        include_pages_meta=False,
        enable_mcp=False,
        add_log_handler=False,
        suppress_callback_exceptions=True,
    )
    app.layout = lambda: layout.page(state.choices(), state.limits)
    callbacks.register(app, state)
    routes.register(app.server, state, lambda: [f"'{text.strip(chr(39))}'" for text in app.csp_hashes()])
    return app


def serve(
    *,
    port: int = DEFAULT_PORT,
    models_folder: Path | None = None,
    limits: Limits | None = None,
    open_browser: bool = True,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        port: on the loopback interface; 0 for a free one.
        models_folder: where downloaded models are kept.
        limits: of each session.
        open_browser: whether to show the page in the browser.
        announce: gets the address, once the page can be opened.

    Raises:
        MatPropError: if the port cannot be used.
        MissingDependencyError: without the packages of the extra ``app``.
    """
    try:
        from waitress.server import create_server
    except ImportError:
        raise missing_dependency("waitress", "the page", extra="app") from None
    remove_leftovers()
    state = State(models_folder, limits)
    try:
        app = create(state)
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        try:
            server = create_server(
                app.server, host=HOST, port=port, threads=_THREADS, ident="matprop",
                max_request_body_size=state.limits.upload + MB,
            )  # fmt: skip
        except OSError as error:
            raise MatPropError(port_problem(port, error)) from None
        except OverflowError:
            raise MatPropError(f"the port must be 0 to 65535. Got {port}.") from None
        address = f"http://{HOST}:{server.effective_port}/"
        _end_on_signals()
        announce(address)
        if open_browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        try:
            server.run()
        except SystemExit:  # waitress makes one of an interruption
            pass
        finally:
            server.close()
    finally:
        state.close()


def port_problem(port: int, error: OSError) -> str:
    """Return what is wrong with a port, and what to do."""
    other = port + 1 if port < 65_535 else DEFAULT_PORT
    if error.errno == errno.EADDRINUSE:
        return (
            f"the port {port} is in use, perhaps by another matprop app: open http://{HOST}:{port}/ to see, "
            f"or take another one with: matprop app --port {other}"
        )
    if error.errno == errno.EACCES:
        return f"the port {port} is for the system only; take another one with: matprop app --port {DEFAULT_PORT}"
    reason = error.strerror or error
    return f"the port {port} cannot be opened ({reason}); take another one with: matprop app --port {other}"


def _end_on_signals() -> None:
    """End as on Ctrl-C where the terminal is closed or the process is asked to end, so that sessions are deleted."""

    def end(*_: object) -> None:
        raise SystemExit(0)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), end)

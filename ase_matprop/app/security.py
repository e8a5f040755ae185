"""Which requests are answered, and what a browser may do with the answers.

The page listens on the loopback interface, but every page of the internet that the same browser shows can send requests
there.  A foreign name that resolves to 127.0.0.1 shows in ``Host``, a request from another page in ``Origin``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: what a browser may call this server; the port is free, since it may be forwarded through SSH
_HOST = re.compile(r"(?i)(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def refusal(method: str, host: str | None, origin: str | None, site: str | None) -> str | None:
    """Return why a request is refused, or None.

    Args:
        method: of the request.
        host: its header ``Host``.
        origin: its header ``Origin``.
        site: its header ``Sec-Fetch-Site``, which newer browsers send.
    """
    if host is None or not _HOST.fullmatch(host):
        return "this page is served to its own machine only: open it as http://127.0.0.1 with its port"
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        return "requests from other pages are not answered"
    if method in _SAFE_METHODS:
        return None
    if origin is None:
        return "a request that changes something must come from the page itself"
    if site is not None and site not in ("same-origin", "none"):
        return "requests from other pages are not answered"
    return None


def headers(script_hashes: Iterable[str] = ()) -> dict[str, str]:
    """Return the headers of every answer.

    Styles may be inline, since Dash and Plotly write them so; scripts may not, but for those of Dash itself, which are
    named by their hashes.  Nothing can be loaded from elsewhere, or sent there.

    Args:
        script_hashes: such as ``"'sha256-...'"``.
    """
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(["'self'", *script_hashes]),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "frame-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }

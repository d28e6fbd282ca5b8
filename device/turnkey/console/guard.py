"""What every request passes before a route sees it, and what every answer carries.

Rules kept here, in the order in which they are enforced:
1. The request names this machine's own loopback address: a page of somebody else's that had its name point here (DNS
   rebinding) is refused.
2. What changes something, and the live preview, come from a page of this console: browsers say so in `Origin`.
3. A body is at most 4 KiB.
4. No answer is kept, framed, or may load anything from elsewhere; no script or style stands in a page.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES: Final = 4096
OWN_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with `no-referrer` browsers send `Origin: null` from our own pages
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), display-capture=(), usb=(), serial=()",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware with the rules above."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        status = refusal(scope)
        if status is None:
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse(str(status), status)(scope, receive, send_guarded)


def refusal(scope: Scope) -> int | None:
    """The HTTP status with which a request is refused; None where it may go on."""
    headers = Headers(scope=scope)
    hosts = headers.getlist("host")
    if len(hosts) != 1 or (host := _host(hosts[0])) is None or host not in OWN_HOSTS:
        return 421
    if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
        origins = headers.getlist("origin")
        if origins != [f"http://{hosts[0]}"]:
            return 403
    length = headers.get("content-length")
    if length is not None and (not length.isascii() or not length.isdigit() or int(length[:9]) > MAX_BODY_BYTES):
        return 413
    return None


def _host(value: str) -> str | None:
    try:
        return urlsplit(f"http://{value}").hostname
    except ValueError:
        return None

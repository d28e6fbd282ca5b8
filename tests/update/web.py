"""A web server on loopback for the tests of fetching: bytes by path, ranges, and misbehaviour on request."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass
class Web:
    """Serve with `with`.

    Attributes:
        find: the content of a path; None: 404.
        context: TLS, where it is HTTPS.
        break_after: bytes of each answer's body before the connection is cut; None: never.
        ranges: whether ranges are honoured.
        drip: called before each kilobyte of a body, to be slow.
        asked: (path, Range header) of every request, in order.
        sent: bytes of bodies sent.
    """

    find: Callable[[str], bytes | None]
    context: ssl.SSLContext | None = None
    break_after: int | None = None
    ranges: bool = True
    drip: Callable[[], None] = lambda: None
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0

    def __enter__(self) -> Self:
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self.context is not None:
            self._server.socket = self.context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        scheme = "http" if self.context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        content = self.find(request.path)
        if content is None:
            request.send_error(404)
            return
        start = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        offset = int(start.group(1)) if start and self.ranges else 0
        if offset >= len(content) and offset:
            request.send_error(416)
            return
        body = content[offset:]
        request.send_response(206 if offset else 200)
        if offset:
            request.send_header("Content-Range", f"bytes {offset}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        whole = self.break_after is None or len(body) <= self.break_after
        body = body if whole else body[: self.break_after]
        try:
            for place in range(0, len(body), 1024):
                self.drip()
                request.wfile.write(body[place : place + 1024])
                self.sent += len(body[place : place + 1024])
            request.wfile.flush()
        except OSError:
            pass
        if not whole:
            request.connection.close()

"""`turnkeyctl release serve`: a published repository over HTTPS, for a pilot and for tests; any web server does.

Files only, GET only, below one directory; ranges (RFC 9110, 14.2), so that a broken download goes on where it broke.
"""

from __future__ import annotations

import re
import shutil
import ssl
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

_NAME = re.compile(r"/(metadata|targets)/([A-Za-z0-9][A-Za-z0-9._-]*)")
_RANGE = re.compile(r"bytes=(\d+)-")


class Files(BaseHTTPRequestHandler):
    """Answers with the files of `published`."""

    def __init__(self, published: Path, *arguments: object, **named: object) -> None:
        self._published = published
        super().__init__(*arguments, **named)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """One file, or its end from an offset on."""
        named = _NAME.fullmatch(unquote(self.path))
        path = self._published / named.group(1) / named.group(2) if named else None
        if path is None or not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(asked.group(1)) if asked else 0
        if start and start >= size:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            shutil.copyfileobj(file, self.wfile)


def server(
    published: Path, address: tuple[str, int], certificate: Path, key: Path, clients: Path | None
) -> ThreadingHTTPServer:
    """An HTTPS server that is not serving yet.

    Args:
        published: the directory with `metadata/` and `targets/`.
        address: host and port; port 0 takes a free one.
        certificate, key: the server's, PEM.
        clients: a CA; only certificates of its making are served.

    Raises:
        OSError: the address or a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(certificate), str(key))
    if clients is not None:
        context.load_verify_locations(cafile=str(clients))
        context.verify_mode = ssl.CERT_REQUIRED
    made = ThreadingHTTPServer(address, partial(Files, published))
    made.daemon_threads = True
    made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    return made


def serve(
    repo: Annotated[Path, typer.Argument(metavar="REPO", exists=True, file_okay=False)],
    certificate: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The server's certificate, PEM.")],
    key: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Its key, PEM.")],
    clients: Annotated[Path | None, typer.Option(help="CA of the devices: only they are served (mutual TLS).")] = None,
    host: Annotated[str, typer.Option(help="Loopback unless you open it on purpose.")] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8443,
) -> None:
    """Serve a repository over HTTPS, for a pilot; `turnkeyctl provision` issues the certificate. Until interrupted."""
    try:
        made = server(repo / "published", (host, port), certificate, key, clients)
    except OSError as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"https://{host}:{made.server_address[1]} serves {repo}/published")
    try:
        made.serve_forever()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    finally:
        made.server_close()

"""Serves the console on a socket: the one that systemd passes in, or one on a loopback address.

Rules kept here:
1. Loopback only. The device's unit has no network of its own: the passed socket is the only one it can have.
2. It serves in a thread of its own, and says so when that thread has ended.
3. Requests are not logged: who books whom is on the ledger, not in a log.
"""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime
from typing import Self

import uvicorn

from turnkey.console.app import Console
from turnkey.console.attempts import Attempts
from turnkey.console.room import Room
from turnkey.console.session import Desk
from turnkey.console.sign_in import SignIn
from turnkey.settings import ConsoleSettings, Settings

START_TIMEOUT_S = 30.0
ENDING_S = 1


def console_listener(settings: ConsoleSettings) -> socket.socket:
    """A listening socket on the loopback interface. Raises: OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", settings.port))
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    return listener


class ConsoleServer:
    """The console over `room`, on `listener`. Use it with `with`.

    Raises:
        StorageError: the tries cannot be counted, so nobody could sign in.
    """

    def __init__(self, room: Room, settings: Settings, listener: socket.socket) -> None:
        self._listener = listener
        self._attempts = Attempts(settings.state / "console.db")
        limits = settings.console
        desk = Desk(time.monotonic, idle_s=60 * limits.idle_lock_min, abandoned_s=limits.abandoned_s)
        sign_in = SignIn(limits.officers, self._attempts, desk, room, lambda: datetime.now(UTC))
        self._server = uvicorn.Server(
            uvicorn.Config(
                Console(room, desk, sign_in).app(),
                loop="asyncio",
                http="h11",
                ws="websockets-sansio",
                ws_max_size=4096,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=ENDING_S,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="console", daemon=True)

    @property
    def address(self) -> str:
        """For a browser on this machine."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._listener.close()
        self._attempts.close()

    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive() and self._server.started

    def _serve(self) -> None:
        self._server.run(sockets=[self._listener])

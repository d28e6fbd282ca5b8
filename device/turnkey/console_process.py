"""The unit `turnkey-console`: the officers' pages, running or stopped."""

from __future__ import annotations

import threading

from turnkey.console_rooms import RemoteRoom
from turnkey.console_server import ConsoleServer, console_listener
from turnkey.following import followed, interlock_status, policy_known
from turnkey.interlock.peers import passed_socket
from turnkey.processes import End
from turnkey.settings import Settings


def run_console(settings: Settings, stop: threading.Event) -> None:
    """Serve the console to this machine's browser, running or stopped, until `stop`.

    Raises:
        StorageError, AuthorityError, OSError: it cannot start.
    """
    sockets = settings.interlock.socket
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    policy = policy_known(settings, followed(settings), "policy-of-the-console.json")
    room = RemoteRoom(sockets, settings.state, lambda: interlock_status(sockets.path), policy)
    with ConsoleServer(room, settings, passed_socket() or console_listener(settings.console)) as server:
        End(stop).wait(server.is_alive)

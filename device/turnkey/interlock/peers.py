"""A Unix socket of this device: listening on it, and knowing from the kernel who is at the other end.

The interlock, the notary and the booth each serve one (SOCK_SEQPACKET: one message is one packet).

Rules kept here:
1. Who asks is known from the kernel (SO_PEERCRED, unix(7)), and gets what its user may have, nothing else.
2. No user can hold every connection: a booth that was taken over must not keep an operator's stop order out.
3. A peer that does not take its packets is cut off.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

MAX_CONNECTIONS_EACH = 16
"""Per user: each has three or four at once, and on a loaded machine some that are over and not yet cleared away."""
BACKLOG = 16
SEND_TIMEOUT_S = 0.1
FIRST_PASSED_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START, sd_listen_fds(3)."""

_UCRED = struct.Struct("3i")
Rights = Mapping[int, frozenset[str]]
Serve = Callable[[socket.socket, int, frozenset[str]], None]


def rights_by_user(granted: Iterable[tuple[str, frozenset[str]]]) -> Rights:
    """User ids and what each may have; a user that does not exist on this machine has nothing."""
    rights: dict[int, frozenset[str]] = {}
    for user, what in granted:
        with contextlib.suppress(KeyError):
            uid = pwd.getpwnam(user).pw_uid
            rights[uid] = rights.get(uid, frozenset()) | what
    return rights


class Server:
    """Accepts connections and serves each in a thread of its own.

    Args:
        listener: a listening SOCK_SEQPACKET socket; closed by `close`.
        rights: what each user id may have; one with nothing is turned away.
        serve: is given a connection, its user id and its rights; the connection ends when it returns.
        name: of the threads.
    """

    def __init__(self, listener: socket.socket, rights: Rights, serve: Serve, *, name: str) -> None:
        self._listener = listener
        self._listener.settimeout(0)
        self._bell, self._rope = socket.socketpair()
        self._rights = rights
        self._serve = serve
        self._name = name
        self._lock = threading.Lock()
        self._open: list[tuple[int, socket.socket]] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, name=f"{name}-accept", daemon=True)

    def start(self) -> Self:
        """Begin to accept."""
        self._thread.start()
        return self

    def is_alive(self) -> bool:
        """Whether connections are being accepted."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Accept nothing more, and end every connection. Safe to call twice."""
        self._closing.set()
        with contextlib.suppress(OSError):  # closed before
            self._rope.send(b"x")
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        for each in (self._listener, self._bell, self._rope):
            each.close()
        with self._lock:
            for _, connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        ready = select.poll()
        ready.register(self._listener, select.POLLIN)
        ready.register(self._bell, select.POLLIN)
        while not self._closing.is_set():
            try:
                # Not a timeout: a process that is told to end has half a second for all that it closes.
                ready.poll()
                connection, _ = self._listener.accept()
            except BlockingIOError:
                continue
            except OSError:
                return
            connection.setblocking(True)
            _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            granted = self._rights.get(uid, frozenset())
            with self._lock:
                self._open = [(user, each) for user, each in self._open if each.fileno() >= 0]
                if not granted or sum(user == uid for user, _ in self._open) >= MAX_CONNECTIONS_EACH:
                    connection.close()
                    continue
                timeout = struct.pack("ll", 0, int(SEND_TIMEOUT_S * 1e6))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
                self._open.append((uid, connection))
            threading.Thread(
                target=self._attend, args=(connection, uid, granted), name=f"{self._name}-client", daemon=True
            ).start()

    def _attend(self, connection: socket.socket, uid: int, rights: frozenset[str]) -> None:
        try:
            self._serve(connection, uid, rights)
        finally:
            connection.close()


def passed_socket() -> socket.socket | None:
    """The listening socket that systemd passed to this process (sd_listen_fds(3)); None where it passed none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=FIRST_PASSED_DESCRIPTOR)


def listen(path: Path) -> socket.socket:
    """A listening socket; one that a dead process left behind is replaced. Raises: OSError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    path.unlink(missing_ok=True)
    mask = os.umask(0o007)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener

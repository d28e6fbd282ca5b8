"""The lease, as a client of the daemon holds it: the booth's and the notary's `permit()`.

Rules kept here:
1. A permit ends when the daemon says so, when the connection breaks, or when its lease runs out: whichever comes first.
2. The key is copied into the permit and overwritten in the packet it came in.
3. A stop is acknowledged once the permit is dead and no commit is under way any more; the daemon waits for that, but
   not long, before the stop goes onto the ledger.
4. A client that lost the daemon tries again; until it has a fresh lease there is no permit.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.wire import KEY_BYTES, MAX_PACKET, Answer, Request, WireError, unpack_lease

RETRY_S = 0.1
SILENCE_S = 1.0
"""The daemon speaks each 200 ms; after so long a silence it is given up. No longer than a lease is valid."""


class LeaseClient:
    """A gate whose permits come from the daemon.

    Args:
        path: the daemon's socket.
        drain_s: how long a stop waits for a commit under way before it is acknowledged.
        silence_s: after so many seconds without a word of the daemon's it is taken for gone.
        monotonic_ns: CLOCK_MONOTONIC.
    """

    def __init__(
        self,
        path: Path,
        *,
        drain_s: float = 0.25,
        silence_s: float = SILENCE_S,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._path = path
        self._silence_s = silence_s
        self._drain_s = drain_s
        self._monotonic_ns = monotonic_ns
        self._lock = threading.Lock()
        self._permit: Permit | None = None
        self._run = b""
        self._reason = "no-lease-yet"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> Self:
        """Begin asking for leases."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Give the lease back; permits die."""
        self._closing.set()
        self._thread.join(timeout=5)
        self._die("closing-down")

    def permit(self) -> Permit:
        """A live permit.

        Raises:
            Stopped: with the daemon's reason, or that it is gone.
        """
        with self._lock:
            if self._permit is None:
                raise Stopped(self._reason)
            self._permit.check()
            return self._permit

    def _keep(self) -> None:
        while not self._closing.is_set():
            try:
                with connect(self._path) as connection:
                    connection.settimeout(self._silence_s)
                    connection.send(b"R" + Request(ask="lease").model_dump_json().encode())
                    self._listen(connection)
            except (OSError, WireError):
                self._die("interlock-gone")
                self._closing.wait(RETRY_S)

    def _listen(self, connection: socket.socket) -> None:
        buffer = bytearray(MAX_PACKET)
        while not self._closing.is_set():
            size = connection.recv_into(buffer)
            with memoryview(buffer)[:size] as packet:
                if size == 0:
                    raise ConnectionResetError("the daemon is gone")
                if packet[0] == ord("L"):
                    self._take(packet)
                    packet[:] = bytes(size)
                elif packet[0] == ord("S"):
                    self._die(bytes(packet[1:]).decode(errors="replace"))
                    connection.send(b"G" + self._run)
                else:
                    raise WireError("neither a lease nor a stop")

    def _take(self, packet: memoryview) -> None:
        lease = unpack_lease(packet)
        with self._lock:
            permit = self._permit
            if permit is not None and lease.run == self._run:
                permit.renew(lease.valid_until_ns)
                if permit.refusal() is None:
                    return
            elif permit is not None:
                permit.revoke("run-ended")
            key = packet[-KEY_BYTES:] if lease.has_key else None
            self._permit = Permit(self._monotonic_ns, lease.valid_until_ns, key, lease.run)
            self._run = lease.run

    def _die(self, reason: str) -> None:
        with self._lock:
            permit, self._permit, self._reason = self._permit, None, reason
        if permit is not None:
            permit.revoke(reason)
            permit.drain(self._drain_s)


class DaemonError(Exception):
    """The daemon cannot be asked; the message says what to do."""


def ask(path: Path, request: Request, timeout_s: float = 10.0) -> Answer:
    """Ask the daemon one thing.

    Raises:
        DaemonError: it does not answer, or turned this user away.
    """
    try:
        with connect(path) as connection:
            connection.settimeout(timeout_s)
            connection.send(b"R" + request.model_dump_json().encode())
            packet = connection.recv(MAX_PACKET)
        if packet[:1] != b"A":
            raise DaemonError("the interlock turned this user away")
        return Answer.model_validate_json(packet[1:])
    except (OSError, ValidationError) as error:
        raise DaemonError(f"the interlock does not answer at {path}: {error}") from error


def connect(path: Path) -> socket.socket:
    """A connection to the daemon. Raises: OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection

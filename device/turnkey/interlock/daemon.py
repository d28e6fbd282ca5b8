"""The interlock as a process of its own: leases, requests and markers for systemd.

Rules kept here:
1. Who asks is known from the kernel (SO_PEERCRED, unix(7)), and gets what its user may have, nothing else.
2. A lease is sent each `lease_renewal_ms` and ends with the daemon's own permit, so at most `lease_validity_ms` after
   the switch was last read. A stop is sent at once.
3. Every client that holds a lease counts as a commit under way until it says that its permit is dead: the stop goes
   onto the ledger after that, or after `drain_ms`.
   The thread that tells it never waits for the interlock's lock while it has a permit: whoever carries the stop out
   has that lock, and waits for the holders' word.
4. The watchdog is fed only while the switch is really being looked at, and the leases' thread comes round.
5. A client that does not take its packets is cut off; its lease runs out.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from turnkey.interlock.interlock import Interlock
from turnkey.interlock.notify import notify, watchdog_s
from turnkey.interlock.orders import AuthorityFollowed, Judged, OrderAccepted, OrderRefused, judged
from turnkey.interlock.peers import Rights, Server, listen, rights_by_user
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.wire import MAX_PACKET, Answer, Request, WireError, pack_lease, unpack_request
from turnkey.settings import InterlockSettings, SocketSettings

LOOK_AGAIN_S = 0.02
"""While stopped: how often it is seen whether recognition runs again."""

BOOTH_RIGHTS = frozenset({"lease", "key", "status", "authority"})
NOTARY_RIGHTS = frozenset({"lease", "status", "authority"})
OPERATOR_RIGHTS = frozenset({"status", "request", "apply", "follow"})
CONSOLE_RIGHTS = frozenset({"status", "authority"})
UPDATE_RIGHTS = frozenset({"status", "authority"})


def rights_of(settings: SocketSettings) -> Rights:
    """User ids and what each may have; one that does not exist on this machine has nothing."""
    return rights_by_user(
        (
            (settings.booth_user, BOOTH_RIGHTS),
            (settings.notary_user, NOTARY_RIGHTS),
            (settings.operator_user, OPERATOR_RIGHTS),
            (settings.console_user, CONSOLE_RIGHTS),
            (settings.update_user, UPDATE_RIGHTS),
        )
    )


class _Client:
    """One connection, and what its user may have."""

    def __init__(self, connection: socket.socket, rights: frozenset[str]) -> None:
        self.connection = connection
        self.rights = rights
        self.leased = False
        self._lock = threading.Lock()
        self._under_way = ExitStack()
        self._run: bytes | None = None

    def hold(self, permit: Permit, run: bytes) -> None:
        """From now on this client holds a lease of `run`: a stop waits for its word. Raises: Stopped."""
        with self._lock:
            if self._run != run:
                self._under_way.close()
                self._under_way.enter_context(permit.commit())
                self._run = run

    def let_go(self, run: bytes | None = None) -> None:
        """The client says that its permit of `run` is dead, or it is gone (None). A word come late says nothing."""
        with self._lock:
            if run is None or run == self._run:
                self._under_way.close()
                self._run = None

    def send(self, packet: bytes | bytearray) -> None:
        """Send, or drop a client that does not take it."""
        try:
            self.connection.send(packet)
        except OSError:
            self.drop()

    def drop(self) -> None:
        """End the connection; its lease runs out."""
        self.leased = False
        self.let_go()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class Daemon:
    """Serves an interlock over a socket.

    Args:
        interlock: started by `start`.
        orders: is told what became of each order; raises OSError where it cannot put that on the ledger, which stops.
        settings: limits and the socket.
        rights: what each user id may have.
        listener: a listening SOCK_SEQPACKET socket in place of the one that the settings name.
    """

    def __init__(
        self,
        interlock: Interlock,
        settings: InterlockSettings,
        *,
        rights: Rights,
        orders: Callable[[Judged], None],
        listener: socket.socket | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._interlock = interlock
        self._orders = orders
        self._settings = settings
        self._monotonic_ns = monotonic_ns
        self._server = Server(listener or listen(settings.socket.path), rights, self._serve, name="interlock")
        self._clients: list[_Client] = []
        self._clients_lock = threading.Lock()
        self._closing = threading.Event()
        self._marked = ""
        self._came_round_ns = 0
        self._leases = threading.Thread(target=self._lease, name="interlock-lease", daemon=True)

    def start(self) -> Self:
        """Begin watching and serving."""
        self._interlock.start()
        self._server.start()
        self._leases.start()
        return self

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop`, telling systemd meanwhile."""
        self.start()
        every_s = min(watchdog_s() or 1.0, 1.0)
        notify("READY=1", f"STATUS={self._interlock.state}")
        while not stop.wait(every_s / 2):
            if self.is_watching():
                notify("WATCHDOG=1", f"STATUS={self._interlock.state}")
        notify("STOPPING=1")
        self.close()

    def is_watching(self) -> bool:
        """Whether switch and leases were seen to within the validity of a lease, and every thread is there."""
        oldest_ns = min(self._interlock.last_look_ns, self._came_round_ns)
        fresh = self._monotonic_ns() - oldest_ns < self._settings.lease_validity_ms * 1_000_000
        return fresh and self._leases.is_alive() and self._server.is_alive()

    def close(self) -> None:
        """End every lease, then the interlock."""
        self._interlock.close()
        self._closing.set()
        self._leases.join(timeout=5)
        self._mark("stopped")
        self._server.close()
        with self._clients_lock:
            for client in self._clients:
                client.drop()

    def _serve(self, connection: socket.socket, _uid: int, rights: frozenset[str]) -> None:
        client = _Client(connection, rights)
        with self._clients_lock:
            self._clients.append(client)
        try:
            while packet := connection.recv(MAX_PACKET):
                if packet[:1] == b"G":
                    client.let_go(packet[1:])
                    continue
                request = unpack_request(packet)
                if request.ask not in rights:
                    break
                if request.ask == "lease":
                    client.leased = True
                else:
                    client.send(b"A" + self._answer(request).model_dump_json().encode())
        except (OSError, WireError):
            pass
        finally:
            client.drop()
            with self._clients_lock:
                self._clients.remove(client)

    def _answer(self, request: Request) -> Answer:
        if request.ask == "status":
            return Answer(done=True, body=self._interlock.status().model_dump_json())
        if request.ask == "request":
            return Answer(done=True, body=self._interlock.release_request().model_dump_json())
        if request.ask == "authority":
            followed = self._interlock.followed(request.version)
            if followed is None:
                return Answer(
                    done=False, reason="no-such-authority", message="this device has followed no such version"
                )
            return Answer(done=True, body=base64.b64encode(followed).decode())
        try:
            document = base64.b64decode(request.document, validate=True)
        except (binascii.Error, ValueError):
            return Answer(done=False, reason="not-an-envelope", message="the document is not base64")
        outcome: OrderAccepted | OrderRefused | AuthorityFollowed
        outcome = self._interlock.apply(document) if request.ask == "apply" else self._interlock.follow(document)
        try:
            self._orders(judged(document, outcome))
        except OSError as error:
            self._interlock.halt("record-unwritable")
            return Answer(
                done=False, reason="record-unwritable", message=f"stopped: the ledger has not taken it: {error}"
            )
        if isinstance(outcome, OrderRefused):
            return Answer(done=False, reason=outcome.reason, message=outcome.message)
        return Answer(done=True, body=self._interlock.status().model_dump_json())

    def _lease(self) -> None:
        """Send leases while it runs, the stop as soon as it stops."""
        told_ns = 0
        renewal_ns = self._settings.lease_renewal_ms * 1_000_000
        while not self._closing.is_set():
            self._came_round_ns = self._monotonic_ns()
            try:
                permit = self._interlock.permit()
            except Stopped as stopped:
                self._mark("stopped")
                if self._monotonic_ns() - told_ns >= renewal_ns:
                    self._tell_stopped(stopped.reason)
                    told_ns = self._monotonic_ns()
                self._closing.wait(LOOK_AGAIN_S)
                continue
            self._mark("running")
            self._keep_leased(permit, secrets.token_bytes(16))
        self._tell_stopped("closing-down")

    def _keep_leased(self, permit: Permit, run: bytes) -> None:
        """Send leases of one run until its permit dies, and say so."""
        dead = False
        while not dead:
            self._came_round_ns = self._monotonic_ns()
            self._tell_lease(permit, run)
            dead = permit.wait(self._settings.lease_renewal_ms / 1000)
        self._tell_stopped(permit.refusal() or "stopped")

    def _tell_lease(self, permit: Permit, run: bytes) -> None:
        for client in self._leased():
            try:
                client.hold(permit, run)
                key = permit.gallery_key() if "key" in client.rights else None
                packet = pack_lease(run, permit.valid_until_ns, key)
            except Stopped:
                return
            client.send(packet)
            packet[:] = bytes(len(packet))

    def _tell_stopped(self, reason: str) -> None:
        for client in self._leased():
            client.send(b"S" + reason.encode())

    def _leased(self) -> list[_Client]:
        with self._clients_lock:
            return [client for client in self._clients if client.leased]

    def _mark(self, name: str) -> None:
        """Leave the marker that systemd's path units wait for; a machine without systemd misses nothing.

        One file under one of two names: were both there, the two path units would start target and booth in turns.
        """
        if name == self._marked:
            return
        folder = self._settings.socket.markers
        other = "stopped" if name == "running" else "running"
        with contextlib.suppress(OSError):
            try:
                (folder / other).rename(folder / name)
            except FileNotFoundError:
                (folder / name).touch(mode=0o644)
            self._marked = name

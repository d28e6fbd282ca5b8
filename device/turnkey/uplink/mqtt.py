"""The uplink: publishes the outbox to one broker over MQTT 5 with mutual TLS 1.3. It alone has a network.

What becomes of a publication is decided in delivery.py, the socket is in connection.py; this file joins them to the
outbox and the clock.

Rules kept here:
1. The outbox is the session. Each connection is a new client with Clean Start and no session at the broker: MQTT 5
   (4.1, 3.2.2.1.1) lets only a client that still has its packet ids resume one, and after a power cut only the outbox
   is left. QoS 1 publications need nothing at the broker; rows that were on the way are simply published again.
2. paho's own queue lives in memory only, so it never holds more than the window of rows that are still on disk.
3. Nothing but this device's topics is published to. The state is shown at the broker once nothing older is on its way;
   a broker that keeps nothing (0x9A) gets leads all the same, and no state.
4. Every failure has a name in `Uplink.status`; only an accepted CONNECT with a moving queue counts as connected.
"""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from turnkey.database import StorageError
from turnkey.envelope import EnvelopeError, peek
from turnkey.uplink.connection import Connection, UplinkSettings, named
from turnkey.uplink.delivery import Held, State, Status, Window, reason
from turnkey.uplink.outbox import Message, Outbox
from turnkey.uplink.topics import Kind, Topic

__all__ = ["Uplink", "UplinkSettings"]

_PACKET_OVERHEAD_BYTES: Final = 1024  # topic and properties of our own publications are far below this
_LAST_ACKS_S: Final = 1.0  # how long a stop waits for PUBACKs that are on their way
_RECORD_ROWS: Final = 1000  # a commit costs an fsync however many rows it marks,
_KEEPS_NOTHING: Final = reason(0x9A)
_RECORD_S: Final = 0.25  # and a PUBACK that is written down this late costs, at worst, a duplicate


class Uplink:
    """Drains `outbox` for as long as `run` runs. One thread; `status` may be read from any.

    Args:
        monotonic_s, chance: clock and random numbers in [0, 1), so that tests can hold them.
    """

    def __init__(
        self,
        outbox: Outbox,
        settings: UplinkSettings,
        monotonic_s: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._settings = settings
        self._now_s = monotonic_s
        self._chance = chance
        self._topics = {str(Topic(settings.device_id, kind)): kind for kind in Kind}
        self._failures = 0
        self._delivered = 0
        self._state: bytes | None = None
        self._stays = False
        self._status = Status()

    @property
    def status(self) -> Status:
        """The present state; a value, replaced as a whole."""
        return self._status

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set. Never raises for anything the network, the broker or the disk does."""
        self._stays = True
        self._work(stop.is_set)

    def flush(self, timeout_s: float) -> bool:
        """Publish what waits now, for at most `timeout_s`. True where nothing waits any more."""
        deadline_s = self._now_s() + timeout_s
        self._stays = False
        self._work(lambda: self._now_s() >= deadline_s or not self._outbox.head(1))
        return not self._outbox.head(1)

    def _work(self, over: Callable[[], bool]) -> None:
        while not over():
            failure = self._session(over)
            if failure is None:
                break
            wait_s = self._settings.backoff.wait_s(self._failures, self._chance())
            self._failures += 1
            self._show(failure)
            self._pause(wait_s, over)
        if self._status.connected:  # a failure or a hold stays in the status: it is why nothing left
            self._show(Status(State.STOPPED, "", "the uplink was stopped"))

    def _show(self, status: Status) -> None:
        self._status = replace(status, failures=self._failures, delivered=self._delivered)

    def _pause(self, wait_s: float, over: Callable[[], bool]) -> None:
        until_s = self._now_s() + wait_s
        while not over() and self._now_s() < until_s:
            time.sleep(min(0.05, wait_s))

    def _session(self, over: Callable[[], bool]) -> Status | None:
        """One connection, from TCP to its end. None where `over` ended it, else the failure."""
        if not self._failures:
            self._show(Status(State.OFFLINE, "connecting", "the broker has not answered yet"))
        try:
            self._outbox.restore()
            # Who only calls by does not say how the device stands, nor leaves word that it is gone.
            keeps = self._settings.state and self._stays
            connection = Connection(replace(self._settings, state=keeps), self._now_s)
        except (StorageError, sqlite3.Error) as error:
            return Status(State.OFFLINE, "outbox", str(error))
        except (OSError, ValueError) as error:
            return named(error)
        try:
            failure = self._drain(connection, over)
            if failure is not None and failure.reason == _KEEPS_NOTHING:
                self._settings = replace(self._settings, state=False)
            return failure
        except (StorageError, sqlite3.Error) as error:
            return Status(State.OFFLINE, "outbox", str(error))
        finally:
            connection.close()

    def _drain(self, connection: Connection, over: Callable[[], bool]) -> Status | None:
        while not connection.accepted:
            connection.turn(self._settings.poll_s)
            if connection.failure is not None:
                return connection.failure
            if over():
                return None
        window, since_s, ending_s = connection.window, self._now_s(), None
        shown: bytes | None = None
        disk = _Disk(self._outbox, self._settings.settle_s)
        while connection.failure is None:
            self._delivered += disk.take(window, self._now_s())
            if window.ever_delivered or self._now_s() - since_s > self._settings.backoff.most_s:
                self._failures = 0  # not before: a broker that accepts and then drops us must not be hammered
            if window.overdue(self._now_s(), self._settings.ack_timeout_s):
                disk.write(self._now_s())
                return Status(State.OFFLINE, "ack-timeout", "the broker stopped acknowledging")
            window.tend(self._now_s(), self._chance())
            self._show_window(window)
            if over():
                ending_s = self._now_s() if ending_s is None else ending_s
                if not window.in_flight or self._now_s() - ending_s > _LAST_ACKS_S:
                    disk.write(self._now_s())
                    return None
            else:
                self._send(connection, window)
                if connection.keeps_state and self._state is not shown and not window.in_flight:
                    shown = self._state
                    connection.show_state(shown or b"")
            connection.turn(self._settings.poll_s)
        self._delivered += disk.take(window, self._now_s())
        disk.write(self._now_s())
        # mosquitto 2.0.11 closes the connection right behind a PUBACK that says no; the no is the better name.
        return connection.failure if window.held is None else _held(window.held)

    def _show_window(self, window: Window) -> None:
        if window.held is None:
            self._show(Status(State.CONNECTED, "", "publishing"))
        else:
            self._show(_held(window.held))

    def _send(self, connection: Connection, window: Window) -> None:
        room = window.room()
        if not room:
            return
        for message in self._outbox.head(room, after=window.last_sequence):
            refusal = self._refusal(message, connection.packet_limit)
            if refusal is not None:
                window.hold(message.sequence, refusal)
                return
            kind = self._topics[message.topic]
            connection.publish(message, kind)
            if kind is Kind.ATTESTATION and tells_state(message.payload):
                self._state = message.payload

    def _refusal(self, message: Message, packet_limit: int) -> str | None:
        """Why a row must not go to the socket at all."""
        if message.topic not in self._topics:
            return "foreign-topic"
        if len(message.payload) + _PACKET_OVERHEAD_BYTES > packet_limit:
            return "packet-too-large"
        return None


def tells_state(envelope: bytes) -> bool:
    """Whether an attestation tells the state: a change of it, or a heartbeat. Its readers check its signature."""
    try:
        record = json.loads(peek(envelope).payload)
        return record["event"]["kind"] in ("switch", "heartbeat")
    except (EnvelopeError, ValueError, KeyError, TypeError):
        return False


def _held(held: Held) -> Status:
    return Status(State.HELD, held.reason, f"message {held.sequence} of the outbox is not taken: {held.reason}")


class _Disk:
    """Brings the outbox up to what the PUBACKs said, many rows to a commit. Rows not yet written go again."""

    def __init__(self, outbox: Outbox, settle_s: float) -> None:
        self._outbox = outbox
        self._settles = settle_s > 0
        self._acknowledged: list[int] = []
        self._settled: list[int] = []
        self._written_s = float("-inf")

    def take(self, window: Window, now_s: float) -> int:
        """Take what is new, and write it where enough has come together, is old enough, or nothing is on its way.

        Returns how many PUBACKs were new.
        """
        new = window.take_acknowledged()
        self._acknowledged += new if self._settles else []
        self._settled += window.take_settled(now_s)
        rows = len(self._acknowledged) + len(self._settled)
        if rows and (rows >= _RECORD_ROWS or not window.in_flight or now_s - self._written_s >= _RECORD_S):
            self.write(now_s)
        return len(new)

    def write(self, now_s: float) -> None:
        """Write what has come together.

        Raises:
            StorageError: nothing was written.
        """
        if self._acknowledged:
            self._outbox.acknowledge(self._acknowledged)
        if self._settled:
            self._outbox.done(self._settled)
        self._acknowledged, self._settled, self._written_s = [], [], now_s

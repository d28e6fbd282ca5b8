"""What becomes of a publication: the uplink's decisions, without a socket, a clock or a disk.

`mqtt.Uplink` feeds in what it saw (a CONNACK, a PUBACK, a broken connection, the time) and does what comes out. Every
path of it can be tested with plain values.

The rules:
1. **Delivered** is one thing only: a PUBACK with reason code 0x00. For an attestation 0x10 (no matching subscribers)
   is as good, since the ledger keeps it anyway; for a lead it is not: nobody got it, and no broker would keep it.
2. Any other PUBACK **holds** the queue: the row stays at the head, the reason is named, and after a back-off that one
   row is tried alone. No further row is sent past a held one, so a device's leads arrive in order.
3. Delivered rows are *acknowledged*, then *settled* after `settle_s` of unbroken connection, then removed. A
   connection that breaks before makes them wait again (see outbox.py for the reason).
4. At most `window` rows are on the way, and never more than the broker's Receive Maximum (MQTT 5, 3.3.4).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import Final

from turnkey.uplink.topics import Kind

SUCCESS: Final = 0x00
NO_MATCHING_SUBSCRIBERS: Final = 0x10


class State(StrEnum):
    """Where the uplink stands. Only CONNECTED means that leads can leave."""

    OFFLINE = "offline"  # no connection: the network, the broker or the TLS handshake
    REFUSED = "refused"  # the broker answered and said no
    CONNECTED = "connected"
    HELD = "held"  # connected, but the row at the head is not taken
    STOPPED = "stopped"


# MQTT 5, 2.4: the reason codes that can meet a publisher, as codes for the status.
_REASONS: Final = {
    0x10: "no-subscriber",
    0x80: "unspecified",
    0x81: "malformed-packet",
    0x82: "protocol-error",
    0x83: "implementation-specific",
    0x84: "protocol-version",
    0x85: "client-id-refused",
    0x86: "bad-credentials",
    0x87: "not-authorised",
    0x88: "broker-unavailable",
    0x89: "broker-busy",
    0x8A: "banned",
    0x8B: "broker-shutting-down",
    0x8C: "bad-authentication-method",
    0x8D: "keep-alive-timeout",
    0x8E: "session-taken-over",
    0x90: "topic-refused",
    0x93: "receive-maximum-exceeded",
    0x95: "packet-too-large",
    0x96: "message-rate-too-high",
    0x97: "quota-exceeded",
    0x98: "administrative-action",
    0x99: "payload-format",
    0x9A: "retain-not-supported",
    0x9B: "qos-not-supported",
    0x9C: "use-another-server",
    0x9D: "server-moved",
    0x9F: "connection-rate-exceeded",
}


def reason(code: int) -> str:
    """The status code for an MQTT 5 reason code."""
    return _REASONS.get(code, f"reason-{code:#04x}")


def is_delivered(kind: Kind, code: int) -> bool:
    """Whether a PUBACK's reason code lets the row go (rule 1)."""
    return code == SUCCESS or (code == NO_MATCHING_SUBSCRIBERS and kind is Kind.ATTESTATION)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential, with jitter, so that a hundred devices do not come back in the same second.

    Attributes:
        first_s: the first wait, seconds, before jitter.
        most_s: the longest wait, seconds.
    """

    first_s: float = 0.5
    most_s: float = 60.0

    def wait_s(self, attempt: int, chance: float) -> float:
        """Seconds to wait after failed attempt number `attempt` (0 is the first); `chance` is random in [0, 1).

        "Equal jitter": half of the wait is fixed, so that a broken broker is never hammered, half is spread.
        """
        whole = min(self.most_s, self.first_s * 2.0 ** min(attempt, 32))
        return whole * (0.5 + 0.5 * chance)


@dataclass(frozen=True, slots=True)
class Status:
    """The uplink as health reports show it. No personal data.

    Attributes:
        state: see `State`.
        reason: the code for anything but a plain CONNECTED or STOPPED; empty otherwise.
        detail: one line for a person.
        failures: failed attempts in a row.
        delivered: rows the broker took since the process started.
    """

    state: State = State.OFFLINE
    reason: str = "not-tried"
    detail: str = "no connection was tried yet"
    failures: int = 0
    delivered: int = 0

    @property
    def connected(self) -> bool:
        """True only where leads can leave: a refusal or a hold never counts as connected."""
        return self.state is State.CONNECTED


@dataclass(frozen=True, slots=True)
class Held:
    """The row at the head was not taken, `times` in a row."""

    sequence: int
    reason: str
    times: int = 0
    retry_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Flying:
    sequence: int
    kind: Kind
    since_s: float


class _Phase(Enum):
    FLOWING = auto()
    HOLDING = auto()  # a row came back: nothing is sent until its retry is due
    RETRYING = auto()  # that row goes alone


class Window:
    """The rows of one connection that are on the way, and those that are acknowledged but not settled.

    A new connection gets a new window: nothing of the old one's packet ids can be mistaken for the new one's.

    Args:
        size: at most so many rows on the way.
        settle_s: unbroken seconds between PUBACK and removal.
        backoff: how long a held row waits before it is tried again.
    """

    def __init__(self, size: int, settle_s: float, backoff: Backoff) -> None:
        self._size = size
        self._settle_s = settle_s
        self._backoff = backoff
        self._phase = _Phase.FLOWING
        self._flying: OrderedDict[int, _Flying] = OrderedDict()
        self._acknowledged: list[int] = []
        self._settling: deque[tuple[float, int]] = deque()
        self.held: Held | None = None
        self.last_sequence = 0
        self.ever_delivered = False

    @property
    def in_flight(self) -> int:
        """Rows sent and not answered."""
        return len(self._flying)

    def room(self) -> int:
        """How many more rows may be sent now, behind `last_sequence`."""
        most = {_Phase.FLOWING: self._size, _Phase.RETRYING: 1, _Phase.HOLDING: 0}[self._phase]
        return max(0, most - len(self._flying))

    def sent(self, packet_id: int, sequence: int, kind: Kind, now_s: float) -> None:
        """A row went to the socket under this packet id."""
        self._flying[packet_id] = _Flying(sequence, kind, now_s)
        self.last_sequence = sequence

    def answered(self, packet_id: int, code: int, now_s: float) -> None:
        """A PUBACK came. One for a packet id that is not on the way (a duplicate) changes nothing."""
        row = self._flying.pop(packet_id, None)
        if row is None:
            return
        if not is_delivered(row.kind, code):
            self.hold(row.sequence, reason(code))
            return
        self.ever_delivered = True
        self._acknowledged.append(row.sequence)
        self._settling.append((now_s + self._settle_s, row.sequence))
        if self._phase is _Phase.RETRYING:
            self._phase, self.held = _Phase.FLOWING, None

    def hold(self, sequence: int, why: str) -> None:
        """Send nothing more because of this row; of several it is the earliest that counts."""
        times = 0 if self.held is None else self.held.times
        if self._phase is not _Phase.HOLDING or self.held is None or sequence < self.held.sequence:
            self.held = Held(sequence, why, times)
        self._phase = _Phase.HOLDING

    def tend(self, now_s: float, chance: float) -> None:
        """Let time pass: a held row gets its retry once nothing else is on the way and its back-off is over."""
        if self._phase is not _Phase.HOLDING or self.held is None or self._flying:
            return
        if self.held.retry_at_s is None:
            due_s = now_s + self._backoff.wait_s(self.held.times, chance)
            self.held = replace(self.held, times=self.held.times + 1, retry_at_s=due_s)
        elif now_s >= self.held.retry_at_s:
            self._phase = _Phase.RETRYING
            self.last_sequence = self.held.sequence - 1

    def overdue(self, now_s: float, limit_s: float) -> bool:
        """Whether the oldest row on the way has waited longer than `limit_s`: a stalled or half-open connection."""
        oldest = next(iter(self._flying.values()), None)
        return oldest is not None and now_s - oldest.since_s > limit_s

    def take_acknowledged(self) -> list[int]:
        """Sequences acknowledged since the last call, to be marked on disk."""
        taken, self._acknowledged = self._acknowledged, []
        return taken

    def take_settled(self, now_s: float) -> list[int]:
        """Sequences that have settled, to be removed."""
        taken: list[int] = []
        while self._settling and self._settling[0][0] <= now_s:
            taken.append(self._settling.popleft()[1])
        return taken

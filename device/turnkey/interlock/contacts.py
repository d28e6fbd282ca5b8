"""What the readings of the key switch mean: debounce, disagreement, relay and test pulse. Pure, and without a clock.

A `Contacts` value is what was learned from the readings so far; `after` gives the next value and what was found.

Rules kept here:
1. The first open reading of either channel is an opening, at once. Bounce on opening changes nothing any more.
2. Closing counts after both channels have been seen closed, without an open reading, for `closing_stable_ms`. A gap in
   the readings starts that time anew: what was not seen was not stable.
3. Channels that differ for longer than `disagreement_ms` are a fault: a wire is cut or a contact is shorted.
4. A relay whose feedback contradicts the channels for longer than `relay_settle_ms` is a fault: welded, or not pulled
   in.
5. A contact that stays energised while its own feed is off, or does not come back, is a fault: the two are
   cross-shorted.
6. Nothing runs on contacts whose feeds were not proved since they closed.
7. Each finding is reported once, when it arises; `fault` says whether it is there now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from turnkey.interlock.switch import PulseReading, SwitchReading
from turnkey.settings import InterlockSettings

NS_PER_MS = 1_000_000


class Finding(StrEnum):
    """What a reading showed. `OPENED` and `CLOSED` are the key; the others are faults and their reason codes."""

    OPENED = "key-opened"
    CLOSED = "key-closed"
    DISAGREE = "channels-disagree"
    RELAY_WELDED = "relay-welded"
    RELAY_OPEN = "relay-open"
    CROSS_SHORT = "cross-short"


@dataclass(frozen=True)
class Contacts:
    """What is known of the switch. All times on one monotonic clock, nanoseconds.

    Attributes:
        last_ns: when the last reading was taken.
        open_seen: an opening was reported and no stable closing since.
        closed_since_ns: both channels closed in every reading since.
        closed: they have been so for the whole debounce.
        differ_since_ns: the channels differed in every reading since.
        relay_wrong_since_ns: the feedback contradicted the channels in every reading since.
        fault: a fault that is there now.
        pulse_fault: the last test pulse failed.
        proved: a test pulse succeeded since the contacts last closed.
    """

    last_ns: int | None = None
    open_seen: bool = False
    closed_since_ns: int | None = None
    closed: bool = False
    differ_since_ns: int | None = None
    relay_wrong_since_ns: int | None = None
    fault: Finding | None = None
    pulse_fault: bool = False
    proved: bool = False

    @property
    def present_fault(self) -> Finding | None:
        """The fault that the switch shows now, if any."""
        return self.fault or (Finding.CROSS_SHORT if self.pulse_fault else None)

    def after(
        self, reading: SwitchReading, now_ns: int, settings: InterlockSettings
    ) -> tuple[Contacts, tuple[Finding, ...]]:
        """Take in one reading of the lines at `now_ns`."""
        found: list[Finding] = []
        unseen = self.last_ns is None or now_ns - self.last_ns > settings.lease_validity_ms * NS_PER_MS
        both = reading.channel_a and reading.channel_b
        open_seen = self.open_seen
        if both:
            began = self.closed_since_ns
            closed_since = now_ns if began is None or unseen else began
            closed = now_ns - closed_since >= settings.closing_stable_ms * NS_PER_MS
            if closed and not self.closed:
                found.append(Finding.CLOSED)
                open_seen = False
        else:
            closed_since, closed = None, False
            if not open_seen:
                found.append(Finding.OPENED)
                open_seen = True
        differ_since = _since(reading.channel_a != reading.channel_b, self.differ_since_ns, now_ns)
        wrong_since = _since(
            reading.relay_closed is not None and reading.relay_closed != both, self.relay_wrong_since_ns, now_ns
        )
        fault = None
        if _lasted(differ_since, now_ns, settings.disagreement_ms):
            fault = Finding.DISAGREE
        elif _lasted(wrong_since, now_ns, settings.relay_settle_ms):
            fault = Finding.RELAY_WELDED if reading.relay_closed else Finding.RELAY_OPEN
        if fault is not None and fault is not self.fault:
            found.append(fault)
        after = replace(
            self,
            last_ns=now_ns,
            open_seen=open_seen,
            closed_since_ns=closed_since,
            closed=closed,
            differ_since_ns=differ_since,
            relay_wrong_since_ns=wrong_since,
            fault=fault,
            proved=self.proved and both,
        )
        return after, tuple(found)

    def opened(self, now_ns: int) -> tuple[Contacts, tuple[Finding, ...]]:
        """Take in an opening edge, even where the line is closed again by the time it is read."""
        found = () if self.open_seen else (Finding.OPENED,)
        return replace(self, last_ns=now_ns, open_seen=True, closed_since_ns=None, closed=False, proved=False), found

    def pulsed(self, pulse: PulseReading) -> tuple[Contacts, tuple[Finding, ...]]:
        """Take in the result of a test pulse."""
        failed = not (pulse.channel_a_followed and pulse.channel_b_followed)
        found = (Finding.CROSS_SHORT,) if failed and not self.pulse_fault else ()
        return replace(self, pulse_fault=failed, proved=not failed), found


def _since(condition: bool, since_ns: int | None, now_ns: int) -> int | None:
    if not condition:
        return None
    return now_ns if since_ns is None else since_ns


def _lasted(since_ns: int | None, now_ns: int, limit_ms: int) -> bool:
    return since_ns is not None and now_ns - since_ns > limit_ms * NS_PER_MS

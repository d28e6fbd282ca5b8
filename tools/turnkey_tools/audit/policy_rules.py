"""What the ledger must keep of the rules themselves: policies only grow, a case packet is used once and searched once.

Rules kept here:
1. A policy that comes into force has a higher version than every one before it. The same one may come again: a device
   that lost its memory of it says so.
2. A case packet is accepted once, on whatever boot: a device whose disk was set back would not know that it was.
3. What began with a case packet holds one search at most.

No I/O.
"""

from __future__ import annotations

from turnkey.leads.records import PacketAccepted, PolicyAdopted, Searched


class PolicyRules:
    """Takes the events of one ledger in their order."""

    def __init__(self) -> None:
        self._last: PolicyAdopted | None = None
        self._packets: set[str] = set()
        self._searches: dict[str, int] = {}

    def adopted(self, event: PolicyAdopted) -> str | None:
        """What is wrong with a policy that came into force, if anything."""
        before = self._last
        if before is not None and event.version <= before.version and event != before:
            return f"version {event.version} after {before.version}"
        self._last = event
        return None

    def accepted(self, event: PacketAccepted) -> str | None:
        """What is wrong with a case packet that was accepted, if anything."""
        if event.packet_id in self._packets:
            return f"packet {event.packet_id}"
        self._packets.add(event.packet_id)
        self._searches[event.attempt_id] = 0
        return None

    def searched(self, event: Searched) -> str | None:
        """What is wrong with a search of a case packet's probe, if anything; a booking's searches are not counted."""
        if event.attempt_id not in self._searches:
            return None
        self._searches[event.attempt_id] += 1
        return None if self._searches[event.attempt_id] == 1 else f"attempt {event.attempt_id}"

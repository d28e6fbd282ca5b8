"""What the ledger must keep of template packs: each is made once and taken once, and what enters out of one is its own.

Rules kept here:
1. An order is good for one export, on whatever boot.
2. A pack is accepted once; again only to finish what was cut short, by the same bytes, and never after it was finished.
3. Rows out of a pack follow its acceptance, and are no more than were signed for.
4. What is said at the end is what the ledger holds.

No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnkey.leads.records import PackAccepted, PackEnrolled, PackExported, PackImported


@dataclass
class _Taken:
    """A pack under way. `rows`: what was signed for; `enrolled`: so far; `this_time`: by this attempt."""

    digest: str
    rows: int
    enrolled: int = 0
    this_time: int = 0
    finished: bool = False


class PackRules:
    """Takes the events of one ledger in their order."""

    def __init__(self) -> None:
        self._exported: set[str] = set()
        self._taken: dict[str, _Taken] = {}
        self._attempts: dict[str, _Taken] = {}

    def exported(self, event: PackExported) -> str | None:
        """What is wrong with an export, if anything."""
        if event.pack_id in self._exported:
            return f"order {event.pack_id}"
        self._exported.add(event.pack_id)
        return None

    def accepted(self, event: PackAccepted) -> str | None:
        """What is wrong with a pack that was accepted, if anything."""
        known = self._taken.get(event.pack_id)
        pack = known or _Taken(event.pack_digest, event.rows)
        pack.this_time = 0
        self._taken[event.pack_id] = self._attempts[event.attempt_id] = pack
        if known is None or (event.resumed and not known.finished and known.digest == event.pack_digest):
            return None
        return f"pack {event.pack_id}"

    def enrolled(self, event: PackEnrolled) -> str | None:
        """What is wrong with rows that entered, if anything."""
        pack = self._attempts.get(event.attempt_id)
        if pack is None:
            return f"attempt {event.attempt_id} accepted none"
        pack.enrolled += event.rows
        pack.this_time += event.rows
        return f"{pack.enrolled} of a pack of {pack.rows}" if pack.enrolled > pack.rows else None

    def imported(self, event: PackImported) -> str | None:
        """What is wrong with what is said at the end, if anything."""
        pack = self._attempts.get(event.attempt_id)
        if pack is None:
            return f"attempt {event.attempt_id} accepted none"
        pack.finished = True
        said = event.enrolled + event.enrolled_before + sum(event.refused.values())
        if event.enrolled != pack.this_time or said != pack.rows:
            return f"says {event.enrolled} enrolled of {said}, the ledger holds {pack.this_time} of {pack.rows}"
        return None

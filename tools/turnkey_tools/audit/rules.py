"""The rules that a ledger's entries must keep among themselves, whoever signed them. Pure: entries in, findings out.

In the order in which an entry is held to them:
1. Its index follows the one before; it is this device's.
2. A boot is named by its first entry, and never comes back; within one, the monotonic clock only grows.
3. The wall clock goes neither back nor ahead of the monotonic clock by more than `CLOCK_TOLERANCE_S`.
4. Recognition begins only by an accepted release order, or after a boot where it had not been stopped. Stop numbers
   never fall.
5. A capture, search, enrolment or lead lies where recognition runs; a search follows its capture (or case packet), a
   lead its search, in the same run. Leads are numbered without a gap.
6. A heartbeat says the state that holds, its number follows, and it counts what the ledger holds since the boot.
7. Policies only grow, and a case packet is used once and searched once (`policy_rules`); a template pack is made once
   and taken once, and what enters out of it is its own (`pack_rules`).

Where an export begins in the middle, what came before is unknown, and nothing is held against an entry for it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from turnkey.leads.records import (
    Boot,
    Captured,
    Enrolled,
    Heartbeat,
    LeadSigned,
    LedgerEntry,
    OrderSeen,
    PackAccepted,
    PackEnrolled,
    PacketAccepted,
    PackExported,
    PackImported,
    PictureImported,
    PolicyAdopted,
    Searched,
    SwitchChanged,
    TamperFound,
)
from turnkey_tools.audit.findings import Finding
from turnkey_tools.audit.pack_rules import PackRules
from turnkey_tools.audit.policy_rules import PolicyRules

CLOCK_TOLERANCE_S: Final = 5.0
"""What a clock that is being disciplined may be moved at once."""
ORDER_WITHIN_S: Final = 60.0
"""How long after a release its order may be recorded; they are two entries."""
MOST_ATTEMPTS: Final = 4096
_STOPPED: Final = frozenset({"MORATORIUM", "FAULT"})


class Rules:
    """Holds one entry after another to the rules.

    Args:
        device_id: whose ledger it must be.
        first: index of the first entry.

    Attributes:
        state: of the interlock, after the entries so far; None where an export begins in the middle and has not said.
    """

    def __init__(self, device_id: str, first: int) -> None:
        self._device_id = device_id
        self._index = first
        self._whole = first == 0
        self.state: str | None = "BOOTING" if first == 0 else None
        self._latched: str | None = None
        self._epoch = 0
        self._boot_id: str | None = None
        self._boots: set[str] = set()
        self._boot: Boot | None = None
        self._beats: int | None = None
        self._at_s: float | None = None
        self._monotonic_ns = 0
        self._captures = self._searches = self._leads = 0
        self._lead_number: int | None = 0 if first == 0 else None
        self._captured: OrderedDict[str, None] = OrderedDict()
        self._searched: OrderedDict[str, int] = OrderedDict()
        self._orders: set[str] = set()
        self._release: LedgerEntry | None = None
        self._release_order = ""
        self._found: list[Finding] = []
        self._policy = PolicyRules()
        self._packs = PackRules()

    def take(self, entry: LedgerEntry, at_s: float) -> list[Finding]:
        """Hold the next entry to the rules. `at_s`: its time, POSIX seconds. Returns what it breaks."""
        self._found = []
        if entry.index != self._index:
            self._find("index-wrong", entry, f"number {entry.index} in place {self._index}")
        self._index = entry.index + 1
        if entry.device_id != self._device_id:
            self._find("other-device", entry, entry.device_id)
        self._clocks(entry, at_s)
        if self._release is not None and at_s - self._release.at.timestamp() > ORDER_WITHIN_S:
            self._unreleased(self._release)
        match entry.event:
            case Heartbeat() as event:
                self._on_heartbeat(entry, event)
            case Captured() as event:
                self._on_capture(entry, event)
            case Searched() as event:
                self._on_search(entry, event)
            case LeadSigned() as event:
                self._on_lead(entry, event)
            case Enrolled() | PictureImported():
                self._work(entry)
            case SwitchChanged() as event:
                self._on_switch(entry, event)
            case PacketAccepted() as event:
                self._work(entry)
                _remember(self._captured, event.attempt_id)
                self._hold("packet-used-twice", entry, self._policy.accepted(event))
            case PackExported() | PackAccepted() | PackEnrolled() | PackImported() as event:
                self._on_pack(entry, event)
            case PolicyAdopted() as event:
                self._hold("policy-went-back", entry, self._policy.adopted(event))
            case OrderSeen() as event:
                self._on_order(event)
            case Boot() as event:
                self._on_boot(event)
            case TamperFound() as event:
                code = "device-found-tampering" if event.stopped else "device-put-right"
                self._find(code, entry, f"{event.finding}; expected {event.expected}, found {event.found}")
        return self._found

    def skip(self) -> None:
        """An entry could not be read."""
        self._index += 1

    def end(self) -> list[Finding]:
        """What is still owed when the entries end."""
        self._found = []
        if self._release is not None:
            self._unreleased(self._release)
        return self._found

    def _find(self, code: str, entry: LedgerEntry, detail: str = "") -> None:
        self._found.append(Finding(code, entry.index, entry.at.isoformat(), detail))

    def _hold(self, code: str, entry: LedgerEntry, fault: str | None) -> None:
        if fault is not None:
            self._find(code, entry, fault)

    def _clocks(self, entry: LedgerEntry, at_s: float) -> None:
        before_s, self._at_s = self._at_s, at_s
        before_ns, self._monotonic_ns = self._monotonic_ns, entry.monotonic_ns
        if entry.boot_id != self._boot_id:
            if not isinstance(entry.event, Boot) and (self._boot_id is not None or self._whole):
                self._find("boot-missing", entry)
            if entry.boot_id in self._boots:
                self._find("boot-returned", entry)
            self._boots.add(entry.boot_id)
            self._boot_id = entry.boot_id
            passed_s = 0.0
        else:
            passed_s = (entry.monotonic_ns - before_ns) / 1e9
            if passed_s < 0:
                self._find("monotonic-back", entry, f"by {-passed_s:.1f} s")
                return
            if before_s is not None and at_s - before_s - passed_s > CLOCK_TOLERANCE_S:
                self._find("clock-set-forward", entry, f"by {at_s - before_s - passed_s:.1f} s")
        if before_s is not None and at_s - before_s - passed_s < -CLOCK_TOLERANCE_S:
            self._find("clock-set-back", entry, f"by {before_s + passed_s - at_s:.1f} s")

    def _on_boot(self, event: Boot) -> None:
        self._boot, self._beats = event, 0
        self._captures = self._searches = self._leads = 0
        self._end_run()

    def _on_switch(self, entry: LedgerEntry, event: SwitchChanged) -> None:
        begins = event.state == "RUNNING" and (event.previous != "RUNNING" or self.state != "RUNNING")
        if event.epoch < self._epoch:
            self._find("epoch-fell", entry, f"{event.epoch} after {self._epoch}")
        elif event.epoch > self._epoch + 1 and self._epoch:
            self._find("stop-missing", entry, f"{event.epoch} after {self._epoch}")
        if begins:
            self._begun(entry, event)
        if event.state != "RUNNING":
            self._end_run()
        if event.state != "BOOTING":
            self._latched = event.state
        self.state, self._epoch = event.state, max(self._epoch, event.epoch)

    def _begun(self, entry: LedgerEntry, event: SwitchChanged) -> None:
        if event.previous == "BOOTING":
            if self._latched in _STOPPED:
                self._find("started-by-itself", entry, f"the last state on record was {self._latched}")
            return
        if self.state is not None and event.previous != self.state:
            self._find("state-jump", entry, f"from {event.previous}; the ledger knows {self.state}")
        if event.order_id is None:
            self._find("release-without-order", entry)
        elif event.order_id not in self._orders:
            self._release, self._release_order = entry, event.order_id

    def _unreleased(self, entry: LedgerEntry) -> None:
        self._find("release-without-order", entry, f"order {self._release_order} is not on the ledger")
        self._release = None

    def _on_order(self, event: OrderSeen) -> None:
        if event.accepted and event.act == "release" and event.order_id is not None:
            self._orders.add(event.order_id)
            if event.order_id == self._release_order:
                self._release = None

    def _on_heartbeat(self, entry: LedgerEntry, event: Heartbeat) -> None:
        if event.state == "BOOTING":
            self.state = "BOOTING"
        elif self.state is not None and event.state != self.state:
            self._find("state-contradicted", entry, f"{event.state}; the ledger knows {self.state}")
        self.state = event.state
        if event.epoch < self._epoch:
            self._find("epoch-fell", entry, f"{event.epoch} after {self._epoch}")
        if event.state == "RUNNING" and False in (event.channel_a, event.channel_b):
            self._find("running-with-open-key", entry)
        if event.relay_closed and event.channel_a is False and event.channel_b is False:
            self._find("relay-closed-while-key-open", entry)
        if self._beats is None or self._boot is None:
            return
        self._beats += 1
        if event.sequence != self._beats:
            self._find("heartbeat-missing", entry, f"number {event.sequence} in place of {self._beats}")
            self._beats = event.sequence
        said, known = (event.captures, event.searches, event.leads), (self._captures, self._searches, self._leads)
        if said != known:
            self._find("counter-wrong", entry, f"says {said}, the ledger holds {known} (captures, searches, leads)")
        if event.software != self._boot.software or event.models != self._boot.models:
            self._find("software-changed", entry, event.software)

    def _on_capture(self, entry: LedgerEntry, event: Captured) -> None:
        self._work(entry)
        self._captures += 1
        _remember(self._captured, event.attempt_id)

    def _on_search(self, entry: LedgerEntry, event: Searched) -> None:
        self._work(entry)
        self._searches += 1
        self._hold("packet-searched-twice", entry, self._policy.searched(event))
        if event.attempt_id not in self._captured and self._boot is not None:
            self._find("search-without-capture", entry)
        self._searched[event.attempt_id] = self._searched.get(event.attempt_id, 0) + bool(event.candidates)
        if len(self._searched) > MOST_ATTEMPTS:
            self._searched.popitem(last=False)

    def _on_lead(self, entry: LedgerEntry, event: LeadSigned) -> None:
        self._work(entry)
        self._leads += 1
        owed = self._searched.get(event.attempt_id, 0)
        if owed < 1 and self._boot is not None:
            self._find("lead-without-search", entry)
        self._searched[event.attempt_id] = owed - 1
        if self._lead_number is not None and event.sequence != self._lead_number + 1:
            self._find("lead-missing", entry, f"number {event.sequence} after {self._lead_number}")
        self._lead_number = event.sequence

    def _on_pack(self, entry: LedgerEntry, event: PackExported | PackAccepted | PackEnrolled | PackImported) -> None:
        if not isinstance(event, PackImported):
            self._work(entry)
        match event:
            case PackExported():
                self._hold("pack-exported-twice", entry, self._packs.exported(event))
            case PackAccepted():
                self._hold("pack-used-twice", entry, self._packs.accepted(event))
            case PackEnrolled() if self._boot is not None:
                self._hold("pack-rows-unaccounted", entry, self._packs.enrolled(event))
            case PackImported() if self._boot is not None:
                self._hold("pack-rows-unaccounted", entry, self._packs.imported(event))

    def _work(self, entry: LedgerEntry) -> None:
        if self.state not in (None, "RUNNING"):
            self._find("work-while-stopped", entry, f"a {entry.event.kind} in {self.state}")

    def _end_run(self) -> None:
        self._captured.clear()
        self._searched.clear()


def _remember(attempts: OrderedDict[str, None], attempt_id: str) -> None:
    attempts[attempt_id] = None
    if len(attempts) > MOST_ATTEMPTS:
        attempts.popitem(last=False)

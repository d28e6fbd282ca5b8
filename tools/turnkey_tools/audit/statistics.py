"""What a year's entries add up to. Counts and codes only; no entry of the ledger says more."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from turnkey.leads.records import (
    Boot,
    Captured,
    Discarded,
    Enrolled,
    Expunged,
    LeadSigned,
    LedgerEntry,
    NotCaptured,
    OrderSeen,
    PackAccepted,
    PackEnrolled,
    PacketAccepted,
    PacketPresented,
    PackExported,
    PackPresented,
    PictureImported,
    PolicyAdopted,
    Refused,
    Searched,
    SwitchChanged,
    TamperFound,
    Updated,
)


@dataclass
class Spread:
    """How a number was spread: each value and how often."""

    values: Counter[float] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        self.values[round(value, 4)] += 1

    def at(self, share: float) -> float | None:
        """The smallest value that at least this share of them does not exceed; None where there are none."""
        owed = share * self.values.total()
        for value in sorted(self.values):
            owed -= self.values[value]
            if owed <= 0:
                return value
        return None


BOOKINGS = "booking"
"""A booking is searched as such; an offence category is stated for case packets only."""


@dataclass
class Statistics:
    """Adds up entries. Give its `take` to an audit as an observer.

    Attributes:
        searches: by offence category (or `booking`), partition, and outcome `none` or `lead`.
        imported: pictures of the agency's own records that were looked at, by partition.
        packs: template packs, by what became of them.
        exchanged: templates, by way (`to`, `from`), the other device, and partition.
        refusals: by step and reason.
        thresholds, qualities, gallery_sizes: by partition, over its searches.
    """

    since_s: float
    until_s: float
    captures: Counter[str] = field(default_factory=Counter)
    searches: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    imported: Counter[str] = field(default_factory=Counter)
    packs: Counter[str] = field(default_factory=Counter)
    exchanged: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    not_captured: Counter[str] = field(default_factory=Counter)
    leads: int = 0
    enrolments: Counter[str] = field(default_factory=Counter)
    expungements: Counter[tuple[str, str]] = field(default_factory=Counter)
    discarded: Counter[str] = field(default_factory=Counter)
    packets: Counter[str] = field(default_factory=Counter)
    orders: Counter[tuple[str, str]] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    updates: Counter[tuple[str, str]] = field(default_factory=Counter)
    tampering: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    policies: dict[str, int | None] = field(default_factory=dict)
    software: list[str] = field(default_factory=list)
    thresholds: dict[str, Spread] = field(default_factory=dict)
    qualities: dict[str, Spread] = field(default_factory=dict)
    gallery_sizes: dict[str, Spread] = field(default_factory=dict)
    _categories: dict[str, str] = field(default_factory=dict)
    _senders: dict[str, str] = field(default_factory=dict)

    def take(self, entry: LedgerEntry) -> None:
        """Add one entry, where it lies in the time reported on."""
        if not self.since_s <= entry.at.timestamp() < self.until_s:
            return
        match entry.event:
            case Captured(purpose=purpose):
                self.captures[purpose] += 1
            case PictureImported(partition=partition):
                self.imported[partition] += 1
            case Searched() as event:
                self._search(event)
            case LeadSigned():
                self.leads += 1
            case Refused(step=step, reason=reason):
                self.refusals[step, reason] += 1
            case NotCaptured(reason=reason):
                self.not_captured[reason] += 1
            case Enrolled(partition=partition):
                self.enrolments[partition] += 1
            case PackExported() | PackPresented() | PackAccepted() | PackEnrolled() as event:
                self._exchange(event)
            case Expunged(partition=partition, reason=reason):
                self.expungements[partition, reason] += 1
            case Discarded(reason=reason):
                self.discarded[reason] += 1
            case PacketPresented():
                self.packets["presented"] += 1
            case PacketAccepted(attempt_id=attempt_id, offence_category=category):
                self.packets["accepted"] += 1
                self._categories[attempt_id] = category
            case OrderSeen(accepted=accepted, act=act, reason=reason):
                self.orders[act or "order", "accepted" if accepted else reason] += 1
            case SwitchChanged(previous="RUNNING", state=state, reason=reason) if state != "RUNNING":
                self.stops[reason] += 1
            case PolicyAdopted(digest=digest, version=version):
                self.policies[digest] = version
            case Updated(step=step, what=what):
                self.updates[what, step] += 1
            case TamperFound(finding=finding):
                self.tampering[finding] += 1
            case Boot(software=software) if software not in self.software:
                self.software.append(software)

    def _exchange(self, event: PackExported | PackPresented | PackAccepted | PackEnrolled) -> None:
        match event:
            case PackExported(to_device=device, partition=partition, rows=rows):
                self.packs["exported"] += 1
                self.exchanged["to", device, partition] += rows
            case PackPresented():
                self.packs["presented"] += 1
            case PackAccepted(attempt_id=attempt_id, from_device=device, resumed=resumed):
                self.packs["finished after it was cut short" if resumed else "accepted"] += 1
                self._senders[attempt_id] = device
            case PackEnrolled(attempt_id=attempt_id, partition=partition, rows=rows):
                self.enrolments[partition] += rows
                self.exchanged["from", self._senders.get(attempt_id, "another device"), partition] += rows

    def _search(self, event: Searched) -> None:
        category = self._categories.get(event.attempt_id, BOOKINGS)
        self.searches[category, event.partition, "lead" if event.candidates else "none"] += 1
        self.models[event.model_id] += 1
        self.policies.setdefault(event.policy_digest, None)
        self.gallery_sizes.setdefault(event.partition, Spread()).add(event.gallery_size)
        if event.threshold is not None:
            self.thresholds.setdefault(event.partition, Spread()).add(event.threshold)
        if event.probe_quality is not None:
            self.qualities.setdefault(event.partition, Spread()).add(event.probe_quality)

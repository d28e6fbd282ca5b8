"""What an audit can find, each by a code, with what it means for somebody who is no engineer.

A `VIOLATION` contradicts what the device promised, or the signed history itself. A `WARNING` is no proof of wrong, and
stands in the way of proving right. A `NOTE` explains.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How bad."""

    VIOLATION = "VIOLATION"
    WARNING = "WARNING"
    NOTE = "NOTE"


_V, _W, _N = Severity.VIOLATION, Severity.WARNING, Severity.NOTE

CATALOGUE: Final[dict[str, tuple[Severity, str]]] = {
    # the file and its signatures
    "export-damaged": (_V, "the file is cut off or is not an export: nothing behind this place can be believed"),
    "signature-wrong": (_V, "the checkpoint is not signed by the device's key: this is not the device's own history"),
    "root-differs": (_V, "the entries do not hash to the signed root: something was changed, taken out or put in"),
    "proof-wrong": (_V, "the signed checkpoint is not a continuation of these entries"),
    "entry-unreadable": (_V, "an entry is not a record of this ledger"),
    "not-canonical": (_V, "an entry is not written the way the device writes it"),
    "index-wrong": (_V, "an entry is not where its number says: entries are missing, repeated or out of order"),
    "other-device": (_V, "an entry of another device"),
    # the witness
    "fork": (_V, "the witness saw another history at this size: the ledger was rewritten or rolled back"),
    "witness-saw-fork": (_V, "the device signed two histories, and the witness holds both"),
    "witness-signature-wrong": (_W, "a cosignature in the witness's file is not the witness's"),
    "dated-after-witness": (_V, "an entry is dated later than the witness saw it: the clock was set forward"),
    "export-ends-early": (_W, "the witness saw more entries than this export holds: ask for the rest"),
    "no-witness": (_N, "no witness's file was given: nothing can be shown to have been written in time"),
    # clocks
    "clock-set-back": (_V, "the wall clock went back: an entry is dated before the one in front of it"),
    "clock-set-forward": (_W, "the wall clock jumped ahead of the device's own clock"),
    "monotonic-back": (_V, "the device's own clock went back without a boot"),
    # boots
    "boot-missing": (_V, "the device speaks under a new boot that it never recorded"),
    "boot-returned": (_V, "entries of an earlier boot after a later one"),
    "software-changed": (_V, "software or models are not those that the boot recorded"),
    # the interlock
    "work-while-stopped": (_V, "a capture, search, enrolment, exchange or lead while recognition was stopped"),
    "release-without-order": (_V, "recognition began again without an accepted release order"),
    "started-by-itself": (_V, "recognition began after a boot although it had been stopped"),
    "state-jump": (_V, "recognition began from a state that the ledger does not know of"),
    "state-contradicted": (_V, "a heartbeat says another state than the last change of state"),
    "epoch-fell": (_V, "the stop number fell: the latch was set back"),
    "stop-missing": (_W, "the stop numbers have a gap: a stop was latched that could not be recorded"),
    "running-with-open-key": (_V, "a heartbeat says that it runs while a channel of the key is open"),
    "relay-closed-while-key-open": (_W, "the camera's relay is closed although both channels of the key are open"),
    # who follows from what
    "search-without-capture": (_V, "a search without a capture or case packet in the same run"),
    "packet-used-twice": (_V, "a case packet was accepted a second time"),
    "packet-searched-twice": (_V, "the probe of a case packet was searched more than once"),
    "pack-exported-twice": (_V, "an order for a template pack was good for a second export"),
    "pack-used-twice": (_V, "a template pack was accepted a second time"),
    "pack-rows-unaccounted": (_V, "templates entered that are not those of an accepted pack, or were counted wrong"),
    "policy-went-back": (_V, "a policy came into force that is no newer than one before it"),
    "lead-without-search": (_V, "a lead without a search that found a candidate"),
    "lead-missing": (_V, "the numbers of the leads have a gap: a lead is not on the ledger"),
    "heartbeat-missing": (_V, "the numbers of the heartbeats have a gap: a heartbeat was taken out"),
    "counter-wrong": (_V, "a heartbeat counts other captures, searches or leads than the ledger holds"),
    # what the device found itself
    "device-found-tampering": (_V, "the device found that its own stores disagree, and stopped"),
    "device-put-right": (_W, "the device found a trace of a kill in its own stores, and put it right"),
    # time
    "not-exported": (_N, "this export holds no entries for it"),
    "state-unknown": (_N, "the export begins after the last change of state"),
    "gap": (_W, "no sign of life for too long: what happened meanwhile is unknown, never 'off'"),
}


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        code: of `CATALOGUE`.
        index: the entry that says so; None where it is not one entry.
        at: its time as it says itself, UTC, ISO 8601; None likewise.
        detail: the values.
    """

    code: str
    index: int | None = None
    at: str | None = None
    detail: str = ""

    @property
    def severity(self) -> Severity:
        return CATALOGUE[self.code][0]

    @property
    def meaning(self) -> str:
        return CATALOGUE[self.code][1]


MOST_KEPT: Final = 200
"""Findings of one code that are kept one by one; further ones are counted."""


@dataclass
class Findings:
    """What was found, the first few of each code in full and all of them counted."""

    kept: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Note one."""
        number = self.counts.get(finding.code, 0) + 1
        self.counts[finding.code] = number
        if number <= MOST_KEPT:
            self.kept.append(finding)

    def worst(self) -> Severity:
        """The worst severity, `NOTE` where there is nothing."""
        severities = {CATALOGUE[code][0] for code in self.counts}
        return next((one for one in (_V, _W) if one in severities), _N)

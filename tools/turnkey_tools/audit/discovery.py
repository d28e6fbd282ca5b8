"""The discovery pack for one case number (or booking number): what the device did about it, from the ledger alone.

With each attempt the ledger holds a digest of attempt and number; whoever knows the number finds its entries by trying
it. What the pack does not list did not happen on this device, as far as its history is verified.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Final

from turnkey.leads.records import (
    Boot,
    Captured,
    Enrolled,
    Expunged,
    LeadSigned,
    LedgerEntry,
    NotCaptured,
    PacketAccepted,
    PictureImported,
    Refused,
    Searched,
    reference_digest,
)
from turnkey_tools.audit.auditor import Audit
from turnkey_tools.audit.style import document

LIMITS: Final = (
    "A score above a threshold is not an identification. The threshold follows the gallery's size and the policy's "
    "limit of false alarms; the calibration behind it, and what it was not measured on, are in the model's card. Twins "
    "and siblings score high."
)


@dataclass(frozen=True)
class Line:
    """One entry that concerns the number, in words."""

    index: int
    at: str
    what: str
    facts: dict[str, str]


@dataclass
class CaseFile:
    """Collects what concerns one number. Give its `take` to an audit as an observer.

    Attributes:
        searches_against: searches of a partition while a template of this number stood in it, by model, and how many of
            them named it in a lead.
    """

    number: str
    lines: list[Line] = field(default_factory=list)
    searches_against: int = 0
    named: int = 0
    thresholds: list[float] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    policies: set[str] = field(default_factory=set)
    software: list[str] = field(default_factory=list)
    model_files: dict[str, str] = field(default_factory=dict)
    _newest: Searched | None = None
    _attempts: set[str] = field(default_factory=set)
    _rows: dict[tuple[str, int], None] = field(default_factory=dict)

    def take(self, entry: LedgerEntry) -> None:
        """Look at one entry."""
        match entry.event:
            case Boot(software=software, models=models):
                if software not in self.software:
                    self.software.append(software)
                self.model_files |= models
            case Captured(attempt_id=attempt, reference_digest=digest) if self._is(attempt, digest):
                self._note(entry, "a picture was taken", purpose=entry.event.purpose, frames=entry.event.frames)
            case PictureImported(attempt_id=attempt, reference_digest=digest) if self._is(attempt, digest):
                facts = {"partition": entry.event.partition, "picture_sha256": entry.event.image_digest}
                self._note(entry, "a picture was imported", **facts)
            case PacketAccepted(attempt_id=attempt, reference_digest=digest) if self._is(attempt, digest):
                self._note(
                    entry, "a case packet was accepted", offence_category=entry.event.offence_category,
                    legal_basis=entry.event.legal_basis, picture_sha256=entry.event.image_digest,
                    signers=len(entry.event.signers),
                )  # fmt: skip
            case Searched() as event:
                self._search(entry, event)
            case LeadSigned(attempt_id=attempt, candidates=candidates) as event:
                ranks = [rank for rank, digest in enumerate(candidates, 1) if self._digest(attempt) == digest]
                if ranks or attempt in self._attempts:
                    self.named += bool(ranks)
                    searched = _facts(self._newest) if self._newest and self._newest.attempt_id == attempt else {}
                    what = "it was named in a lead" if ranks else "a lead was signed for it"
                    facts = {"lead_id": event.lead_id, "envelope_sha256": event.envelope_digest}
                    self._note(entry, what, **facts, **searched, rank=ranks[0] if ranks else None)
            case Enrolled(attempt_id=attempt, partition=partition, row=row) if attempt in self._attempts:
                self._rows[partition, row] = None
                self._note(entry, "a template was enrolled", partition=partition, row=row)
            case Expunged(partition=partition, row=row, reason=reason) if (partition, row) in self._rows:
                del self._rows[partition, row]
                self._note(entry, "a template was removed for good", partition=partition, row=row, reason=reason)
            case NotCaptured(booking_number=number, reason=reason) if number == self.number:
                self._note(entry, "an officer recorded that there is no picture", reason=reason)
            case Refused(attempt_id=attempt, step=step, reason=reason) if attempt in self._attempts:
                self._note(entry, "refused", step=step, reason=reason)

    def _digest(self, attempt_id: str) -> str:
        return reference_digest(attempt_id, self.number)

    def _is(self, attempt_id: str, digest: str | None) -> bool:
        if digest is None or digest != self._digest(attempt_id):
            return False
        self._attempts.add(attempt_id)
        return True

    def _search(self, entry: LedgerEntry, event: Searched) -> None:
        self._newest = event
        if event.attempt_id in self._attempts:
            result = f"{event.candidates} candidate(s)" if event.candidates else "none"
            self._note(entry, "it was searched", **_facts(event), result=result)
        elif any(partition == event.partition for partition, _ in self._rows):
            self.searches_against += 1
            if event.threshold is not None:
                self.thresholds = [min([*self.thresholds, event.threshold]), max([*self.thresholds, event.threshold])]
        else:
            return
        self.models.add(event.model_id)
        self.policies.add(event.policy_digest)

    def _note(self, entry: LedgerEntry, what: str, **facts: object) -> None:
        shown = {name: str(value) for name, value in facts.items() if value is not None}
        self.lines.append(Line(entry.index, entry.at.isoformat(), what, shown))


def _facts(event: Searched) -> dict[str, object]:
    return {
        "database": event.partition,
        "templates": event.gallery_size,
        "threshold": event.threshold,
        "max_fpir": event.max_fpir,
        "method": event.search,
        "recall": event.search_recall,
        "model": event.model_id,
        "policy_sha256": event.policy_digest,
    }


def as_json(audit: Audit, case: CaseFile) -> str:
    """The pack as one JSON object."""
    return json.dumps(
        {
            "format": "turnkey-discovery/1",
            "number": case.number,
            "device_id": audit.device_id,
            "history": {"verdict": audit.verdict, "entries": audit.entries, "ledger_root": audit.root},
            "system": {"software": case.software, "model_files": case.model_files},
            "models": sorted(case.models),
            "policies": sorted(case.policies),
            "entries": [asdict(line) for line in case.lines],
            "searches_against_it": case.searches_against,
            "of_these_named_it": case.named,
            "thresholds_of_these": case.thresholds,
            "limits": LIMITS,
        }
    )


def _against(case: CaseFile) -> str:
    if not case.searches_against:
        return (
            "This export holds no enrolment of this number, so the searches that were compared with it cannot be "
            f"counted; {case.named:,} named it in a lead."
            if case.named
            else "None: no template of this number stood in the gallery while others were searched."
        )
    between = f", at thresholds of {case.thresholds[0]:g} to {case.thresholds[-1]:g}" if case.thresholds else ""
    return (
        f"While a template of this number stood in the gallery, {case.searches_against:,} searches of other people "
        f"were compared with it{between}; {case.named:,} of them named it in a lead. The others had the result none, "
        "as far as this number goes."
    )


def page(audit: Audit, case: CaseFile) -> str:
    """The pack as one self-contained page."""
    rows = "".join(
        f'<tr><td class="number">{line.index}</td><td>{escape(line.at[:19])}</td><td>{escape(line.what)}</td><td>'
        + "<br>".join(
            f"{escape(name.replace('_', ' '))}: <code>{escape(value)}</code>" for name, value in line.facts.items()
        )
        + "</td></tr>"
        for line in case.lines
    )
    entries = (
        '<div class="scroll"><table><tr><th class="number">Entry</th><th>At (UTC)</th><th>What</th><th></th></tr>'
        f"{rows}</table></div>"
        if case.lines
        else "<p>None. The device's ledger holds nothing about this number.</p>"
    )
    files = "".join(f"<li>{escape(name)}: <code>{digest}</code></li>" for name, digest in case.model_files.items())
    return document(
        f"Discovery: {escape(case.number)}",
        f"<h1>Discovery pack, {escape(audit.device_id)}</h1>"
        f'<p class="verdict">{escape(case.number)}</p>'
        f"<p>{escape(LIMITS)}</p>"
        f"<h2>What was done</h2>{entries}"
        f"<h2>Searches of others against it</h2><p>{escape(_against(case))}</p>"
        f"<h2>System</h2><p>Software {escape(', '.join(case.software) or '?')}. Models: "
        f"{escape(', '.join(sorted(case.models)) or 'none used')}.</p><ul>{files}</ul>"
        f"<h2>How far the history can be believed</h2><p>The ledger this was drawn from: {audit.verdict}, "
        f"{audit.entries:,} entries, root <code>{audit.root}</code>. What the verdict means, and how to check it: "
        "<code>turnkeyctl audit --help</code>.</p>",
    )

"""Casework as a person sees it, and as JSON. All text of the casework commands is here; see view.py for its rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from turnkey.envelope import peek
from turnkey.leads.records import Lead
from turnkey_tools.leads import view
from turnkey_tools.leads.casebook import TrailEntry, lead_of
from turnkey_tools.leads.desk import Accepted
from turnkey_tools.leads.review import Case, Refusal
from turnkey_tools.leads.store import Received

Row = tuple[Received, Lead, Case]

WHY: Final = {
    Refusal.OTHER_LEAD: "This was signed about another lead.",
    Refusal.NO_SUCH_CANDIDATE: "The lead has no candidate of that rank.",
    Refusal.ALREADY_EXAMINED: "You have examined this lead. A verdict is final; the second one is somebody else's.",
    Refusal.EVIDENCE_OR_REASON: "Give either --evidence or --reason.",
    Refusal.NOT_IN_THIS_STATE: "Not where this lead stands: evidence closes only what two examiners confirmed, and a "
    "lead that is reviewed or closed is not examined again.",
}

STANDS: Final = {
    "new": "nobody has examined it",
    "awaiting-second": "one of two examiners has signed; who and what is shown when both have",
    "confirmed": "both examiners say: candidate and probe are one person. Now find evidence that is not this.",
    "rejected": "both examiners say: no candidate is the person",
    "disputed": "the examiners differ; it may be closed with a reason",
    "closed": "closed",
}


def table(rows: Sequence[Row], missing: Mapping[str, Sequence[tuple[int, int]]]) -> RenderableType:
    """The list for a terminal, newest last."""
    listed = Table("Lead", "Device", "No.", "Signed (UTC)", "Probe of", "Candidates", "Stands")
    for received, lead, case in rows:
        listed.add_row(
            received.lead_id[:12],
            lead.device_id,
            str(lead.sequence),
            f"{lead.issued_at:%Y-%m-%d %H:%M}",
            Text(lead.origin),
            str(len(lead.candidates)),
            case.shown,
        )
    gaps = [
        Text(f"Missing from {device}: " + ", ".join(_range(*gap) for gap in ranges), style="bold yellow")
        for device, ranges in missing.items()
        if ranges
    ]
    return Group(listed, *gaps)


def list_json(rows: Sequence[Row], missing: Mapping[str, Sequence[tuple[int, int]]]) -> str:
    """The list for machines."""
    leads = [_facts(received, lead, case) for received, lead, case in rows]
    return json.dumps({"leads": leads, "missing": missing})


def panel(received: Received, case: Case) -> RenderableType:
    """One lead for a terminal."""
    lead = lead_of(received)
    keyid = next(iter(json.loads(received.envelope)["signatures"]))["keyid"]
    lines = [Text(f"Stands: {STANDS[case.shown]}", style="bold")]
    for examination in case.visible:
        verdict = "no candidate" if examination.candidate is None else f"candidate {examination.candidate}"
        signed = f"{examination.examiner}, {examination.at:%Y-%m-%d %H:%M} UTC"
        lines.append(Text(view.plain(f"{signed}: {verdict}. {examination.note}")))
    if case.closing is not None:
        why = f"evidence {case.closing.evidence}" if case.closing.evidence else f"reason: {case.closing.reason}"
        signed = f"Closed by {case.closing.examiner}, {case.closing.at:%Y-%m-%d %H:%M} UTC"
        lines.append(Text(view.plain(f"{signed}: {why}")))
    return Group(view.panel(Accepted(lead, keyid, received.digest, received.envelope)), *lines)


def lead_json(received: Received, case: Case) -> str:
    """One lead for machines."""
    lead = json.loads(peek(received.envelope).payload)
    return json.dumps({**_facts(received, lead_of(received), case), "lead": lead})


def trail(entries: Sequence[TrailEntry]) -> RenderableType:
    """The trail for a terminal."""
    rows = Table("Place", "At (UTC)", "Login", "Action", "Lead", "Detail")
    for kept in entries:
        facts = kept.facts
        detail = ", ".join(f"{name} {str(value)[:40]}" for name, value in facts["detail"].items())
        cells = [facts["at"][:19], facts["actor"], facts["action"], facts["lead_id"][:12], detail]
        rows.add_row(str(facts["place"]), *(Text(view.plain(cell)) for cell in cells))
    return rows


def _facts(received: Received, lead: Lead, case: Case) -> dict[str, Any]:
    return {
        "lead_id": received.lead_id,
        "device_id": lead.device_id,
        "sequence": lead.sequence,
        "booking_number": lead.booking_number,
        "case_number": lead.case_number,
        "received_at": received.received_at,
        "state": case.shown,
        "examinations": [examination.model_dump(mode="json") for examination in case.visible],
        "closing": case.closing.model_dump(mode="json") if case.closing else None,
    }


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"

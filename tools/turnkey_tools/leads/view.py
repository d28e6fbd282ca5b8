"""A verdict as a person sees it, and as one line of JSON. All text that the lead desk shows is in this file.

Rules kept here:
1. The notice comes first.
2. A score stands beside the threshold it had to reach and the gallery's size, never alone.
3. What came from the wire is shown as plain text with control characters escaped: no terminal codes, no markup.
"""

from __future__ import annotations

import json
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from turnkey_tools.leads.desk import Accepted, Reason, Refused, Verdict

NEXT_STEP: Final = (
    "Before any use: two examiners compare the pictures, independently, and find evidence that is not this."
)

_WHY: Final = {
    Reason.FOREIGN_TOPIC: "It did not come on a device's lead topic.",
    Reason.UNKNOWN_DEVICE: "This desk holds no public key for that device. Ask IT whether it was provisioned.",
    Reason.TOO_LARGE: "It is larger than a lead can be.",
    Reason.NOT_AN_ENVELOPE: "It is not a signed envelope.",
    Reason.WRONG_TYPE: "It is signed, but it is not a lead.",
    Reason.NOT_SIGNED: "The device that the topic names did not sign it. Report this to IT: who publishes there?",
    Reason.NOT_A_LEAD: "It is signed, but this desk does not know its form. The device may be newer than this desk.",
    Reason.WRONG_DEVICE: "It names another device than its topic. Report this to IT.",
    Reason.DUPLICATE: "It is here already; nothing to do.",
    Reason.NOT_PERMITTED: "The policy that it names does not permit it, or is unknown to this desk. Tell the auditor.",
    Reason.CONFLICT: "Another lead has this number. Report it to IT and the auditor: no honest device does that.",
}


def panel(verdict: Verdict) -> RenderableType:
    """The verdict for a terminal."""
    return _lead(verdict) if isinstance(verdict, Accepted) else _refusal(verdict)


def line(verdict: Verdict) -> str:
    """The verdict as one line of JSON."""
    if isinstance(verdict, Accepted):
        content: dict[str, object] = {
            "verdict": "accepted",
            "keyid": verdict.keyid,
            "missing": verdict.missing,
            "late": verdict.late,
            "policy_checked": verdict.policy_checked,
            "lead": verdict.lead.model_dump(mode="json"),
        }
    else:
        content = {"verdict": "refused", "reason": verdict.reason, "detail": verdict.detail, "topic": verdict.topic}
    return json.dumps(content, ensure_ascii=True, sort_keys=True)


def plain(text: str) -> str:
    """Text from the wire, safe on a terminal: printable ASCII, the rest escaped."""
    return text.encode("unicode_escape").decode("ascii")


def _lead(accepted: Accepted) -> RenderableType:
    lead = accepted.lead
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("Probe of", lead.origin),
        ("From", f"{lead.device_id}, lead {lead.sequence}, signature verified ({accepted.keyid[:12]})"),
        ("Signed", f"{lead.issued_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Searched", f"{lead.gallery_size} templates in '{lead.partition}', {_search(lead.search)}"),
        ("Threshold", f"{lead.threshold:.4f}, for at most {lead.max_fpir:.2%} of searches raising a false candidate"),
        ("Probe quality", f"{lead.probe_quality} of 100"),
    ):
        facts.add_row(Text(name, style="dim"), Text(plain(value)))
    candidates = Table("Rank", "Case or booking", "Score", "Enrolled", title="Candidates", title_justify="left")
    for candidate in lead.candidates:
        enrolled = f"{candidate.enrolled_at:%Y-%m-%d}"
        candidates.add_row(str(candidate.rank), Text(candidate.reference), f"{candidate.score:.4f}", enrolled)
    parts: list[RenderableType] = [Text(lead.notice, style="bold"), Text(), facts, Text(), candidates, Text(NEXT_STEP)]
    parts += [Text(sentence, style="bold yellow") for sentence in _remarks(accepted)]
    return Panel(Group(*parts), title=f"Lead {plain(lead.lead_id[:12])}", title_align="left", border_style="green")


def _remarks(accepted: Accepted) -> list[str]:
    remarks = (
        [] if accepted.policy_checked else ["This desk holds no policy: whether one permits this was not checked."]
    )
    for first, last in accepted.missing:
        numbers = f"Lead {first}" if first == last else f"Leads {first} to {last}"
        remarks.append(f"{numbers} of {accepted.lead.device_id} did not arrive. They were withheld, lost, or are late.")
    if accepted.late:
        remarks.append("This lead arrived late; it fills a number that was missing.")
    return remarks


def _search(search: str) -> str:
    return "every one read" if search == "exhaustive" else "through an index that can skip some"


def _refusal(refused: Refused) -> RenderableType:
    body = Group(
        Text(_WHY[refused.reason], style="bold"),
        Text(f"Topic: {plain(refused.topic[:120])}"),
        Text(f"Detail: {plain(refused.detail[:300])}"),
    )
    return Panel(body, title=f"Refused: {refused.reason}", title_align="left", border_style="red")

"""A lead's file for discovery: the signed envelopes themselves, so that whoever receives it can check all of it again.

Pure. `pack` makes the document, `check` reads one WITHOUT trusting it and says what does not hold.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from turnkey.envelope import EnvelopeError, PublicKey, verify
from turnkey.leads.records import LEAD_NOTICE, PAYLOAD_TYPE_LEAD, Lead
from turnkey_tools.leads.casebook import CasebookError, TrailEntry, broken_at, read_action
from turnkey_tools.leads.review import Case, Refusal, decide
from turnkey_tools.leads.store import Received

FORMAT: Final = "turnkey-lead-export/1"
Base64 = Annotated[str, Field(max_length=200_000)]


class Export(BaseModel):
    """The document. Envelopes and trail entries are base64 of the bytes as they were signed or hashed.

    Attributes:
        sealed: how many examinations are held back, because there are not two yet (`review.Case.visible`).
        examiners: name and public key of whoever signed an action, as the desk knows them.
        trail: the desk's whole trail: an entry that is missing would break the chain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["turnkey-lead-export/1"] = FORMAT
    notice: str = LEAD_NOTICE
    exported_at: str
    received_at: str
    lead: Base64
    actions: list[Base64] = Field(max_length=3)
    sealed: int
    state: str
    examiners: dict[str, str]
    trail: list[tuple[Base64, str]]


def pack(
    received: Received,
    case: Case,
    actions: list[bytes],
    examiners: Mapping[str, PublicKey],
    trail: list[TrailEntry],
    exported_at: str,
) -> Export:
    """The document for one lead. Verdicts that may not be seen yet are not in it."""
    keys = dict(examiners)
    closings = 1 if case.closing is not None else 0
    shown = actions if case.visible else actions[len(actions) - closings :] if closings else []
    names = {read_action(envelope, keys).examiner for envelope in shown}
    return Export(
        exported_at=exported_at,
        received_at=received.received_at,
        lead=_text(received.envelope),
        actions=[_text(envelope) for envelope in shown],
        sealed=len(actions) - len(shown),
        state=case.shown,
        examiners={name: key.to_hex() for name, key in examiners.items() if name in names},
        trail=[(_text(kept.entry), kept.hash) for kept in trail],
    )


def check(
    data: bytes, device_keys: Mapping[str, PublicKey], examiner_keys: Mapping[str, PublicKey] | None = None
) -> tuple[Export | None, list[str]]:
    """Check a document by public keys alone.

    Args:
        data: the file.
        device_keys: by device id.
        examiner_keys: by name, from somewhere else than the file; None: take the file's own word for them.

    Returns:
        The document (None where it is not one) and what does not hold, in words. Nothing: all of it holds.
    """
    try:
        export = Export.model_validate_json(data)
    except ValidationError as error:
        return None, [f"not a lead export: {error.error_count()} fault(s)"]
    findings: list[str] = []
    try:
        trail = [TrailEntry(_bytes(entry), digest) for entry, digest in export.trail]
        broken = broken_at(trail)
        if broken is not None:
            findings.append(f"the trail is broken at entry {broken}")
        keys = dict(examiner_keys or {name: PublicKey.from_hex(key) for name, key in export.examiners.items()})
        findings += _check_lead(export, device_keys, keys, [] if broken is not None else trail)
    except (ValueError, EnvelopeError, CasebookError) as error:
        findings.append(str(error))
    return export, findings


def _check_lead(
    export: Export, device_keys: Mapping[str, PublicKey], keys: dict[str, PublicKey], trail: list[TrailEntry]
) -> list[str]:
    envelope = _bytes(export.lead)
    verified = verify(envelope, PAYLOAD_TYPE_LEAD, list(device_keys.values()))
    lead = Lead.model_validate_json(verified.payload)
    key = device_keys.get(lead.device_id)
    if key is None or key.keyid not in verified.keyids:
        return [f"the lead is not signed by {lead.device_id}"]
    case = Case(lead.lead_id, hashlib.sha256(verified.payload).hexdigest(), len(lead.candidates))
    findings: list[str] = []
    noted = {
        facts["detail"].get("envelope_digest")
        for facts in (kept.facts for kept in trail)
        if facts.get("lead_id") == lead.lead_id and isinstance(facts.get("detail"), dict)
    }
    for text in export.actions:
        action = _bytes(text)
        outcome = decide(case, read_action(action, keys))
        if isinstance(outcome, Refusal):
            return [*findings, f"an action does not hold: {outcome}"]
        case = outcome
        if trail and hashlib.sha256(action).hexdigest() not in noted:
            findings.append("an action is not on the trail")
    if not export.sealed and case.shown != export.state:
        findings.append(f"the file says {export.state}, its signatures say {case.shown}")
    return findings


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error

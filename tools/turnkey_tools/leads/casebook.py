"""What was done with leads at the desk: signed actions, and an append-only trail of who did and saw what.

Rules kept here:
1. An action is kept with its signature, and counts only with a good one by a registered examiner.
2. Action and trail entry are one transaction; `review.decide` is asked inside it, so two examiners at once are two.
3. The trail is a hash chain: each entry holds the hash of the one before. Nothing in it is ever changed or removed. It
   holds the digest of an examination, not its verdict, so that the trail can be read by an examiner who is blind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from turnkey.envelope import EnvelopeError, PublicKey, SigningKey, peek, sign, verify
from turnkey.leads.records import Lead, canonical
from turnkey_tools.leads.review import (
    PAYLOAD_TYPE_CLOSING,
    PAYLOAD_TYPE_EXAMINATION,
    Case,
    Closing,
    Examination,
    Refusal,
    decide,
)
from turnkey_tools.leads.store import Received, Store

GENESIS: Final = "0" * 64


class CasebookError(Exception):
    """An action that cannot be taken down; the message says why."""


@dataclass(frozen=True, slots=True)
class TrailEntry:
    """One entry: its bytes as they were hashed, and the hash."""

    entry: bytes
    hash: str

    @property
    def facts(self) -> dict[str, Any]:
        """place, at, actor, action, lead_id, detail, previous."""
        facts: dict[str, Any] = json.loads(self.entry)
        return facts


class Casebook:
    """The casework on one store.

    Args:
        actor: who sits there, for the trail: the login name. Signed actions carry the examiner's name as well.
    """

    def __init__(self, store: Store, actor: str, utc_now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._db = store.database
        self._actor = actor
        self._now = utc_now

    def register(self, name: str, key: PublicKey) -> None:
        """Let an examiner sign. A name has one key and a key one name, for good.

        Raises:
            CasebookError: either is taken.
        """
        with self._db.transaction():
            for known, value in self._db.rows("SELECT name, key FROM examiner"):
                if known == name or value == key.to_hex():
                    raise CasebookError(f"{known} is registered already; one person has one key and one name")
            self._db.execute("INSERT INTO examiner VALUES (?, ?)", name, key.to_hex())
            self._note("examiner-registered", "", {"examiner": name, "keyid": key.keyid})

    def examiners(self) -> dict[str, PublicKey]:
        """Registered examiners' keys by name."""
        rows = self._db.rows("SELECT name, key FROM examiner ORDER BY name")
        return {str(name): PublicKey.from_hex(str(key)) for name, key in rows}

    def who(self, key: SigningKey) -> str:
        """The name under which a key is registered.

        Raises:
            CasebookError: it is not.
        """
        for name, public in self.examiners().items():
            if public.to_hex() == key.public.to_hex():
                return name
        raise CasebookError("this key is not a registered examiner's (`turnkeyctl leads examiner`)")

    def case(self, received: Received) -> Case:
        """A lead with what was signed about it. Every signature is checked again.

        Raises:
            CasebookError: the store holds an action that its examiner did not sign.
        """
        keys = self.examiners()
        case = Case(received.lead_id, received.digest, len(lead_of(received).candidates))
        for envelope in self.actions(received.lead_id):
            outcome = decide(case, read_action(envelope, keys))
            if isinstance(outcome, Refusal):
                raise CasebookError(f"lead {received.lead_id}: a kept action does not hold ({outcome})")
            case = outcome
        return case

    def actions(self, lead_id: str) -> list[bytes]:
        """The signed actions on a lead, oldest first."""
        return [row[0] for row in self._db.rows("SELECT envelope FROM action WHERE lead_id = ? ORDER BY id", lead_id)]

    def examine(self, received: Received, key: SigningKey, candidate: int | None, note: str = "") -> Case | Refusal:
        """Take down one examiner's verdict: the rank of the candidate who is the same person, or None.

        Raises:
            CasebookError: the key is nobody's.
            StorageError: it was not kept.
        """
        examination = Examination(
            lead_id=received.lead_id,
            lead_digest=received.digest,
            examiner=self.who(key),
            candidate=candidate,
            note=note,
            at=self._now(),
        )
        return self._take(received, examination, sign(PAYLOAD_TYPE_EXAMINATION, canonical(examination), key))

    def close(
        self, received: Received, key: SigningKey, evidence: str | None = None, reason: str | None = None
    ) -> Case | Refusal:
        """Close a lead, with a reference to independent evidence or with a reason. Raises: see `examine`."""
        closing = Closing(
            lead_id=received.lead_id,
            lead_digest=received.digest,
            examiner=self.who(key),
            evidence=evidence,
            reason=reason,
            at=self._now(),
        )
        return self._take(received, closing, sign(PAYLOAD_TYPE_CLOSING, canonical(closing), key))

    def _take(self, received: Received, action: Examination | Closing, envelope: bytes) -> Case | Refusal:
        kind = "closed" if isinstance(action, Closing) else "examined"
        with self._db.transaction():
            outcome = decide(self.case(received), action)
            if isinstance(outcome, Refusal):
                self._note("refused", received.lead_id, {"examiner": action.examiner, "reason": outcome})
                return outcome
            self._db.execute(
                "INSERT INTO action (lead_id, kind, examiner, envelope) VALUES (?, ?, ?, ?)",
                received.lead_id,
                kind,
                action.examiner,
                envelope,
            )
            digest = hashlib.sha256(envelope).hexdigest()
            self._note(kind, received.lead_id, {"examiner": action.examiner, "envelope_digest": digest})
        return outcome

    def note(self, action: str, lead_id: str = "", detail: dict[str, Any] | None = None) -> None:
        """Put on the trail that something was shown or handed out."""
        with self._db.transaction():
            self._note(action, lead_id, detail or {})

    def _note(self, action: str, lead_id: str, detail: dict[str, Any]) -> None:
        rows = self._db.rows("SELECT place, hash FROM trail ORDER BY place DESC LIMIT 1")
        place, previous = (int(rows[0][0]) + 1, str(rows[0][1])) if rows else (0, GENESIS)
        facts = {
            "place": place,
            "at": self._now().isoformat(timespec="milliseconds"),
            "actor": self._actor,
            "action": action,
            "lead_id": lead_id,
            "detail": detail,
            "previous": previous,
        }
        entry = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        self._db.execute(
            "INSERT INTO trail VALUES (?, ?, ?, ?)", place, lead_id, entry, hashlib.sha256(entry).hexdigest()
        )

    def trail(self) -> list[TrailEntry]:
        """The whole trail, oldest first."""
        return [TrailEntry(*row) for row in self._db.rows("SELECT entry, hash FROM trail ORDER BY place")]


def broken_at(trail: list[TrailEntry]) -> int | None:
    """The first place at which a trail is not the chain it claims to be; None where it is whole."""
    previous = GENESIS
    for place, kept in enumerate(trail):
        try:
            facts = kept.facts
        except ValueError:
            return place
        if hashlib.sha256(kept.entry).hexdigest() != kept.hash:
            return place
        if not isinstance(facts, dict) or (facts.get("place"), facts.get("previous")) != (place, previous):
            return place
        previous = kept.hash
    return None


def lead_of(received: Received) -> Lead:
    """The record of a lead whose signature was checked when it was received."""
    return Lead.model_validate_json(peek(received.envelope).payload)


def read_action(envelope: bytes, keys: dict[str, PublicKey]) -> Examination | Closing:
    """A signed action of a registered examiner.

    Raises:
        CasebookError: not an action, or not signed by the examiner whom it names.
    """
    try:
        claimed = peek(envelope)
        record: type[Examination] | type[Closing] = (
            Closing if claimed.payload_type == PAYLOAD_TYPE_CLOSING else Examination
        )
        kind = PAYLOAD_TYPE_CLOSING if record is Closing else PAYLOAD_TYPE_EXAMINATION
        action = record.model_validate_json(claimed.payload)
        key = keys.get(action.examiner)
        if key is None:
            raise CasebookError(f"{action.examiner} is not a registered examiner")
        verify(envelope, kind, [key])
    except (EnvelopeError, ValueError) as error:
        raise CasebookError(f"not an examiner's signed action: {error}") from error
    return action

"""Signing in and unlocking: the tries, the officers' file, the policy's training, the one session, in this order.

Rules kept here, in the order in which they are enforced:
1. Where another browser has the console nothing is tried.
2. A try is counted before the PIN is looked at; a locked badge's PIN is not looked at.
3. Without a policy nobody signs in: nothing could be captured, and whose training counts is not known.
4. Whom the policy keeps out, because the training is too old, is counted on the ledger, without the badge.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from turnkey.console.attempts import Attempts
from turnkey.console.officers import Admitted, Badge, OfficersError, SignInRefusal, admit, read_officers
from turnkey.console.pages import clock
from turnkey.console.room import Room
from turnkey.console.session import Desk, Session
from turnkey.console.words import Words
from turnkey.database import StorageError
from turnkey.leads.records import SignInRefused

_BADGE: TypeAdapter[str] = TypeAdapter(Badge)
STATUS = {
    SignInRefusal.LOCKED: 429,
    SignInRefusal.OTHER_BROWSER: 409,
    SignInRefusal.OFFICERS_FILE: 503,
    SignInRefusal.POLICY: 503,
}


@dataclass(frozen=True)
class Refused:
    """Why somebody is not signed in; `until`: when to try again, where that is known."""

    reason: SignInRefusal
    until: datetime | None = None

    @property
    def status(self) -> int:
        """HTTP's."""
        return STATUS.get(self.reason, 403)

    def said(self, say: Words) -> str:
        """In words."""
        return say.say(f"sign_in.{self.reason}", time=clock(self.until) if self.until else "")


class SignIn:
    """Decides who has the console. Its methods take as long as argon2id does, and run one at a time.

    Args:
        officers: the officers' file, read anew for each try.
        attempts: the counted tries.
        desk: holds the session.
        room: for the policy.
        utc_now: the wall clock.
    """

    def __init__(
        self, officers: Path, attempts: Attempts, desk: Desk, room: Room, utc_now: Callable[[], datetime]
    ) -> None:
        self._officers = officers
        self._attempts = attempts
        self._desk = desk
        self._room = room
        self._utc_now = utc_now
        self._one_at_a_time = threading.Lock()

    def open(self, badge: str, pin: str, language: str) -> Session | Refused:
        """Sign an officer in."""
        with self._one_at_a_time:
            if self._desk.taken():
                return Refused(SignInRefusal.OTHER_BROWSER)
            outcome = self._admit(badge, pin)
            if isinstance(outcome, Refused):
                return outcome
            return self._desk.open(outcome.badge, language) or Refused(SignInRefusal.OTHER_BROWSER)

    def unlock(self, session: Session, pin: str) -> Refused | None:
        """Let the same officer go on; None where the PIN was right."""
        with self._one_at_a_time:
            outcome = self._admit(session.badge, pin)
            if isinstance(outcome, Refused):
                return outcome
            self._desk.unlock(session)
            return None

    def _admit(self, badge: str, pin: str) -> Admitted | Refused:
        try:
            _BADGE.validate_python(badge)
            policy = self._room.policy()
            if policy.refusal:
                return Refused(SignInRefusal.POLICY)
            until = self._attempts.begin(badge, self._utc_now())
            if until is not None:
                return Refused(SignInRefusal.LOCKED, until)
            today = self._utc_now().astimezone(UTC).date()
            officers = read_officers(self._officers)
            outcome = admit(officers, badge, pin, lambda trained_on: policy.training_counts(trained_on, today))
            if outcome is SignInRefusal.WRONG:
                return Refused(SignInRefusal.WRONG)
            self._attempts.succeeded(badge)
            if outcome is SignInRefusal.TRAINING:
                self._room.note(SignInRefused(reason="training-too-old"))
        except ValidationError:
            return Refused(SignInRefusal.WRONG)
        except (OfficersError, StorageError):
            return Refused(SignInRefusal.OFFICERS_FILE)
        return outcome if isinstance(outcome, Admitted) else Refused(outcome)

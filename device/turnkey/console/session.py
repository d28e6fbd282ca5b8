"""The console's one session: who is signed in, since when nothing was touched, and in which browser.

Rules kept here:
1. One session at a time. A second browser is refused while the first one is there.
2. A browser that has gone (crashed, restarted) is given up after `abandoned_s`, so that a right PIN works again.
3. After `idle_s` without a touch the session locks: the PIN is asked for again and the booking goes on where it was.
   What the page does by itself (the preview, asking for news) is no touch.
4. A session that has been locked for as long again ends, and the booking that was begun with it.
5. Tokens are 256 random bits, compared in constant time, and die with this process.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from turnkey.console.flow import Visit


@dataclass
class Session:
    """One officer at one browser.

    Attributes:
        badge: whose.
        language: of the words shown.
        theme: `day`, `night`, or empty for what the browser prefers.
        token: what the browser's cookie holds.
        csrf: what each form holds.
        touched_s: when an officer last did something, monotonic seconds.
        seen_s: when the browser was last heard of.
        locked: waits for the PIN.
        visit: the booking under way.
    """

    badge: str
    language: str
    touched_s: float
    seen_s: float
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    theme: str = ""
    locked: bool = False
    visit: Visit = field(default_factory=Visit)


class Desk:
    """Holds the session.

    Args:
        monotonic_s: the clock, seconds.
        idle_s: see rule 3.
        abandoned_s: see rule 2.
    """

    def __init__(self, monotonic_s: Callable[[], float], *, idle_s: float, abandoned_s: float) -> None:
        self._monotonic_s = monotonic_s
        self._idle_s = idle_s
        self._abandoned_s = abandoned_s
        self._lock = threading.Lock()
        self._session: Session | None = None

    def taken(self) -> bool:
        """Whether another browser would be refused now."""
        with self._lock:
            return self._present() is not None

    def open(self, badge: str, language: str) -> Session | None:
        """Sign somebody in; None where another browser is there."""
        with self._lock:
            if self._present() is not None:
                return None
            now_s = self._monotonic_s()
            self._session = Session(badge, language, touched_s=now_s, seen_s=now_s)
            return self._session

    def find(self, token: str | None, *, touch: bool = False) -> Session | None:
        """The session whose browser sent this token; `touch`: an officer did something."""
        with self._lock:
            session = self._current()
            if session is None or token is None or not hmac.compare_digest(session.token.encode(), token.encode()):
                return None
            now_s = self._monotonic_s()
            session.seen_s = now_s
            if touch and not session.locked:
                session.touched_s = now_s
            return session

    def unlock(self, session: Session) -> None:
        """The PIN was given again."""
        with self._lock:
            session.locked = False
            session.touched_s = session.seen_s = self._monotonic_s()

    def lock(self, session: Session) -> None:
        """Ask for the PIN before anything else happens."""
        with self._lock:
            session.locked = True

    def close(self, session: Session) -> None:
        """Sign out."""
        with self._lock:
            if self._session is session:
                self._session = None

    def _present(self) -> Session | None:
        session = self._current()
        if session is not None and self._monotonic_s() - session.seen_s >= self._abandoned_s:
            return None
        return session

    def _current(self) -> Session | None:
        session = self._session
        if session is None:
            return None
        idle_s = self._monotonic_s() - session.touched_s
        if idle_s >= 2 * self._idle_s:
            self._session = None
            return None
        if idle_s >= self._idle_s:
            session.locked = True
        return session

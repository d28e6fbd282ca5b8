"""The authority of a process that has no interlock: it follows what the interlock followed, and believes none of it.

Rules kept here:
1. Each successor is asked of the interlock by its version and verified against the predecessor that this process has;
   an interlock can withhold one, and not make one up.
2. What was verified is on this process's own disk, and is there at its next start.
3. Where the interlock follows a version that this process does not reach, there is no authority, and so no policy.
"""

from __future__ import annotations

import base64
import binascii
import threading
from pathlib import Path

from turnkey.interlock.authority import Authority, AuthorityError
from turnkey.interlock.authority_folder import AuthorityFolder
from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.wire import Request

ANSWER_TIMEOUT_S = 2.0


class FollowedAuthority:
    """The chain of authorities as one process has it. May be used from any thread.

    Args:
        first: the authority that the device was provisioned with, as an envelope.
        folder: this process's own; made where it is not there.
        socket: the interlock's.

    Raises:
        AuthorityError: the first authority does not hold.
    """

    def __init__(self, first: bytes, folder: Path, socket: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._chain = AuthorityFolder(first, folder)
        self._socket = socket
        self._lock = threading.Lock()

    @property
    def current(self) -> Authority:
        """The last one that held."""
        with self._lock:
            return self._chain.current

    def at(self, version: int) -> Authority | None:
        """The authority of exactly this version; None where it cannot be had, or does not hold."""
        with self._lock:
            while self._chain.current.version < version:
                following = self._asked(self._chain.current.version + 1)
                if following is None:
                    return None
                try:
                    self._chain.follow(following)
                except (AuthorityError, OSError):
                    return None
            return self._chain.current if self._chain.current.version == version else None

    def _asked(self, version: int) -> bytes | None:
        try:
            answer = ask(self._socket, Request(ask="authority", version=version), ANSWER_TIMEOUT_S)
            return base64.b64decode(answer.body, validate=True) if answer.done else None
        except (DaemonError, binascii.Error):
            return None

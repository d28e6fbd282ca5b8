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
from collections.abc import Callable
from pathlib import Path

from turnkey.interlock.authority import Authority, AuthorityError
from turnkey.interlock.authority_folder import AuthorityFolder
from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.wire import Request
from turnkey.leads.policy import PolicyReason, PolicyRefusal, SignedPolicy
from turnkey.policy_file import PolicyFile
from turnkey.recording import system_clocks
from turnkey.settings import Settings

ANSWER_TIMEOUT_S = 2.0


def interlock_status(socket: Path) -> InterlockStatus | None:
    """The status that the interlock tells; None where it tells none."""
    try:
        return InterlockStatus.model_validate_json(ask(socket, Request(ask="status"), ANSWER_TIMEOUT_S).body)
    except (DaemonError, ValueError):
        return None


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


def policy_apart(
    policies: PolicyFile, following: FollowedAuthority, status: InterlockStatus
) -> SignedPolicy | PolicyRefusal:
    """The policy in force under the authority that the interlock follows, or why there is none.

    Raises:
        StorageError: see `PolicyFile.in_force`.
    """
    authority = following.at(status.authority_version)
    if authority is None:
        return PolicyRefusal(
            PolicyReason.NOT_SIGNED,
            f"the interlock follows version {status.authority_version} of the authority, and this process cannot "
            "verify how it came to be: provision the device anew",
        )
    return policies.in_force(authority, system_clocks().utc_now())


def followed(settings: Settings) -> FollowedAuthority:
    """The authority as a process with the state directory of these settings has it. Raises: as `FollowedAuthority`."""
    first, own = settings.authority.read_bytes(), settings.state / "authorities"
    return FollowedAuthority(first, own, settings.interlock.socket.path)


def policy_known(
    settings: Settings, following: FollowedAuthority, memory: str
) -> Callable[[], SignedPolicy | PolicyRefusal]:
    """The policy in force, for a process beside the notary's; `memory`: the name of its own memory of what was.

    The notary has another, and puts what comes into force on the ledger.
    """
    policies = PolicyFile(settings.policy, settings.state / memory, settings.device_id)

    def known() -> SignedPolicy | PolicyRefusal:
        status = interlock_status(settings.interlock.socket.path)
        if status is None:
            return PolicyRefusal(PolicyReason.NOT_SIGNED, "the interlock does not say whose policies hold")
        return policy_apart(policies, following, status)

    return known

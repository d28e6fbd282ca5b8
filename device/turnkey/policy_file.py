"""The policy in force: the file that the settings name, held against the authority and what was in force before.

Rules kept here:
1. The file is read anew each time: a policy that is replaced, or runs out, does so at once.
2. What comes into force for the first time is remembered before it permits anything: on disk, whole (draft, fsync,
   rename, fsync of the folder). From then on nothing older is believed, whoever signed it.
3. Where the memory cannot be read or written, no policy is in force. A memory that is not there is a device's first
   day; that it went missing later is found on the ledger, where each policy that came into force has an entry.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from turnkey.interlock.authority import Authority
from turnkey.interlock.latch import Disk, PosixDisk
from turnkey.leads.policy import PolicyInForce, PolicyReason, PolicyRefusal, SignedPolicy, read_policy
from turnkey.leads.records import canonical
from turnkey.update.installer import write_whole

_READABLE = 0o644
"""A policy is no secret: notary, booth and console read it, each as a user of its own."""


def judge_policy(
    envelope: bytes, authority: Authority, device_id: str, now: datetime, last: PolicyInForce | None = None
) -> SignedPolicy | PolicyRefusal:
    """Check a policy by every role that the authority lets sign policies; see `read_policy`.

    Args:
        envelope: the signed policy.
        authority: who may sign it.
        device_id: the device that it is for.
        now: wall clock, UTC.
        last: the policy that was last in force there, where there was one.
    """
    outcome: SignedPolicy | PolicyRefusal = PolicyRefusal(
        PolicyReason.NOT_SIGNED, "the authority lets nobody sign a policy"
    )
    for role in authority.roles.values():
        if "policy" not in role.may:
            continue
        outcome = read_policy(
            envelope, keys=role.public_keys(), threshold=role.threshold, device_id=device_id, now=now, last=last
        )
        if isinstance(outcome, SignedPolicy) or outcome.reason is not PolicyReason.NOT_SIGNED:
            return outcome
    return outcome


def _nobody_is_told(_: SignedPolicy) -> None:
    """Where another process puts it on the ledger."""


class PolicyFile:
    """The policy of one device. May be asked from any thread.

    Args:
        path: the signed policy.
        memory: the file that remembers which was last in force; its folder exists.
        device_id: this device.
        adopted: told of each policy that comes into force, before it permits anything; may raise StorageError.
        disk: what the memory lies on.
    """

    def __init__(
        self,
        path: Path,
        memory: Path,
        device_id: str,
        *,
        adopted: Callable[[SignedPolicy], None] = _nobody_is_told,
        disk: Disk | None = None,
    ) -> None:
        self._path = path
        self._memory = memory
        self._device_id = device_id
        self._adopted = adopted
        self._disk = disk or PosixDisk()
        self._lock = threading.Lock()

    def in_force(self, authority: Authority, now: datetime) -> SignedPolicy | PolicyRefusal:
        """The policy in force, or why there is none.

        Args:
            authority: who may sign it.
            now: wall clock, UTC.

        Raises:
            StorageError: a policy that comes into force cannot be put on the ledger.
        """
        try:
            envelope = self._path.read_bytes()
        except OSError as error:
            return PolicyRefusal(PolicyReason.NOT_SIGNED, f"there is no policy: {error}")
        with self._lock:
            last = self._remembered()
            if isinstance(last, PolicyRefusal):
                return last
            outcome = judge_policy(envelope, authority, self._device_id, now, last)
            if isinstance(outcome, SignedPolicy) and outcome.mark != last:
                self._adopted(outcome)
                return self._remember(outcome)
        return outcome

    def follow(self, envelope: bytes, authority: Authority, now: datetime) -> SignedPolicy | PolicyRefusal:
        """Replace the file by a policy that follows it and is in force now. Where it is not, nothing has changed.

        Args:
            envelope: the signed policy.
            authority, now: as for `in_force`.

        Raises:
            StorageError: as `in_force`.
            OSError: the file cannot be written; the old one stands.
        """
        self.in_force(authority, now)  # what is in force is remembered before its successor is judged
        last = self._remembered()
        if isinstance(last, PolicyRefusal):
            return last
        outcome = judge_policy(envelope, authority, self._device_id, now, last)
        if isinstance(outcome, PolicyRefusal):
            return outcome
        write_whole(self._path, envelope, mode=_READABLE)
        return self.in_force(authority, now)

    def _remembered(self) -> PolicyInForce | PolicyRefusal | None:
        try:
            return PolicyInForce.model_validate_json(self._disk.read(self._memory))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            return PolicyRefusal(
                PolicyReason.MEMORY_UNREADABLE,
                f"{self._memory} should say which policy was last in force, and cannot be read: call IT",
            )

    def _remember(self, signed: SignedPolicy) -> SignedPolicy | PolicyRefusal:
        draft = self._memory.with_name(f"{self._memory.name}.draft")
        try:
            self._disk.write(draft, canonical(signed.mark))
            self._disk.fsync(draft)
            self._disk.rename(draft, self._memory)
            self._disk.fsync_directory(self._memory.parent)
        except OSError as error:
            return PolicyRefusal(
                PolicyReason.MEMORY_UNREADABLE, f"{self._memory} cannot be written ({error.strerror}): call IT"
            )
        return signed

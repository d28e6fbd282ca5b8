"""The policy in force: the file that the settings name, signed by a role that the authority lets sign policies."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from turnkey.interlock.authority import Authority
from turnkey.leads.policy import PolicyReason, PolicyRefusal, SignedPolicy, read_policy


def policy_in_force(path: Path, authority: Authority, device_id: str, now: datetime) -> SignedPolicy | PolicyRefusal:
    """The policy, or why there is none. Reads the file anew each time.

    Args:
        path: the signed policy.
        authority: who may sign it.
        device_id: this device.
        now: wall clock, UTC.
    """
    try:
        envelope = path.read_bytes()
    except OSError as error:
        return PolicyRefusal(PolicyReason.NOT_SIGNED, f"there is no policy: {error}")
    outcome: SignedPolicy | PolicyRefusal = PolicyRefusal(
        PolicyReason.NOT_SIGNED, "the authority lets nobody sign a policy"
    )
    for role in authority.roles.values():
        if "policy" not in role.may:
            continue
        outcome = read_policy(envelope, keys=role.public_keys(), threshold=role.threshold, device_id=device_id, now=now)
        if isinstance(outcome, SignedPolicy) or outcome.reason is not PolicyReason.NOT_SIGNED:
            return outcome
    return outcome

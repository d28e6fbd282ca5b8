"""Two people: what one proposes and another approves, each with a key of their own, as the policy's rule names them.

Rules kept here, in the order in which they are enforced by `signed_by_two`:
1. The authority has both roles and lets both sign such a thing.
2. The threshold of each role signed it, and no key counts for both: with one of n each, two different keys.

This room does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnkey.envelope import EnvelopeError, verify
from turnkey.interlock.authority import Act, Authority, Name
from turnkey.leads.fields import Record


class TwoPeople(Record):
    """Whose signatures are needed.

    Attributes:
        proposer_role: the body of the authority that proposes (an analyst).
        approver_role: the body that approves (a supervisor). It may be the same body: two of its members then.
    """

    proposer_role: Name
    approver_role: Name


@dataclass(frozen=True)
class SignedByTwo:
    """What two people signed.

    Attributes:
        payload: the signed bytes.
        keys: the public keys whose signatures are good, hexadecimal, sorted.
    """

    payload: bytes
    keys: tuple[str, ...]


def signed_by_two(data: bytes, payload_type: str, rule: TwoPeople, authority: Authority, act: Act) -> SignedByTwo:
    """Hand out the payload of an envelope that a proposer and an approver signed.

    Raises:
        EnvelopeError: `unknown-role`, `role-may-not`, `one-signer`, `proposer-missing`, `approver-missing`, or a
            reason of `envelope.verify`.
    """
    for name in (rule.proposer_role, rule.approver_role):
        role = authority.roles.get(name)
        if role is None:
            raise EnvelopeError("unknown-role", f"the authority has no role {name!r}, which the policy names")
        if act not in role.may:
            raise EnvelopeError("role-may-not", f"the role {name!r} may not sign this ({act})")
    proposers, approvers = authority.roles[rule.proposer_role], authority.roles[rule.approver_role]
    known = {key.keyid: key for role in (proposers, approvers) for key in role.public_keys()}
    verified = verify(data, payload_type, known.values())
    signed = {known[keyid].to_hex() for keyid in verified.keyids}
    _two_different(signed, signed & set(proposers.keys), signed & set(approvers.keys), authority, rule)
    return SignedByTwo(verified.payload, tuple(sorted(signed)))


def _two_different(
    signed: set[str], proposing: set[str], approving: set[str], authority: Authority, rule: TwoPeople
) -> None:
    """The thresholds can be reached with no key counted twice exactly where each is, and their sum is (Hall, 1935)."""
    proposers, approvers = authority.roles[rule.proposer_role], authority.roles[rule.approver_role]
    if len(signed) == 1:
        raise EnvelopeError("one-signer", "one person signed this: it takes two, with a key each")
    if len(proposing) < proposers.threshold:
        raise EnvelopeError(
            "proposer-missing", f"{len(proposing)} of {rule.proposer_role} signed, {proposers.threshold} must"
        )
    if len(approving) < approvers.threshold:
        raise EnvelopeError(
            "approver-missing", f"{len(approving)} of {rule.approver_role} signed, {approvers.threshold} must"
        )
    if len(signed) < proposers.threshold + approvers.threshold:
        raise EnvelopeError("one-signer", "a key that counts for the one role does not count for the other as well")

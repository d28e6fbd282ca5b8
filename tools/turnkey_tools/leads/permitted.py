"""Whether a lead is one that the policy it names permits: what the desk checks beside the device's own word.

A lead carries the SHA-256 of the signed policy under which it was made. A desk that holds the city's policies looks
that one up and holds the lead to it: a device that was told to report more than the policy allows is found out here.

Rules kept here:
1. Policies are believed by the authority's signatures alone (`signed_policies`); one that is not signed is an error,
   not a policy the less.
2. What the policy does not permit is a fault, in words (`fault`). No I/O in either but reading the files given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from turnkey.envelope import EnvelopeError
from turnkey.interlock.authority import Authority, AuthorityError, first_authority
from turnkey.leads.fields import Partition
from turnkey.leads.policy import Policy
from turnkey.leads.records import PAYLOAD_TYPE_POLICY, Lead

Policies = Mapping[str, Policy]

_ROUNDING = 0.00005  # leads carry scores of four decimals


class PolicyFileError(Exception):
    """A policy or an authority that this desk cannot believe; the message says which file."""


def signed_policies(authority: Path, files: Iterable[Path]) -> Policies:
    """Policies by the digest that leads carry.

    Args:
        authority: the authority that the devices follow (DSSE).
        files: signed policies (DSSE), the present one and those before it.

    Raises:
        PolicyFileError: a file is unreadable, unsigned or malformed.
    """
    try:
        trusted = first_authority(authority.read_bytes())
    except (AuthorityError, OSError) as error:
        raise PolicyFileError(f"{authority}: {error}") from error
    found = {}
    for file in files:
        payload = _signed_payload(trusted, file)
        try:
            found[hashlib.sha256(payload).hexdigest()] = Policy.model_validate_json(payload)
        except ValidationError as error:
            raise PolicyFileError(f"{file}: signed, but not a policy this desk knows") from error
    return found


def fault(lead: Lead, policies: Policies) -> str | None:
    """What the policy that the lead names does not permit in it; None where it permits all of it."""
    policy = policies.get(lead.policy_digest)
    if policy is None:
        return f"this desk holds no signed policy {lead.policy_digest[:16]}"
    if lead.device_id not in policy.devices and "*" not in policy.devices:
        return f"policy {policy.version} does not name {lead.device_id}"
    if not policy.valid_from <= lead.issued_at < policy.valid_until:
        return f"policy {policy.version} was not in force at {lead.issued_at.isoformat()}"
    if lead.partition not in _searched(lead, policy):
        return f"policy {policy.version} does not permit searching {lead.partition} for a {lead.origin.split()[0]}"
    if len(lead.candidates) > policy.candidate_limit:
        return f"{len(lead.candidates)} candidates; policy {policy.version} permits {policy.candidate_limit}"
    if lead.max_fpir > policy.max_fpir:
        return f"made for an FPIR of {lead.max_fpir}; policy {policy.version} permits {policy.max_fpir}"
    if lead.model_id not in policy.models:
        return f"policy {policy.version} does not permit the model {lead.model_id}"
    if lead.probe_quality < policy.min_quality:
        return f"probe quality {lead.probe_quality}; policy {policy.version} asks for {policy.min_quality}"
    if any(candidate.score < lead.threshold - _ROUNDING for candidate in lead.candidates):
        return "a candidate's score lies below the lead's own threshold"
    return None


def _searched(lead: Lead, policy: Policy) -> tuple[Partition, ...]:
    if lead.booking_number is not None:
        return policy.search_on_booking
    return ("bookings",) if policy.case_packets is not None and policy.case_packets.retro_search else ()


def _signed_payload(authority: Authority, file: Path) -> bytes:
    try:
        envelope = file.read_bytes()
    except OSError as error:
        raise PolicyFileError(f"{file}: {error.strerror}") from error
    trouble = "the authority lets nobody sign a policy"
    for name, role in authority.roles.items():
        if "policy" not in role.may:
            continue
        try:
            return authority.verify(envelope, PAYLOAD_TYPE_POLICY, name, "policy").payload
        except EnvelopeError as error:
            trouble = str(error)
    raise PolicyFileError(f"{file}: {trouble}")

"""Who may sign what: the authority file, its roles, keys and thresholds, and how one replaces another.

The authority is a signed document (payload type `AUTHORITY_TYPE`). It names holders of keys and gives roles to them;
each role has a threshold k of n, a rank, and the acts it may perform. Chief 1 of 1, council 10 of 15, release 2 of 3
are examples, not constants.

Rules kept here, in the order in which they are enforced (they are those of TUF 1.0, section 5.3, for its root):
1. The first authority comes with the device at provisioning and is signed by the threshold of its own root.
2. A successor's version is exactly one higher.
3. The threshold of the predecessor's root signed it, and so did the threshold of its own.
4. It names the same jurisdiction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from turnkey.envelope import EnvelopeError, KeyFileError, PublicKey, Verified, peek, verify

AUTHORITY_TYPE = "application/vnd.turnkey.authority+json"
ROOT = "root"

Act = Literal[
    "authority", "moratorium", "release", "policy", "case-packet", "template-pack", "expungement", "update", "models"
]
KeyHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=120)]


class AuthorityError(Exception):
    """An authority that cannot be trusted. `reason` is a code, the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Holder(BaseModel):
    """Somebody who holds a key.

    Attributes:
        key: the raw Ed25519 public key in hexadecimal.
        name: who, as the people concerned call them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: KeyHex
    name: Label


class Role(BaseModel):
    """A body that acts by signature.

    Attributes:
        keys: who belongs to it.
        threshold: how many different ones of them must sign.
        rank: what one body ordered, only a body of at least its rank lifts.
        may: what it may sign.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[KeyHex, ...] = Field(min_length=1, max_length=64)
    threshold: int = Field(ge=1)
    rank: int = Field(default=0, ge=0, le=1000)
    may: frozenset[Act]

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if len(set(self.keys)) != len(self.keys):
            raise ValueError("a key is listed twice in one role")
        if self.threshold > len(self.keys):
            raise ValueError(f"a threshold of {self.threshold} cannot be reached with {len(self.keys)} keys")
        return self

    def public_keys(self) -> Iterator[PublicKey]:
        """The keys, ready to verify with."""
        return (PublicKey.from_hex(key) for key in self.keys)


class Authority(BaseModel):
    """The document that says who may sign what.

    Attributes:
        version: grows by one with each succession.
        jurisdiction: whose device this is; an authority of another jurisdiction never succeeds.
        holders: everybody who holds a key.
        roles: by name; `root` is the one that signs successors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1)
    jurisdiction: Label
    holders: tuple[Holder, ...] = Field(min_length=1, max_length=256)
    roles: dict[Name, Role]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        known = [holder.key for holder in self.holders]
        if len(set(known)) != len(known):
            raise ValueError("a key has two holders")
        for name, role in self.roles.items():
            strangers = set(role.keys) - set(known)
            if strangers:
                raise ValueError(f"the role {name} lists a key without a holder")
        root = self.roles.get(ROOT)
        if root is None or "authority" not in root.may:
            raise ValueError("an authority has a role `root` that may sign authorities")
        for key in known:
            try:
                PublicKey.from_hex(key)
            except KeyFileError as error:
                raise ValueError(str(error)) from error
        return self

    def name_of(self, key: str) -> str:
        """The holder of a public key in hexadecimal; the key itself where it has none."""
        return next((holder.name for holder in self.holders if holder.key == key), key)

    def verify(self, data: bytes, payload_type: str, role: str, act: Act) -> Verified:
        """Hand out the payload of an envelope that the threshold of `role` signed and that `role` may sign.

        Raises:
            EnvelopeError: reason `unknown-role`, `role-may-not`, or one of `envelope.verify`.
        """
        body = self.roles.get(role)
        if body is None:
            raise EnvelopeError("unknown-role", f"the authority has no role {role!r}")
        if act not in body.may:
            raise EnvelopeError("role-may-not", f"the role {role!r} may not sign this ({act})")
        return verify(data, payload_type, body.public_keys(), threshold=body.threshold)

    def payload(self) -> bytes:
        """The bytes to sign: JSON with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1).encode()


def read_authority(data: bytes) -> Authority:
    """Read an authority file WITHOUT trusting it.

    Raises:
        AuthorityError: not an envelope, or not an authority.
    """
    try:
        verified = peek(data)
    except EnvelopeError as error:
        raise AuthorityError(error.reason, str(error)) from error
    if verified.payload_type != AUTHORITY_TYPE:
        raise AuthorityError("wrong-type", f"not an authority but {verified.payload_type[:80]!r}")
    try:
        return Authority.model_validate_json(verified.payload)
    except ValidationError as error:
        raise AuthorityError("malformed", f"not an authority: {error.errors()[0]['msg']}") from error


def first_authority(data: bytes) -> Authority:
    """Read the authority a device is provisioned with: signed by the threshold of its own root.

    Raises:
        AuthorityError: with the reason.
    """
    authority = read_authority(data)
    _signed_by(authority, data, "its own root")
    return authority


def successor(current: Authority, data: bytes) -> Authority:
    """Read the authority that replaces `current`.

    Raises:
        AuthorityError: `not-the-next-version`, `other-jurisdiction`, `not-signed`, or unreadable.
    """
    following = read_authority(data)
    if following.version != current.version + 1:
        raise AuthorityError(
            "not-the-next-version", f"version {following.version} does not follow version {current.version}"
        )
    if following.jurisdiction != current.jurisdiction:
        raise AuthorityError("other-jurisdiction", f"it is for {following.jurisdiction!r}")
    _signed_by(current, data, "the present root")
    _signed_by(following, data, "its own root")
    return following


def _signed_by(authority: Authority, data: bytes, whose: str) -> None:
    try:
        authority.verify(data, AUTHORITY_TYPE, ROOT, "authority")
    except EnvelopeError as error:
        raise AuthorityError(error.reason, f"{whose}: {error}") from error

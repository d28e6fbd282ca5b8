"""What the signed metadata says of one release: the `turnkey` part of a TUF target's custom metadata.

    {"turnkey": {"kind": "bundle", "version": "1.4.0", "board": "rpi5",
                 "groups": {"pilot": 100, "station": 25}, "paused": false, "pins": ["booth-7"]}}

Rules kept here:
1. It is covered by the targets role's signatures like length and hashes, so that whoever serves the files can neither
   widen a roll-out nor end a pause.
2. A target without it, or with a part that is not known, is no release: it is never offered, and nothing else of the
   metadata is lost by it.
3. Nobody is meant who is not named: a group that is absent gets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from turnkey.leads.fields import DeviceId
from turnkey.leads.upkeep import Version

CUSTOM_KEY = "turnkey"

Kind = Literal["bundle", "policy", "models"]
KINDS: tuple[Kind, ...] = ("policy", "models", "bundle")
"""In the order in which they are taken: a bundle ends in a restart."""

Group = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Percent = Annotated[int, Field(ge=0, le=100)]


class Terms(BaseModel):
    """Who is to have a release.

    Attributes:
        kind: `bundle` a whole system for RAUC, `policy` a signed policy, `models` a set of model files.
        version: one to four numbers.
        board: the hardware of a bundle (RAUC's `compatible`); None where it goes to any.
        groups: share of each group's devices, in percent.
        paused: nobody takes it for now; who has it keeps it.
        pins: devices that take this release, whatever groups and pauses say, and no other until they are unpinned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    version: Version
    board: str | None = None
    groups: dict[Group, Percent] = {}
    paused: bool = False
    pins: tuple[DeviceId, ...] = ()


@dataclass(frozen=True)
class Release:
    """A target that the metadata calls a release.

    Attributes:
        name: of the target in the metadata.
        digest: SHA-256 of its file, hexadecimal.
        length: bytes.
        terms: who is to have it.
    """

    name: str
    digest: str
    length: int
    terms: Terms


def release_of(name: str, length: int, hashes: Mapping[str, str], custom: object) -> Release | None:
    """A target as a release; None where it is none.

    Args:
        name, length, hashes: of the target, as the metadata has them.
        custom: its custom metadata.
    """
    if not isinstance(custom, Mapping) or re.fullmatch("[0-9a-f]{64}", hashes.get("sha256", "")) is None:
        return None
    try:
        terms = Terms.model_validate(custom.get(CUSTOM_KEY))
    except ValidationError:
        return None
    return Release(name, hashes["sha256"], length, terms)


def order(version: str) -> tuple[int, ...]:
    """A version as numbers, so that 1.10 is newer than 1.9 and 1.0 is 1."""
    numbers = [int(part) for part in version.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)

"""The topics a device publishes to, and nothing else: `turnkey/v1/<device>/lead` and `turnkey/v1/<device>/attestation`.

The rule for device ids lives here because it is the topic that limits it: an id is one topic level, one certificate
common name, one file name. No wildcard, no slash, no upper case that a file system might fold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ROOT: Final = "turnkey/v1"
DEVICE_ID: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # an RFC 1123 label


class Kind(StrEnum):
    """What a topic carries."""

    LEAD = "lead"
    ATTESTATION = "attestation"


@dataclass(frozen=True, slots=True)
class Topic:
    """One publishable topic. `str()` gives it as it goes onto the wire."""

    device_id: str
    kind: Kind

    def __post_init__(self) -> None:
        if not DEVICE_ID.fullmatch(self.device_id):
            raise ValueError(f"not a device id: {self.device_id!r} (lower-case letters, digits, hyphens; at most 63)")

    def __str__(self) -> str:
        return f"{ROOT}/{self.device_id}/{self.kind}"


def parse(topic: str) -> Topic | None:
    """The topic's parts; None where it is not exactly one of ours."""
    parts = topic.split("/")
    if len(parts) != 4 or "/".join(parts[:2]) != ROOT or not DEVICE_ID.fullmatch(parts[2]):
        return None
    if parts[3] not in list(Kind):
        return None
    return Topic(parts[2], Kind(parts[3]))

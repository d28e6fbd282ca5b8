"""What a device publishes to, and nothing else: `turnkey/v1/<device>/lead`, `turnkey/v1/<device>/attestation`, and
beside the latter `.../attestation/state`, the one topic whose last message the broker keeps.

A device id (`leads.records.DeviceId`) is one topic level, one certificate common name and one file name, so what would
be a wildcard or a separator in any of them is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import TypeAdapter, ValidationError

from turnkey.leads.records import DeviceId

ROOT: Final = "turnkey/v1"
_DEVICE_ID: Final = TypeAdapter(DeviceId)


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
        if not is_device_id(self.device_id):
            raise ValueError(f"not a device id: {self.device_id!r} (2 to 63 lower-case letters, digits and hyphens)")

    def __str__(self) -> str:
        return f"{ROOT}/{self.device_id}/{self.kind}"


def state_topic(device_id: str) -> str:
    """Where the last attestation of the device's state is retained, or that it is UNKNOWN (`unknown_state`)."""
    return f"{Topic(device_id, Kind.ATTESTATION)}/state"


def unknown_state(device_id: str) -> bytes:
    """What the broker puts there by itself once the connection is lost: the will. Unsigned, since it claims nothing."""
    return b'{"device_id":"%s","state":"UNKNOWN"}' % device_id.encode()


def is_device_id(value: str) -> bool:
    """Whether `value` can name a device."""
    try:
        _DEVICE_ID.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def parse(topic: str) -> Topic | None:
    """The topic's parts; None where it is not exactly one of ours."""
    root, _, tail = topic.rpartition("/")
    root, _, device_id = root.rpartition("/")
    if root != ROOT or tail not in list(Kind) or not is_device_id(device_id):
        return None
    return Topic(device_id, Kind(tail))

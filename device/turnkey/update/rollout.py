"""Which release a device takes: a function of the signed metadata and of what the device is. No I/O.

Rules kept here, in the order in which they are enforced:
1. A release for another board is none.
2. Where the metadata pins this device, only the release it is pinned to counts: groups, shares and pauses do not.
3. Otherwise a release counts for the group it names, for the share of it that it names, while it is not paused. Which
   devices are in the share is a hash of device and version: another tenth each time, and widening a share never takes
   a device out of it.
4. A device never goes back: what is not newer than what it has is not taken, not even under a pin. So yesterday's
   system stays out of the room although it was signed once.
5. A file that this device took and came back from is not taken again; the next version is.
6. Of what is left, the newest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from turnkey.update.release import Kind, Release, order


class StayReason(StrEnum):
    """Why a device stays with what it has."""

    NEWEST = "has-the-newest"
    NOT_GRANTED = "not-granted-to-this-device"
    PAUSED = "paused"
    PINNED = "pinned"
    PINNED_TWICE = "pinned-to-two-releases"
    CAME_BACK = "came-back-from-it"


@dataclass(frozen=True)
class DeviceFacts:
    """What of a device the decision looks at.

    Attributes:
        device_id, group, board: who it is.
        versions: what it has of each kind; a kind that is absent it has none of.
        returned: digests of files that it took and came back from.
    """

    device_id: str
    group: str
    board: str
    versions: Mapping[Kind, str]
    returned: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Take:
    """This release is for this device now."""

    release: Release


@dataclass(frozen=True)
class Stay:
    """The device stays with what it has."""

    reason: StayReason


def decide(releases: Iterable[Release], kind: Kind, device: DeviceFacts) -> Take | Stay:
    """What a device does about one kind of release.

    Args:
        releases: every release of the trusted metadata.
        kind: which kind.
        device: the device's facts.
    """
    fitting = [each for each in releases if each.terms.kind == kind and each.terms.board in (None, device.board)]
    pinned = [each for each in fitting if device.device_id in each.terms.pins]
    if len(pinned) > 1:
        return Stay(StayReason.PINNED_TWICE)
    has = device.versions.get(kind)
    newer = [each for each in pinned or fitting if has is None or order(each.terms.version) > order(has)]
    if not newer:
        return Stay(StayReason.PINNED if pinned else StayReason.NEWEST)
    granted = pinned or [each for each in newer if granted_to(each, device)]
    if not granted:
        return Stay(StayReason.NOT_GRANTED)
    running = pinned or [each for each in granted if not each.terms.paused]
    if not running:
        return Stay(StayReason.PAUSED)
    untried = [each for each in running if each.digest not in device.returned]
    if not untried:
        return Stay(StayReason.CAME_BACK)
    return Take(max(untried, key=lambda each: order(each.terms.version)))


def granted_to(release: Release, device: DeviceFacts) -> bool:
    """Whether the device is in the share of its group that the release names."""
    return place(device.device_id, release.terms.version) < release.terms.groups.get(device.group, 0)


def place(device_id: str, version: str) -> float:
    """Where a device stands in the roll-out of a version: 0 to below 100, even over all devices."""
    digest = hashlib.sha256(f"{device_id}\n{version}".encode()).digest()
    return int.from_bytes(digest[:8]) * 100 / 2**64

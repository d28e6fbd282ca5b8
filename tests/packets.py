"""Case packets for tests: one that holds, and what can be wrong with it."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from booking_room import FACES

from turnkey.envelope import SigningKey
from turnkey.leads.packet import CasePacket
from turnkey.sealed import SealingKey
from turnkey_tools.case import sealed_packet, signed_packet
from turnkey_tools.pilot import Pilot

PICTURE = "ardern/ardern-2018.jpg"
MATE = "ardern/ardern-2022.jpg"


def picture(name: str = PICTURE) -> bytes:
    return (FACES / name).read_bytes()


def packet_for(data: bytes, **changes: Any) -> CasePacket:
    """The document of a packet for booth-1 that holds, with changes."""
    now = datetime.now(UTC)
    document: dict[str, Any] = {
        "packet_id": secrets.token_hex(16),
        "device_id": "booth-1",
        "not_before": now - timedelta(hours=1),
        "not_after": now + timedelta(days=1),
        "case_number": "C-2026-7",
        "offence_category": "robbery",
        "legal_basis": "warrant",
        "picture_sha256": hashlib.sha256(data).hexdigest(),
        "picture_kind": "photograph",
    }
    return CasePacket.model_validate(document | changes)


def analyst(pilot: Pilot) -> SigningKey:
    return pilot.authority.bodies["analyst"].keys[0]


def supervisor(pilot: Pilot) -> SigningKey:
    return pilot.authority.bodies["supervisor"].keys[0]


def sealing_key(pilot: Pilot) -> SealingKey:
    return SealingKey.from_pem(pilot.site.device(pilot.device_id).sealing_key.read_bytes())


def packet_file(pilot: Pilot, data: bytes | None = None, *keys: SigningKey, **changes: Any) -> bytes:
    """A sealed packet; signed by an analyst and a supervisor where no keys are given."""
    data = picture() if data is None else data
    contents = signed_packet(packet_for(data, **changes), data, *(keys or (analyst(pilot), supervisor(pilot))))
    return sealed_packet(contents, sealing_key(pilot))

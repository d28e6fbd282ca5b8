"""The demonstration's cases: each comes as a packet that an analyst and a supervisor signed, sealed to the device."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from turnkey.envelope import SigningKey
from turnkey.leads.packet import CasePacket
from turnkey.sealed import SealingKey
from turnkey_tools.case import sealed_packet, signed_packet
from turnkey_tools.pilot import Pilot

OFFENCE = "robbery"


def case_packet(pilot: Pilot, case_number: str, picture: Path, *, approved: bool = True) -> bytes:
    """A packet of a case for the pilot's device; without the supervisor's signature where it is not `approved`."""
    data, now = picture.read_bytes(), datetime.now(UTC)
    packet = CasePacket(
        packet_id=secrets.token_hex(16),
        device_id=pilot.device_id,
        not_before=now - timedelta(minutes=5),
        not_after=now + timedelta(days=1),
        case_number=case_number,
        offence_category=OFFENCE,
        legal_basis="warrant",
        picture_sha256=hashlib.sha256(data).hexdigest(),
        picture_kind="photograph",
    )
    keys: list[SigningKey] = [pilot.authority.bodies["analyst"].keys[0]]
    if approved:
        keys.append(pilot.authority.bodies["supervisor"].keys[0])
    device = SealingKey.from_pem(pilot.site.device(pilot.device_id).sealing_key.read_bytes())
    return sealed_packet(signed_packet(packet, data, *keys), device)

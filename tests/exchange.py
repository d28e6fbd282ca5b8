"""Two Turnkeys that exchange templates, each with an authority, a policy and stores of its own."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from booking_room import MODELS
from numpy.typing import NDArray

from turnkey.attempt import Refusal
from turnkey.device import Device
from turnkey.envelope import PublicKey, SigningKey, peek
from turnkey.gallery.rows import Enrolment
from turnkey.gallery_room import room_of
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.policy import PackDevice, Policy, TemplatePackRule
from turnkey.leads.records import PackEnrolled, Partition, canonical
from turnkey.leads.template_pack import PAYLOAD_TYPE_PACK_ORDER, PackOrder
from turnkey.pack_export import PackMade, export_pack
from turnkey.pack_import import PackTaken, import_pack
from turnkey.packs import PackRoom, pack_room
from turnkey.sealed import SealingKey
from turnkey_tools.authority import sign_with
from turnkey_tools.pilot import Pilot, provision_pilot


@dataclass(frozen=True)
class Pair:
    """The two pilots. `sender` exports, `receiver` imports."""

    sender: Pilot
    receiver: Pilot


def provision_pair(root: Path) -> Pair:
    """Two pilots whose policies name each other."""
    pair = Pair(*(provision_pilot(root / name, MODELS, device_id=name) for name in ("booth-1", "booth-2")))
    for one, other in ((pair.sender, pair.receiver), (pair.receiver, pair.sender)):
        change_policy(one, template_packs=rule(named(other)))
    return pair


def named(pilot: Pilot) -> PackDevice:
    """A pilot as another one's policy names it."""
    files = pilot.site.device(pilot.device_id)
    return PackDevice(
        device_id=pilot.device_id,
        signing_key=PublicKey.from_pem(files.public_key.read_bytes()).to_hex(),
        sealing_key=SealingKey.from_pem(files.sealing_key.read_bytes()).to_hex(),
    )


def rule(*devices: PackDevice) -> TemplatePackRule:
    return TemplatePackRule(proposer_role="analyst", approver_role="supervisor", devices=devices)


def present_policy(pilot: Pilot) -> Policy:
    return Policy.model_validate_json(peek(pilot.policy_file.read_bytes()).payload)


def change_policy(pilot: Pilot, **changes: Any) -> None:
    """Have the policy signed that follows the present one, with changes."""
    pilot.adopt(present_policy(pilot).model_copy(update=changes))


def two_of(pilot: Pilot) -> tuple[SigningKey, SigningKey]:
    """An analyst and a supervisor."""
    bodies = pilot.authority.bodies
    return bodies["analyst"].keys[0], bodies["supervisor"].keys[0]


def order(pair: Pair, *signers: SigningKey, **changes: Any) -> bytes:
    """An order that holds at both ends, with changes; signed by two people of each where no keys are given."""
    now = datetime.now(UTC)
    document: dict[str, Any] = {
        "pack_id": secrets.token_hex(16),
        "from_device": pair.sender.device_id,
        "to_device": pair.receiver.device_id,
        "partition": "bookings",
        "most_rows": 5000,
        "not_before": now - timedelta(hours=1),
        "not_after": now + timedelta(days=1),
        "grounds": "station-closed",
    }
    payload = canonical(PackOrder.model_validate(document | changes))
    return sign_with(PAYLOAD_TYPE_PACK_ORDER, payload, signers or (*two_of(pair.sender), *two_of(pair.receiver)))


@contextmanager
def running(pilot: Pilot) -> Iterator[Device]:
    """A pilot's device, released where it is not running."""
    switch = SimulatedSwitch()
    with Device(pilot.settings(), switch=switch) as device:
        switch.close_key()
        if device.settled().state != "RUNNING":
            assert device.key_settled()
            assert isinstance(device.apply_order(pilot.release(device.interlock.release_request())), OrderAccepted)
        yield device


def units(count: int, seed: int = 1) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, 128)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def fill(
    device: Device, templates: NDArray[np.float32], partition: Partition = "bookings", **changes: Any
) -> list[int]:
    """Enrol templates of B-1, B-2, ... (C-2026-1, ... in `cases`), on the ledger as well."""
    permit = device.interlock.permit()
    device.gallery.unlock(permit.gallery_key())
    prefix = "B-" if partition == "bookings" else "C-2026-"
    now = datetime.now(UTC)
    facts: dict[str, Any] = {"quality": 50, "enrolled_at": now - timedelta(days=9), "delete_after": None} | changes
    numbers: list[int] = []
    for start in range(0, len(templates), 64):
        batch = [
            Enrolment(partition, f"{prefix}{number}", device.model_id, template=template, **facts)
            for number, template in enumerate(templates[start : start + 64], start=start + 1)
        ]
        rows = device.gallery.enrol_many(batch, permit)
        entry = PackEnrolled(attempt_id="a" * 32, partition=partition, first_row=rows[0], rows=len(rows))
        device.notary.record(entry, permit)
        numbers += rows
    return numbers


def room(device: Device) -> PackRoom:
    return pack_room(room_of(device))


def exported(device: Device, envelope: bytes, file: BinaryIO) -> PackMade:
    """An export that must succeed."""
    outcome = export_pack(room(device), envelope, file)
    assert isinstance(outcome, PackMade), outcome
    return outcome


def imported(device: Device, file: BinaryIO) -> PackTaken:
    """An import that must succeed."""
    outcome = import_pack(room(device), file)
    assert isinstance(outcome, PackTaken), outcome
    return outcome


def refused(outcome: object) -> str:
    """The reason of a refusal."""
    assert isinstance(outcome, Refusal), outcome
    return outcome.reason


def taken(device: Device, data: bytes) -> str:
    """The reason for which an import is refused."""
    return refused(import_pack(room(device), io.BytesIO(data)))

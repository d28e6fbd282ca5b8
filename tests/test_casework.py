"""Case packets on a whole device: what holds is enrolled and searched once; what does not is refused, on the ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from booking_room import RunningDevice, events, lay
from packets import MATE, PICTURE, analyst, packet_file, packet_for, picture, sealing_key, supervisor
from patience import wait_for

from turnkey.attempt import Refusal
from turnkey.booth import Recorded
from turnkey.casework import PacketApplied
from turnkey.device import Device
from turnkey.envelope import SigningKey
from turnkey.interlock.machine import State
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.policy import SignedPolicy
from turnkey.leads.records import PacketAccepted, PacketPresented, Refused, Searched, reference_digest
from turnkey.sealed import OpeningKey
from turnkey_tools.case import sealed_packet, signed_packet
from turnkey_tools.pilot import Pilot

NOW = datetime.now(UTC)
OTHER = "obama/obama-2012.jpg"


def adopt(pilot: Pilot, device: Device, **change: object) -> None:
    signed = device.policy()
    assert isinstance(signed, SignedPolicy)
    pilot.adopt(signed.policy.model_copy(update=change))


def applied(outcome: object) -> PacketApplied:
    assert isinstance(outcome, PacketApplied), outcome
    return outcome


def test_a_packet_that_holds_is_enrolled_and_searched_once(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, MATE)
    with running() as device:
        assert isinstance(device.booth.book("B-1"), Recorded)
        before = len(events(device))
        outcome = applied(device.casework.apply(packet_file(pilot)))
        assert (outcome.case_number, outcome.search) == ("C-2026-7", "done")
        assert outcome.lead is not None
        assert outcome.lead.booking_number is None
        assert (outcome.lead.case_number, outcome.lead.origin) == ("C-2026-7", "case C-2026-7")
        assert outcome.lead.partition == "bookings"
        assert [candidate.reference for candidate in outcome.lead.candidates] == ["B-1"]
        new = events(device)[before:]
        assert [event.kind for event in new] == [
            "case-packet",
            "case-packet-accepted",
            "enrolment",
            "search",
            "lead",
        ]
        accepted = new[1]
        assert isinstance(accepted, PacketAccepted)
        assert (accepted.offence_category, accepted.legal_basis) == ("robbery", "warrant")
        assert accepted.reference_digest == reference_digest(accepted.attempt_id, "C-2026-7")
        assert set(accepted.signers) == {analyst(pilot).public.to_hex(), supervisor(pilot).public.to_hex()}
        assert device.gallery.size("cases") == 1


def test_a_search_without_a_candidate_is_one_search_on_the_ledger_and_no_lead(
    pilot: Pilot, running: RunningDevice
) -> None:
    lay(pilot, OTHER)
    with running() as device:
        assert isinstance(device.booth.book("B-1"), Recorded)
        outcome = applied(device.casework.apply(packet_file(pilot)))
        assert (outcome.search, outcome.lead) == ("done", None)
        (search,) = [event for event in events(device)[-3:] if isinstance(event, Searched)]
        assert (search.partition, search.candidates) == ("bookings", 0)
        assert device.outbox.depth() == 0


def test_a_case_that_came_by_packet_is_found_by_later_bookings(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, MATE)
    with running() as device:
        applied(device.casework.apply(packet_file(pilot)))
        booking = device.booth.book("B-1")
        assert isinstance(booking, Recorded)
        assert [lead.candidates[0].reference for lead in booking.leads] == ["C-2026-7"]


def test_a_policy_without_the_retro_search_gets_none(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, MATE)
    with running() as device:
        signed = device.policy()
        assert isinstance(signed, SignedPolicy)
        rule = signed.policy.case_packets
        assert rule is not None
        adopt(pilot, device, case_packets=rule.model_copy(update={"retro_search": False}))
        assert isinstance(device.booth.book("B-1"), Recorded)
        before = len(events(device))
        assert applied(device.casework.apply(packet_file(pilot))).search == "none"
        assert "search" not in [event.kind for event in events(device)[before:]]


def test_a_search_that_the_evidence_does_not_carry_is_refused_and_the_case_is_enrolled_all_the_same(
    pilot: Pilot, running: RunningDevice
) -> None:
    lay(pilot, MATE)
    with running() as device:
        assert isinstance(device.booth.book("B-1"), Recorded)
        adopt(pilot, device, max_fpir=1e-9)
        outcome = applied(device.casework.apply(packet_file(pilot)))
        assert (outcome.search, outcome.lead) == ("refused", None)
        last = events(device)[-1]
        assert isinstance(last, Refused)
        assert (last.step, last.reason) == ("search", "gallery-too-large-for-the-evidence")
        assert device.gallery.size("cases") == 1


def no_signature_of(role: str) -> Callable[[Pilot], bytes]:
    def make(pilot: Pilot) -> bytes:
        other = {"analyst": "supervisor", "supervisor": "analyst"}[role]
        return packet_file(pilot, None, *pilot.authority.bodies[other].keys)

    return make


def for_another_device(pilot: Pilot) -> bytes:
    data = picture()
    contents = signed_packet(packet_for(data), data, analyst(pilot), supervisor(pilot))
    return sealed_packet(contents, OpeningKey.generate().public)


def edited(pilot: Pilot) -> bytes:
    data = picture()
    contents = signed_packet(packet_for(data), data + b"\0", analyst(pilot), supervisor(pilot))
    return sealed_packet(contents, sealing_key(pilot))


REFUSED: list[tuple[str, Callable[[Pilot], bytes]]] = [
    ("offence-not-permitted", lambda pilot: packet_file(pilot, offence_category="jaywalking")),
    ("legal-basis-missing", lambda pilot: packet_file(pilot, legal_basis="")),
    ("legal-basis-not-accepted", lambda pilot: packet_file(pilot, legal_basis="hunch")),
    ("picture-not-as-captured", edited),
    ("sketch-or-composite", lambda pilot: packet_file(pilot, picture_kind="sketch")),
    ("sketch-or-composite", lambda pilot: packet_file(pilot, picture_kind="composite")),
    ("video-frame", lambda pilot: packet_file(pilot, picture_kind="video-frame")),
    ("packet-expired", lambda pilot: packet_file(pilot, not_after=NOW - timedelta(minutes=1))),
    ("packet-not-yet-valid", lambda pilot: packet_file(pilot, not_before=NOW + timedelta(hours=9))),
    ("packet-valid-too-long", lambda pilot: packet_file(pilot, not_after=NOW + timedelta(days=31))),
    ("packet-for-another-device", lambda pilot: packet_file(pilot, device_id="booth-2")),
    ("does-not-open", for_another_device),
    ("not-sealed", lambda _: picture()),
    ("packet-unreadable", lambda pilot: sealing_key(pilot).seal(b"nothing", "case-packet/v1")),
    ("does-not-open", lambda pilot: sealing_key(pilot).seal(b"nothing", "template-pack/v1")),
    ("one-signer", lambda pilot: packet_file(pilot, None, analyst(pilot))),
    ("proposer-missing", no_signature_of("analyst")),
    ("approver-missing", no_signature_of("supervisor")),
    ("not-signed", lambda pilot: packet_file(pilot, None, SigningKey.generate(), SigningKey.generate())),
    ("case-number-malformed", lambda pilot: packet_file(pilot, case_number="whoever")),
]


def test_what_does_not_hold_is_refused_by_name_on_the_ledger_and_nothing_is_searched_or_enrolled(
    pilot: Pilot, running: RunningDevice
) -> None:
    lay(pilot, MATE)
    with running() as device:
        assert isinstance(device.booth.book("B-1"), Recorded)
        for reason, make in REFUSED:
            before = len(events(device))
            outcome = device.casework.apply(make(pilot))
            assert isinstance(outcome, Refusal), reason
            assert (outcome.step, outcome.reason) == ("case-packet", reason)
            assert outcome.message.endswith(".")
            presented, refused = events(device)[before:]
            assert isinstance(presented, PacketPresented)
            assert isinstance(refused, Refused)
            assert (refused.step, refused.reason, refused.attempt_id) == ("case-packet", reason, presented.attempt_id)
        assert (device.gallery.size("cases"), device.outbox.depth()) == (0, 0)


def test_a_packet_is_good_for_one_attempt_also_after_a_restart(pilot: Pilot, running: RunningDevice) -> None:
    packet = packet_file(pilot)
    with running() as device:
        applied(device.casework.apply(packet))
    with running() as device:
        for again in (packet, packet):
            outcome = device.casework.apply(again)
            assert isinstance(outcome, Refusal)
            assert outcome.reason == "packet-used-before"
        assert device.gallery.size("cases") == 1


def test_a_picture_without_a_usable_face_uses_the_packet_up(pilot: Pilot, running: RunningDevice) -> None:
    packet = packet_file(pilot, (Path(__file__).parent / "faces" / "CREDITS.md").read_bytes())
    with running() as device:
        outcome = device.casework.apply(packet)
        assert isinstance(outcome, Refusal)
        assert (outcome.step, outcome.reason) == ("capture", "not-a-picture")
        again = device.casework.apply(packet)
        assert isinstance(again, Refusal)
        assert again.reason == "packet-used-before"


def test_the_floor_of_quality_holds_for_packets_too(pilot: Pilot, running: RunningDevice) -> None:
    with running() as device:
        adopt(pilot, device, min_quality=100)
        outcome = device.casework.apply(packet_file(pilot, picture("macron/macron-2014.jpg")))
        assert isinstance(outcome, Refusal)
        assert (outcome.step, outcome.reason) == ("vision", "quality-below-floor")


def test_a_policy_that_names_no_signers_accepts_no_packet(pilot: Pilot, running: RunningDevice) -> None:
    with running() as device:
        adopt(pilot, device, case_packets=None)
        outcome = device.casework.apply(packet_file(pilot))
        assert isinstance(outcome, Refusal)
        assert outcome.reason == "case-packets-not-permitted"


def test_a_stopped_device_opens_no_packet_and_the_packet_is_good_afterwards(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch
) -> None:
    packet = packet_file(pilot)
    with running() as device:
        switch.open_key()
        wait_for(lambda: device.interlock.state is not State.RUNNING)
        outcome = device.casework.apply(packet)
        assert isinstance(outcome, Refusal)
        assert outcome.step == "interlock"
        assert not any(isinstance(event, PacketPresented) for event in events(device))
    with running() as device:
        applied(device.casework.apply(packet))


def test_neither_picture_nor_template_nor_case_number_is_left_on_the_disk(
    pilot: Pilot, running: RunningDevice, tmp_path: Path
) -> None:
    data = picture(PICTURE)
    with running() as device:
        applied(device.casework.apply(packet_file(pilot, data)))
    fragment = data[len(data) // 2 : len(data) // 2 + 64]
    for file in (pilot.root / "state").rglob("*"):
        if file.is_file():
            assert fragment not in file.read_bytes(), file

"""One booking, start to end, on the real models: what is reported, what is refused, and what a stop leaves behind."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from booking_room import FACES, RunningDevice, events, lay, lay_bytes
from PIL import Image

from turnkey.booth import CaseEnrolled, Recorded, Refusal
from turnkey.capture.camera import Frame
from turnkey.capture.folder import FolderCamera
from turnkey.database import StorageFull
from turnkey.device import Device, DeviceError
from turnkey.interlock.machine import State
from turnkey.interlock.permit import Permit
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.policy import Policy
from turnkey.leads.records import Discarded, Enrolled, Event, LeadSigned, Refused
from turnkey.removal import Remover
from turnkey_tools.pilot import Pilot

CASE = "ardern/ardern-2018.jpg"
MATE = "ardern/ardern-2022.jpg"
OTHER = "obama/obama-2012.jpg"


def kinds(device: Device) -> list[str]:
    return [event.kind for event in events(device)]


def policy_of(device: Device) -> Policy:
    signed = device.policy()
    assert hasattr(signed, "policy")
    return signed.policy


def refused(outcome: object) -> Refusal:
    assert isinstance(outcome, Refusal)
    return outcome


def test_a_mated_booking_gives_one_lead_and_each_step_is_on_the_ledger(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, CASE, MATE)
    with running() as device:
        assert isinstance(device.booth.enrol_case("C-2026-1"), CaseEnrolled)
        before = len(events(device))
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Recorded)
        (lead,) = outcome.leads
        assert [candidate.reference for candidate in lead.candidates] == ["C-2026-1"]
        assert lead.candidates[0].score >= lead.threshold
        assert (lead.gallery_size, lead.sequence, lead.booking_number) == (1, 1, "B-1")
        assert kinds(device)[before:] == ["capture", "search", "lead", "enrolment"]
        assert device.gallery.size("bookings") == 1
        assert device.outbox.depth() == 1
        assert set(outcome.stages_ms) >= {"capture", "detect", "align", "embed", "search", "sign", "enrol"}


def test_a_booking_without_a_mate_is_recorded_and_reports_nothing(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, CASE, OTHER)
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Recorded)
        assert outcome.leads == ()
        assert device.outbox.depth() == 0


def test_an_empty_case_partition_is_no_reason_to_refuse(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, OTHER)
    with running() as device:
        assert isinstance(device.booth.book("B-1"), Recorded)


def picture(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def mate() -> Image.Image:
    with Image.open(FACES / MATE) as image:
        return image.convert("RGB")


def rotated() -> bytes:
    """The mate turned on its side, with the EXIF orientation that says so (6: turn 90 degrees clockwise to view)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(mate().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=92)


def with_alpha() -> bytes:
    image = mate().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 255))
    return picture(image, "PNG")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("alpha.png", with_alpha),
        ("grey.jpg", lambda: picture(mate().convert("L"), "JPEG", quality=92)),
        ("cmyk.jpg", lambda: picture(mate().convert("CMYK"), "JPEG", quality=92)),
        ("rotated.jpg", rotated),
    ],
)
def test_unusual_pictures_are_processed_rightly(
    pilot: Pilot, running: RunningDevice, name: str, make: Callable[[], bytes]
) -> None:
    lay(pilot, CASE)
    lay_bytes(pilot, name, make())
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Recorded)
        assert [lead.candidates[0].reference for lead in outcome.leads] == ["C-2026-1"]


def hundred_megapixels() -> bytes:
    """A real PNG of 10,000 x 10,000 grey pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(10_001)) for _ in range(10_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def two_people() -> bytes:
    both = Image.new("RGB", (1400, 900))
    for place, name in enumerate((MATE, OTHER)):
        with Image.open(FACES / name) as face:
            both.paste(face.convert("RGB").resize((700, 900)), (700 * place, 0))
    return picture(both, "PNG")


def nobody() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)
    return picture(Image.fromarray(noise), "PNG")


@pytest.mark.parametrize(
    ("name", "make", "step", "reason"),
    [
        ("cut.jpg", lambda: (FACES / MATE).read_bytes()[:20_000], "capture", "truncated-picture"),
        ("dot.png", lambda: picture(Image.new("RGB", (1, 1)), "PNG"), "capture", "picture-too-small"),
        ("huge.png", hundred_megapixels, "capture", "picture-too-large"),
        ("text.jpg", lambda: b"not a picture", "capture", "not-a-picture"),
        ("empty.jpg", lambda: b"", "capture", "not-a-picture"),
        ("nobody.png", nobody, "vision", "no-face"),
        ("two.png", two_people, "vision", "several-faces"),
    ],
)
def test_bad_input_is_refused_by_name_and_leaves_nothing(
    pilot: Pilot, running: RunningDevice, name: str, make: Callable[[], bytes], step: str, reason: str
) -> None:
    lay(pilot, CASE)
    lay_bytes(pilot, name, make())
    lay(pilot, MATE)
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        outcome = refused(device.booth.book("B-1"))
        assert (outcome.step, outcome.reason) == (step, reason)
        assert outcome.message
        last = events(device)[-1]
        assert isinstance(last, Refused)
        assert (last.step, last.reason) == (step, reason)
        assert device.gallery.size("bookings") == 0
        assert device.outbox.depth() == 0
        assert isinstance(device.booth.book("B-2"), Recorded), "the next picture is taken as ever"


def test_no_booking_but_under_a_policy_in_force(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, MATE)
    with running() as device:
        policy = policy_of(device)
        now = datetime.now(UTC)
        for changed, reason in (
            ({"valid_from": now - timedelta(days=9), "valid_until": now - timedelta(days=1)}, "policy-expired"),
            ({"devices": ("booth-2",)}, "policy-for-another-device"),
            ({"models": ("sface-000000000000",)}, "model-not-permitted"),
            ({"min_quality": 100, "booking_number_format": "X-.*"}, "booking-number-malformed"),
        ):
            pilot.adopt(policy.model_copy(update=changed))
            assert refused(device.booth.book("B-1")).reason == reason
        (pilot.root / "policy.json").unlink()
        assert refused(device.booth.book("B-1")).reason == "policy-not-signed"
        assert "capture" not in kinds(device)
        pilot.adopt(policy.model_copy(update={"version": 9}))
        assert isinstance(device.booth.book("B-1"), Recorded), "the picture was not taken by any refused attempt"


def test_a_gallery_larger_than_the_evidence_is_not_searched(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, CASE, MATE)
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        pilot.adopt(policy_of(device).model_copy(update={"max_fpir": 1e-9}))
        outcome = refused(device.booth.book("B-1"))
        assert (outcome.step, outcome.reason) == ("search", "gallery-too-large-for-the-evidence")
        assert "search" not in kinds(device)
        assert device.gallery.size("bookings") == 0


def test_a_probe_below_the_quality_floor_is_neither_searched_nor_enrolled(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, "macron/macron-2014.jpg")
    with running() as device:
        pilot.adopt(policy_of(device).model_copy(update={"min_quality": 100}))
        assert refused(device.booth.book("B-1")).reason == "quality-below-floor"
        assert device.gallery.size("bookings") == 0


class CameraThatSeesTheKeyTurned(FolderCamera):
    """Opens the key right after the shutter: the frames exist, the permit does not any more."""

    def __init__(self, pilot: Pilot, switch: SimulatedSwitch) -> None:
        super().__init__(pilot.pictures)
        self._switch = switch
        self.armed = False

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        for frame in super().burst(permit, most):
            if self.armed:
                self._switch.open_key()
            yield frame


def test_a_stop_with_a_frame_in_flight_discards_it(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch
) -> None:
    lay(pilot, CASE, MATE)
    camera = CameraThatSeesTheKeyTurned(pilot, switch)
    with running(camera) as device:
        device.booth.enrol_case("C-2026-1")
        camera.armed = True
        before = len(events(device))
        assert refused(device.booth.book("B-1")).step == "interlock"
        assert kinds(device)[before:] == ["switch", "discarded"]
        assert device.interlock.state is State.MORATORIUM
        assert device.outbox.depth() == 0


def test_a_stop_between_enrolment_and_its_entry_withdraws_it(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(pilot, MATE)
    with running() as device:
        record = device.notary.record

        def turn_the_key_first(event: Event, permit: Permit | None = None) -> None:
            if isinstance(event, Enrolled):
                switch.open_key()
            record(event, permit)

        monkeypatch.setattr(device.notary, "record", turn_the_key_first)
        assert refused(device.booth.book("B-1")).step == "interlock"
        assert isinstance(events(device)[-1], Discarded)
        device.gallery.unlock(pilot.settings().gallery_key.read_bytes())
        assert device.gallery.size("bookings") == 0


def test_a_stopped_device_captures_nothing_and_says_so_on_the_ledger(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch
) -> None:
    lay(pilot, MATE)
    with running() as device:
        switch.open_key()
        before = len(events(device))
        assert refused(device.booth.book("B-1")).step == "interlock"
        assert kinds(device)[before:] == ["refusal"]


def test_an_expungement_is_done_and_recorded_even_in_a_moratorium(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch
) -> None:
    lay(pilot, CASE)
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        switch.open_key()
        remover = Remover(device.gallery, device.notary)
        assert remover.expunge("cases", "C-2026-1", "court-order").templates == {"cases": 1}
        assert remover.expunge("cases", "C-2026-1", "court-order").templates == {"cases": 0}
        assert kinds(device)[-1] == "expungement"


def test_a_ledger_that_cannot_be_written_halts_the_device(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, MATE)
    with running() as device:
        device.journal._database.execute("PRAGMA query_only = ON")
        assert refused(device.booth.book("B-1")).step == "ledger"
        assert device.interlock.state is State.FAULT
        assert device.outbox.depth() == 0


def test_a_full_outbox_refuses_the_next_capture_and_drops_no_lead(
    pilot: Pilot, running: RunningDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(pilot, CASE, MATE, MATE)
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        put = device.outbox.put

        def full(*_: object, **__: object) -> int:
            raise StorageFull("messages", "the outbox holds as many messages as it may")

        monkeypatch.setattr(device.outbox, "put", full)
        assert isinstance(device.booth.book("B-1"), Recorded)
        assert refused(device.booth.book("B-2")).step == "outbox"
        monkeypatch.setattr(device.outbox, "put", put)
        assert isinstance(device.booth.book("B-2"), Recorded)
        assert device.outbox.depth() == 2
        assert [event.sequence for event in events(device) if isinstance(event, LeadSigned)] == [1, 2]


def test_a_model_with_one_flipped_byte_is_refused_at_start(pilot: Pilot, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for file in pilot.settings().models.iterdir():
        (models / file.name).write_bytes(file.read_bytes())
    victim = next(models.glob("sface*.tflite"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(DeviceError, match=r"sface.*\.tflite"):
        Device(pilot.settings().model_copy(update={"models": models}))


def test_a_second_process_does_not_drive_the_same_device(pilot: Pilot, running: RunningDevice) -> None:
    with running(), pytest.raises(DeviceError, match="another process"):
        Device(pilot.settings())


def test_a_device_restarts_as_it_was_but_in_a_new_boot(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, CASE, MATE)
    with running(FolderCamera(pilot.pictures)) as device:
        device.booth.enrol_case("C-2026-1")
    with running() as device:
        assert [event.kind for event in events(device)].count("boot") == 2
        assert "order" not in kinds(device)[kinds(device).index("boot", 1) :], "a restart alone needs no order"
        device.booth.book("B-1")
        assert device.gallery.size("cases") == 1

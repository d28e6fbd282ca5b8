"""One press of the shutter: bad frames dropped, good ones fused, two persons refused, pixels overwritten."""

from __future__ import annotations

import io
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from booking_room import FACES, RunningDevice, events, lay
from PIL import Image, ImageFilter

from turnkey.booth import CaseEnrolled, Recorded, Refusal
from turnkey.capture.camera import Frame
from turnkey.capture.folder import BURST, FolderCamera
from turnkey.device import Device
from turnkey.interlock.permit import Permit
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.policy import Policy
from turnkey.leads.quality_thresholds import QualityThresholds
from turnkey.leads.records import Captured
from turnkey_tools.pilot import Pilot

CASE = "ardern/ardern-2018.jpg"
MATE = "ardern/ardern-2022.jpg"
OTHER = "obama/obama-2012.jpg"


def portrait(name: str) -> Image.Image:
    with Image.open(FACES / name) as image:
        return image.convert("RGB")


def blurred(name: str) -> Image.Image:
    return portrait(name).filter(ImageFilter.GaussianBlur(16))


def nobody() -> Image.Image:
    return Image.new("RGB", (800, 1000), (120, 124, 130))


def press(pilot: Pilot, *frames: Image.Image) -> None:
    """One press of the shutter that gives these frames, behind those that wait."""
    folder = pilot.pictures / f"{len(list(pilot.pictures.iterdir())):02}-press{BURST}"
    folder.mkdir()
    for place, frame in enumerate(frames):
        data = io.BytesIO()
        frame.save(data, "PNG", compress_level=1)
        (folder / f"{place}.png").write_bytes(data.getvalue())


def last_capture(device: Device) -> Captured:
    return [event for event in events(device) if isinstance(event, Captured)][-1]


def policy_of(device: Device) -> Policy:
    signed = device.policy()
    assert hasattr(signed, "policy")
    return signed.policy


def test_a_burst_gives_one_probe_and_the_ledger_counts_its_frames(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, CASE)
    press(pilot, portrait(MATE), portrait(MATE).rotate(3), portrait(MATE).resize((700, 875)))
    with running() as device:
        assert isinstance(device.booth.enrol_case("C-2026-1"), CaseEnrolled)
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Recorded)
        (lead,) = outcome.leads
        assert [candidate.reference for candidate in lead.candidates] == ["C-2026-1"]
        assert last_capture(device).frames == 3
        assert device.gallery.size("bookings") == 1


def test_bad_frames_of_a_burst_are_dropped(pilot: Pilot, running: RunningDevice) -> None:
    press(pilot, nobody(), blurred(MATE), portrait(MATE))
    with running() as device:
        assert isinstance(device.booth.book("B-1"), Recorded)
        assert last_capture(device).frames == 3


def test_a_burst_without_a_good_frame_is_refused_for_what_ailed_most(pilot: Pilot, running: RunningDevice) -> None:
    press(pilot, blurred(MATE), nobody(), blurred(MATE))
    with running() as device:
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Refusal)
        assert (outcome.step, outcome.reason) == ("vision", "blurred")
        assert device.gallery.size("bookings") == 0


def test_two_persons_who_change_places_within_a_press_are_refused(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, CASE)
    press(pilot, portrait(MATE), portrait(OTHER), portrait(MATE))
    with running() as device:
        device.booth.enrol_case("C-2026-1")
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Refusal)
        assert (outcome.step, outcome.reason) == ("vision", "persons-differ")
        assert device.gallery.size("bookings") == 0
        assert device.outbox.depth() == 0


def test_a_policy_asks_for_a_closed_mouth(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, OTHER, OTHER)
    with running() as device:
        strict = policy_of(device).model_copy(
            update={"version": 2, "quality": QualityThresholds(max_mouth_open=0.05, max_yaw_degrees=20.0)}
        )
        pilot.adopt(strict)
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Refusal)
        assert (outcome.step, outcome.reason) == ("vision", "mouth-open")


class RememberingCamera(FolderCamera):
    """Keeps what it handed out, to see what becomes of it; turns the key right after the shutter where told to."""

    def __init__(self, directory: Path, switch: SimulatedSwitch) -> None:
        super().__init__(directory)
        self.handed_out: list[Frame] = []
        self.switch = switch
        self.stops = False

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        for frame in super().burst(permit, most):
            assert frame.pixels.any()
            assert not any(np.any(earlier.pixels) for earlier in self.handed_out)
            self.handed_out.append(frame)
            if self.stops:
                self.switch.open_key()
            yield frame


@pytest.mark.parametrize("ending", ["recorded", "refused", "stopped"])
def test_pixels_are_overwritten_whatever_came_of_them(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch, ending: str
) -> None:
    press(pilot, *(portrait(MATE) if ending != "refused" else nobody() for _ in range(2)))
    camera = RememberingCamera(pilot.pictures, switch)
    camera.stops = ending == "stopped"
    with running(camera) as device:
        outcome = device.booth.book("B-1")
        assert isinstance(outcome, Recorded) == (ending == "recorded")
    assert len(camera.handed_out) == (1 if ending == "stopped" else 2)
    assert not any(np.any(frame.pixels) for frame in camera.handed_out)

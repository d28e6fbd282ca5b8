"""What leaves a device over real bookings: the allowed fields, and nowhere a picture's or a template's bytes."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from booking_room import FACES, RunningDevice, lay
from numpy.typing import NDArray
from patience import PATIENCE_S

from turnkey.booth import Recorded
from turnkey.capture.camera import Frame
from turnkey.interlock.permit import Permit
from turnkey.vision.analyzer import Analysis, Analyzer
from turnkey.vision.quality import QualityLimits
from turnkey_tools.broker import Broker, Kind
from turnkey_tools.leads.keys import device_keys
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.pilot import Pilot

from .egress import PICTURES, Egress, fields_of, recorded

CASE, MATE = "ardern/ardern-2018.jpg", "ardern/ardern-2022.jpg"
WINDOW = 12
"""Bytes in a row that would be no accident: 96 bits."""


def spoken_forms(data: bytes) -> list[bytes]:
    """The ways in which bytes could hide in JSON: raw, hexadecimal, and base64 at each of its three alignments."""
    return [data, data.hex().encode(), *(base64.b64encode(data[shift:])[: len(data)] for shift in range(3))]


def windows(data: bytes, step: int) -> set[bytes]:
    """Pieces of `data`, distinct ones of more than a few values: a run of one value is no one's secret."""
    pieces = (data[at : at + WINDOW] for at in range(0, len(data) - WINDOW + 1, step))
    return {piece for piece in pieces if len(set(piece)) > 4}


def found_in(said: bytes, secret: bytes, step: int) -> list[bytes]:
    pieces = {piece for form in spoken_forms(secret) for piece in windows(form, step)}
    heard = {said[at : at + WINDOW] for at in range(len(said) - WINDOW + 1)}
    return sorted(pieces & heard)


def encodings(template: NDArray[np.float32]) -> list[bytes]:
    """A template as a device could hold or write it."""
    scaled = template / np.abs(template).max()
    return [
        template.astype("<f4").tobytes(),
        template.astype("<f2").tobytes(),
        template.astype("<f8").tobytes(),
        np.round(scaled * 127).astype(np.int8).tobytes(),
        ",".join(f"{value:.4f}" for value in template).encode(),
        b"".join(struct.pack(">f", value) for value in template),
    ]


def test_bookings_leave_leads_and_attestations_and_no_byte_of_a_face(
    pilot: Pilot, running: RunningDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNKEY_ATTESTATION__PUBLISH", "true")
    templates: list[NDArray[np.float32]] = []
    pixels: list[bytes] = []
    analyse = Analyzer.analyze_burst

    def noted(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            pixels.append(frame.pixels.tobytes())
            yield frame

    def seen(
        self: Analyzer, frames: Iterable[Frame], permit: Permit, limits: QualityLimits, seen: Callable[[int], None]
    ) -> object:
        analysis = analyse(self, noted(frames), permit, limits, seen)
        assert isinstance(analysis, Analysis)
        templates.append(analysis.template)
        return analysis

    monkeypatch.setattr(Analyzer, "analyze_burst", seen)
    lay(pilot, CASE, MATE, MATE)
    desk = pilot.site.desk("lead-desk")
    keys = device_keys(pilot.site.desk_device_keys("lead-desk"))
    with recorded() as egress, Broker(pilot.site, Kind.MOSQUITTO) as broker, Store(pilot.root / "desk.db") as store:
        pilot.use_port(broker.port)
        with Subscription(desk, broker.host, broker.port, keys, store) as listening, running() as device:
            assert listening.listening(PATIENCE_S)
            device.booth.enrol_case("C-2026-1")
            assert all(isinstance(device.booth.book(f"B-{number}"), Recorded) for number in (1, 2))
            device.heart.beat()
            assert device.uplink.flush(PATIENCE_S)
    records = [fields_of(payload) for _, payload in egress.publications()]
    assert sum("candidates" in record for record in records) == 2
    assert sum("ledger_root" in record for record in records) >= 3
    said = egress.everything() + b"".join(str(record).encode() for record in records)
    assert not any(mark in said for mark in PICTURES)
    assert len(templates) == 3
    for template in templates:
        for encoding in encodings(template):
            assert found_in(said, encoding, 1) == []
    for name in (CASE, MATE):
        assert found_in(said, (FACES / name).read_bytes(), 3) == []
    for raw in pixels:
        assert found_in(said, raw[: 3 * 10**6], 64) == []


def test_the_search_for_a_template_finds_one_that_is_there() -> None:
    """The test above can fail: it does where a template rides along in any of the forms it looks for."""
    template = np.random.default_rng(1).normal(size=128).astype(np.float32)
    template /= np.linalg.norm(template)
    for encoding in encodings(template):
        for form in spoken_forms(encoding):
            assert found_in(b'{"threshold": ' + form[:64] + b"}", encoding, 1)


def test_the_recorder_hears_uplinks_and_refuses_what_is_not_allowed(everything_said: Egress, tmp_path: Path) -> None:
    assert everything_said.publications() is not None
    other = Egress()
    other.streams[1] += bytes([0x82, 0])  # SUBSCRIBE
    with pytest.raises(AssertionError, match="packet type 8"):
        other.publications()
    with pytest.raises(AssertionError):
        fields_of(
            b'{"payload": "eyJpbWFnZSI6IDF9", "payloadType": "application/vnd.turnkey.lead.v1+json", "signatures": []}'
        )

"""The capture bench counts what it says it counts; its bars are for a quiet machine and not asserted here."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np
import pytest
from tools.bench_reports import sound
from typer.testing import CliRunner

from turnkey.capture.camera import Frame
from turnkey.interlock.permit import Permit
from turnkey_tools.bench.capture import Captures, run
from turnkey_tools.cli import app


def test_captures_of_both_cameras_with_losses_on_the_way() -> None:
    result = CliRunner().invoke(app, ["bench", "capture", "--captures", "400", "--losses", "3", "--json"])
    if "camera-driver-missing" in result.output or "GStreamer cannot be loaded" in result.stderr:
        pytest.skip(result.stderr)
    report = sound(result.stdout)
    seen = {one.name: one.median for one in report.figures}
    assert seen["folder: frames that came twice"] == seen["gstreamer: frames that came twice"] == 0
    assert seen["folder: losses gone through"] == 0
    assert seen["gstreamer: losses gone through"] >= 3
    counts = {one.name: one.count for one in report.figures}
    assert counts["folder: a capture"] == 400
    assert counts["gstreamer: a capture"] + counts["gstreamer: a capture that lost its camera"] == 400


class Stuck:
    """A camera that hands out one frame again and again."""

    def capture(self, permit: Permit) -> Frame:
        permit.check()
        return Frame(np.full((64, 64, 3), 7, np.uint8), 1, "stuck")

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        for _ in range(most):
            yield self.capture(permit)

    def preview(self, permit: Permit) -> Frame:
        return self.capture(permit)

    def close(self) -> None:
        """Nothing is open."""


def test_a_frame_that_comes_twice_is_counted_and_fails_the_bar() -> None:
    counted: Iterator[Captures] = run("stuck", Stuck(), 300, lambda: 1)
    *_, last = counted
    assert last.twice == 299
    assert "stuck: frames that came twice" in [bar.name for bar in last.bars(0) if not bar.holds]

"""The capture bench counts what it says it counts; its bars are for a quiet machine and not asserted here."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from typer.testing import CliRunner

from turnkey.capture.camera import Frame
from turnkey.interlock.permit import Permit
from turnkey_tools.bench.capture import Captures, run
from turnkey_tools.cli import app


def test_captures_of_both_cameras_with_losses_on_the_way() -> None:
    result = CliRunner().invoke(app, ["bench", "capture", "--captures", "400", "--losses", "3", "--json"])
    if "camera-driver-missing" in result.output or "GStreamer cannot be loaded" in result.stderr:
        pytest.skip(result.stderr)
    folder, gstreamer = json.loads(result.stdout)["captures"]
    assert (folder["captures"], folder["twice"], folder["losses"]) == (400, 0, 0)
    assert (gstreamer["captures"], gstreamer["twice"]) == (400, 0)
    assert gstreamer["losses"] >= 3


class Stuck:
    """A camera that hands out one frame again and again."""

    def capture(self, permit: Permit) -> Frame:
        permit.check()
        return Frame(np.full((64, 64, 3), 7, np.uint8), 1, "stuck")

    def burst(self, permit: Permit, most: int) -> tuple[Frame, ...]:
        return (self.capture(permit),) * most

    def preview(self, permit: Permit) -> Frame:
        return self.capture(permit)

    def close(self) -> None:
        """Nothing is open."""


def test_a_frame_that_comes_twice_is_counted_and_fails_the_bar() -> None:
    counted: Iterator[Captures] = run("stuck", Stuck(), 300, lambda: 1)
    *_, last = counted
    assert last.twice == 299
    assert not last.holds(0)

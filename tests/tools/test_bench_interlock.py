"""The bench of the stop: that it would notice what it is there to notice, and a short run of it on everything real."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from turnkey.leads.records import Captured, Enrolled, LedgerEntry, SwitchChanged
from turnkey_tools.bench.interlock import behind_stops, percentiles, stop_in_process
from turnkey_tools.bench.interlock_processes import stop_across_processes
from turnkey_tools.pilot import provision_pilot

ROOT = Path(__file__).parents[2]
STOPPED = SwitchChanged(
    previous="RUNNING", state="MORATORIUM", reason="key-opened", channel_a=False, channel_b=True, epoch=2
)
STARTED = SwitchChanged(
    previous="MORATORIUM", state="RUNNING", reason="released", channel_a=True, channel_b=True, epoch=2
)
CAPTURED = Captured(attempt_id="0" * 32, frames=1, purpose="booking")
ENROLLED = Enrolled(attempt_id="0" * 32, partition="bookings", row=1)


def entries(*events: tuple[int, object]) -> list[LedgerEntry]:
    return [
        LedgerEntry(
            device_id="booth-1",
            index=index,
            boot_id="0" * 32,
            at=datetime.now(UTC),
            monotonic_ns=at_ns,
            event=event,
        )
        for index, (at_ns, event) in enumerate(events)
    ]


def test_work_before_a_stop_and_after_the_next_start_is_in_time():
    run = entries((10, CAPTURED), (20, ENROLLED), (31, STOPPED), (40, STARTED), (50, CAPTURED), (60, ENROLLED))
    assert behind_stops(run, [30]) == (0, 0)


def test_work_behind_a_stop_on_the_ledger_is_noticed():
    assert behind_stops(entries((10, CAPTURED), (31, STOPPED), (29, ENROLLED), (40, STARTED)), [30]) == (0, 1)


def test_work_after_the_permits_death_is_noticed_even_before_the_stops_entry():
    assert behind_stops(entries((10, CAPTURED), (32, CAPTURED), (35, STOPPED), (40, STARTED)), [30]) == (1, 0)


def test_percentiles_are_of_the_nearest_rank():
    assert percentiles([float(value) for value in range(1, 101)]) == (50.0, 99.0, 100.0)
    assert percentiles([7.0]) == (7.0, 7.0, 7.0)


@pytest.mark.parametrize("run", [stop_in_process, stop_across_processes])
def test_twenty_stops_of_real_bookings_leave_nothing_behind(run, tmp_path):
    pilot = provision_pilot(tmp_path / "pilot", ROOT / "models")
    result = run(pilot, ROOT / "tests" / "faces", 20, 7)
    assert result.stops == 20
    assert result.interrupted > 0
    assert (result.frames_after, result.leads_after, result.templates_after) == (0, 0, 0)

"""The bench of the stop: that it would notice what it is there to notice, and a short run of it on everything real."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tools.bench_reports import sound

from turnkey.leads.records import Captured, Enrolled, LedgerEntry, SwitchChanged
from turnkey_tools.bench.interlock import stop_in_process
from turnkey_tools.bench.interlock_processes import stop_across_processes
from turnkey_tools.bench.interlock_stops import Deadline, Stop, Stops, behind_stops, stops_report
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


def made(**changed: object) -> Stops:
    stop = Stop(delay_ms=1.0, seen_ms=2.0, discard_ms=3.0, whole_s=0.5)
    every = {"asked": 2, "each": (stop, stop), "leads": 1, "templates": 1}
    none = dict.fromkeys(("stood_still", "restarts", "frames_after", "leads_after", "templates_after"), 0)
    return Stops(**{**every, **none, **changed})


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({}, []),
        ({"asked": 3}, ["one process: stops made"]),
        ({"each": ()}, ["one process: stops made"]),
        ({"frames_after": 1}, ["one process: frames captured after the stop"]),
        ({"leads_after": 1}, ["one process: leads signed after the stop"]),
        ({"templates_after": 1}, ["one process: templates enrolled after the stop"]),
        ({"each": (Stop(21.0, 22.0, None, 0.5),) * 2}, ["one process: key turned to permit dead, p99 ms"]),
        ({"stood_still": 5, "restarts": 1}, []),
    ],
)
def test_the_report_misses_what_was_missed_and_nothing_else(changed, missed):
    report = stops_report({"one process": (made(**changed), 20.0)}, ["across processes: not asked for"], {"stops": 2})
    assert [bar.name for bar in sound(report.model_dump_json()).bars if not bar.holds] == missed


def test_a_run_ends_after_its_time_and_after_too_many_tries():
    assert Deadline(10, -1.0).passed()
    deadline = Deadline(1, 3600.0)
    assert [deadline.passed() for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("run", [stop_in_process, stop_across_processes])
def test_twenty_stops_of_real_bookings_leave_nothing_behind(run, tmp_path):
    pilot = provision_pilot(tmp_path / "pilot", ROOT / "models")
    result = run(pilot, ROOT / "tests" / "faces", 20, 7)
    assert len(result.each) == 20
    assert any(each.discard_ms is not None for each in result.each)
    assert (result.frames_after, result.leads_after, result.templates_after) == (0, 0, 0)

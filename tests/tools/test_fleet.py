"""IT's view: what it believes, what it makes of silence, and its exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from booking_room import RunningDevice
from patience import PATIENCE_S
from typer.testing import CliRunner

from turnkey.envelope import SigningKey, sign
from turnkey.leads.records import (
    PAYLOAD_TYPE_ATTESTATION,
    PAYLOAD_TYPE_LEAD,
    Attestation,
    Boot,
    Heartbeat,
    SwitchChanged,
    canonical,
)
from turnkey.leads.upkeep import Updated
from turnkey_tools.broker import Broker, Kind
from turnkey_tools.cli import app
from turnkey_tools.fleet.cli import survey
from turnkey_tools.fleet.health import Health, Level, Limits, worst
from turnkey_tools.fleet.judge import Believed, Reason, Refused, Verdict, judge
from turnkey_tools.fleet.store import Store
from turnkey_tools.fleet.view import prometheus
from turnkey_tools.pilot import Pilot

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPIC = "turnkey/v1/booth-1/attestation"
KEY = SigningKey.generate()
KEYS = {"booth-1": KEY.public}


def beat(index: int, age_s: float = 10.0, root: str = "ab", **change: object) -> Attestation:
    facts = {
        "software": "1.0", "state": "RUNNING", "reason": "released", "epoch": 1, "channel_a": True, "channel_b": True,
        "relay_closed": True, "policy": "in-force", "leads_waiting": 0, "uptime_s": 60, **change,
    }  # fmt: skip
    return attestation(index, Heartbeat.model_validate(facts), age_s, root)


def attestation(
    index: int, event: Boot | SwitchChanged | Heartbeat | Updated, age_s: float = 10.0, root: str = "ab"
) -> Attestation:
    return Attestation(
        device_id="booth-1",
        index=index,
        boot_id="1" * 32,
        at=NOW - timedelta(seconds=age_s),
        monotonic_ns=1,
        event=event,
        ledger_root=root * 32,
    )


def signed(record: Attestation, key: SigningKey = KEY) -> bytes:
    return sign(PAYLOAD_TYPE_ATTESTATION, canonical(record), key)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "fleet.db") as store:
        yield store


def receive(store: Store, payload: bytes, topic: str = TOPIC) -> Verdict:
    verdict = judge(topic, payload, KEYS, store)
    with store.transaction():
        store.write(verdict)
    return verdict


def view(store: Store) -> Health:
    (one,) = survey(store, KEYS, NOW, Limits())
    return one


def test_a_running_device_is_well_and_its_facts_are_shown(store: Store) -> None:
    assert isinstance(receive(store, signed(beat(5, leads_waiting=2))), Believed)
    one = view(store)
    assert (one.level, one.state, one.software, one.leads_waiting, one.index) == (Level.OK, "RUNNING", "1.0", 2, 5)
    assert (one.channel_a, one.channel_b, one.relay_closed, one.age_s) == (True, True, True, 10.0)


def test_a_moratorium_is_well_too(store: Store) -> None:
    stop = SwitchChanged(
        previous="RUNNING", state="MORATORIUM", reason="key-open", channel_a=False, channel_b=False, epoch=2
    )
    receive(store, signed(beat(5)))
    receive(store, signed(attestation(6, stop)))
    one = view(store)
    assert (one.level, one.state, one.why) == (Level.OK, "MORATORIUM", "key-open")


@pytest.mark.parametrize(
    ("change", "level", "why"),
    [
        ({"state": "FAULT", "reason": "relay-welded"}, Level.CRITICAL, "relay-welded"),
        ({"channel_b": False}, Level.CRITICAL, "disagree"),
        ({"policy": "expired"}, Level.WARNING, "expired"),
        ({"leads_waiting": 21}, Level.WARNING, "21 leads"),
        ({"age_s": 201.0}, Level.UNKNOWN, "silent"),
    ],
)
def test_what_is_not_well_has_a_level_and_a_reason(
    store: Store, change: dict[str, object], level: Level, why: str
) -> None:
    receive(store, signed(beat(5, **change)))  # type: ignore[arg-type] # age_s among facts
    one = view(store)
    assert one.level is level
    assert why in one.why


def test_it_is_seen_that_an_update_arrived_and_why_one_did_not(store: Store) -> None:
    receive(store, signed(beat(1)))
    assert view(store).update is None
    receive(store, signed(attestation(2, Updated(step="installed", what="bundle", version="1.4", reason="in-place"))))
    assert view(store).update == "bundle 1.4 installed"
    receive(store, signed(beat(3)))
    refused = Updated(step="returned", what="bundle", version="1.4", reason="another-system-runs")
    receive(store, signed(attestation(4, refused)))
    assert view(store).update == "bundle 1.4 returned: another-system-runs"
    assert view(store).state == "RUNNING"


def test_silence_is_unknown_and_never_a_state(store: Store) -> None:
    assert (view(store).level, view(store).state) == (Level.UNKNOWN, "UNKNOWN")
    receive(store, signed(beat(5, age_s=3600)))
    one = view(store)
    assert (one.state, one.last_state) == ("UNKNOWN", "RUNNING")


def test_a_second_history_is_a_fork_for_good(store: Store) -> None:
    receive(store, signed(beat(5)))
    assert receive(store, signed(beat(5))) == Refused(Reason.DUPLICATE, "it is here already", "booth-1")
    forked = receive(store, signed(beat(5, root="cd")))
    assert isinstance(forked, Refused)
    assert forked.reason is Reason.FORK
    receive(store, signed(beat(6)))
    assert view(store).level is Level.CRITICAL


def test_a_late_attestation_does_not_become_the_present(store: Store) -> None:
    receive(store, signed(beat(6, reason="released")))
    receive(store, signed(beat(5, age_s=70.0, state="FAULT", reason="old")))
    assert view(store).state == "RUNNING"


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("turnkey/v1/booth-1/lead", signed(beat(1)), Reason.FOREIGN_TOPIC),
        ("turnkey/v1/booth-2/attestation", signed(beat(1)), Reason.UNKNOWN_DEVICE),
        (TOPIC, signed(beat(1), SigningKey.generate()), Reason.NOT_SIGNED),
        (TOPIC, sign(PAYLOAD_TYPE_LEAD, b"{}", KEY), Reason.WRONG_TYPE),
        (TOPIC, sign(PAYLOAD_TYPE_ATTESTATION, b"{}", KEY), Reason.NOT_AN_ATTESTATION),
        (TOPIC, signed(beat(1).model_copy(update={"device_id": "booth-9"})), Reason.WRONG_DEVICE),
        (TOPIC, b"[" * 60_000, Reason.NOT_AN_ENVELOPE),
        (TOPIC, b"x" * 1_000_000, Reason.TOO_LARGE),
    ],
)
def test_what_is_not_the_devices_own_word_is_refused(store: Store, topic: str, payload: bytes, reason: Reason) -> None:
    verdict = receive(store, payload, topic)
    assert isinstance(verdict, Refused)
    assert verdict.reason is reason
    assert view(store).state == "UNKNOWN"


def test_the_fleet_is_as_well_as_its_worst_device() -> None:
    assert worst([Level.OK, Level.WARNING]) is Level.WARNING
    assert worst([Level.UNKNOWN, Level.CRITICAL]) is Level.CRITICAL
    assert worst([Level.WARNING, Level.UNKNOWN]) is Level.UNKNOWN
    assert worst([]) is Level.UNKNOWN


def test_prometheus_text_has_a_sample_per_fact_and_none_for_what_is_unknown(store: Store) -> None:
    assert "turnkey_leads_waiting{" not in prometheus([view(store)])
    receive(store, signed(beat(5, leads_waiting=3, channel_b=False)))
    text = prometheus([view(store)])
    assert 'turnkey_leads_waiting{device="booth-1"} 3\n' in text
    assert 'turnkey_switch_closed{device="booth-1",channel="b"} 0\n' in text
    assert 'turnkey_state{device="booth-1",state="RUNNING"} 1\n' in text
    sample = re.compile(r'^(# (HELP|TYPE) turnkey_\w+ .+|turnkey_\w+\{(\w+="[^"]*",?)+\} -?[\d.e+]+)$')
    assert all(sample.match(line) for line in text.splitlines())


def test_the_command_shows_a_real_device_from_boot_to_stop(
    pilot: Pilot, running: RunningDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNKEY_ATTESTATION__PUBLISH", "true")

    def fleet(*more: str) -> tuple[int, str]:
        arguments = ["fleet", "--site", str(pilot.site.root), "--port", str(broker.port), *more]
        result = CliRunner().invoke(app, arguments)
        return result.exit_code, result.stdout

    with Broker(pilot.site, Kind.MOSQUITTO) as broker:
        pilot.use_port(broker.port)
        assert fleet("--json")[0] == Level.UNKNOWN
        with running() as device:
            device.heart.beat()
            assert device.uplink.flush(PATIENCE_S)
            code, shown = fleet("--json")
            (one,) = json.loads(shown)["devices"]
            assert (code, one["state"], one["channel_a"], one["policy"]) == (0, "RUNNING", True, "in-force")
            assert one["ledger_root"] == device.journal.root().hex()
            device.interlock.halt("camera-lost")
            assert device.uplink.flush(PATIENCE_S)
            code, shown = fleet()
            assert code == Level.CRITICAL
            assert "FAULT" in shown
            code, shown = fleet("--wait", "0", "--prometheus")
            assert 'turnkey_state{device="booth-1",state="FAULT"} 1' in shown
        broker.stop()
        # Who cannot ask does not know; but what a fault was is not forgotten for that.
        assert fleet("--wait", "0.5")[0] == Level.CRITICAL

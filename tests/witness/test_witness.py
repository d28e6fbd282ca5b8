"""The witness: what it cosigns, whom it catches, what it needs an export for, and what an auditor makes of its file."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from booking_room import RunningDevice, lay
from typer.testing import CliRunner

from turnkey.booth import CaseEnrolled, Recorded
from turnkey.cli import app as turnkey
from turnkey.envelope import SigningKey
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.leads.records import Boot, Heartbeat, SwitchChanged
from turnkey.notary.export import stretch, write_export
from turnkey.notary.journal import Journal
from turnkey.notary.notary import Clocks, Notary
from turnkey.notary.note import Verifier
from turnkey_tools.audit.auditor import Audit, Evidence, audit
from turnkey_tools.audit.intervals import Verdict as AuditVerdict
from turnkey_tools.broker import Broker
from turnkey_tools.cli import app as turnkeyctl
from turnkey_tools.pilot import Pilot
from turnkey_tools.provision import enlist_witness
from turnkey_tools.witness.judge import Consistent, Fork, Refused, Verdict
from turnkey_tools.witness.store import Store
from turnkey_tools.witness.witness import Witness

KEY, WITNESS_KEY = SigningKey.generate(), SigningKey.generate()
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEAT = Heartbeat(
    software="1.0", state="MORATORIUM", reason="key-opened", epoch=1, channel_a=False, channel_b=False,
    relay_closed=False, policy="in-force", leads_waiting=0, uptime_s=60,
)  # fmt: skip
STOP = SwitchChanged(
    previous="BOOTING", state="MORATORIUM", reason="latch-missing", channel_a=False, channel_b=False, epoch=1
)


class Booth:
    """A device's notary on a ledger of its own, with a clock that tests move, and what it publishes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.published = folder, START, []
        self._ids = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)
        self.open()

    published: list[bytes]

    def open(self) -> None:
        self.journal = Journal(self.folder / "ledger.db")
        clocks = Clocks(lambda: self.now, lambda: int(self.now.timestamp() * 1e9), lambda: f"{next(self._ids):032x}")
        self.notary = Notary(
            self.journal, KEY, lambda *_: None, device_id="booth-1", clocks=clocks,
            attestations=lambda _id, envelope: self.published.append(envelope),
        )  # fmt: skip
        self.notary.record(Boot(software="1.0", models={}))

    def stop(self) -> None:
        self.now += timedelta(seconds=1)
        self.notary.record(STOP)

    def beat(self, minutes: int) -> None:
        for _ in range(minutes):
            self.now += timedelta(minutes=1)
            assert self.notary.beat(BEAT)

    def publish(self) -> list[bytes]:
        sent, self.published = self.published, []
        return sent

    def export(self, name: str = "export") -> Path:
        out = self.folder / name
        write_export(self.journal, "booth-1", stretch(self.journal, None, None), out)
        return out


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    booth = Booth(tmp_path / "booth")
    booth.stop()
    return booth


@pytest.fixture
def witness(tmp_path: Path, booth: Booth) -> Witness:
    return a_witness(tmp_path / "memory.db", booth)


def a_witness(memory: Path, booth: Booth, every_s: int = 60) -> Witness:
    return Witness(
        "witness.example/one", WITNESS_KEY, {"booth-1": KEY.public}, Store(memory),
        lambda: int(booth.now.timestamp()) + 2, every_s,
    )  # fmt: skip


def audited(booth: Booth, witness: Witness) -> Audit:
    seen = booth.folder / "witness"
    seen.write_text(witness.testimony("booth-1"))
    return audit(Evidence(booth.export(), KEY.public, (seen, Verifier(witness.verifier_key))))


def watched(booth: Booth, witness: Witness, minutes: int) -> list[Verdict]:
    verdicts = witness.take(booth.publish())
    for _ in range(minutes):
        booth.beat(1)
        verdicts += witness.take(booth.publish())
    return verdicts


def test_what_the_witness_saw_in_time_is_proven(booth: Booth, witness: Witness) -> None:
    assert all(isinstance(one, Consistent) for one in watched(booth, witness, 30))
    found = audited(booth, witness)
    assert (found.verdict, found.findings.counts) == (AuditVerdict.PROVEN, {})
    assert found.witnessed == 31
    assert [one.state for one in found.intervals] == ["BOOTING", "MORATORIUM"]


def test_it_cosigns_no_more_often_than_it_was_told(tmp_path: Path, booth: Booth) -> None:
    rarely = a_witness(tmp_path / "rarely.db", booth, every_s=600)
    watched(booth, rarely, 60)
    assert len(rarely.store.cosigned("booth-1")) == 7
    rarely.cosign_newest()
    assert audited(booth, rarely).verdict is AuditVerdict.PROVEN


def test_two_histories_of_one_size_are_caught_and_cosigned_no_more(
    tmp_path: Path, booth: Booth, witness: Witness
) -> None:
    watched(booth, witness, 5)
    booth.journal.close()
    shutil.copytree(booth.folder, tmp_path / "copy")
    booth.open()
    watched(booth, witness, 3)
    before = len(witness.store.cosigned("booth-1"))
    other = Booth(tmp_path / "copy")
    other.now = booth.now
    other.beat(6)
    verdicts = witness.take(other.publish())
    assert any(isinstance(one, Fork) for one in verdicts)
    assert len(witness.store.forks("booth-1")) == sum(isinstance(one, Fork) for one in verdicts)
    booth.beat(3)
    witness.take(booth.publish())
    assert len(witness.store.cosigned("booth-1")) == before
    for history in (booth, other):
        found = audited(history, witness)
        assert found.verdict is AuditVerdict.VIOLATION
        assert "witness-saw-fork" in found.findings.counts
        assert found.intervals[-1].verdict is AuditVerdict.VIOLATION


def test_a_device_rolled_back_finds_no_belief(tmp_path: Path, booth: Booth, witness: Witness) -> None:
    watched(booth, witness, 5)
    booth.journal.close()
    shutil.copytree(booth.folder, tmp_path / "image")
    booth.open()
    watched(booth, witness, 20)
    restored = Booth(tmp_path / "image")
    restored.now = booth.now + timedelta(minutes=5)
    restored.beat(40)
    verdicts = witness.take(restored.publish())
    assert not any(isinstance(one, Consistent) for one in verdicts)
    assert "fork" in audited(restored, witness).findings.counts
    refused = witness.catch_up(restored.export())
    assert isinstance(refused, Refused)
    assert refused.reason == "another-history"


def test_attestations_that_never_came_need_an_export(booth: Booth, witness: Witness) -> None:
    watched(booth, witness, 3)
    booth.beat(4)
    booth.publish()
    booth.beat(2)
    reasons = [one.reason for one in witness.take(booth.publish()) if isinstance(one, Refused)]
    assert reasons == ["unlinked", "unlinked"]
    assert isinstance(witness.catch_up(booth.export()), Consistent)
    assert all(isinstance(one, Consistent) for one in watched(booth, witness, 2))
    assert audited(booth, witness).findings.counts == {}


def test_what_was_seen_survives_a_restart(tmp_path: Path, booth: Booth, witness: Witness) -> None:
    watched(booth, witness, 4)
    again = a_witness(tmp_path / "memory.db", booth)
    assert again.testimony("booth-1") == witness.testimony("booth-1")
    booth.beat(1)
    sent = booth.publish()
    assert [type(one) for one in again.take(sent)] == [Consistent]
    (duplicate,) = again.take(sent)
    assert isinstance(duplicate, Refused)
    assert duplicate.reason == "duplicate"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda envelope: envelope[:-20], "not-an-envelope"),
        (lambda envelope: envelope.replace(b"attestation", b"attestatiom"), "wrong-type"),
        (lambda envelope: envelope * 100, "too-large"),
        (lambda envelope: envelope.replace(b'"sig":"', b'"sig":"AAAA'), "not-signed"),
    ],
)
def test_what_is_not_the_devices_is_not_believed(
    booth: Booth, witness: Witness, change: Callable[[bytes], bytes], reason: str
) -> None:
    (refused,) = witness.take([change(booth.publish()[0])])
    assert isinstance(refused, Refused)
    assert refused.reason == reason


def test_an_unknown_device_is_not_believed(tmp_path: Path, booth: Booth) -> None:
    stranger = Witness("witness.example/one", WITNESS_KEY, {}, Store(tmp_path / "stranger.db"), lambda: 1)
    assert {one.reason for one in stranger.take(booth.publish()) if isinstance(one, Refused)} == {"unknown-device"}
    assert isinstance(stranger.catch_up(booth.export()), Refused)


def test_a_real_device_is_witnessed_over_a_real_broker_and_its_moratorium_proven(
    pilot: Pilot, running: RunningDevice, switch: SimulatedSwitch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the key's turn to the auditor's verdict, with every part real but the camera's lens and the key's metal."""
    monkeypatch.setenv("TURNKEY_ATTESTATION__PUBLISH", "true")
    lay(pilot, "ardern/ardern-2018.jpg", "obama/obama-2012.jpg")  # no lead: without a desk it would wait
    cli, folder = CliRunner(), tmp_path / "witness"
    made = cli.invoke(
        turnkeyctl,
        ["witness", "new", str(folder), "--name", "witness.example/one", "--keys", str(pilot.site.fleet_device_keys)],
    )
    assert made.exit_code == 0, made.output
    enlist_witness(pilot.site)
    with Broker(pilot.site) as broker:
        pilot.use_port(broker.port)
        listening = [str(folder), "--site", str(pilot.site.root), "--port", str(broker.port), "--every", "1"]
        # The session is there before the device speaks; what it says then waits at the broker.
        assert cli.invoke(turnkeyctl, ["witness", "watch", *listening, "--wait", "3"]).exit_code == 0
        with running() as device:
            assert isinstance(device.booth.enrol_case("C-2026-1"), CaseEnrolled)
            assert isinstance(device.booth.book("B-1"), Recorded)
            device.heart.beat()
            switch.open_key()
            device.heart.beat()
            assert device.uplink.flush(60.0)
            watching = cli.invoke(turnkeyctl, ["witness", "watch", *listening, "--wait", "5"])
            assert watching.exit_code == 0, watching.output
    export = tmp_path / "export"
    monkeypatch.setenv("TURNKEY_CONFIG", str(pilot.settings_file))
    exported = cli.invoke(turnkey, ["ledger", "export", str(export)])
    assert exported.exit_code == 0, exported.output
    seen = tmp_path / "seen"
    assert cli.invoke(turnkeyctl, ["witness", "export", str(folder), "booth-1", "--out", str(seen)]).exit_code == 0
    command = ["audit", str(export), "--keys", str(pilot.site.fleet_device_keys), "--json"]
    command += ["--witness", str(seen), "--witness-key", str(folder / "witness.vkey")]
    said = json.loads(cli.invoke(turnkeyctl, command).stdout)
    assert [finding["code"] for finding in said["findings"] if finding["severity"] == "VIOLATION"] == []
    states = {interval["state"]: interval["verdict"] for interval in said["intervals"]}
    assert states["RUNNING"] == states["MORATORIUM"] == "PROVEN", said
    assert said["checkpoints_witnessed"] >= 1
    shown = cli.invoke(turnkeyctl, ["witness", "show", str(folder), "--json"])
    assert json.loads(shown.stdout)["booth-1"]["forks"] == 0

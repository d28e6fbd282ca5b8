"""The whole road: IT's desk signs and serves over HTTPS, a device in moratorium takes it by its own command line, with
the interlock and the notary as the processes that they are.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from patience import wait_for
from tuf.api.metadata import Metadata
from typer.testing import CliRunner

from turnkey.cli import app
from turnkey.envelope import SigningKey, peek, sign
from turnkey.interlock.authority import AUTHORITY_TYPE
from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.wire import Request
from turnkey.leads.policy import Policy
from turnkey.leads.records import PAYLOAD_TYPE_POLICY, canonical
from turnkey.notary.journal import Journal
from turnkey.update.installer import SIMULATED_MAGIC, SimulatedInstaller
from turnkey.update.release import Terms
from turnkey_tools.authority import sign_with, throwaway_authority
from turnkey_tools.certificates import new_ca
from turnkey_tools.pilot import Pilot
from turnkey_tools.release import editing
from turnkey_tools.release.desk import RoleKeys, copy_published, init, save
from turnkey_tools.release.keys import new_key, read_public, read_signer
from turnkey_tools.release.publishing import publish, sign_draft
from turnkey_tools.release.serve import server


class UpdateDesk:
    """IT's desk with all keys at hand."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.signers = {}
        roles = {}
        for role, count in (("root", 3), ("targets", 1), ("snapshot", 1), ("timestamp", 1)):
            publics = [read_public(new_key(folder / f"{role}-{number}.key", None)) for number in range(count)]
            self.signers[role] = [read_signer(folder / f"{role}-{number}.key") for number in range(count)]
            roles[role] = RoleKeys(tuple(publics), 2 if role == "root" else 1)
        self.desk = init(folder / "repo", roles)
        for signer in self.signers["root"][:2]:
            sign_draft(self.desk.draft_root, signer, [self.desk.current_root().signed])

    @property
    def root(self) -> Path:
        return self.desk.metadata / "1.root.json"

    def offer(self, content: bytes, **terms: Any) -> None:
        given = Terms.model_validate({"groups": {"station": 100}} | terms)
        file = self.folder / "file"
        file.write_bytes(content)
        targets = self.desk.open_targets()
        editing.add(targets.signed, self.desk.add_file(file, editing.name_of(given)), given)
        self.desk.keep_targets(targets)
        self.publish()

    def publish(self) -> None:
        if self.desk.draft_targets.exists():
            sign_draft(self.desk.draft_targets, self.signers["targets"][0], [self.desk.current_root().signed])
        publish(self.desk, self.signers["snapshot"][0], self.signers["timestamp"][0])


class Station:
    """A device whose interlock and notary run; its updater is called by hand."""

    def __init__(self, pilot: Pilot, folder: Path, sockets: Path, desk: UpdateDesk, url: str) -> None:
        self.pilot, self.sockets, self.folder = pilot, sockets, folder / "update"
        user = pwd.getpwuid(os.getuid()).pw_name
        users = "".join(f'{role}_user = "{user}"\n' for role in ("notary", "interlock", "operator", "update"))
        with pilot.settings_file.open("a") as settings:
            settings.write(
                f'[interlock.socket]\npath = "{sockets}/interlock"\nnotary = "{sockets}/notary"\n'
                f'booth = "{sockets}/booth"\nmarkers = "{sockets}"\n{users}'
                f'[update]\nserver = "{url}"\nroot = "{desk.root}"\nca = "{pilot.site.ca}"\nboard = "rpi5"\n'
                f'installer = "simulated"\nfolder = "{self.folder}"\nrestart_marker = "{folder}/restart"\n'
                f'certificate = "{pilot.site.device(pilot.device_id).mqtt.certificate}"\n'
                f'key = "{pilot.site.device(pilot.device_id).mqtt.key}"\n'
            )
        self.restart_marker = folder / "restart"
        self.folder.mkdir()
        SimulatedInstaller(self.folder / "slots.json", "1.0")
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *names: str) -> None:
        for name in names or ("notary", "interlock"):
            (self.sockets / name).unlink(missing_ok=True)
            command = [sys.executable, "-m", "turnkey.cli", "--config", str(self.pilot.settings_file), "run", name]
            own = {"TURNKEY_STATE": str(self.state(name)), "TURNKEY_OUTBOX": str(self.pilot.root / "outbox.db")}
            self.state(name).mkdir(exist_ok=True)
            self.processes.append(subprocess.Popen(command, env=os.environ | own))
            wait_for((self.sockets / name).is_socket)
        if not names or "interlock" in names:
            wait_for(lambda: self.stands() is not None)

    def end(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=60)
        self.processes.clear()

    def state(self, name: str) -> Path:
        return self.pilot.root / f"state-{name}"

    def stands(self) -> tuple[str, int, int] | None:
        """State, epoch and authority's version; None until the interlock has settled."""
        try:
            answer = ask(self.sockets / "interlock", Request(ask="status"))
        except DaemonError:
            return None
        status = InterlockStatus.model_validate_json(answer.body)
        return None if status.state == "BOOTING" else (status.state, status.epoch, status.authority_version)

    def latch(self) -> dict[str, bytes]:
        folder = self.state("interlock")
        return {
            str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "switch" not in path.name
        }

    def update(self, *words: str) -> tuple[int, dict[str, Any]]:
        result = CliRunner().invoke(app, ["--config", str(self.pilot.settings_file), "update", *words, "--json"])
        return result.exit_code, json.loads(result.stdout.splitlines()[0]) if result.stdout else {}

    def ledger(self) -> list[dict[str, Any]]:
        journal = Journal(self.state("notary") / "ledger.db")
        try:
            events = [json.loads(data)["event"] for data in journal.entries()]
        finally:
            journal.close()
        return [event for event in events if event["kind"] == "update"]


@pytest.fixture
def desk(tmp_path: Path) -> UpdateDesk:
    desk = UpdateDesk(tmp_path / "desk")
    desk.publish()
    return desk


@contextmanager
def stationed(pilot: Pilot, desk: UpdateDesk, folder: Path, *names: str) -> Iterator[Station]:
    """A device fresh from the image, and a server that serves only the site's devices."""
    broker = pilot.site.broker
    web = server(desk.folder / "repo" / "published", ("127.0.0.1", 0), broker.certificate, broker.key, pilot.site.ca)
    threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="tk-") as sockets:
        station = Station(pilot, folder, Path(sockets), desk, f"https://127.0.0.1:{web.server_address[1]}")
        station.start(*names)
        yield station
        station.end()
    web.shutdown()
    web.server_close()


@pytest.fixture
def station(pilot: Pilot, desk: UpdateDesk, tmp_path: Path) -> Iterator[Station]:
    with stationed(pilot, desk, tmp_path) as station:
        yield station


@pytest.fixture
def recorded(pilot: Pilot, desk: UpdateDesk, tmp_path: Path) -> Iterator[Station]:
    """With the notary's process alone: all that an update of the system needs."""
    with stationed(pilot, desk, tmp_path, "notary") as station:
        yield station


def system(version: str) -> bytes:
    return SIMULATED_MAGIC + version.encode() + b"\n" + b"payload" * 1000


def test_a_stopped_device_updates_and_comes_back_stopped_with_latch_epoch_and_authority_untouched(
    station: Station, desk: UpdateDesk
) -> None:
    before, latch = station.stands(), station.latch()
    assert before is not None
    assert before[0] == "MORATORIUM"
    desk.offer(system("1.1"), kind="bundle", version="1.1", board="rpi5")
    code, said = station.update("poll")
    assert (code, said["refused"], said["restart"]) == (0, None, "asked")
    assert station.restart_marker.exists()
    assert station.latch() == latch
    station.end()
    SimulatedInstaller(station.folder / "slots.json").restart()
    station.start()
    assert station.stands() == before
    code, said = station.update("poll")
    assert code == 0
    assert [step["step"] for step in station.ledger()] == [
        "offered",
        "downloaded",
        "installed",
        "restarting",
        "arrived",
    ]
    code, shown = station.update("status")
    assert (code, shown["system"]) == (0, "1.1")
    said = CliRunner().invoke(app, ["--config", str(station.pilot.settings_file), "update", "status"]).stdout
    assert "slot          B: 1.1 runs" in said
    assert "last system   1.1: arrived" in said


def test_a_policy_arrives_where_bookings_read_it_and_only_signed_by_those_who_may(
    station: Station, desk: UpdateDesk
) -> None:
    pilot = station.pilot
    present = Policy.model_validate_json(peek(pilot.policy_file.read_bytes()).payload)
    follower = canonical(present.model_copy(update={"version": present.version + 1}))
    before = pilot.policy_file.read_bytes()
    desk.offer(sign(PAYLOAD_TYPE_POLICY, follower, SigningKey.generate()), kind="policy", version="2")
    code, said = station.update("poll")
    assert (code, said["refused"]) == (1, "policy-refused")
    assert pilot.policy_file.read_bytes() == before
    good = pilot.authority.sign(PAYLOAD_TYPE_POLICY, follower, "policy")
    desk.offer(good, kind="policy", version="3")
    assert station.update("poll")[0] == 0
    assert pilot.policy_file.read_bytes() == good
    desk.offer(before, kind="policy", version="4")
    code, said = station.update("poll")
    assert (code, said["refused"]) == (1, "policy-refused"), "the policy before it, signed anew by IT, is not taken"
    assert pilot.policy_file.read_bytes() == good


def test_a_policy_of_a_successor_authority_is_taken_once_the_interlock_follows_it(
    station: Station, desk: UpdateDesk
) -> None:
    pilot = station.pilot
    present = Policy.model_validate_json(peek(pilot.policy_file.read_bytes()).payload)
    follower = canonical(present.model_copy(update={"version": present.version + 1}))
    first, new = pilot.authority, throwaway_authority()
    policy = new.sign(PAYLOAD_TYPE_POLICY, follower, "policy")
    desk.offer(policy, kind="policy", version="2")
    assert station.update("poll")[1]["refused"] == "policy-refused"
    successor = new.authority.model_copy(update={"version": 2}).payload()
    roots = (*first.bodies["root"].keys[:2], *new.bodies["root"].keys[:2])
    document = base64.b64encode(sign_with(AUTHORITY_TYPE, successor, roots)).decode()
    assert ask(station.sockets / "interlock", Request(ask="follow", document=document)).done
    assert station.update("poll")[0] == 0
    assert pilot.policy_file.read_bytes() == policy


def test_a_stick_brings_the_same_update_past_the_same_checks(
    recorded: Station, desk: UpdateDesk, tmp_path: Path
) -> None:
    desk.offer(system("1.1"), kind="bundle", version="1.1", board="rpi5")
    names = ["bundle-rpi5-1.1.raucb"]
    copy_published(desk.desk, tmp_path / "old", names)
    desk.publish()
    copy_published(desk.desk, tmp_path / "stick", names)
    file = next((tmp_path / "stick" / "targets").iterdir())
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    code, said = recorded.update("apply", str(tmp_path / "stick"))
    assert (code, said["refused"]) == (1, "file-altered")
    file.write_bytes(content)
    code, said = recorded.update("apply", str(tmp_path / "stick"))
    assert (code, said["restart"]) == (0, "asked")
    code, said = recorded.update("apply", str(tmp_path / "old"))
    assert (code, said["refused"]) == (1, "metadata-rolled-back")
    assert SimulatedInstaller(recorded.folder / "slots.json").slots()[1].version == "1.1"


def test_a_stick_that_has_run_out_brings_nothing(recorded: Station, desk: UpdateDesk, tmp_path: Path) -> None:
    desk.offer(system("1.1"), kind="bundle", version="1.1", board="rpi5")
    copy_published(desk.desk, tmp_path / "stick", [])
    timestamp = Metadata.from_file(str(tmp_path / "stick" / "metadata" / "timestamp.json"))
    timestamp.signed.expires -= timedelta(days=30)
    timestamp.sign(desk.signers["timestamp"][0])
    save(tmp_path / "stick" / "metadata" / "timestamp.json", timestamp)
    code, said = recorded.update("apply", str(tmp_path / "stick"))
    assert (code, said["refused"]) == (1, "metadata-expired")


def test_a_server_that_is_not_the_sites_is_not_spoken_to(recorded: Station, desk: UpdateDesk, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(new_ca("Somebody else's").certificate)
    settings = recorded.pilot.settings_file
    ours = f'root = "{desk.root}"\nca = "{recorded.pilot.site.ca}"'
    assert ours in settings.read_text()
    settings.write_text(settings.read_text().replace(ours, f'root = "{desk.root}"\nca = "{other}"'))
    code, said = recorded.update("poll")
    assert (code, said["refused"]) == (1, "server-unreachable")

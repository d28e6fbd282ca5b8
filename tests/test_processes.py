"""The device as three real processes: what is booked, what a key that opens in the middle leaves, what a kill stops."""

from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from booking_room import FACES, lay
from packets import packet_file
from patience import PATIENCE_S, wait_for
from typer.testing import CliRunner, Result

from turnkey.cli import app
from turnkey.envelope import SigningKey, peek
from turnkey.gallery.gallery import Gallery
from turnkey.interlock.authority import AUTHORITY_TYPE, Authority
from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.orders import ReleaseRequest
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.interlock.wire import Answer, Request
from turnkey.leads.policy import Policy
from turnkey.leads.records import (
    PAYLOAD_TYPE_POLICY,
    Captured,
    Discarded,
    Enrolled,
    Event,
    Expunged,
    Heartbeat,
    LeadSigned,
    LedgerEntry,
    OrderSeen,
    PolicyAdopted,
    Refused,
    Searched,
    SwitchChanged,
    canonical,
)
from turnkey.notary.journal import Journal
from turnkey.uplink.outbox import Outbox
from turnkey.vision.manifest import model_id, read_manifest
from turnkey_tools.authority import sign_with, throwaway_authority
from turnkey_tools.pilot import Pilot
from turnkey_tools.receipt import read_receipt

CASE = "ardern/ardern-2018.jpg"
MATE = "ardern/ardern-2022.jpg"
ROUNDS = int(os.environ.get("TURNKEY_STOP_ROUNDS", "4"))
Work = Captured | Searched | LeadSigned | Enrolled


class Appliance:
    """Interlock, notary and booth, each a process with a state directory of its own, as the units have it."""

    def __init__(self, pilot: Pilot, sockets: Path) -> None:
        self.pilot, self.sockets = pilot, sockets
        user = pwd.getpwuid(os.getuid()).pw_name
        with pilot.settings_file.open("a") as settings:
            settings.write(
                f"""
[interlock.socket]
path = "{sockets}/interlock"
notary = "{sockets}/notary"
booth = "{sockets}/booth"
booth_state = "{self.state("booth")}"
interlock_state = "{self.state("interlock")}"
markers = "{sockets}"
booth_user = "{user}"
notary_user = "{user}"
operator_user = "{user}"
interlock_user = "{user}"
console_user = "{user}"
"""
            )
        self.outbox = pilot.root / "outbox" / "outbox.db"
        self.outbox.parent.mkdir()
        self.state("interlock").mkdir()
        self.switch = SimulatedSwitch(self.state("interlock") / "simulated-switch.json")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def state(self, name: str) -> Path:
        return self.pilot.root / f"state-{name}"

    def start(self, name: str) -> None:
        (self.sockets / name).unlink(missing_ok=True)
        command = [sys.executable, "-m", "turnkey.cli", "--config", str(self.pilot.settings_file), "run", name]
        own = {
            "TURNKEY_STATE": str(self.state(name)),
            "TURNKEY_OUTBOX": str(self.outbox),
            "TURNKEY_ATTESTATION__HEARTBEAT_S": "2",
        }
        self.processes[name] = subprocess.Popen(command, env=os.environ | own)
        wait_for((self.sockets / name).is_socket)

    def start_all(self) -> None:
        for name in ("notary", "interlock", "booth"):
            self.start(name)

    def end(self) -> None:
        for name in ("booth", "interlock", "notary"):
            process = self.processes.get(name)
            if process is not None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)
        self.switch.close()

    def command(self, *words: str) -> Result:
        return CliRunner().invoke(app, ["--config", str(self.pilot.settings_file), *words])

    def status(self) -> InterlockStatus | None:
        try:
            return InterlockStatus.model_validate_json(ask(self.sockets / "interlock", Request(ask="status")).body)
        except DaemonError:
            return None

    def asked(self, request: Request) -> Answer:
        """Ask the interlock, again where this user has all its connections: here every process is the same user."""

        def answer() -> Answer | None:
            try:
                return ask(self.sockets / "interlock", request)
            except DaemonError:
                return None

        return wait_for(answer)

    def release(self) -> None:
        self.switch.close_key()
        wait_for(lambda: (now := self.status()) is not None and now.key_closed)
        request = ReleaseRequest.model_validate_json(self.asked(Request(ask="request")).body)
        document = base64.b64encode(self.pilot.release(request)).decode()
        answer = self.asked(Request(ask="apply", document=document))
        assert answer.done, answer
        assert InterlockStatus.model_validate_json(answer.body).state == "RUNNING"
        time.sleep(0.5)  # a lease comes each 0.2 s, a client comes back each 0.1 s

    def ledger(self) -> list[Event]:
        journal = Journal(self.state("notary") / "ledger.db")
        try:
            return [LedgerEntry.model_validate_json(data).event for data in journal.entries(limit=journal.size)]
        finally:
            journal.close()

    def leads_in_outbox(self) -> int:
        with Outbox(self.outbox) as outbox:
            return outbox.depth()

    def gallery_is_open(self) -> bool:
        """Whether the booth's process has the rows open: it has not while its gallery is locked."""
        folder = Path(f"/proc/{self.processes['booth'].pid}/fd")
        try:
            return any("gallery.db" in str(link.readlink()) for link in folder.iterdir())
        except OSError:
            return False

    def templates(self) -> int:
        """Bookings in the gallery, counted once no process has it open."""
        embedder = read_manifest(self.pilot.settings().models).embedder
        gallery = Gallery(self.state("booth") / "gallery.db", model_id(embedder))
        gallery.unlock(self.pilot.settings().gallery_key.read_bytes())
        try:
            return gallery.size("bookings")
        finally:
            gallery.lock()


def behind_a_stop(ledger: list[Event]) -> list[Event]:
    """Work that stands on the ledger where the last word of the interlock before it is not RUNNING."""
    state, found = "BOOTING", []
    for event in ledger:
        if isinstance(event, SwitchChanged):
            state = event.state
        elif isinstance(event, Work) and state != "RUNNING":
            found.append(event)
    return found


def work(ledger: list[Event]) -> list[str]:
    return [event.kind for event in ledger if isinstance(event, Work)]


@pytest.fixture
def appliance(pilot: Pilot) -> Iterator[Appliance]:
    lay(pilot, CASE, *(MATE,) * (ROUNDS + 4))
    sockets = Path(tempfile.mkdtemp(prefix="turnkey-"))  # the path of a Unix socket has 107 bytes
    appliance = Appliance(pilot, sockets)
    try:
        appliance.start_all()
        appliance.release()
        enrolled = appliance.command("enrol-case", "C-2026-1")
        assert enrolled.exit_code == 0, enrolled.output
        yield appliance
    finally:
        appliance.end()
        shutil.rmtree(sockets)


def test_pictures_are_imported_where_the_booth_does_not_run(appliance: Appliance, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "B-77").mkdir(parents=True)
    shutil.copy(FACES / MATE, tmp_path / "pictures" / "B-77")
    importing = ("gallery", "import", "bookings", "--folder", str(tmp_path / "pictures"))
    refused = appliance.command(*importing)
    assert refused.exit_code == 1
    assert "booth-running" in refused.output
    booth = appliance.processes["booth"]
    booth.terminate()
    booth.wait(PATIENCE_S)
    before = len(appliance.ledger())
    imported = appliance.command(*importing)
    assert imported.exit_code == 0, imported.output
    assert "1  enrolled" in imported.output
    kinds = [event.kind for event in appliance.ledger()[before:] if not isinstance(event, Heartbeat)]
    assert kinds == ["import", "enrolment"]


def test_a_case_packet_reaches_the_booths_process_as_an_open_file_and_is_searched_once(appliance: Appliance) -> None:
    assert booked(appliance, "B-1").exit_code == 0
    before = len(appliance.ledger())
    stick = appliance.pilot.root / "stick"
    stick.mkdir()
    (stick / "1.tkcase").write_bytes(packet_file(appliance.pilot))
    applied = appliance.command("case", "apply", str(stick), "--json")
    assert applied.exit_code == 0, applied.output
    said = json.loads(applied.stdout)
    assert (said["outcome"], said["case_number"], said["search"]) == ("enrolled", "C-2026-7", "done")
    kinds = [event.kind for event in appliance.ledger()[before:] if not isinstance(event, Heartbeat)]
    assert kinds == ["case-packet", "case-packet-accepted", "enrolment", "search", "lead"]
    again = appliance.command("case", "apply", str(stick / "1.tkcase"))
    assert again.exit_code == 1
    assert "packet-used-before" in again.stdout
    refusals = [event for event in appliance.ledger() if isinstance(event, Refused)]
    assert (refusals[-1].step, refusals[-1].reason) == ("case-packet", "packet-used-before")


def test_a_policy_that_follows_is_in_force_in_every_process_and_on_the_ledger(appliance: Appliance) -> None:
    present = Policy.model_validate_json(peek(appliance.pilot.policy_file.read_bytes()).payload)
    file = appliance.pilot.root / "offered.json"
    for version, numbers in ((present.version + 1, r"N-\d"), (present.version, r"M-\d")):
        changed = present.model_copy(update={"version": version, "booking_number_format": numbers})
        file.write_bytes(appliance.pilot.authority.sign(PAYLOAD_TYPE_POLICY, canonical(changed), "policy"))
        followed = appliance.command("policy", "follow", str(file))
        assert followed.exit_code == (0 if version > present.version else 1), followed.output
    assert "policy-version-reused" in followed.stderr or "policy-older-than-the-last" in followed.stderr
    assert "booking-number-malformed" in booked(appliance, "B-1").output
    assert booked(appliance, "N-1").exit_code == 0
    wait_for(
        lambda: (
            [event.version for event in appliance.ledger() if isinstance(event, PolicyAdopted)]
            == [present.version, present.version + 1]
        )
    )


def booked(appliance: Appliance, number: str) -> Result:
    return appliance.command("book", number, "--json")


def test_a_mated_booking_across_processes_and_a_key_that_opens_in_the_middle(appliance: Appliance) -> None:
    before = len(work(appliance.ledger()))
    first = booked(appliance, "B-1")
    assert first.exit_code == 0, first.output
    assert set(json.loads(first.stdout)) == {"outcome", "booking_number", "stages_ms"}, "the officer sees no candidate"
    assert work(appliance.ledger())[before:] == ["capture", "search", "lead", "enrolment"]
    assert appliance.leads_in_outbox() == 1
    assert appliance.gallery_is_open()
    assert "RUNNING" in appliance.command("status").stdout
    discarded = 0
    for number in range(ROUNDS):
        answers: list[Result] = []
        captures = sum(isinstance(event, Captured) for event in appliance.ledger())

        def book(name: str = f"B-{number + 2}", heard: list[Result] = answers) -> None:
            heard.append(booked(appliance, name))

        booking = threading.Thread(target=book)
        booking.start()
        wait_for(lambda known=captures: sum(isinstance(event, Captured) for event in appliance.ledger()) > known)
        time.sleep(0.05 * (number % 6))
        appliance.switch.open_key()
        wait_for(lambda: (now := appliance.status()) is not None and now.state == "MORATORIUM")
        wait_for(lambda: not appliance.gallery_is_open())
        booking.join(PATIENCE_S)
        assert not booking.is_alive()
        discarded += answers[0].exit_code == 1
        refused = booked(appliance, "B-99")
        assert refused.exit_code == 1
        assert json.loads(refused.stdout)["step"] == "interlock"
        appliance.release()
    ledger = appliance.ledger()
    assert behind_a_stop(ledger) == []
    assert sum(isinstance(event, Discarded) for event in ledger) == discarded > 0
    leads = sum(isinstance(event, LeadSigned) for event in ledger)
    assert appliance.leads_in_outbox() == leads
    appliance.end()
    enrolled = sum(isinstance(event, Enrolled) and event.partition == "bookings" for event in ledger)
    assert appliance.templates() == enrolled, "a template that a stop overtook was taken back"
    print(f"{ROUNDS} stops, {discarded} of them in the middle of a booking: 0 entries of work behind a stop")


@pytest.mark.parametrize("victim", ["interlock", "notary", "booth"])
def test_a_killed_process_stops_everything(appliance: Appliance, victim: str) -> None:
    assert booked(appliance, "B-1").exit_code == 0
    assert appliance.gallery_is_open()
    appliance.processes[victim].kill()
    appliance.processes[victim].wait(PATIENCE_S)
    wait_for(lambda: not appliance.gallery_is_open())
    nothing_goes_on(appliance)


def test_a_hung_notary_stops_everything(appliance: Appliance) -> None:
    assert booked(appliance, "B-1").exit_code == 0
    appliance.processes["notary"].send_signal(signal.SIGSTOP)
    wait_for(lambda: not appliance.gallery_is_open())
    nothing_goes_on(appliance)


def test_an_older_latch_put_back_while_it_runs_is_found_before_the_next_boot(
    appliance: Appliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert booked(appliance, "B-1").exit_code == 0
    latch = appliance.state("interlock") / "latch"
    older = latch.read_bytes()
    appliance.switch.open_key()
    wait_for(lambda: (now := appliance.status()) is not None and now.state == "MORATORIUM")
    appliance.processes["interlock"].terminate()
    appliance.processes["interlock"].wait(PATIENCE_S)
    monkeypatch.setenv("TURNKEY_INTERLOCK__COMPARE_S", "1")
    appliance.start("interlock")
    appliance.release()
    latch.write_bytes(older)
    wait_for(lambda: (now := appliance.status()) is not None and now.reason == "latch-changed")
    nothing_goes_on(appliance)
    found = [event.reason for event in appliance.ledger() if isinstance(event, SwitchChanged)]
    assert "latch-changed" in found


def test_without_a_notary_nothing_is_expunged_and_with_one_again_it_is_certified(
    appliance: Appliance, tmp_path: Path
) -> None:
    for name in ("booth", "notary"):
        appliance.processes[name].terminate()
        appliance.processes[name].wait(PATIENCE_S)
    receipt = tmp_path / "receipt.json"
    expunging = ("expunge", "cases", "C-2026-1", "--reason", "court-order", "--receipt", str(receipt))
    refused = appliance.command(*expunging)
    assert refused.exit_code == 1
    assert "notary-gone" in refused.output
    assert not receipt.exists()
    appliance.start("notary")
    expunged = appliance.command(*expunging)
    assert expunged.exit_code == 0, expunged.output
    assert "1 template(s)" in expunged.stdout
    assert len(receipt.read_text().splitlines()) == 1
    assert sum(isinstance(event, Expunged) and event.reason == "court-order" for event in appliance.ledger()) == 1


def test_status_key_and_expungement_across_processes(appliance: Appliance) -> None:
    assert booked(appliance, "B-1").exit_code == 0
    facts = json.loads(appliance.command("status", "--json").stdout)
    assert (facts["interlock"]["state"], facts["policy"], facts["leads_waiting"]) == ("RUNNING", "in force", 1)
    assert (facts["ledger_entries"] > 0, len(facts["ledger_root"])) == (True, 64)
    expunged = ("expunge", "bookings", "B-1", "--reason", "court-order")
    assert "1 template(s)" in appliance.command(*expunged).stdout, "the booth's process does it"
    assert booked(appliance, "B-2").exit_code == 0
    assert "MORATORIUM" in appliance.command("key", "open").stdout, "it says what it has seen"
    assert appliance.command("gallery", "stats").exit_code == 1, "a booth that runs has its gallery for itself"
    appliance.processes["booth"].terminate()
    appliance.processes["booth"].wait(PATIENCE_S)
    receipt = appliance.pilot.root / "receipt"
    gone = appliance.command("expunge", "bookings", "B-2", "--reason", "court-order", "--receipt", str(receipt))
    assert gone.exit_code == 0, gone.output
    public = SigningKey.from_pem(appliance.pilot.settings().signing_key.read_bytes()).public
    assert read_receipt(receipt.read_bytes().strip(), public).removed.reference == "B-2"
    assert sum(isinstance(event, Expunged) for event in appliance.ledger()) == 2
    assert "0 template(s) removed" in appliance.command("gallery", "retain").stdout
    stats = json.loads(appliance.command("gallery", "stats").stdout)
    assert (stats["bookings"]["templates"], stats["cases"]["templates"]) == (0, 1)
    assert appliance.command("gallery", "graph", "cases").exit_code == 1, "stopped: there is no key"


def test_a_hung_interlock_stops_everything_and_the_notary_falls_silent(appliance: Appliance) -> None:
    assert booked(appliance, "B-1").exit_code == 0
    wait_for(lambda: isinstance(appliance.ledger()[-1], Heartbeat))
    beat = appliance.ledger()[-1]
    assert isinstance(beat, Heartbeat)
    assert (beat.state, beat.policy, beat.leads_waiting) == ("RUNNING", "in-force", 1)
    appliance.processes["interlock"].send_signal(signal.SIGSTOP)
    wait_for(lambda: not appliance.gallery_is_open())
    nothing_goes_on(appliance)
    time.sleep(0.5)
    beats = sum(isinstance(event, Heartbeat) for event in appliance.ledger())
    time.sleep(5)
    assert sum(isinstance(event, Heartbeat) for event in appliance.ledger()) == beats


def test_booth_and_notary_follow_a_succession_by_themselves(appliance: Appliance) -> None:
    """A successor that keeps the policy's signers changes nothing; one that has others leaves no policy in force."""
    first = appliance.pilot.authority
    same = first.authority.model_copy(update={"version": 2})
    follow(appliance, same, first.bodies["root"].keys[:2])
    assert booked(appliance, "B-0").exit_code == 0
    other = throwaway_authority("Demonstration")
    others = other.authority.model_copy(update={"version": 3})
    follow(appliance, others, (*first.bodies["root"].keys[:2], *other.bodies["root"].keys[:2]))
    before = work(appliance.ledger())
    refused = booked(appliance, "B-1")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["reason"] == "policy-not-signed"
    assert work(appliance.ledger()) == before


def follow(appliance: Appliance, authority: Authority, roots: Sequence[SigningKey]) -> None:
    """Have the interlock follow a successor; what became of it is on the ledger, and so is a refusal."""
    file = appliance.pilot.root / f"{authority.version}.json"
    file.write_bytes(sign_with(AUTHORITY_TYPE, authority.payload(), tuple(roots)))
    followed = appliance.command("authority", "follow", str(file))
    assert followed.exit_code == 0, followed.output
    assert appliance.command("authority", "follow", str(file)).exit_code == 1
    orders = [event for event in appliance.ledger() if isinstance(event, OrderSeen)]
    assert [(each.accepted, each.reason) for each in orders[-2:]] == [
        (True, "authority-followed"),
        (False, "not-the-next-version"),
    ]


def nothing_goes_on(appliance: Appliance) -> None:
    """A booking is refused, and leaves no work on the ledger, no lead in the outbox, and the gallery locked."""
    before = work(appliance.ledger())
    assert booked(appliance, "B-2").exit_code == 1
    assert work(appliance.ledger()) == before
    assert not appliance.gallery_is_open()
    assert behind_a_stop(appliance.ledger()) == []
    assert appliance.leads_in_outbox() == 1

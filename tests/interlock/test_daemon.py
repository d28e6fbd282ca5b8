"""The interlock across processes: leases over a Unix socket, a daemon that is killed and one that hangs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from patience import PATIENCE_S, SLOW_LEASE_MS, wait_for

from turnkey.interlock.daemon import OPERATOR_RIGHTS, Daemon, _Client, rights_of
from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.lease import DaemonError, LeaseClient, ask, connect
from turnkey.interlock.machine import State
from turnkey.interlock.notify import notify
from turnkey.interlock.orders import (
    MORATORIUM_TYPE,
    RELEASE_TYPE,
    ReleaseRequest,
    make_moratorium_order,
    make_release_order,
)
from turnkey.interlock.peers import MAX_CONNECTIONS_EACH, listen
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.interlock.wire import Request, WireError, pack_lease, unpack_lease, unpack_request
from turnkey.interlock.witness import SocketWitness, WitnessError
from turnkey.settings import InterlockSettings, SocketSettings
from turnkey_tools.authority import ThrowawayAuthority, throwaway_authority

KEY = bytes(range(32))


def answers(path: Path) -> bool:
    try:
        return ask(path, Request(ask="status")).done
    except DaemonError:
        return False


class Site:
    """A daemon in a process of its own, and everybody around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority: ThrowawayAuthority = throwaway_authority()
        (folder / "authority").write_bytes(self.authority.envelope)
        self.switch = SimulatedSwitch(folder / "switch.json")
        self.switch.close_key()
        self.process: subprocess.Popen[bytes] | None = None
        self.client: LeaseClient | None = None

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def start(self) -> None:
        script = Path(__file__).with_name("daemon_process.py")
        self.process = subprocess.Popen([sys.executable, str(script), str(self.folder), str(SLOW_LEASE_MS)])
        wait_for(self.answers)

    def answers(self) -> bool:
        return answers(self.socket)

    def status(self) -> InterlockStatus:
        return InterlockStatus.model_validate_json(ask(self.socket, Request(ask="status")).body)

    def release(self) -> None:
        wait_for(lambda: self.status().key_closed)
        request = ReleaseRequest.model_validate_json(ask(self.socket, Request(ask="request")).body)
        payload = make_release_order(request, "release", now=datetime.now(UTC))
        order = self.authority.sign(RELEASE_TYPE, payload, "release")
        answer = ask(self.socket, Request(ask="apply", document=base64.b64encode(order).decode()))
        assert answer.done, answer

    def permit(self) -> Permit:
        if self.client is None:
            self.client = LeaseClient(self.socket, silence_s=SLOW_LEASE_MS / 1e3).start()

        def had() -> Permit | None:
            try:
                return self.client.permit()
            except Stopped:
                return None

        return wait_for(had)

    def death(self, permit: Permit) -> str:
        """Why the permit died, once it has; how soon that is, `turnkeyctl bench interlock` measures."""
        return wait_for(permit.refusal)

    def end(self) -> None:
        if self.client is not None:
            self.client.close()
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    made.start()
    yield made
    made.end()


def test_a_turned_key_kills_the_permit_in_the_other_process(site):
    site.release()
    permit = site.permit()
    key = permit.gallery_key()
    assert bytes(key) == KEY
    assert (site.folder / "running").exists()
    site.switch.open_key()
    assert site.death(permit) == "key-opened"
    assert bytes(key) == bytes(32)
    wait_for(lambda: site.status().state is State.MORATORIUM)
    wait_for(lambda: (site.folder / "stopped").exists() and not (site.folder / "running").exists())


def test_a_permit_outlives_many_renewals_and_an_order_ends_it(site):
    site.release()
    permit = site.permit()
    time.sleep(1.2 * SLOW_LEASE_MS / 1e3)
    permit.check()
    unsigned = base64.b64encode(make_moratorium_order("bench-1", "chief", now=datetime.now(UTC))).decode()
    assert ask(site.socket, Request(ask="apply", document=unsigned)).reason == "not-an-envelope"
    permit.check()
    order = site.authority.sign(
        MORATORIUM_TYPE, make_moratorium_order("bench-1", "chief", now=datetime.now(UTC)), "chief"
    )
    assert ask(site.socket, Request(ask="apply", document=base64.b64encode(order).decode())).done
    assert site.death(permit) == "stop-ordered"


def test_a_killed_daemon_stops_everything_and_starts_again_only_as_it_was(site):
    site.release()
    permit = site.permit()
    site.process.kill()
    assert site.death(permit) == "interlock-gone"
    site.process.wait(PATIENCE_S)
    site.switch.open_key()
    site.start()
    wait_for(lambda: site.status().state is State.MORATORIUM)
    site.switch.close_key()
    time.sleep(1.5)
    assert site.status().state is State.MORATORIUM


def test_a_hung_daemon_lets_the_lease_run_out(site):
    site.release()
    permit = site.permit()
    os.kill(site.process.pid, signal.SIGSTOP)
    assert site.death(permit) in ("interlock-gone", "lease-lapsed")
    with pytest.raises(Stopped):
        site.client.permit()
    os.kill(site.process.pid, signal.SIGCONT)
    fresh = site.permit()
    assert fresh is not permit
    assert permit.refusal() is not None


def test_a_daemon_that_is_told_to_end_ends_every_lease(site):
    site.release()
    permit = site.permit()
    site.process.terminate()
    assert site.death(permit) == "closing-down"
    assert site.process.wait(PATIENCE_S) == 0


@pytest.fixture
def served(running):
    """The bench's interlock behind a daemon in this process, on the real clock."""
    made: list[Daemon] = []

    def serve(rights=None, orders=None, markers=running.folder) -> Daemon:
        running.switch.close()
        settings = InterlockSettings(
            socket=SocketSettings(path=running.folder / "socket", markers=markers),
            lease_validity_ms=SLOW_LEASE_MS,
        )
        running.interlock = Interlock(
            running.switch,
            Latch(running.latch_path),
            device_id="bench-1",
            authority=running.keyring.authority(),
            settings=settings,
            monotonic_ns=time.monotonic_ns,
            utc_now=lambda: running.clock.utc,
            witness=running.witness,
            gallery_key=KEY,
        )
        granted = rights or {os.getuid(): frozenset({"lease", "key", "status"})}
        made.append(Daemon(running.interlock, settings, rights=granted, orders=orders or [].append).start())
        return made[-1]

    yield serve
    for daemon in made:
        daemon.close()


def first_permit(client: LeaseClient) -> Permit:
    def had() -> Permit | None:
        try:
            return client.permit()
        except Stopped:
            return None

    return wait_for(had)


def test_systemd_never_finds_both_markers(served, running):
    """Both at once would set the two path units against each other: one is renamed to the other."""
    folder = running.folder
    (folder / "running").touch()
    (folder / "stopped").touch()
    served()
    wait_for(lambda: (folder / "running").exists() and not (folder / "stopped").exists())
    running.switch.open_key()
    wait_for(lambda: (folder / "stopped").exists() and not (folder / "running").exists())


def test_a_marker_that_could_not_be_left_is_tried_again(served, running):
    served(markers=running.folder / "markers")
    running.switch.open_key()
    assert running.interlock.state is State.MORATORIUM
    time.sleep(0.1)
    (running.folder / "markers").mkdir()
    wait_for((running.folder / "markers" / "stopped").exists)


def test_a_user_who_is_not_named_is_turned_away(served, running):
    served(rights={os.getuid() + 1: frozenset({"lease", "status"})})
    with pytest.raises(DaemonError):
        ask(running.folder / "socket", Request(ask="status"))
    client = LeaseClient(running.folder / "socket", silence_s=SLOW_LEASE_MS / 1e3).start()
    time.sleep(1.5)
    with pytest.raises(Stopped):
        client.permit()
    client.close()


def test_a_user_without_the_right_to_apply_is_turned_away_and_one_without_the_key_gets_none(served, running):
    served(rights={os.getuid(): frozenset({"lease", "status"})})
    order = base64.b64encode(running.moratorium_order()).decode()
    with pytest.raises(DaemonError, match=r"turned this user away|does not answer"):
        ask(running.folder / "socket", Request(ask="apply", document=order))
    client = LeaseClient(running.folder / "socket", silence_s=SLOW_LEASE_MS / 1e3).start()
    assert bytes(first_permit(client).gallery_key()) == b""
    client.close()


def test_what_became_of_each_order_is_told_and_an_untold_one_stops(served, running):
    told = []
    served({os.getuid(): OPERATOR_RIGHTS}, told.append)
    path = running.folder / "socket"
    order = base64.b64encode(running.moratorium_order()).decode()
    assert ask(path, Request(ask="apply", document=order)).done
    assert ask(path, Request(ask="apply", document=order)).reason == "used-before"
    assert ask(path, Request(ask="follow", document=order)).reason == "authority-fixed"
    assert [(each.accepted, each.reason, each.act) for each in told] == [
        (True, "accepted", "moratorium"),
        (False, "used-before", None),
        (False, "authority-fixed", None),
    ]
    assert told[0].digest == hashlib.sha256(base64.b64decode(order)).hexdigest()


def test_an_order_that_the_ledger_does_not_take_stops_the_device(served, running):
    def full(_judged):
        raise WitnessError("the ledger is full")

    served({os.getuid(): OPERATOR_RIGHTS}, full)
    document = base64.b64encode(b"no order").decode()
    answer = ask(running.folder / "socket", Request(ask="apply", document=document))
    assert (answer.done, answer.reason) == (False, "record-unwritable")
    assert running.interlock.state is State.FAULT


def test_the_stop_is_on_the_ledger_after_the_clients_commit(served, running):
    served()
    client = LeaseClient(running.folder / "socket", silence_s=SLOW_LEASE_MS / 1e3).start()
    permit = first_permit(client)
    inside, committed_ns = threading.Event(), []

    def book() -> None:
        with permit.commit():
            inside.set()
            time.sleep(0.1)
            committed_ns.append(time.monotonic_ns())

    booking = threading.Thread(target=book)
    booking.start()
    inside.wait(PATIENCE_S)
    running.switch.open_key()
    booking.join(PATIENCE_S)
    stop = running.told[-1]
    assert stop.reason == "key-opened"
    assert committed_ns[0] < stop.monotonic_ns
    client.close()


def test_a_client_that_hangs_does_not_hold_up_the_stop(served, running):
    served()
    with connect(running.folder / "socket") as connection:
        connection.send(b"R" + Request(ask="lease").model_dump_json().encode())
        wait_for(lambda: connection.recv(200)[:1] == b"L")
        began = time.monotonic()
        running.switch.open_key()
        assert time.monotonic() - began < PATIENCE_S / 2, "a client that hangs is not waited for"
        assert running.interlock.state is State.MORATORIUM


def test_one_user_cannot_keep_the_others_out(served, running):
    """One connection too many of one user is turned away, and is taken again once another has gone."""
    served()
    path = running.folder / "socket"
    held = [connect(path) for _ in range(MAX_CONNECTIONS_EACH)]
    time.sleep(0.1)
    with pytest.raises(DaemonError):
        ask(path, Request(ask="status"))
    held.pop().close()
    wait_for(lambda: answers(path))
    for connection in held:
        connection.close()


def test_a_word_that_comes_late_does_not_end_the_wait_for_the_next_run(running):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = _Client(near, frozenset())
    permit = running.interlock.permit()
    client.hold(permit, b"second")
    client.let_go(b"first")
    assert not permit.drain(0)
    client.let_go(b"second")
    assert permit.drain(0)
    client.hold(permit, b"third")
    client.drop()
    assert permit.drain(0)
    far.close()


def test_what_is_no_request_ends_the_connection_and_nothing_else(served, running):
    served()
    for nonsense in (b"R{", b"X", b"R" + json.dumps({"ask": "everything"}).encode(), b"\x00" * 1000):
        with connect(running.folder / "socket") as connection:
            connection.settimeout(2)
            connection.send(nonsense)
            assert connection.recv(10) == b""
    assert ask(running.folder / "socket", Request(ask="status")).done


def test_a_lease_that_lay_in_a_buffer_grants_nothing(tmp_path):
    with listen(tmp_path / "socket") as listener:
        client = LeaseClient(tmp_path / "socket").start()
        connection, _ = listener.accept()
        with connection:
            connection.send(pack_lease(b"r" * 16, time.monotonic_ns() - 1, KEY))
            time.sleep(0.1)
            with pytest.raises(Stopped):
                client.permit()
            connection.send(pack_lease(b"r" * 16, time.monotonic_ns() + 60 * 10**9, KEY))
            first = first_permit(client)
            connection.send(pack_lease(b"s" * 16, time.monotonic_ns() + 60 * 10**9, KEY))
            wait_for(lambda: first.refusal() == "run-ended")
            connection.send(b"nonsense")
            wait_for(lambda: client._permit is None)
        client.close()


def test_the_watchdog_is_fed_only_while_the_switch_is_looked_at(served, running, tmp_path, monkeypatch):
    daemon = served()
    wait_for(daemon.is_watching)
    hold = threading.Event()
    real = running.switch.read
    monkeypatch.setattr(running.switch, "read", lambda: (hold.wait(PATIENCE_S), real())[1])
    wait_for(lambda: not daemon.is_watching())
    hold.set()
    wait_for(daemon.is_watching)


def test_the_watchdog_is_not_fed_while_no_lease_can_be_sent(served, running, monkeypatch):
    daemon = served()
    wait_for(daemon.is_watching)
    hold = threading.Event()
    monkeypatch.setattr(daemon, "_tell_lease", lambda *_: hold.wait(PATIENCE_S))
    wait_for(lambda: not daemon.is_watching())
    assert running.interlock.state is State.RUNNING, "the switch is being looked at"
    hold.set()
    wait_for(daemon.is_watching)


def test_a_stop_is_told_at_once_however_long_the_interlocks_lock_is_held(served, running, monkeypatch):
    """Its thread writes latch and ledger under that lock, and waits there for the lease holders' word."""
    daemon = served()
    client = LeaseClient(running.folder / "socket", silence_s=SLOW_LEASE_MS / 1e3).start()
    permit = first_permit(client)
    free = threading.Event()
    real = running.interlock.permit
    monkeypatch.setattr(running.interlock, "permit", lambda: (free.wait(PATIENCE_S), real())[1])
    time.sleep(3 * daemon._settings.lease_renewal_ms / 1e3)
    running.switch.open_key()
    assert wait_for(permit.refusal) == "key-opened", "by the daemon's word; without it the lease would lapse"
    free.set()
    client.close()


def test_systemd_is_told(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        assert notify("READY=1", "STATUS=RUNNING")
        assert receiver.recv(100) == b"READY=1\nSTATUS=RUNNING"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify("READY=1")


def test_rights_follow_the_users_of_the_machine():
    nobody = SocketSettings(booth_user="no-such-user", notary_user="no-such-user", operator_user="root")
    assert rights_of(nobody) == {0: frozenset({"status", "request", "apply", "follow"})}


def test_packets_that_are_none_are_refused():
    for packet in (b"", b"L", b"X" * 25, b"L" * 26):
        with pytest.raises(WireError):
            unpack_lease(memoryview(packet))
    with pytest.raises(WireError):
        unpack_request(b"")


def test_a_notary_that_does_not_confirm_is_no_witness(running, tmp_path):
    witness = SocketWitness(tmp_path / "notary", timeout_s=2.0)
    with pytest.raises(WitnessError):
        witness(running.told[-1])
    answers = [b'{"kept": true}', b'{"kept": false}', b"nonsense", b"[]", None, b'{"epoch": 7}', b'{"epoch": -1}']
    with listen(tmp_path / "notary") as listener:

        def notary() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    if answer is not None:
                        connection.send(answer)
                    else:
                        time.sleep(2.5)

        thread = threading.Thread(target=notary)
        thread.start()
        witness(running.told[-1])
        for _ in range(4):
            with pytest.raises(WitnessError):
                witness(running.told[-1])
        assert witness.ledger_epoch() == 7
        with pytest.raises(WitnessError):
            witness.ledger_epoch()
        thread.join(PATIENCE_S)

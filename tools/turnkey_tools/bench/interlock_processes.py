"""The same stops across processes: the interlock's daemon in one, the booth in another, the key turned by a third.

    python -m turnkey_tools.bench.interlock_processes daemon ROOT    the daemon; ROOT/switch.json is its key
    python -m turnkey_tools.bench.interlock_processes booth ROOT     the booth; takes orders as JSON lines on stdin

The key is a file here, seen by polling each 20 ms; real lines have edges. All times are CLOCK_MONOTONIC, one clock for
all processes of a machine.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from turnkey.booth import Booth, CaseEnrolled, Recorded
from turnkey.capture.folder import FolderCamera
from turnkey.device import calibration_groups, model_id
from turnkey.envelope import SigningKey
from turnkey.gallery.gallery import Gallery
from turnkey.interlock.authority import first_authority
from turnkey.interlock.daemon import BOOTH_RIGHTS, OPERATOR_RIGHTS, Daemon
from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.lease import DaemonError, LeaseClient, ask
from turnkey.interlock.orders import ReleaseRequest
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.status import InterlockStatus, Transition
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.interlock.wire import Request
from turnkey.leads.policy import PolicyReason, PolicyRefusal, SignedPolicy, read_policy
from turnkey.leads.records import Captured, Enrolled, LeadSigned, LedgerEntry, Searched
from turnkey.notary.journal import Journal
from turnkey.notary.notary import Clocks, Notary
from turnkey.settings import Settings, SocketSettings, read_settings
from turnkey.vision.analyzer import Analyzer
from turnkey.vision.manifest import read_manifest
from turnkey_tools.bench.interlock import (
    CASES,
    QUICK,
    TIMEOUT_S,
    BenchError,
    Stops,
    WatchedCamera,
    lay_out,
    percentiles,
)
from turnkey_tools.pilot import Pilot


def stop_across_processes(
    pilot: Pilot, faces: Path, stops: int, seed: int, tick: Callable[[int], None] = lambda _done: None
) -> Stops:
    """Stop a booth whose interlock is another process.

    Args, Raises: see `stop_in_process`.
    """
    lay_out(pilot.root, faces)
    (pilot.root / "state").mkdir(exist_ok=True)
    with ExitStack() as parts:
        processes = [_spawn("daemon", pilot.root), _spawn("booth", pilot.root)]
        for process in processes:
            parts.callback(_end, process)
        return _Driver(pilot, processes[1], seed).run(stops, tick)


def run_daemon(root: Path) -> None:
    """The daemon: everything real but the wires, and its witness is a file."""
    settings = read_settings(root / "device.toml")
    limits = QUICK.model_copy(update={"socket": SocketSettings(path=root / "socket", markers=root)})
    with (root / "transitions").open("a", buffering=1) as transitions:

        def witness(transition: Transition) -> None:
            transitions.write(f"{transition.monotonic_ns} {transition.state}\n")

        interlock = Interlock(
            SimulatedSwitch(root / "switch.json"),
            Latch(settings.state / "latch"),
            device_id=settings.device_id,
            authority=first_authority(settings.authority.read_bytes()),
            settings=limits,
            monotonic_ns=time.monotonic_ns,
            utc_now=lambda: datetime.now(UTC),
            witness=witness,
            gallery_key=settings.gallery_key.read_bytes(),
        )
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        Daemon(interlock, limits, rights={os.getuid(): BOOTH_RIGHTS | OPERATOR_RIGHTS}).run(stop)


def run_booth(root: Path) -> None:
    """The booth: real models, gallery and ledger; its permits are leases. Answers each line of stdin with lines."""
    settings = read_settings(root / "device.toml")
    manifest = read_manifest(settings.models)
    clocks = Clocks(lambda: datetime.now(UTC), time.monotonic_ns, lambda: os.urandom(16).hex())
    journal = Journal(settings.state / "ledger.db")
    notary = Notary(
        journal,
        SigningKey.from_pem(settings.signing_key.read_bytes()),
        lambda _message_id, _envelope: None,
        device_id=settings.device_id,
        clocks=clocks,
    )
    model = model_id(manifest.embedder)
    gallery = Gallery(settings.state / "gallery.db", model)
    gate = LeaseClient(root / "socket").start()
    analyzer = Analyzer.load(settings.models, threads=1)

    def booth_with(camera: FolderCamera | WatchedCamera) -> Booth:
        return Booth(
            gate=gate,
            camera=camera,
            analyzer=analyzer,
            gallery=gallery,
            notary=notary,
            policy=lambda: _policy(settings),
            calibration=calibration_groups(manifest.calibration),
            model_id=model,
            clocks=clocks,
            halt=sys.exit,
        )

    camera = WatchedCamera(root / "queue", repeat=True)
    booth, cases = booth_with(camera), booth_with(FolderCamera(root / "cases"))
    lock = threading.Lock()

    def say(**facts: object) -> None:
        with lock:
            print(json.dumps(facts), flush=True)

    def mourn(permit: Permit) -> None:
        permit.wait(TIMEOUT_S * 10)
        seen_ns = time.monotonic_ns()
        gallery.lock()
        say(died=permit.died_ns, seen=seen_ns)

    for line in sys.stdin:
        word, _, argument = line.strip().partition(" ")
        if word == "permit":
            permit = _permit(gate)
            threading.Thread(target=mourn, args=(permit,), daemon=True).start()
            say(permit=True)
        elif word == "ready":
            _permit(gate)
            say(done=True)
        elif word == "case":
            say(done=isinstance(cases.enrol_case(argument), CaseEnrolled))
        elif word == "book":
            camera.handed_out_ns.clear()
            done = isinstance(booth.book(argument), Recorded)
            say(done=done, returned=time.monotonic_ns(), frames_ns=camera.handed_out_ns)
        elif word == "ledger":
            entries = [LedgerEntry.model_validate_json(data) for data in journal.entries(limit=journal.size)]
            work = [each for each in entries if isinstance(each.event, Captured | Searched | LeadSigned | Enrolled)]
            gallery.unlock(_permit(gate).gallery_key())
            say(entries=[[each.event.kind, each.monotonic_ns] for each in work], templates=gallery.size("bookings"))


class _Driver:
    """Turns the key, and keeps the score."""

    def __init__(self, pilot: Pilot, booth: subprocess.Popen[str], seed: int) -> None:
        self._pilot, self._booth = pilot, booth
        self._random = random.Random(seed)  # noqa: S311 - moments, not secrets
        self._socket = pilot.root / "socket"
        self._switch = SimulatedSwitch(pilot.root / "switch.json")

    def run(self, stops: int, tick: Callable[[int], None]) -> Stops:
        """Measure."""
        self._release()
        self._ask_booth("ready")
        for case, _ in CASES:
            if not self._ask_booth(f"case {case}")["done"]:
                raise BenchError(f"the case {case} could not be enrolled")
        began = time.perf_counter()
        for number in range(5):
            if not self._ask_booth(f"book B-{number}")["done"]:
                raise BenchError("a booking of a running device was refused")
        typical_s = (time.perf_counter() - began) / 5
        delays_ms, seen_ms, discards_ms = [], [], []
        frames_after = 0
        for done in range(1, stops + 1):
            self._ask_booth("permit")
            self._tell_booth(f"book B-{100 + done}")
            time.sleep(self._random.uniform(0, 1.5 * typical_s))
            turned_ns = time.monotonic_ns()
            self._switch.open_key()
            answers = self._hear("died", "done")
            died_ns = int(str(answers["died"]))
            delays_ms.append((died_ns - turned_ns) / 1e6)
            seen_ms.append((int(str(answers["seen"])) - turned_ns) / 1e6)
            if not answers["done"]:
                discards_ms.append((int(str(answers["returned"])) - died_ns) / 1e6)
            frames = answers["frames_ns"]
            frames_after += sum(each > died_ns for each in frames) if isinstance(frames, list) else 0
            self._release()
            tick(done)
        return self._score(delays_ms, seen_ms, discards_ms, frames_after)

    def _score(
        self, delays_ms: list[float], seen_ms: list[float], discards_ms: list[float], frames_after: int
    ) -> Stops:
        answer = self._ask_booth("ledger")
        entries = answer["entries"]
        if not isinstance(entries, list):
            raise BenchError("the booth does not say what it did")
        lines = (self._pilot.root / "transitions").read_text().split("\n")
        transitions = [(int(line.split()[0]), line.split()[1]) for line in lines if line]

        def behind(moment_ns: int) -> bool:
            """Whether the last transition on record before the moment was a stop."""
            before = [state for at_ns, state in transitions if at_ns <= moment_ns]
            return bool(before) and before[-1] != "RUNNING"

        after = [kind for kind, at_ns in entries if behind(at_ns)]
        templates = sum(kind == "enrolment" for kind, _ in entries)
        unknown = int(str(answer["templates"])) + len(CASES) - templates
        p50, p99, worst = percentiles(delays_ms)
        return Stops(
            stops=len(delays_ms),
            interrupted=len(discards_ms),
            leads=sum(kind == "lead" for kind, _ in entries),
            templates=templates - len(CASES),
            frames_after=frames_after,
            leads_after=sum(kind != "enrolment" for kind in after),
            templates_after=after.count("enrolment") + abs(unknown),
            p50_ms=p50,
            p99_ms=p99,
            worst_ms=worst,
            discarded_p99_ms=percentiles(discards_ms or [0.0])[1],
            seen_p99_ms=percentiles(seen_ms)[1],
        )

    def _release(self) -> None:
        self._switch.close_key()
        deadline = time.monotonic() + TIMEOUT_S
        refusal = "it does not answer"
        while time.monotonic() < deadline:
            try:
                status = InterlockStatus.model_validate_json(ask(self._socket, Request(ask="status")).body)
                if status.key_closed:
                    request = ReleaseRequest.model_validate_json(ask(self._socket, Request(ask="request")).body)
                    order = base64.b64encode(self._pilot.release(request)).decode()
                    answer = ask(self._socket, Request(ask="apply", document=order))
                    if answer.done:
                        return
                    refusal = answer.message
            except DaemonError as error:
                refusal = str(error)
            time.sleep(0.01)
        raise BenchError(f"the device could not be released: {refusal}")

    def _tell_booth(self, line: str) -> None:
        if self._booth.stdin is None:
            raise BenchError("the booth has no ears")
        self._booth.stdin.write(line + "\n")
        self._booth.stdin.flush()

    def _ask_booth(self, line: str) -> dict[str, object]:
        self._tell_booth(line)
        return self._hear({"permit": "permit", "ledger": "entries"}.get(line.partition(" ")[0], "done"))

    def _hear(self, *wanted: str) -> dict[str, object]:
        heard: dict[str, object] = {}
        while not set(wanted) <= set(heard):
            line = self._booth.stdout.readline() if self._booth.stdout else ""
            if not line:
                raise BenchError("the booth is gone")
            heard |= json.loads(line)
        return heard


def _policy(settings: Settings) -> SignedPolicy | PolicyRefusal:
    authority = first_authority(settings.authority.read_bytes())
    for role in authority.roles.values():
        if "policy" in role.may:
            return read_policy(
                settings.policy.read_bytes(),
                keys=role.public_keys(),
                threshold=role.threshold,
                device_id=settings.device_id,
                now=datetime.now(UTC),
            )
    return PolicyRefusal(PolicyReason.NOT_SIGNED, "nobody may sign a policy")


def _permit(gate: LeaseClient) -> Permit:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            return gate.permit()
        except Stopped:
            time.sleep(0.002)
    raise BenchError("no lease came")


def _spawn(role: str, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __name__, role, str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


if __name__ == "__main__":
    {"daemon": run_daemon, "booth": run_booth}[sys.argv[1]](Path(sys.argv[2]))

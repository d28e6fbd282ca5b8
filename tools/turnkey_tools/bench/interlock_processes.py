"""The same stops across processes: interlock and notary as the device runs them, and a booth that says what it saw.

    python -m turnkey_tools.bench.interlock_processes booth ROOT     takes orders as lines on stdin, answers with JSON

The key is a file here, seen by polling each 20 ms; real lines have edges. All times are CLOCK_MONOTONIC, one clock for
all processes of a machine. What stands behind a stop is read from the notary's ledger, by this process.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from turnkey.booth import Booth, CaseEnrolled, Recorded
from turnkey.capture.folder import FolderCamera
from turnkey.device import calibration_groups
from turnkey.gallery.gallery import Gallery
from turnkey.interlock.authority import first_authority
from turnkey.interlock.lease import DaemonError, LeaseClient, ask
from turnkey.interlock.orders import ReleaseRequest
from turnkey.interlock.permit import Permit, Stopped
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.interlock.wire import Request
from turnkey.leads.records import Enrolled, LeadSigned, LedgerEntry
from turnkey.notary.client import NotaryClient
from turnkey.notary.journal import Journal
from turnkey.policy_file import PolicyFile
from turnkey.recording import system_clocks
from turnkey.settings import read_settings
from turnkey.vision.analyzer import Analyzer
from turnkey.vision.manifest import model_id, read_manifest
from turnkey_tools.bench.interlock import (
    CASES,
    QUICK,
    TIMEOUT_S,
    BenchError,
    Stops,
    WatchedCamera,
    behind_stops,
    lay_out,
    percentiles,
)
from turnkey_tools.pilot import Pilot

START_S = 60.0


def stop_across_processes(
    pilot: Pilot, faces: Path, stops: int, seed: int, tick: Callable[[int], None] = lambda _done: None
) -> Stops:
    """Stop a device whose interlock, notary and booth are processes of their own.

    Args, Raises: see `stop_in_process`.
    """
    lay_out(pilot.root, faces)
    with ExitStack() as parts:
        # The path of a Unix socket has 107 bytes; a pilot's may be longer.
        sockets = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="turnkey-")))
        _name_sockets(pilot, sockets)
        for name in ("notary", "interlock"):
            _state(pilot.root, name).mkdir()
            parts.callback(_end, _unit(pilot, name))
            _await_socket(sockets / name)
        _state(pilot.root, "booth").mkdir()
        command = [sys.executable, "-m", __name__, "booth", str(pilot.root)]
        booth = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        parts.callback(_end, booth)
        return _Driver(pilot, sockets, booth, seed).run(stops, tick)


def _name_sockets(pilot: Pilot, sockets: Path) -> None:
    """Quick limits, and every process the same user: nobody else may connect."""
    user = pwd.getpwuid(os.getuid()).pw_name
    users = "".join(f'{name}_user = "{user}"\n' for name in ("booth", "notary", "operator", "interlock"))
    with pilot.settings_file.open("a") as settings:
        settings.write(
            f"closing_stable_ms = {QUICK.closing_stable_ms}\npulse_every_ms = {QUICK.pulse_every_ms}\n"
            f'[interlock.socket]\npath = "{sockets}/interlock"\nnotary = "{sockets}/notary"\n'
            f'booth = "{sockets}/booth"\nmarkers = "{sockets}"\n{users}'
        )


def _state(root: Path, name: str) -> Path:
    return root / f"state-{name}"


def _unit(pilot: Pilot, name: str) -> subprocess.Popen[str]:
    """Start a process as its unit does."""
    command = [sys.executable, "-m", "turnkey.cli", "--config", str(pilot.settings_file), "run", name]
    own = {"TURNKEY_STATE": str(_state(pilot.root, name)), "TURNKEY_OUTBOX": str(pilot.root / "outbox.db")}
    return subprocess.Popen(command, env=os.environ | own, text=True)  # noqa: S603 - ourselves


def _await_socket(path: Path) -> None:
    deadline = time.monotonic() + START_S
    while not path.is_socket():
        if time.monotonic() > deadline:
            raise BenchError(f"{path.name} did not start")
        time.sleep(0.02)


def run_booth(root: Path) -> None:
    """The booth: real models and gallery; its permits are leases, its records go to the notary's socket."""
    settings = read_settings(root / "device.toml")
    sockets = settings.interlock.socket
    state = _state(root, "booth")
    manifest = read_manifest(settings.models)
    notary = NotaryClient(sockets.notary).start()
    gate = LeaseClient(sockets.path).start()
    model = model_id(manifest.embedder)
    gallery = Gallery(state / "gallery.db", model)
    analyzer = Analyzer.load(settings.models, threads=1)
    authority = first_authority(settings.authority.read_bytes())
    policies = PolicyFile(settings.policy, state / "policy.json", settings.device_id)
    clocks = system_clocks()

    def booth_with(camera: FolderCamera | WatchedCamera) -> Booth:
        return Booth(
            gate=gate,
            camera=camera,
            analyzer=analyzer,
            gallery=gallery,
            notary=notary,
            policy=lambda: policies.in_force(authority, clocks.utc_now()),
            calibration=calibration_groups(manifest.calibration),
            model_id=model,
            clocks=clocks,
            burst=settings.camera.burst,
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
        elif word == "templates":
            gallery.unlock(_permit(gate).gallery_key())
            say(templates=gallery.size("bookings"))


class _Driver:
    """Turns the key, and keeps the score."""

    def __init__(self, pilot: Pilot, sockets: Path, booth: subprocess.Popen[str], seed: int) -> None:
        self._pilot, self._booth = pilot, booth
        self._random = random.Random(seed)  # noqa: S311 - moments, not secrets
        self._socket = sockets / "interlock"
        self._switch = SimulatedSwitch(_state(pilot.root, "interlock") / "simulated-switch.json")

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
        templates = int(str(self._ask_booth("templates")["templates"]))
        entries = self._entries()
        # By the ledger's order: across processes a permit's death here says nothing of what the notary's was then.
        leads_after, templates_after = behind_stops(entries, [])
        enrolled = sum(isinstance(each.event, Enrolled) for each in entries) - len(CASES)
        p50, p99, worst = percentiles(delays_ms)
        return Stops(
            stops=len(delays_ms),
            interrupted=len(discards_ms),
            leads=sum(isinstance(each.event, LeadSigned) for each in entries),
            templates=enrolled,
            frames_after=frames_after,
            leads_after=leads_after,
            templates_after=templates_after + abs(templates - enrolled),
            p50_ms=p50,
            p99_ms=p99,
            worst_ms=worst,
            discarded_p99_ms=percentiles(discards_ms or [0.0])[1],
            seen_p99_ms=percentiles(seen_ms)[1],
        )

    def _entries(self) -> list[LedgerEntry]:
        journal = Journal(_state(self._pilot.root, "notary") / "ledger.db")
        try:
            return [LedgerEntry.model_validate_json(data) for data in journal.entries(limit=journal.size)]
        finally:
            journal.close()

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
        word = line.partition(" ")[0]
        return self._hear(word if word in ("permit", "templates") else "done")

    def _hear(self, *wanted: str) -> dict[str, object]:
        heard: dict[str, object] = {}
        while not set(wanted) <= set(heard):
            line = self._booth.stdout.readline() if self._booth.stdout else ""
            if not line:
                raise BenchError("the booth is gone")
            heard |= json.loads(line)
        return heard


def _permit(gate: LeaseClient) -> Permit:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            return gate.permit()
        except Stopped:
            time.sleep(0.002)
    raise BenchError("no lease came")


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


if __name__ == "__main__":
    run_booth(Path(sys.argv[2]))

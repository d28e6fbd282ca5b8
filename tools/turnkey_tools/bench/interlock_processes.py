"""The same stops across processes: interlock and notary as the device runs them, and a booth that says what it saw.

The key is a file here, seen by polling each 20 ms; real lines have edges. What stands behind a stop is read from the
notary's ledger, by this process. One set of processes lives through many stops, as on the bench table; each stop is one
of a booking that has begun, at a random moment. A process that ends by itself is started again, as systemd would.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.machine import State
from turnkey.interlock.orders import ReleaseRequest
from turnkey.interlock.status import InterlockStatus
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.interlock.wire import Request
from turnkey.leads.records import LeadSigned, LedgerEntry
from turnkey.notary.journal import Journal
from turnkey_tools.bench.interlock_stops import (
    CASES,
    QUICK,
    TIMEOUT_S,
    BenchError,
    Deadline,
    Stop,
    Stops,
    Tick,
    behind_stops,
    lay_out,
    release_order,
    templates_on,
)
from turnkey_tools.pilot import Pilot

BOOTH: Final = "turnkey_tools.bench.interlock_booth"
MOST_STARTS: Final = 20


class _ProcessEnded(Exception):
    """A process is gone in the middle of a try."""


def stop_across_processes(
    pilot: Pilot, faces: Path, stops: int, seed: int, tick: Tick = lambda _done: None, most_s: float = 3600.0
) -> Stops:
    """Stop a device whose interlock, notary and booth are processes of their own.

    Args, Raises: see `interlock.stop_in_process`.
    """
    lay_out(pilot.root, faces)
    with ExitStack() as parts:
        # The path of a Unix socket has 107 bytes; a pilot's may be longer.
        sockets = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="turnkey-")))
        _name_sockets(pilot, sockets)
        processes = _Processes(pilot, sockets)
        parts.callback(processes.end)
        processes.start()
        return _Driver(pilot, sockets, processes, seed).run(stops, tick, Deadline(stops, most_s))


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


class _Processes:
    """Notary, interlock and booth, each with a state directory of its own."""

    def __init__(self, pilot: Pilot, sockets: Path) -> None:
        self._pilot, self._sockets = pilot, sockets
        self._units: dict[str, subprocess.Popen[str]] = {}
        self._heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._starts = 0

    @property
    def restarts(self) -> int:
        """How many had to be started again."""
        return max(0, self._starts - len(self._units))

    def start(self) -> None:
        """Start what does not run. Raises: BenchError."""
        for name in ("notary", "interlock", "booth"):
            unit = self._units.get(name)
            if unit is None or unit.poll() is not None:
                self._starts += 1
                if self._starts > MOST_STARTS:
                    raise BenchError(f"{name} ends again and again")
                self.state(name).mkdir(exist_ok=True)
                self._units[name] = self._booth() if name == "booth" else self._unit(name)

    def state(self, name: str) -> Path:
        """The state directory of one of them."""
        return self._pilot.root / f"state-{name}"

    def tell(self, line: str) -> None:
        """Tell the booth something. Raises: _ProcessEnded, BenchError."""
        stdin = self._units["booth"].stdin
        if stdin is None:
            raise BenchError("the booth has no ears")
        try:
            stdin.write(line + "\n")
            stdin.flush()
        except OSError as error:
            raise _ProcessEnded from error

    def hear(self, *wanted: str) -> dict[str, int]:
        """What the booth says, until it has said all of `wanted`. Raises: _ProcessEnded, BenchError."""
        heard: dict[str, int] = {}
        while not set(wanted) <= set(heard):
            try:
                line = self._heard.get(timeout=TIMEOUT_S)
            except queue.Empty:
                raise BenchError(f"the booth does not say {', '.join(wanted)}") from None
            if not line:
                raise _ProcessEnded
            heard |= json.loads(line)
        return heard

    def end(self) -> None:
        """End them all."""
        for unit in reversed(self._units.values()):
            unit.terminate()
            try:
                unit.wait(5)
            except subprocess.TimeoutExpired:
                unit.kill()
                unit.wait(5)

    def _unit(self, name: str) -> subprocess.Popen[str]:
        """Start a process as its unit does."""
        socket = self._sockets / name
        socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "turnkey.cli", "--config", str(self._pilot.settings_file), "run", name]
        own = {"TURNKEY_STATE": str(self.state(name)), "TURNKEY_OUTBOX": str(self._pilot.root / "outbox.db")}
        unit = subprocess.Popen(command, env=os.environ | own, text=True)  # noqa: S603 - ourselves
        until_s = time.monotonic() + TIMEOUT_S
        while not socket.is_socket():
            if time.monotonic() > until_s or unit.poll() is not None:
                raise BenchError(f"{name} did not start")
            time.sleep(0.02)
        return unit

    def _booth(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", BOOTH, str(self._pilot.root)]
        booth = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        heard: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._heard = heard

        def listen() -> None:
            for line in booth.stdout or ():
                heard.put(line)
            heard.put("")

        threading.Thread(target=listen, name="booth-says", daemon=True).start()
        return booth


class _Driver:
    """Turns the key, and keeps the score."""

    def __init__(self, pilot: Pilot, sockets: Path, processes: _Processes, seed: int) -> None:
        self._pilot, self._processes = pilot, processes
        self._random = random.Random(seed)  # noqa: S311 - moments, not secrets
        self._socket = sockets / "interlock"
        self._switch = SimulatedSwitch(processes.state("interlock") / "simulated-switch.json")
        self._booked = 0
        self._frames_after = 0

    def run(self, stops: int, tick: Tick, deadline: Deadline) -> Stops:
        """Measure."""
        self._release()
        self._ready()
        for case, _ in CASES:
            self._processes.tell(f"case {case}")
            if not self._processes.hear("done")["done"]:
                raise BenchError(f"the case {case} could not be enrolled")
        each: list[Stop] = []
        stood_still, typical_s = 0, self._typical_s()
        while len(each) < stops and not deadline.passed():
            try:
                made = self._one_stop(self._random.uniform(0, 1.5 * typical_s))
            except _ProcessEnded:
                made = None
                self._processes.start()
                self._release()
                self._ready()
            if made is None:
                stood_still += 1
            else:
                each.append(made)
            tick(len(each))
        return self._score(stops, tuple(each), stood_still)

    def _one_stop(self, after_s: float) -> Stop | None:
        """Stop a booking, and release the device; None where the permit had lapsed before the key was turned.

        Raises: _ProcessEnded, BenchError.
        """
        began_ns = time.monotonic_ns()
        self._tell_to_book()
        self._processes.hear("permit")
        time.sleep(after_s)
        turned_ns = time.monotonic_ns()
        self._switch.open_key()
        told = self._processes.hear("died", "done")
        self._frames_after += told["after"]
        self._release()
        if told["died"] < turned_ns:
            return None
        return Stop(
            delay_ms=(told["died"] - turned_ns) / 1e6,
            seen_ms=(told["seen"] - turned_ns) / 1e6,
            discard_ms=None if told["done"] else max(0.0, (told["returned"] - told["died"]) / 1e6),
            whole_s=(time.monotonic_ns() - began_ns) / 1e9,
        )

    def _tell_to_book(self) -> None:
        self._booked += 1
        self._processes.tell(f"book B-{self._booked}")

    def _typical_s(self) -> float:
        """How long a booking takes here, so that the moments fall into all of its steps. Each is stopped at its end."""
        times: list[float] = []
        until_s = time.monotonic() + TIMEOUT_S
        while len(times) < 5:
            self._tell_to_book()
            self._processes.hear("permit")
            began = time.perf_counter()
            told = self._processes.hear("done")
            if told["done"]:
                times.append(time.perf_counter() - began)
            elif time.monotonic() > until_s:
                raise BenchError("the bookings of a running device are refused")
            self._switch.open_key()
            if "died" not in told:
                self._processes.hear("died")
            self._release()
        return sorted(times)[2]

    def _ready(self) -> None:
        self._processes.tell("ready")
        if not self._processes.hear("done")["done"]:
            raise BenchError("gallery and ledger do not agree")

    def _score(self, asked: int, each: tuple[Stop, ...], stood_still: int) -> Stops:
        self._processes.tell("templates")
        templates = self._processes.hear("templates")["templates"]
        journal = Journal(self._processes.state("notary") / "ledger.db")
        try:
            entries = [LedgerEntry.model_validate_json(data) for data in journal.entries(limit=journal.size)]
        finally:
            journal.close()
        # By the ledger's order: across processes a permit's death here says nothing of what the notary's was then.
        leads_after, templates_after = behind_stops(entries, [])
        enrolled = templates_on(entries)
        return Stops(
            asked=asked,
            each=each,
            stood_still=stood_still,
            restarts=self._processes.restarts,
            leads=sum(isinstance(entry.event, LeadSigned) for entry in entries),
            templates=enrolled,
            frames_after=self._frames_after,
            leads_after=leads_after,
            templates_after=templates_after + abs(templates - enrolled),
        )

    def _status(self) -> InterlockStatus:
        return InterlockStatus.model_validate_json(ask(self._socket, Request(ask="status"), TIMEOUT_S).body)

    def _release(self) -> None:
        """Have the interlock see that the key is open, close it, and have the device run again. Raises: BenchError."""
        until_s = time.monotonic() + TIMEOUT_S
        refusal = "it does not answer"
        closed = False
        while time.monotonic() < until_s:
            self._processes.start()
            try:
                status = self._status()
                if not closed and status.state is not State.RUNNING and not status.key_closed:
                    self._switch.close_key()
                    closed = True
                elif closed and status.key_closed and (refusal := self._apply()) == "":
                    return
            except DaemonError as error:
                refusal = str(error)
            time.sleep(0.02)  # asking costs the interlock more than waiting costs the bench
        raise BenchError(f"the device could not be released: {refusal}")

    def _apply(self) -> str:
        """Apply a release order; why it was refused, nothing where it was not."""
        request = ReleaseRequest.model_validate_json(ask(self._socket, Request(ask="request"), TIMEOUT_S).body)
        order = base64.b64encode(release_order(self._pilot, request)).decode()
        answer = ask(self._socket, Request(ask="apply", document=order), TIMEOUT_S)
        return "" if answer.done or answer.reason == "not-stopped" else answer.message

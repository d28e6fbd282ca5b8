"""Every signed lead arrives at the desk, in order and once after de-duplication, whatever happens on the way.

Faults on the wire, SIGKILL of the broker and of the uplink, at random. `TURNKEY_FAULT_ROUNDS` sets how many (the
default keeps the suite fast; 500 is the bar), `TURNKEY_FAULT_SEED` which.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

from patience import PATIENCE_S

from turnkey.uplink.outbox import Outbox
from turnkey_tools.leads.desk import Accepted, Reason, Refused
from turnkey_tools.leads.subscription import Subscription

from .conftest import Station
from .fault_proxy import Fault, FaultProxy

ROUNDS = int(os.environ.get("TURNKEY_FAULT_ROUNDS", "14"))
SEED = int(os.environ.get("TURNKEY_FAULT_SEED", "1"))
LEADS_PER_ROUND = 20

_CHILD = """
import json, sys, threading
from pathlib import Path
from turnkey.uplink.delivery import Backoff
from turnkey.uplink.mqtt import Uplink, UplinkSettings
from turnkey.uplink.outbox import Outbox
values = json.loads(sys.argv[2])
values["backoff"] = Backoff(**values["backoff"])
for name in ("ca_file", "certificate_file", "key_file"):
    values[name] = Path(values[name])
Uplink(Outbox(Path(sys.argv[1])), UplinkSettings(**values)).run(threading.Event())
"""


class UplinkProcess:
    """The uplink as its own process, so that it can be killed like one."""

    def __init__(self, station: Station, port: int) -> None:
        settings = replace(station.settings(), port=port, settle_s=30.0, ack_timeout_s=2.0, connect_timeout_s=5.0)
        self._command = [
            sys.executable, "-c", _CHILD, str(station.folder / "outbox.db"), json.dumps(asdict(settings), default=str)
        ]  # fmt: skip
        self._process = subprocess.Popen(self._command)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def kill_and_start(self) -> None:
        self.kill()
        self._process = subprocess.Popen(self._command)


@contextmanager
def uplink_process(station: Station, port: int) -> Iterator[UplinkProcess]:
    process = UplinkProcess(station, port)
    try:
        yield process
    finally:
        process.kill()


class Received:
    """What the desk made of everything so far."""

    def __init__(self) -> None:
        self.sequences: list[int] = []
        self.duplicates = 0

    def listen(self, desk: Subscription, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            verdict = desk.next(0.05)
            if isinstance(verdict, Accepted):
                self.sequences.append(verdict.lead.sequence)
            elif isinstance(verdict, Refused):
                assert verdict.reason is Reason.DUPLICATE, verdict
                self.duplicates += 1


def test_no_lead_is_lost_reordered_or_shown_twice(station: Station) -> None:
    chance = random.Random(SEED)  # noqa: S311 - faults, not secrets
    received = Received()
    put = 0
    with (
        FaultProxy(station.broker.port) as proxy,
        station.desk() as desk,
        Outbox(station.folder / "outbox.db") as outbox,
        uplink_process(station, proxy.port) as uplink,
    ):
        assert desk.listening(PATIENCE_S)
        for number in range(ROUNDS):
            station.put_leads(outbox, put + 1, put + LEADS_PER_ROUND)
            put += LEADS_PER_ROUND
            received.listen(desk, chance.uniform(0.0, 0.2))
            what = [*Fault, "kill broker", "kill uplink"][number % 9 if number < 9 else chance.randrange(9)]
            if what == "kill broker":
                station.broker.kill()
                received.listen(desk, chance.uniform(0.0, 0.1))
                station.broker.start()
            elif what == "kill uplink":
                uplink.kill_and_start()
            else:
                proxy.strike(Fault(what), chance.uniform(0.05, 0.3))
        # After the last fault the uplink repeats what had not settled; the desk goes on reading, as a desk does.
        until_s = time.monotonic() + 5 * PATIENCE_S
        while (received.sequences[-1:] != [put] or outbox.depth()) and time.monotonic() < until_s:
            received.listen(desk, 0.2)
        assert received.sequences == list(range(1, put + 1))
        assert outbox.depth() == 0
    print(f"{ROUNDS} rounds, {put} leads, {received.duplicates} duplicates recognised, 0 lost")

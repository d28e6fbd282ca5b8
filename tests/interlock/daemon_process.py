"""The interlock's daemon as a process of its own, for the tests: `daemon_process.py FOLDER LEASE_MS`.

Everything is real but the wires: FOLDER/switch.json is a simulated switch that the test turns.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from turnkey.interlock.authority import first_authority
from turnkey.interlock.daemon import BOOTH_RIGHTS, OPERATOR_RIGHTS, Daemon
from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.status import Transition
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.settings import InterlockSettings, SocketSettings


def main(folder: Path) -> None:
    sockets = SocketSettings(path=folder / "socket", markers=folder)
    settings = InterlockSettings(socket=sockets, lease_validity_ms=int(sys.argv[2]))
    ledger = (folder / "ledger").open("a", buffering=1)

    def witness(transition: Transition) -> None:
        print(transition.monotonic_ns, transition.state, transition.reason, file=ledger)

    interlock = Interlock(
        SimulatedSwitch(folder / "switch.json"),
        Latch(folder / "latch"),
        device_id="bench-1",
        authority=first_authority((folder / "authority").read_bytes()),
        settings=settings,
        monotonic_ns=time.monotonic_ns,
        utc_now=lambda: datetime.now(UTC),
        witness=witness,
        gallery_key=bytes(range(32)),
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rights = {os.getuid(): BOOTH_RIGHTS | OPERATOR_RIGHTS}
    orders = (folder / "orders").open("a", buffering=1)
    Daemon(interlock, settings, rights=rights, orders=lambda each: print(each.reason, file=orders)).run(stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

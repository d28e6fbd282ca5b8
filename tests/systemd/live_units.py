"""`tests/systemd/live`: the units under a real systemd, from commissioning to a power cut.

The machine is `live_machine`: process 1 is Debian's systemd, the units are the repository's, their processes are the
device's own, each as its own user in its own sandbox. The key is simulated: no chip is there.

What is held to: a device fresh from the image is stopped and its booth does not run; a booth started by hand while it
is stopped does not run; after a release it runs; each opening of the key ends the booth's processes within a second; so
does an interlock that is killed, and one that hangs, once its watchdog bites; a booth that is killed comes back; a stop
outlasts a power cut; process 1 does nothing while all is quiet; and the updater's marker restarts the machine, once.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from live_machine import LiveMachine, MachineError

from turnkey.interlock.orders import ReleaseRequest

LIMIT_S = 1.0
"""From the turn of the key until no process of the booth's user is left."""
QUIET_S = 10.0
QUIET_CPU_S = 0.1
"""What process 1 may use in `QUIET_S`: notices of watchdogs come each half second."""
WATCHDOG_S = 15.0
"""WatchdogSec=5s of the interlock, and the start of its successor."""


class Life:
    """One life of one machine.

    Args:
        machine: laid out, and off.
        stops: how often the key is opened.
        say: told each thing that holds.
    """

    def __init__(self, machine: LiveMachine, stops: int, say: Callable[[str], None]) -> None:
        self._machine, self._stops, self._say = machine, stops, say
        self.gone_s: list[float] = []
        self.cpu_s: dict[str, float] = {}

    def live(self) -> None:
        """All of it. Raises: MachineError."""
        self._machine.boot()
        self._is_stopped("a device fresh from the image")
        self._not_by_hand()
        self._quiet("stopped")
        self._release()
        self._quiet("running")
        for _ in range(self._stops):
            self._stop()
            self._release()
        self._booth_comes_back()
        self._interlock_ends("killed", "-KILL")
        self._interlock_ends("hung", "-STOP")
        self._stop()
        self._machine.cut_power()
        self._machine.boot()
        self._is_stopped("a stop that outlasted a power cut")
        self._not_by_hand()
        self._release()
        self._nothing_failed()
        self._restart()

    def _is_stopped(self, what: str) -> None:
        machine = self._machine
        machine.until("the interlock says that it is stopped", lambda: self._state() == "MORATORIUM")
        machine.until("moratorium.target is reached", lambda: self._active("moratorium.target"))
        if self._booths():
            raise MachineError(f"{what}: the booth runs")
        self._say(f"{what}: moratorium.target is reached, the booth does not run")

    def _not_by_hand(self) -> None:
        self._machine.systemctl("start", "turnkey-booth.service")
        time.sleep(2)
        if self._booths() or self._active("turnkey-booth.service"):
            raise MachineError("a booth that was started by hand runs")
        self._machine.until("moratorium.target is reached again", lambda: self._active("moratorium.target"))
        self._say("a booth started by hand while stopped does not run, and the target is reached again")

    def _quiet(self, when: str) -> None:
        began, entered = self._machine.cpu_s(), self._entered()
        time.sleep(QUIET_S)
        used = self._machine.cpu_s() - began
        self.cpu_s[when] = used
        if used > QUIET_CPU_S or self._entered() != entered:
            raise MachineError(f"{when}: process 1 used {used:.2f} s of CPU time in {QUIET_S:.0f} s")
        self._say(f"{when}: process 1 used {used:.2f} s of CPU time in {QUIET_S:.0f} s, no unit was started")

    def _release(self) -> None:
        machine = self._machine
        machine.switch().close_key()
        machine.until("the key counts as closed", lambda: (now := machine.status()) is not None and now.key_closed)
        request = ReleaseRequest.model_validate_json(machine.turnkey("order", "request"))
        machine.inside("/run/release.json").write_bytes(machine.pilot.release(request))
        machine.turnkey("order", "apply", "/run/release.json")
        machine.until("the booth runs", lambda: self._active("turnkey-booth.service"))
        if self._active("moratorium.target"):
            raise MachineError("moratorium.target is still reached")

    def _stop(self) -> None:
        """Open the key at a random moment, and see the booth's processes go."""
        time.sleep(random.uniform(0, 1))  # noqa: S311 - moments, not secrets
        began = time.monotonic()
        self._machine.switch().open_key()
        self._machine.until("the booth's processes are gone", lambda: not self._booths())
        self.gone_s.append(time.monotonic() - began)
        self._machine.until("moratorium.target is reached", lambda: self._active("moratorium.target"))
        self._say(f"key opened: the booth's processes were gone after {self.gone_s[-1]:.2f} s")

    def _booth_comes_back(self) -> None:
        before = self._booths()
        self._machine.systemctl("kill", "--signal=KILL", "turnkey-booth.service")
        self._machine.until("a killed booth runs again", lambda: bool(self._booths()) and self._booths() != before)
        self._machine.until("it is ready", lambda: self._active("turnkey-booth.service"))
        self._say("a booth that is killed comes back")

    def _interlock_ends(self, how: str, signal: str) -> None:
        machine = self._machine
        (number,) = machine.processes_of("turnkey-interlock")
        before = self._booths()
        machine.run("kill", signal, str(number))
        took = machine.until("the booth is gone", lambda: not set(before) & set(self._booths()), WATCHDOG_S)
        machine.until("the device runs again", lambda: self._state() == "RUNNING")
        machine.until("the booth runs again", lambda: self._active("turnkey-booth.service"))
        self._say(f"interlock {how}: the booth was gone after {took:.2f} s, and both came back as they were")

    def _restart(self) -> None:
        """The updater's marker: process 1 is told once to start anew, which in a namespace is its end."""
        machine = self._machine
        machine.inside("/run/turnkey-update/restart").touch()
        took = machine.until("process 1 has ended", machine.is_off)
        machine.cut_power()
        machine.boot()
        machine.until("the device runs again", lambda: self._state() == "RUNNING")
        self._say(f"the updater's marker: restarted after {took:.1f} s, once, and runs as it did before")

    def _nothing_failed(self) -> None:
        failed = self._machine.systemctl("list-units", "--failed", "--plain", "--no-legend", "turnkey*")
        if failed:
            raise MachineError(f"units have failed: {failed}")
        self._say("no unit has failed")

    def _state(self) -> str:
        now = self._machine.status()
        return now.state if now is not None else ""

    def _active(self, unit: str) -> bool:
        return self._machine.systemctl("is-active", unit) == "active"

    def _entered(self) -> str:
        return self._machine.systemctl(
            "show", "--property=ActiveEnterTimestampMonotonic", "moratorium.target", "turnkey-booth.service"
        )

    def _booths(self) -> list[int]:
        return self._machine.processes_of("turnkey-booth")


def main() -> int:
    """Print what holds; 0 where all of it does."""
    parser = argparse.ArgumentParser(prog="tests/systemd/live", description=__doc__)
    parser.add_argument("--stops", type=int, default=10, help="how often the key is opened (default: 10)")
    parser.add_argument("--keep", type=Path, help="an empty folder for the machine's disk and log, kept afterwards")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    told = parser.parse_args()
    folder = told.keep or Path(tempfile.mkdtemp(prefix="turnkey-live-"))
    folder.mkdir(parents=True, exist_ok=True)
    machine = LiveMachine(folder)
    life = Life(machine, told.stops, lambda line: print(line, file=sys.stderr, flush=True))
    try:
        life.live()
    except MachineError as error:
        print(f"failed: {error}\nwhat the processes said is in {folder}/disk/turnkey-log", file=sys.stderr)
        return 1
    finally:
        machine.cut_power()
    if told.keep is None:
        shutil.rmtree(folder)
    worst = max(life.gone_s)
    figures = {"booth_gone_s": sorted(life.gone_s), "worst_s": worst, "limit_s": LIMIT_S, "cpu_s": life.cpu_s}
    print(json.dumps(figures) if told.json else f"booth gone after at most {worst:.2f} s (limit {LIMIT_S:.1f} s)")
    return 0 if worst <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())

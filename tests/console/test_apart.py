"""The console's own process before those of interlock, notary and booth: what the end of the booth leaves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from booking_room import lay
from console.consoles import Browser, Reply, enlist, title, wait_for
from test_processes import Appliance

from turnkey.leads.records import Captured, Enrolled, NotCaptured
from turnkey_tools.pilot import Pilot

PASSED_IN = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does before it starts the program: sd_listen_fds(3)."""


class WithConsole(Appliance):
    """The four processes; the console on a socket that was opened before it, as systemd opens it."""

    def __init__(self, pilot: Pilot, sockets: Path) -> None:
        super().__init__(pilot, sockets)
        settings = pilot.settings()
        enlist(settings.console.officers)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"

    def start_console(self) -> None:
        command = [sys.executable, "-m", "turnkey.cli", "--config", str(self.pilot.settings_file), "run", "console"]
        self.processes["console"] = subprocess.Popen(
            [sys.executable, "-c", PASSED_IN, str(self.listener.fileno()), *command],
            env=os.environ | {"TURNKEY_STATE": str(self.state("console"))},
            pass_fds=[self.listener.fileno()],
        )

    def end(self) -> None:
        console = self.processes.pop("console", None)
        if console is not None:
            console.terminate()
            console.wait(15)
        self.listener.close()
        super().end()


@pytest.fixture
def apart(pilot: Pilot) -> Iterator[WithConsole]:
    with tempfile.TemporaryDirectory(prefix="tk-") as sockets:
        appliance = WithConsole(pilot, Path(sockets))
        lay(pilot, "obama/obama-2012.jpg", "macron/macron-2025.jpg")
        try:
            appliance.start_all()
            appliance.start_console()
            yield appliance
        finally:
            appliance.end()


def test_a_booking_then_a_booth_that_starts_again_then_a_moratorium_that_ends_it(apart: WithConsole) -> None:
    browser = Browser(apart.address)

    def shown() -> Reply:
        return browser.get()

    assert title(shown()) == "Sign in"
    assert "Recognition is stopped" in shown().body
    apart.release()
    wait_for(lambda: "Recognition is permitted" in shown().body)
    assert title(browser.sign_in()) == "New booking"
    assert title(browser.post("/number", number="B-1")) == "Photograph"
    wait_for(lambda: "Working" in browser.get("/status").body)
    assert title(browser.post("/shoot")) == "Recorded"
    browser.post("/event", event="next")
    browser.post("/number", number="B-2")

    apart.processes["booth"].kill()
    apart.processes["booth"].wait(15)
    refused = browser.post("/shoot")
    assert (title(refused), "starting again" in refused.body) == ("Not recorded", True)
    apart.start("booth")
    browser.post("/event", event="retake")
    wait_for(lambda: "Working" in browser.get("/status").body)

    apart.switch.open_key()
    booth = apart.processes.pop("booth")
    booth.terminate()
    booth.wait(15)
    wait_for(lambda: title(shown()) == "Facial recognition is stopped")
    assert "Dark while recognition is stopped" in browser.get("/status").body
    assert title(browser.post("/shoot")) == "Facial recognition is stopped"
    assert title(browser.post("/note")) == "On record"
    ledger = apart.ledger()
    assert [event.booking_number for event in ledger if isinstance(event, NotCaptured)] == ["B-2"]
    assert len([event for event in ledger if isinstance(event, Captured | Enrolled)]) == 2

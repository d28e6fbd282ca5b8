"""A console over a real device, and a browser in front of it: what the tests of this room share."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from turnkey.booth_desk import BoothDesk
from turnkey.capture.camera import Camera
from turnkey.console.officers import Officer, Officers, hashed, write_officers
from turnkey.console_rooms import LocalRoom, open_viewfinder
from turnkey.console_server import ConsoleServer, console_listener
from turnkey.device import Device
from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.settings import Settings
from turnkey.vision.manifest import read_manifest
from turnkey_tools.pilot import Pilot

BADGE, PIN = "1001", "271828"
OTHER_BADGE, OTHER_PIN = "1002", "314159"
UNTRAINED_BADGE = "1003"
PATIENCE_S = 60.0


def wait_for(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait until the condition holds."""
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.02)


def enlist(path: Path) -> None:
    """An officers' file with two trained officers and one whose training is long ago."""
    today = datetime.now(UTC).date()
    pin, other = hashed(PIN), hashed(OTHER_PIN)
    write_officers(
        path,
        Officers(
            officers=(
                Officer(badge=BADGE, pin=pin, trained_on=today - timedelta(days=30)),
                Officer(badge=OTHER_BADGE, pin=other, trained_on=today - timedelta(days=1)),
                Officer(badge=UNTRAINED_BADGE, pin=pin, trained_on=today - timedelta(days=4000)),
            )
        ),
    )


@contextlib.contextmanager
def serving(device: Device, camera: Camera, settings: Settings, port: int = 0) -> Iterator[ConsoleServer]:
    """The console over this device, on a free port of the loopback interface."""
    viewfinder = open_viewfinder(
        settings, read_manifest(settings.models), camera, device.interlock.permit, device.policy
    )
    room = LocalRoom(device, BoothDesk(device.booth, viewfinder))
    listener = console_listener(settings.console.model_copy(update={"port": port}))
    with ConsoleServer(room, settings, listener) as server:
        yield server


@dataclass
class Reply:
    """An answer of the console."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass
class Browser:
    """A browser without a screen: keeps its cookie, and goes where it is sent."""

    address: str
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return self.address.removeprefix("http://").rstrip("/")

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_S)
        try:
            sent = {"Cookie": self.cookie} if self.cookie else {}
            connection.request(method, path, body or None, sent | self.headers | headers)
            answer = connection.getresponse()
            given = answer.getheader("Set-Cookie")
            if given is not None:
                self.cookie = "" if "Max-Age=0" in given else given.partition(";")[0]
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read().decode(errors="replace"))
        finally:
            connection.close()

    def get(self, path: str = "/") -> Reply:
        return self.send("GET", path)

    def post(self, path: str, **fields: str) -> Reply:
        """Send a form as the page that holds now would, and follow where it sends the browser."""
        token = re.search(r'name="csrf" value="([^"]+)"', self.get().body)
        form = ({"csrf": token[1]} if token else {}) | fields
        reply = self.send(
            "POST",
            path,
            urlencode(form).encode(),
            **{"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://{self.host}"},
        )
        return self.get() if reply.status == 303 else reply

    def sign_in(self, badge: str = BADGE, pin: str = PIN) -> Reply:
        return self.post("/sign-in", badge=badge, pin=pin)


@dataclass
class House:
    """A device and its console."""

    device: Device
    server: ConsoleServer
    switch: SimulatedSwitch
    pilot: Pilot
    camera: Camera
    settings: Settings
    port: int

    def browser(self) -> Browser:
        return Browser(self.server.address)

    def stop(self) -> None:
        self.switch.open_key()
        wait_for(lambda: self.device.interlock.state is not State.RUNNING)

    def release(self) -> None:
        """Close the key and apply a signed release order."""
        self.switch.close_key()
        assert self.device.key_settled(PATIENCE_S)
        order = self.pilot.release(self.device.interlock.release_request())
        assert isinstance(self.device.apply_order(order), OrderAccepted)

    def again(self) -> AbstractContextManager[ConsoleServer]:
        """The console started anew on the same port, over the same device; end the first one before."""
        return serving(self.device, self.camera, self.settings, self.port)


def title(reply: Reply) -> str:
    """What the page is called."""
    found = re.search(r"<title>([^<]*) - Turnkey</title>", reply.body)
    return found[1] if found else ""


def free_port() -> int:
    """A port of the loopback interface that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

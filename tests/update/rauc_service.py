"""RAUC's service on a bus of its own, for the adapter's tests.

`RaucService` plays an installation from end to end, which the real service can do only where it may mount: its D-Bus
interface over two slots in memory, with the names and types of RAUC 1.8's de.pengutronix.rauc.Installer.xml.
`real_service` is `rauc service` itself, over two files as slots; what it installs, the appliance's tests show.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageType,
    message_bus,
    new_error,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection

from turnkey.update.installer import SIMULATED_MAGIC
from turnkey_tools.certificates import new_ca

NAME, INTERFACE = "de.pengutronix.rauc", "de.pengutronix.rauc.Installer"
CONFIG = """<busconfig><type>session</type><listen>unix:dir={folder}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
{more}</busconfig>"""


SYSTEM_CONF = """[system]
compatible=rpi5
bootloader=custom
statusfile={folder}/status
mountprefix={folder}/mnt
[handlers]
bootloader-custom-backend={folder}/backend
[keyring]
path={folder}/ca.pem
[slot.rootfs.0]
device={folder}/slot-0.img
type=raw
bootname=A
[slot.rootfs.1]
device={folder}/slot-1.img
type=raw
bootname=B
"""
BACKEND = """#!/bin/sh
case "$1" in get-primary) echo A;; get-state) echo good;; esac
"""


class PrivateBus:
    """A dbus-daemon of the tests' own; its address is empty where it does not take its configuration.

    Args:
        folder: for its files.
        include: one more configuration file.
    """

    def __init__(self, folder: Path, include: Path | None = None) -> None:
        program = shutil.which("dbus-daemon")
        assert program is not None, "apt-get install dbus-daemon"
        config = folder / "bus.conf"
        config.write_text(CONFIG.format(folder=folder, more=f"<include>{include}</include>" if include else ""))
        self._process = subprocess.Popen(
            [program, f"--config-file={config}", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)


class RaucService:
    """Answers until it is closed.

    Attributes:
        slots: bootname, state and version by slot name.
        operation: `idle`, or what it says it is at.
        asked: members that were called.
    """

    def __init__(self, bus: str, running: str) -> None:
        self.slots: dict[str, dict[str, Any]] = {
            "rootfs.0": {"bootname": "A", "state": "booted", "boot-status": "good", "bundle.version": running},
            "rootfs.1": {"bootname": "B", "state": "inactive", "boot-status": "bad"},
            "data.0": {"state": "inactive"},
        }
        self.operation = "idle"
        self.asked: list[str] = []
        self._error = ""
        self._connection = open_dbus_connection(bus)
        Proxy(message_bus, self._connection).RequestName(NAME)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=30)
        self._connection.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                message = self._connection.receive(timeout=0.1)
                if message.header.message_type is MessageType.method_call:
                    self._answer(message, self._connection)

    def _answer(self, message: Message, connection: DBusConnection) -> None:
        member = message.header.fields[HeaderFields.member]
        self.asked.append(member)
        match member:
            case "Get":
                value = {
                    "Operation": ("s", self.operation),
                    "LastError": ("s", self._error),
                    "Progress": ("(isi)", (50, "Copying image to rootfs.1", 2)),
                }[message.body[1]]
                connection.send(new_method_return(message, "v", (value,)))
            case "GetSlotStatus":
                facts = [(name, {k: ("s", v) for k, v in slot.items()}) for name, slot in self.slots.items()]
                connection.send(new_method_return(message, "a(sa{sv})", (facts,)))
            case "Info":
                version = _version(Path(message.body[0]))
                if version is None:
                    connection.send(new_error(message, "org.gtk.GDBus.Failed", "s", ("rauc info error",)))
                else:
                    connection.send(new_method_return(message, "ss", ("rpi5", version)))
            case "InstallBundle":
                connection.send(new_method_return(message))
                emitter = DBusAddress("/", interface=INTERFACE)
                connection.send(new_signal(emitter, "Completed", "i", (self._install(Path(message.body[0])),)))
            case _:
                connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))

    def _install(self, bundle: Path) -> int:
        version = _version(bundle)
        if version is None or b"broken payload" in bundle.read_bytes():
            self._error = "block 1 is corrupted"
            return 1
        self.slots["rootfs.1"] |= {"boot-status": "good", "bundle.version": version}
        return 0


def _version(bundle: Path) -> str | None:
    first = bundle.read_bytes()[:64].split(b"\n")[0]
    return first.removeprefix(SIMULATED_MAGIC).decode() if first.startswith(SIMULATED_MAGIC) else None


@contextmanager
def real_service(folder: Path, bus: str, ca: bytes | None = None) -> Iterator[None]:
    """`rauc service` on a bus, once it answers there. `ca`: whose bundles it believes; default: nobody's."""
    program = shutil.which("rauc")
    assert program is not None, "apt-get install rauc"
    for slot in (0, 1):
        (folder / f"slot-{slot}.img").write_bytes(bytes(1 << 20))
    (folder / "backend").write_text(BACKEND)
    (folder / "backend").chmod(0o755)
    (folder / "ca.pem").write_bytes(ca or new_ca("Bundles").certificate)
    (folder / "system.conf").write_text(SYSTEM_CONF.format(folder=folder))
    environment = {"DBUS_STARTER_BUS_TYPE": "session", "DBUS_SESSION_BUS_ADDRESS": bus, "DBUS_STARTER_ADDRESS": bus}
    process = subprocess.Popen(
        [program, f"--conf={folder}/system.conf", "--override-boot-slot=A", "service"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with open_dbus_connection(bus) as connection:
            deadline_s = time.monotonic() + 60
            while not Proxy(message_bus, connection).NameHasOwner(NAME)[0]:
                assert process.poll() is None, "rauc service ended"
                assert time.monotonic() < deadline_s, "rauc service does not answer"
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)

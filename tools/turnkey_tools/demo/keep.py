"""What `tools/demo --keep` leaves running: the pilot device as four real processes, with the console in front of it.

The processes are those of the units (notary, interlock, booth, console), as one user and over one state directory, so
that every `turnkey` command reaches them. Whatever comes, they end before the site is removed.
"""

from __future__ import annotations

import os
import pwd
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from turnkey.console.officers import Officer, Officers, hashed, weakness, write_officers
from turnkey_tools.pilot import Pilot

START_TIMEOUT_S = 120.0
BADGE = "1001"
PORT = 8180


class KeepFailed(Exception):
    """A process did not start; the message names it."""


def open_device(pilot: Pilot, pictures: list[Path]) -> str:
    """Make the pilot a device of processes with a camera that never runs out and one officer. Returns the PIN.

    Args:
        pictures: what the camera plays, over and over.
    """
    user = pwd.getpwuid(os.getuid()).pw_name
    folder = pilot.root / "run"
    folder.mkdir()
    for old in pilot.pictures.iterdir():
        old.unlink()
    for place, picture in enumerate(pictures):
        (pilot.pictures / f"{place:02}-{picture.name}").write_bytes(picture.read_bytes())
    text = pilot.settings_file.read_text().replace('folder = "pictures"', 'folder = "pictures"\nrepeat = true')
    text = text.replace("[console]\n", f"[console]\nport = {_free_port()}\n")
    state = pilot.settings().state
    users = "".join(f'{who}_user = "{user}"\n' for who in ("booth", "notary", "operator", "interlock", "console"))
    sockets = "".join(
        f'{name} = "{folder / file}"\n'
        for name, file in (("path", "interlock"), ("notary", "notary"), ("booth", "booth"))
    )
    pilot.settings_file.write_text(
        f'{text}\n[interlock.socket]\n{sockets}markers = "{folder}"\n{users}'
        f'booth_state = "{state}"\ninterlock_state = "{state}"\n'
    )
    pin = _pin()
    today = datetime.now(UTC).date()
    write_officers(
        pilot.settings().console.officers,
        Officers(officers=(Officer(badge=BADGE, pin=hashed(pin), trained_on=today),)),
    )
    return pin


@contextmanager
def processes(pilot: Pilot) -> Iterator[str]:
    """Run the four processes; yields the console's address.

    Raises:
        KeepFailed: one of them ended, or did not answer in time.
    """
    sockets = pilot.settings().interlock.socket
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name, its_socket in (("notary", sockets.notary), ("interlock", sockets.path), ("booth", sockets.booth)):
            process = _start(pilot, name)
            running.append(process)
            _wait(name, process, its_socket)
        running.append(_start(pilot, "console"))
        yield f"http://127.0.0.1:{pilot.settings().console.port}/"
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(pilot: Pilot, name: str) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C is for this command, which ends them in their order.
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "turnkey.cli", "--config", str(pilot.settings_file), "run", name], start_new_session=True
    )


def _wait(name: str, process: subprocess.Popen[bytes], its_socket: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not its_socket.is_socket():
        if process.poll() is not None:
            raise KeepFailed(f"the process `{name}` ended by itself (exit {process.returncode})")
        if time.monotonic() > deadline_s:
            raise KeepFailed(f"the process `{name}` did not answer within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.05)


def _free_port() -> int:
    """The console's usual port, or any other where somebody has that one."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise KeepFailed("no port of the loopback interface is free")


def _pin() -> str:
    while weakness(pin := f"{secrets.randbelow(10**6):06}") is not None:
        pass
    return pin

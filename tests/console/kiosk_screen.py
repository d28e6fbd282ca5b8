"""What the kiosk's screen shows: the unit's own programs and flags, over a console on loopback, on a screen in memory.

Exit 0 only if the browser asked the console for its pages and the screen is not empty. The unit's walls (users, system
calls, addresses) are systemd's, and `tests/systemd/check` has them; this is about what stands behind them.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from console.consoles import enlist, free_port, serving  # noqa: E402
from PIL import ImageGrab  # noqa: E402

from turnkey.capture.folder import FolderCamera  # noqa: E402
from turnkey.device import Device  # noqa: E402
from turnkey.interlock.switch import SimulatedSwitch  # noqa: E402
from turnkey_tools.pilot import provision_pilot  # noqa: E402

UNIT = REPOSITORY / "systemd/turnkey-kiosk.service"
PROGRAMS = {"cage": "cage", "chromium": "chromium", "Xvfb": "xvfb"}
NOBODY = 65534
ENOUGH_COLOURS = 40
"""An empty screen has one, and a browser's own grey a few; words on a page have their edges in many."""


def unit_command(port: int, runtime: Path) -> list[str]:
    """The unit's ExecStart, with another port and another place for what is in memory; never as root, as there."""
    (line,) = re.findall(r"(?m)^ExecStart=(.+)$", UNIT.read_text())
    words = shlex.split(line.replace(":8180", f":{port}").replace("/run/turnkey-kiosk", str(runtime)))
    walls = ["setpriv", "--no-new-privs", "--inh-caps=-all"]
    if os.geteuid() == 0:
        shutil.chown(runtime, NOBODY, NOBODY)
        runtime.parent.chmod(0o711)
        walls += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [*walls, *words]


def unit_environment(runtime: Path) -> dict[str, str]:
    """The unit's variables, with another place for what is in memory."""
    lines = re.findall(r"(?m)^Environment=(.+)$", UNIT.read_text())
    pairs = [word.split("=", 1) for line in lines for word in line.split()]
    return {name: value.replace("/run/turnkey-kiosk", str(runtime)) for name, value in pairs}


def deny_write_execute() -> None:
    """As the unit's MemoryDenyWriteExecute=: prctl(2), PR_SET_MDWE; inherited. Kernels before 6.3 do without."""
    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)


@contextmanager
def memory_screen() -> Iterator[str]:
    """An X server that draws into memory, for cage to have a window in. Yields: its DISPLAY."""
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
        pass_fds=(writing,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            yield f":{said.readline().strip()}"
    finally:
        server.kill()
        server.wait()


def colours_on(display: str, picture: Path) -> int:
    """Keep a picture of the screen. Returns: how many colours are on it."""
    image = ImageGrab.grab(xdisplay=display).convert("RGB")
    image.save(picture)
    return len(image.getcolors(1 << 24) or ())


def main() -> int:
    """Show it, and keep the picture."""
    parser = argparse.ArgumentParser(prog="tests/console/kiosk", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", type=Path, help="where the screen is kept, PNG")
    parser.add_argument("--within", type=float, default=180.0, help="seconds until the page has to be there")
    given = parser.parse_args()
    missing = [package for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if missing:
        print(f"kiosk: as root: apt-get install --no-install-recommends {' '.join(missing)}", file=sys.stderr)
        return 2
    os.environ |= {"TURNKEY_ATTESTATION__PUBLISH": "false"}
    with tempfile.TemporaryDirectory(prefix="turnkey-kiosk-") as folder:
        home = Path(folder)
        runtime = home / "run"
        runtime.mkdir(mode=0o700)
        pilot = provision_pilot(home / "pilot", REPOSITORY / "models")
        settings, port = pilot.settings(), free_port()
        enlist(settings.console.officers)
        camera = FolderCamera(pilot.pictures, repeat=True)
        with (
            Device(settings, camera=camera, switch=SimulatedSwitch()) as device,
            serving(device, camera, settings, port),
            memory_screen() as display,
            (home / "kiosk.log").open("wb") as log,
        ):
            in_memory = {"WLR_BACKENDS": "x11", "DISPLAY": display}
            environment = {**os.environ, **unit_environment(runtime), **in_memory}
            kiosk = subprocess.Popen(
                unit_command(port, runtime), env=environment, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=deny_write_execute,
            )  # fmt: skip
            try:
                colours, deadline_s = 0, time.monotonic() + given.within
                while colours < ENOUGH_COLOURS and time.monotonic() < deadline_s and kiosk.poll() is None:
                    time.sleep(2)
                    colours = colours_on(display, given.picture)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(kiosk.pid, signal.SIGKILL)
                kiosk.wait()
        said = (home / "kiosk.log").read_text(errors="replace")
    if colours < ENOUGH_COLOURS:
        print(f"kiosk: nothing was shown within {given.within:.0f} s; it said:\n{said[-3000:]}", file=sys.stderr)
        return 1
    print(f"{given.picture}: the console is on the screen ({colours} colours)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

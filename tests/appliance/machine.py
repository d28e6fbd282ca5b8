"""A device in QEMU: its card, its serial line, and the test agent's port.

Rules kept here:
1. The processor is emulated in software (`accel=tcg`), always: a /dev/kvm that is there but does not work cannot hang a
   boot. The guest's clock counts its instructions (`-icount`): where this machine is busy, the guest's time stands
   still with the guest, so that no lease lapses and no watchdog bites because of what else runs here; and a figure by
   the guest's clock means the same on each machine.
2. Nothing waits without an end, and what ends a wait says what the serial line said last. The ends are far off: an hour
   out here may be minutes in there.
3. `cut_power` is SIGKILL: what the guest had not flushed is lost (cache=none or writethrough; never unsafe).
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

UBOOT = Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin")
ICOUNT = "shift=1,sleep=on,align=off"
"""2 ns for each instruction: 500 million in a second."""
BOOT_S = 3600.0
COMMAND_S = 600.0
"""Enough for a command of ours, by the guest's clock."""
SLOWER = 10.0
"""How many times longer than by the guest's clock a command may take out here."""


class MachineError(Exception):
    """The guest did not do what was waited for."""


@dataclass(frozen=True)
class Answer:
    """What a command in the guest came to."""

    rc: int
    out: str


@dataclass
class Machine:
    """One run of a card, from power to the lack of it.

    Attributes:
        card: the disk image; it is written to.
        log: where the serial line goes; appended to.
        sticks: further disk images, read-only.
        network: the guest reaches this machine's loopback as 10.0.2.2.
    """

    card: Path
    log: Path
    sticks: tuple[Path, ...] = ()
    network: bool = True
    cores: int = 1
    memory_mib: int = 1536
    _process: subprocess.Popen[bytes] | None = None
    _port: socket.socket | None = None
    _pending: bytes = b""
    _asked: int = 0
    started_s: float = field(default=0.0)

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut_power()

    def power_on(self) -> None:
        """Start it. Raises: MachineError."""
        path = self.log.with_suffix(".sock")
        path.unlink(missing_ok=True)
        self.log.with_suffix(".qmp").unlink(missing_ok=True)
        command = self.command(path)
        serial = self.log.open("ab")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=serial, stderr=subprocess.STDOUT)
        serial.close()
        self.started_s = time.monotonic()
        self._pending = b""
        self._connect(path)

    def command(self, path: Path) -> list[str]:
        """QEMU's command line; the agent's port is the socket at `path`. Raises: MachineError."""
        if not UBOOT.exists():
            raise MachineError(f"{UBOOT} is missing: apt-get install u-boot-qemu qemu-system-arm")
        drives = []
        for number, image in enumerate((self.card, *self.sticks)):
            extra = "" if number == 0 else ",readonly=on"
            drives += ["-drive", f"file={image},format=raw,if=none,id=d{number},cache=writethrough{extra}"]
            drives += ["-device", f"virtio-blk-pci,drive=d{number}"]
        net = ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="] if self.network else []
        return [
            "qemu-system-aarch64", "-M", "virt", "-accel", "tcg,thread=single", "-icount", ICOUNT,
            "-cpu", "cortex-a53", "-smp", str(self.cores), "-m", str(self.memory_mib),
            "-display", "none", "-monitor", "none", "-serial", "stdio", "-bios", str(UBOOT),
            *drives, *(net or ["-nic", "none"]),
            "-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-device", "qemu-xhci,id=usb",
            "-chardev", f"socket,id=t,path={path},server=on,wait=off",
            "-device", "virtserialport,chardev=t,name=turnkey.test",
            "-qmp", f"unix:{self.log.with_suffix('.qmp')},server=on,wait=off",
        ]  # fmt: skip

    def _connect(self, path: Path) -> None:
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            try:
                self._port = socket.socket(socket.AF_UNIX)
                self._port.connect(str(path))
                return
            except OSError:
                self._alive()
                time.sleep(0.2)
        raise MachineError("QEMU does not open the agent's port")

    def cut_power(self) -> None:
        """Off, at once."""
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def copy_card(self, target: Path) -> None:
        """Copy the card while the machine stands still: what a power cut would leave. Raises: MachineError."""
        self.must("sync")
        draft = target.with_suffix(".new")
        with self._monitor() as ask:
            ask("stop")
            subprocess.run(["cp", "--sparse=always", self.card, draft], check=True)
            ask("cont")
        draft.replace(target)

    def plug(self, stick: Path) -> None:
        """Put a USB stick in; it is written to. Raises: MachineError."""
        with self._monitor() as ask:
            disk = {"driver": "raw", "node-name": "stick", "file": {"driver": "file", "filename": str(stick)}}
            ask("blockdev-add", **disk)
            ask("device_add", driver="usb-storage", id="stick", drive="stick", bus="usb.0")

    def unplug(self) -> None:
        """Pull the stick out. Raises: MachineError."""
        with self._monitor() as ask:
            ask("device_del", id="stick")
            deadline_s = time.monotonic() + 60
            while time.monotonic() < deadline_s:
                with suppress(MachineError):
                    return ask("blockdev-del", **{"node-name": "stick"})
                time.sleep(0.5)
        raise MachineError("QEMU keeps the stick")

    @contextmanager
    def _monitor(self) -> Iterator[Callable[..., None]]:
        """QEMU's own line, for as long as the block lasts."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(60)
            monitor.connect(str(self.log.with_suffix(".qmp")))
            with monitor.makefile("rwb") as lines:

                def ask(command: str, **arguments: object) -> None:
                    lines.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
                    lines.flush()
                    answer: dict[str, object] = {}
                    while "return" not in answer:
                        answer = json.loads(lines.readline() or b'{"error": "QEMU ended"}')
                        if "error" in answer:
                            raise MachineError(f"{command}: {answer['error']}")

                ask("qmp_capabilities")
                yield ask

    def power_off(self, within_s: float = 1800.0) -> None:
        """Shut down in order; off in any case."""
        try:
            self.run("systemctl poweroff --no-block", timeout_s=60)
            if self._process is not None:
                self._process.wait(within_s)
        except (MachineError, subprocess.TimeoutExpired):
            pass
        self.cut_power()

    @property
    def up_s(self) -> float:
        """Seconds since power, out here."""
        return time.monotonic() - self.started_s

    def guest_s(self) -> float:
        """Seconds since the kernel's start, by the guest's clock. Raises: MachineError."""
        return float(self.must("cat /proc/uptime").split()[0])

    def ready(self, within_s: float = BOOT_S) -> float:
        """Wait until the agent answers. Returns: seconds since power. Raises: MachineError."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            try:
                if self.run("true", timeout_s=5).rc == 0:
                    return self.up_s
            except MachineError:
                self._alive()
        raise MachineError(f"no answer after {within_s:.0f} s; the serial line ends with:\n{self.tail()}")

    def run(self, command: str, timeout_s: float = COMMAND_S) -> Answer:
        """Run shell text as root in the guest, for so many of its seconds. Raises: MachineError without an answer."""
        self._asked += 1
        asked = {"id": self._asked, "command": command, "timeout_s": timeout_s}
        if self._port is None:
            raise MachineError("the machine is off")
        try:
            self._port.settimeout(10)
            self._port.sendall(json.dumps(asked).encode() + b"\n")
        except OSError as error:
            raise MachineError(f"the agent's port is gone: {error}") from error
        deadline_s = time.monotonic() + SLOWER * timeout_s + 60
        while time.monotonic() < deadline_s:
            for line in self._lines():
                if line.get("id") == self._asked:
                    return Answer(int(line["rc"]), str(line["out"]))
        raise MachineError(f"no answer to {command!r}")

    def _lines(self) -> list[dict[str, Any]]:
        assert self._port is not None
        self._port.settimeout(1)
        try:
            got = self._port.recv(1 << 20)
        except TimeoutError:
            self._alive()
            return []
        except OSError as error:
            raise MachineError(f"the agent's port is gone: {error}") from error
        if not got:
            self._alive()
            raise MachineError("the agent's port was closed")
        *lines, self._pending = (self._pending + got).split(b"\n")
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def until(self, command: str, wanted: str, within_s: float, every_s: float = 3.0) -> str:
        """Repeat a command until its output has `wanted` (a pattern). Returns: the output. Raises: MachineError.

        Args:
            command: shell text.
            wanted: the pattern.
            within_s: seconds out here.
            every_s: seconds of the guest's between two questions: asking must not be what keeps it busy.
        """
        deadline_s = time.monotonic() + within_s
        last = Answer(0, "")
        while time.monotonic() < deadline_s:
            try:
                last = self.run(command)
                if re.search(wanted, last.out):
                    return last.out
                self.run(f"sleep {every_s}", every_s + 10)
            except MachineError as error:
                last = Answer(255, str(error))
                self._alive()
        raise MachineError(f"{command!r} did not come to {wanted!r} in {within_s:.0f} s; last:\n{last.out[-3000:]}")

    def must(self, command: str, timeout_s: float = COMMAND_S) -> str:
        """Run a command that has to succeed. Returns: its output. Raises: MachineError."""
        answer = self.run(command, timeout_s)
        if answer.rc:
            raise MachineError(f"{command!r} ended with {answer.rc}:\n{answer.out[-3000:]}")
        return answer.out

    def put(self, source: Path, target: str) -> None:
        """Write a file in the guest. Raises: MachineError."""
        import base64

        text = base64.b64encode(source.read_bytes()).decode()
        self.must(f"mkdir -p $(dirname {target}) && : > {target}")
        for start in range(0, len(text), 60_000):
            self.must(f"printf %s '{text[start : start + 60_000]}' | base64 -d >> {target}")

    def slots_started(self) -> list[str]:
        """Which slot each boot of this log chose, in order, as the boot script said it."""
        return re.findall(r"turnkey: slot=([AB])", self.log.read_text(errors="replace"))

    def _alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise MachineOff(f"the machine is off; the serial line ends with:\n{self.tail()}")

    def tail(self, most: int = 1500) -> str:
        """The end of the serial line."""
        return self.log.read_text(errors="replace")[-most:] if self.log.exists() else ""


class MachineOff(MachineError):
    """QEMU ended."""

"""The card of `image-build/build rpi4` in QEMU's raspi4b: U-Boot, the boot script, the slot, the kernel.

What this cannot show: the board's own firmware (QEMU starts U-Boot in its place), PCIe, USB 3, network, camera, screen.

Rules kept here:
1. The card is a copy of the product's, changed in the kernel's arguments alone: they name a serial line to speak on,
   and keep away from what is not emulated. The device tree is changed in one name: which controller has the card.
2. Keys that would stop U-Boot are pressed on both serial lines all the time: it has to start all the same.
3. Software emulation on one core, always; nothing waits without an end.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TREE: Final = "bcm2711-rpi-4-b.dtb"
CARD_SLOT: Final = "/soc/mmc@7e300000"
"""Where QEMU has the card; a board has the wireless chip there."""
ARGUMENTS: Final = (
    "earlycon=pl011,mmio32,0xfe201000 console=ttyAMA0,115200 "
    "initcall_blacklist=brcmstb_l2_driver_init,brcmstb_i2c_driver_init clk_ignore_unused"
)
"""The screen's interrupt controller, its bus and some clocks are not emulated: touching them ends the kernel."""
POLL_S: Final = 1.0
KEYS: Final = b"\r\x03"
"""Enter, and Control-C."""

STAGES: Final = {
    "U-Boot runs": r"U-Boot \d{4}\.\d\d",
    "the boot script chose slot A": r"turnkey: slot=A .*A=2 B=0",
    "U-Boot started the kernel": r"Starting kernel",
    "the kernel runs on a Pi 4": r"Machine model: Raspberry Pi 4",
    "the initramfs runs": r"Run /init as init process",
    "the root file system is there": r"EXT4-fs \([^)]*\): mounted filesystem",
    "systemd runs": r"systemd\[1\]",
}
"""What is said on a serial line, in the order in which it is said."""

ENOUGH: Final = "the initramfs runs"
"""The card behind it needs a supply that is switched by the board's firmware, which is not emulated."""


class BootError(Exception):
    """The card cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class Stage:
    """One stage of the start."""

    name: str
    reached: bool
    after_s: float


def emulator(folder: Path) -> list[str]:
    """The words that start QEMU: this machine's, or that of a Debian 13 root made in `folder`. Raises: BootError."""
    here = shutil.which("qemu-system-aarch64")
    if here is not None:
        known = subprocess.run([here, "-M", "help"], capture_output=True, text=True, check=False).stdout
        if "raspi4b" in known:
            return [here]
    root = folder / "qemu"
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", "--include=qemu-system-arm",
             "--aptopt=APT::Install-Recommends \"false\"", "trixie", root],
            check=False,
        )  # fmt: skip
        if made.returncode:
            raise BootError(
                "no QEMU with the machine raspi4b (9.0 and up), and no Debian 13 root could be made for one"
            )
        (root / "made").touch()
    # A private mount namespace: what is mounted for the root goes with it.
    inside = 'mount --make-rprivate / && mkdir -p "$0$1" && mount --bind "$1" "$0$1" && exec chroot "$0" "${@:2}"'
    return ["unshare", "--mount", "bash", "-c", inside, str(root), str(folder), "qemu-system-aarch64"]


def prepare(built: Path, out: Path) -> Path:
    """Copy the built card and let its kernel speak. Returns: the copy. Raises: BootError."""
    if not (built / "card.img").exists():
        raise BootError(f"no card in {built}: run image-build/build rpi4 first")
    card = out / "card.img"
    shutil.copyfile(built / "card.img", card)
    size = 1 << (card.stat().st_size - 1).bit_length()
    with card.open("r+b") as file:  # QEMU takes only sizes that a card can have
        file.truncate(size)
    script = (built / "boot/boot.scr").read_bytes()
    text = script[script.index(b"# ") :].decode()
    spoken, count = re.subn(r"console=tty1[^\"]*", ARGUMENTS, text)
    if count != 1:
        raise BootError("the boot script names no console that could be replaced")
    (out / "boot.cmd").write_text(spoken)
    _do("mkimage", "-A", "arm64", "-T", "script", "-C", "none", "-d", out / "boot.cmd", out / "boot.scr")
    _do("mcopy", "-o", "-i", f"{card}@@1M", out / "boot.scr", "::/boot.scr")
    return card


def serial_line(log: Path) -> list[str]:
    """The words that give QEMU's machine one more serial line: `log` has what it says, a socket beside it the keys."""
    port = f"socket,id={log.stem},path={log.with_suffix('.sock')},server=on,wait=off,logfile={log}"
    return ["-chardev", port, "-serial", f"chardev:{log.stem}"]


def press(line: socket.socket | None, log: Path) -> socket.socket | None:
    """Press `KEYS` on a line, once it is there. Returns: the line, to be pressed again."""
    try:
        if line is None:
            line = socket.socket(socket.AF_UNIX)
            line.connect(str(log.with_suffix(".sock")))
            line.setblocking(False)
        line.send(KEYS)
        line.recv(1 << 16)  # the log has it too
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except BlockingIOError:
        pass
    return line


def watch(command: list[str], lines: list[Path], limit_s: float) -> list[Stage]:
    """Run QEMU until the last stage, or until the time is up. Returns: each stage, reached or not."""
    began = time.monotonic()
    reached: dict[str, float] = {}
    keyboards: dict[Path, socket.socket | None] = dict.fromkeys(lines)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as running:
        try:
            while running.poll() is None and len(reached) < len(STAGES) and time.monotonic() - began < limit_s:
                time.sleep(POLL_S)
                keyboards = {line: press(keyboard, line) for line, keyboard in keyboards.items()}
                said = "\n".join(line.read_text(errors="replace") for line in lines if line.exists())
                for name, wanted in STAGES.items():
                    if name not in reached and re.search(wanted, said):
                        reached[name] = time.monotonic() - began
                        print(f"boot-rpi4: {name}, after {reached[name]:.0f} s", file=sys.stderr, flush=True)
        finally:
            running.kill()
            for keyboard in filter(None, keyboards.values()):
                keyboard.close()
    return [Stage(name, name in reached, round(reached.get(name, 0.0), 1)) for name in STAGES]


def _do(*words: str | Path) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BootError(f"{words[0]} ended with {done.returncode}: {done.stderr.strip()}")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="tests/image/boot-rpi4", description=__doc__)
    parser.add_argument("--built", type=Path, default=REPOSITORY / "build/rpi4", help="what image-build/build left")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build/rpi4-test", help="folder for everything")
    parser.add_argument("--minutes", type=float, default=60.0, help="give up after so long")
    given = parser.parse_args()
    out, built = given.out.resolve(), given.built.resolve()
    out.mkdir(parents=True, exist_ok=True)
    lines = [out / "serial0.log", out / "serial1.log"]
    for line in lines:
        line.unlink(missing_ok=True)
        line.with_suffix(".sock").unlink(missing_ok=True)
    try:
        qemu = emulator(out)
        card = prepare(built, out)
        for name in ("u-boot.bin", TREE):
            shutil.copyfile(built / "boot" / name, out / name)
        _do("fdtput", "-t", "s", out / TREE, "/aliases", "mmc0", CARD_SLOT)
        stages = watch(
            [*qemu, "-M", "raspi4b", "-global", "bcm2838.enabled-cpus=1", "-accel", "tcg", "-display", "none",
             "-monitor", "none", *(word for line in lines for word in serial_line(line)),
             "-kernel", str(out / "u-boot.bin"), "-dtb", str(out / TREE),
             "-drive", f"if=sd,format=raw,file={card}"],
            lines, given.minutes * 60,
        )  # fmt: skip
    except (BootError, OSError) as error:
        print(f"boot-rpi4: {error}", file=sys.stderr)
        return 1
    print(json.dumps({stage.name: {"reached": stage.reached, "after_s": stage.after_s} for stage in stages}, indent=1))
    return 0 if all(stage.reached for stage in stages[: list(STAGES).index(ENOUGH) + 1]) else 1


if __name__ == "__main__":
    sys.exit(main())

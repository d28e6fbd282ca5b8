"""One start of the amd64 image in QEMU, with UEFI firmware: GRUB's counters, the health check, a card that is larger.

Rules kept here:
1. The image is the product's with the test agent laid over it; the key is the interlock's simulated one, because the
   wires of `tests/appliance/key_wires` are made for the arm64 kernel. What the key does is shown there.
2. Software emulation, always; nothing waits without an end.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.appliance.desk import ReleaseDesk
from tests.appliance.machine import BOOT_S, ICOUNT, Machine, MachineError
from tests.appliance.site import REPOSITORY, make_identity, make_site

BOARD = "qemu-amd64"
FIRMWARE = (Path("/usr/share/OVMF/OVMF_CODE.fd"), Path("/usr/share/OVMF/OVMF_VARS.fd"))
LARGER_MIB = 1024
HEALTH_S = 1500.0
NOT_HERE = ("etc/systemd/system/turnkey-test-gpio.service",)


class Pc(Machine):
    """A PC with UEFI firmware, from power to the lack of it."""

    def command(self, path: Path) -> list[str]:
        """QEMU's command line; the agent's port is the socket at `path`."""
        variables = self.log.with_suffix(".vars")
        shutil.copyfile(FIRMWARE[1], variables)
        return [
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=single", "-icount", ICOUNT, "-cpu", "Nehalem"),
            *("-smp", str(self.cores), "-m", str(self.memory_mib), "-display", "none", "-monitor", "none"),
            *("-serial", "stdio", "-nic", "user,model=virtio-net-pci", "-device", "virtio-rng-pci"),
            *("-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE[0]}"),
            *("-drive", f"if=pflash,format=raw,file={variables}"),
            *("-drive", f"file={self.card},format=raw,if=none,id=d0,cache=writethrough"),
            *("-device", "virtio-blk-pci,drive=d0,bootindex=0", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=t,path={path},server=on,wait=off"),
            *("-device", "virtserialport,chardev=t,name=turnkey.test"),
        ]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    holds: bool
    found: str


def prepare(out: Path, rebuild: bool) -> Path:
    """Build what is not there, and make the card. Returns: the card. Raises: MachineError."""
    if not all(path.exists() for path in FIRMWARE) or shutil.which("qemu-system-x86_64") is None:
        raise MachineError("as root: apt-get install --no-install-recommends qemu-system-x86 ovmf")
    overlay, identity, card = out / "overlay", out / "identity", out / "card.img"
    shutil.rmtree(overlay, ignore_errors=True)
    shutil.copytree(REPOSITORY / "tests/appliance/overlay", overlay)
    for name in NOT_HERE:
        (overlay / name).unlink()
    preset = overlay / "etc/systemd/system-preset/00-test.preset"
    preset.write_text("enable turnkey-test-agent.service\n")
    if rebuild or not (out / BOARD / "slot.ext4").exists():
        _do("build", BOARD, "--out", out, "--loud", "--root-only", "--version", "1.0", "--overlay", overlay)
    for folder in (identity, out / "site", out / "desk"):
        shutil.rmtree(folder, ignore_errors=True)
    ports = (_free_port(), _free_port())
    make_identity(make_site(out / "site", ports[0]), ReleaseDesk(out / "desk"), identity, ports)
    (identity / "gpio-chip").unlink()
    settings = (identity / "device.toml").read_text().partition("[interlock.lines]")[0]
    settings = settings.replace('adapter = "gpio"', 'adapter = "simulated"').replace(
        "turnkey-qemu-arm64", "turnkey-" + BOARD
    )
    (identity / "device.toml").write_text(settings)
    _do("card", BOARD, "--out", out, "--identity", identity, "--card", card)
    with card.open("r+b") as file:
        file.truncate(card.stat().st_size + (LARGER_MIB << 20))
    return card


def examine(machine: Machine) -> list[Check]:
    """Look at the running device, once it is settled. Raises: MachineError."""
    machine.until("systemctl is-active turnkey-health.service; systemctl is-failed turnkey-health.service",
                  r"(?m)^(active|failed)$", HEALTH_S, every_s=15)  # fmt: skip
    asked = {
        "slot A started": ("cat /proc/cmdline", r"rauc\.slot=A"),
        "root cannot be written": ("findmnt -no OPTIONS /; touch /turnkey-was-here 2>&1", r"^ro,[\s\S]*Read-only"),
        "health kept the slot": ("journalctl -b -o cat -u turnkey-health", r"slot A: keep"),
        "GRUB's counters": ("cat /boot/firmware/EFI/BOOT/grubenv", r"A_OK=1[\s\S]*A_TRY=0"),
        "RAUC calls it good": ("rauc status --output-format=shell", r"RAUC_SLOT_BOOT_STATUS_\d='?good"),
        "recognition is stopped": ("/usr/bin/turnkey status --json", r'(?i)"state": *"moratorium"'),
        "no unit failed": ("systemctl --failed --no-legend --plain; echo end", r"^end"),
        "listeners": ("ss -Hlntu", r""),
    }
    found = [_look(machine, name, *question) for name, question in asked.items()]
    partition = int(machine.must("cat /sys/class/block/$(basename $(readlink -f /dev/turnkey/data))/size")) // 2048
    files = int(machine.must("df --output=size -m /var | tail -1"))
    grown = f"partition {partition} MiB, file system {files} MiB"
    found.append(Check("data fills the card", partition >= 512 + LARGER_MIB - 4 and files > 0.9 * partition, grown))
    return found


def _look(machine: Machine, name: str, command: str, wanted: str) -> Check:
    said = machine.run(command, 240).out.strip()
    return Check(name, re.search(wanted, said) is not None, said[-600:])


def _do(program: str, *words: str | Path) -> None:
    done = subprocess.run([sys.executable, REPOSITORY / "image-build" / program, *words], check=False)
    if done.returncode:
        raise MachineError(f"image-build/{program} ended with {done.returncode}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="tests/image/boot-amd64", description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build/amd64-test", help="folder for everything")
    parser.add_argument("--rebuild", action="store_true", help="build the image although it is there")
    given = parser.parse_args()
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "serial.log").unlink(missing_ok=True)
    try:
        with Pc(prepare(out, given.rebuild), out / "serial.log") as machine:
            ready_s = machine.ready(BOOT_S * 2)
            checks = examine(machine)
            journal = machine.run("journalctl -b --no-pager -o short-monotonic | tail -n 1500", 240).out
            (out / "journal.log").write_text(journal)
            machine.power_off()
    except MachineError as error:
        print(f"boot-amd64: {error}", file=sys.stderr)
        return 1
    report = {
        "agent_answered_s": round(ready_s),
        "checks": {each.name: {"holds": each.holds, "found": each.found} for each in checks},
    }
    print(json.dumps(report, indent=1))
    return 0 if all(each.holds for each in checks) else 1


if __name__ == "__main__":
    sys.exit(main())

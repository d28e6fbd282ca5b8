"""What comes on a USB stick, and leaves on one: the only hand that reaches into an image, which has no login."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.appliance.machine import MachineError
from tests.appliance.workshop import SETTLE_S, Run

STICK_KIB = 64 * 1024
ENDED = "journalctl -b -q -u turnkey-stick -o cat --grep '^turnkey-stick.service: (Deactivated|Failed)' | wc -l"
"""How often the unit came to an end. systemd itself forgets it each time."""


def stick(run: Run) -> dict[str, object]:
    """A stopped device is released by two sticks, and says on them what it did; another one is not looked at."""
    run.until_state("MORATORIUM")
    run.turn_key(True)
    run.until_key(True)
    other = _made(run, "HOLIDAYS", {"orders/none.json": b"not an order"})
    run.machine.plug(other)
    run.machine.until("lsblk -no LABEL", "HOLIDAYS", SETTLE_S)
    run.machine.must("udevadm settle")
    assert "turnkey" not in run.machine.must("lsblk -no MOUNTPOINTS /dev/sd?"), "a stick of another name was mounted"
    run.machine.unplug()

    asked = _offered(run, {"orders/none.json": b"not an order", "ledger/": b""})
    refused, exported = _report(asked)
    assert refused["file"] == "orders/none.json", refused
    assert refused["exit"] == 1, refused
    assert exported["exit"] == 0, exported
    ledger = _read(asked, "ledger/booth-1")
    run.until_state("MORATORIUM")

    order = run.signed_release(_read(asked, "booth-1.request.json").decode())
    (taken,) = _report(_offered(run, {"orders/release.json": order}))
    assert taken["exit"] == 0, taken
    run.until_state("RUNNING")
    run.turn_key(False)
    run.until_state("MORATORIUM")
    return {"refused": refused["said"], "ledger_bytes": len(ledger), "released": taken["said"]}


def _offered(run: Run, files: dict[str, bytes]) -> Path:
    """Put a stick in, wait until the device is done with it, pull it out. Returns: its image."""
    image = _made(run, "TURNKEY-IN", files)
    before = int(run.machine.must(ENDED))
    run.machine.plug(image)
    run.machine.until(ENDED, rf"^{before + 1}$", SETTLE_S)
    run.machine.until("mountpoint -q /run/turnkey/stick || echo gone", "gone", SETTLE_S)
    run.machine.unplug()
    return image


def _made(run: Run, name: str, files: dict[str, bytes]) -> Path:
    image = run.prepared.out / "usb.img"
    image.unlink(missing_ok=True)
    _do("mkfs.vfat", "-n", name, "-C", image, str(STICK_KIB))
    for path, content in files.items():
        folder, _, file = path.rpartition("/")
        _do("mmd", "-i", image, f"::/{folder}")
        if file:
            source = run.prepared.out / "usb.file"
            source.write_bytes(content)
            _do("mcopy", "-i", image, source, f"::/{path}")
    return image


def _read(image: Path, path: str) -> bytes:
    return _do("mcopy", "-n", "-i", image, f"::/{path}", "-")


def _report(image: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _read(image, "booth-1.report.jsonl").splitlines()]


def _do(*words: str | Path) -> bytes:
    done = subprocess.run([str(word) for word in words], capture_output=True, check=False)
    if done.returncode:
        raise MachineError(f"{words[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout

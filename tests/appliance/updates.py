"""New systems: one that is kept, one that is not, and one whose installation loses its power.

Rules kept here:
1. Which slot was started is what the boot script said on the serial line, not what the guest says of itself.
2. A power cut is SIGKILL to the machine, at a moment that the seed decides, while RAUC writes the other slot.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.appliance.card import BOARD, COMPATIBLE, VERSIONS
from tests.appliance.life import SETTLE_S
from tests.appliance.machine import MachineError
from tests.appliance.site import REPOSITORY
from tests.appliance.workshop import Run

INSTALL_S = 2400.0
RETURN_S = 3600.0


def bundle_of(run: Run, version: str) -> Path:
    """The signed bundle of a version, made where it is not there. Raises: MachineError."""
    out = run.prepared.out
    bundle = out / f"turnkey-{VERSIONS[version]}.raucb"
    if not bundle.exists():
        folder = out / f"bundling-{version}" / BOARD
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps({"version": VERSIONS[version]}))
        slot = folder / "slot.ext4"
        slot.unlink(missing_ok=True)
        slot.hardlink_to(run.prepared.slots[version])
        keys = out / "throwaway-keys"
        made = subprocess.run(
            [sys.executable, REPOSITORY / "image-build/bundle", BOARD, "--out", folder.parent,
             "--ca", keys / "bundle-ca.pem", "--certificate", keys / "bundle-signer.pem",
             "--key", keys / "bundle-signer.key"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode:
            raise MachineError(made.stderr[-2000:])
        (folder / bundle.name).replace(bundle)
    return bundle


def stick_with(run: Run, version: str) -> Path:
    """A stick (an ext4 image) with the bundle of a version on it."""
    bundle = bundle_of(run, version)
    stick = run.prepared.out / f"stick-{version}.img"
    if not stick.exists():
        folder = run.prepared.out / f"stick-{version}"
        folder.mkdir(exist_ok=True)
        target = folder / "update.raucb"
        target.unlink(missing_ok=True)
        target.hardlink_to(bundle)
        mib = bundle.stat().st_size // 2**20 + 64
        subprocess.run(["/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, stick, f"{mib}M"], check=True)
    return stick


def version_running(run: Run) -> str:
    """IMAGE_VERSION of the system that runs."""
    said = run.machine.must("cat /etc/os-release")
    found = re.search(r'IMAGE_VERSION="?([^"\n]+)', said)
    return found.group(1) if found else "none"


def slots(run: Run) -> dict[str, dict[str, str]]:
    """RAUC's view, by boot name."""
    status = json.loads(run.machine.must("rauc status --output-format=json"))
    return {state["bootname"]: state for entry in status["slots"] for state in entry.values()}


def start_with_stick(run: Run, stick: Path) -> None:
    """Switch the machine on with a stick in it, and mount that."""
    run.power_off()
    machine = run.new_machine(stick)
    machine.power_on()
    machine.ready()
    machine.until("systemctl show -P ActiveState turnkey-health", r"^active", 1800, 10)
    machine.must("mkdir -p /run/stick && mount -o ro /dev/vdb /run/stick")


def offer(run: Run, version: str) -> None:
    """Have IT publish a version for every device, where it has not."""
    named = VERSIONS[version]
    known = run.desk.repository / "published/targets"
    if not any(f"-{named}" in path.name or f"{named}." in path.name for path in known.glob("*")):
        run.desk.offer(bundle_of(run, version), named, COMPATIBLE)


def settled(run: Run) -> None:
    """Wait until the running slot has its verdict."""
    run.machine.until("systemctl show -P ActiveState turnkey-health", r"^(active|failed)", 1800, 10)


def started_since(run: Run, before: int, wanted: int, within_s: float) -> list[str]:
    """The slots that were started after the first `before` ones, waiting for so many of them. Raises: MachineError."""
    deadline_s = time.monotonic() + within_s
    while len(seen := run.machine.slots_started()[before:]) < wanted:
        if time.monotonic() > deadline_s:
            raise MachineError(f"{len(seen)} of {wanted} starts in {within_s:.0f} s; the serial line ends with:\n"
                               + run.machine.tail())  # fmt: skip
        time.sleep(3)
    return seen


def tampered_is_refused(run: Run) -> None:
    """A bundle whose payload was changed after it was signed: RAUC takes the file, and must not install it."""
    start_with_stick(run, stick_with(run, "v2"))
    run.machine.must("cp /run/stick/update.raucb /run/bad.raucb", 300)
    run.machine.must("printf x | dd of=/run/bad.raucb bs=1 seek=5000000 conv=notrunc 2> /dev/null")
    tried = run.machine.run("rauc install /run/bad.raucb", INSTALL_S)
    assert tried.rc != 0, "a bundle with another payload was installed"
    run.power_off()


def update(run: Run) -> dict[str, object]:
    """v2 comes over TUF, is installed into the other slot, started, found well by the device itself, and kept."""
    tampered_is_refused(run)
    offer(run, "v2")
    settled(run)
    before, started = version_running(run), len(run.machine.slots_started())
    began = time.monotonic()
    run.machine.must("systemctl start --no-block turnkey-update.service")
    (slot,) = started_since(run, started, 1, INSTALL_S)
    installed_s = round(time.monotonic() - began)
    run.machine.ready()
    settled(run)
    after, states = version_running(run), slots(run)
    assert (before, after) == (VERSIONS["v1"], VERSIONS["v2"]), f"{before} became {after}"
    assert states[slot]["state"] == "booted"
    assert states[slot]["boot_status"] == "good", f"slot {slot}: {states[slot]}"
    assert run.state() == "MORATORIUM", "an update brought a device back that was not released"
    return {"tampered_bundle": "refused", "fetched_installed_restarted_s": installed_s, "from": before, "to": after,
            "slot": slot, "marked": "good"}  # fmt: skip


def rollback(run: Run) -> dict[str, object]:
    """v3 has an interlock unit that is not the product's: its health check fails, and the device returns to v2."""
    offer(run, "v3")
    settled(run)
    before, started = version_running(run), len(run.machine.slots_started())
    booted = next(name for name, state in slots(run).items() if state["state"] == "booted")
    began = time.monotonic()
    run.machine.must("systemctl start --no-block turnkey-update.service")
    seen = started_since(run, started, 2, INSTALL_S + RETURN_S)
    assert seen[0] != booted, "the new slot was never started"
    assert seen[-1] == booted, f"no return to slot {booted}: {seen}"
    run.machine.ready()
    settled(run)
    assert version_running(run) == before
    assert run.state() == "MORATORIUM"
    return {"tried": seen[0], "returned_to": booted, "version": before, "total_s": round(time.monotonic() - began)}


def powercut(run: Run) -> dict[str, object]:
    """The power goes at random moments of an update; every time the device starts, and is stopped as it was."""
    moments = random.Random(run.seed)  # noqa: S311 - moments, not secrets
    stick = stick_with(run, "v2")
    cuts = []
    for number in range(run.cuts):
        start_with_stick(run, stick)
        before = version_running(run)
        assert run.state() == "MORATORIUM"
        run.machine.must("systemd-run --unit=cut-install --collect rauc install /run/stick/update.raucb")
        wait_s = moments.uniform(1.0, 60.0)
        time.sleep(wait_s)
        under_way = run.machine.run("systemctl is-active cut-install", 60).out.strip()
        run.cut_power()
        run.machine.until("systemctl is-active turnkey-interlock", r"^active", SETTLE_S)
        run.until_state("MORATORIUM", SETTLE_S)
        after = version_running(run)
        assert after in (before, VERSIONS["v2"]), f"cut {number}: {before} became {after}"
        cuts.append({"after_s": round(wait_s, 1), "install": under_way, "version": after})
    return {"seed": run.seed, "cuts": cuts}

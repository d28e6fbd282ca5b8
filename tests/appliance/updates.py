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

from tests.appliance.card import BOARD, VERSIONS
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


def update(run: Run) -> dict[str, object]:
    """v2 is installed into the other slot, started, found well by the device itself, and kept."""
    start_with_stick(run, stick_with(run, "v2"))
    before = version_running(run)
    tampered = run.machine.run(
        "cp /run/stick/update.raucb /run/bad.raucb && "
        "printf x | dd of=/run/bad.raucb bs=1 seek=5000000 conv=notrunc 2> /dev/null && rauc install /run/bad.raucb",
        INSTALL_S,
    )
    run.machine.run("rm -f /run/bad.raucb")
    assert tampered.rc != 0, "a bundle with another payload was installed"
    began = time.monotonic()
    run.machine.must("rauc install /run/stick/update.raucb", INSTALL_S)
    took = time.monotonic() - began
    run.machine.run("systemctl reboot --no-block", 30)
    time.sleep(20)
    run.machine.ready()
    run.machine.until("systemctl show -P ActiveState turnkey-health", r"^(active|failed)", 1800, 10)
    after, states = version_running(run), slots(run)
    booted = next(name for name, state in states.items() if state["state"] == "booted")
    assert (before, after) == (VERSIONS["v1"], VERSIONS["v2"]), f"{before} became {after}"
    assert states[booted]["boot_status"] == "good", f"slot {booted}: {states[booted]['boot_status']}"
    assert run.state() == "MORATORIUM", "an update brought a device back that was not released"
    return {"tampered_bundle": "refused", "install_s": round(took), "from": before, "to": after, "slot": booted,
            "marked": "good", "slots_started": run.machine.slots_started()[-3:]}  # fmt: skip


def rollback(run: Run) -> dict[str, object]:
    """v3 has an interlock unit that is not the product's: its health check fails, and the device returns to v2."""
    start_with_stick(run, stick_with(run, "v3"))
    before = version_running(run)
    booted = next(name for name, state in slots(run).items() if state["state"] == "booted")
    started = len(run.machine.slots_started())
    run.machine.must("rauc install /run/stick/update.raucb", INSTALL_S)
    run.machine.run("systemctl reboot --no-block", 30)
    began = time.monotonic()
    seen: list[str] = []
    while time.monotonic() - began < RETURN_S:
        seen = run.machine.slots_started()[started:]
        if len(seen) >= 2 and seen[-1] == booted:
            break
        time.sleep(5)
    assert seen[:1] != [booted], "the new slot was never started"
    assert seen[-1:] == [booted], f"no return to slot {booted}: {seen}"
    run.machine.ready()
    run.machine.until("systemctl show -P ActiveState turnkey-health", r"^active", 1800, 10)
    assert version_running(run) == before
    assert run.state() == "MORATORIUM"
    return {"tried": seen[0], "returned_to": booted, "slots_started": seen, "version": before,
            "return_s": round(time.monotonic() - began)}  # fmt: skip


def powercut(run: Run) -> dict[str, object]:
    """The power goes at random moments of an installation; every time the device starts, and is where it was."""
    moments = random.Random(run.seed)  # noqa: S311 - moments, not secrets
    stick = stick_with(run, "v2")
    cuts = []
    for number in range(run.cuts):
        start_with_stick(run, stick)
        before = version_running(run)
        state = run.state()
        run.machine.must("systemd-run --unit=cut-install --collect rauc install /run/stick/update.raucb")
        wait_s = moments.uniform(1.0, 60.0)
        time.sleep(wait_s)
        under_way = run.machine.run("systemctl is-active cut-install", 60).out.strip()
        run.cut_power()
        run.machine.until("systemctl is-active turnkey-interlock", r"^active", SETTLE_S)
        run.until_state("MORATORIUM", SETTLE_S)
        after = version_running(run)
        assert after in (before, VERSIONS["v2"]), f"cut {number}: {before} became {after}"
        assert state == "MORATORIUM"
        cuts.append({"after_s": round(wait_s, 1), "install": under_way, "version": after})
    return {"seed": run.seed, "cuts": cuts}

"""New systems: one that is kept, one that is not, and one whose installation loses its power.

Rules kept here:
1. Which slot was started is what the boot script said on the serial line, not what the guest says of itself.
2. A power cut is SIGKILL to the machine, at a moment that the seed decides, while RAUC writes the other slot.
"""

from __future__ import annotations

import json
import random
import re
import time
from contextlib import suppress

from tests.appliance.bundles import VERSIONS, make_bundle
from tests.appliance.card import BOARD, COMPATIBLE
from tests.appliance.machine import MachineError
from tests.appliance.workshop import SETTLE_S, Run

INSTALL_S = 3600.0
RETURN_S = 7200.0
ENDED_TIMES = 5
"""How often the updater is seen ended, without its marker for a restart, before it counts."""


def version_running(run: Run) -> str:
    """IMAGE_VERSION of the system that runs."""
    said = run.machine.must("cat /etc/os-release")
    found = re.search(r'IMAGE_VERSION="?([^"\n]+)', said)
    return found.group(1) if found else "none"


def slots(run: Run) -> dict[str, dict[str, str]]:
    """RAUC's view, by boot name."""
    status = json.loads(run.machine.must("rauc status --output-format=json"))
    return {state["bootname"]: state for entry in status["slots"] for state in entry.values()}


def stick(run: Run) -> str:
    """Mount the stick in the guest. Returns: where."""
    run.machine.must("mkdir -p /run/stick && { mountpoint -q /run/stick || mount -o ro /dev/vdb /run/stick; }")
    return "/run/stick"


def offer(run: Run, version: str) -> None:
    """Have IT publish a version for every device, where it has not."""
    named, out = VERSIONS[version], run.prepared.out
    known = run.desk.repository / "published/targets"
    if not any(f"-{named}" in path.name or f"{named}." in path.name for path in known.glob("*")):
        run.desk.offer(make_bundle(out, BOARD, out / BOARD / "slot.ext4", version), named, COMPATIBLE)


def settled(run: Run) -> None:
    """Wait until the running slot has its verdict."""
    run.machine.until("systemctl show -P ActiveState turnkey-health", r"^(active|failed)", SETTLE_S, 10)


def started_since(run: Run, before: int, wanted: int, within_s: float) -> list[str]:
    """The slots that were started after the first `before` ones, waiting for so many of them.

    Raises:
        MachineError: not in time, or the updater ended without a restart.
    """
    deadline_s, ended = time.monotonic() + within_s, 0
    while len(seen := run.machine.slots_started()[before:]) < wanted:
        if time.monotonic() > deadline_s:
            raise MachineError(f"{len(seen)} of {wanted} starts in {within_s:.0f} s; the serial line ends with:\n"
                               + run.machine.tail())  # fmt: skip
        if not seen and (said := _updater_ended(run)):
            ended += 1
            if ended == ENDED_TIMES:
                raise MachineError(f"the updater ended, and nothing was started: {said}")
        with suppress(MachineError):
            run.machine.run("sleep 5", 10)
    return seen


def _updater_ended(run: Run) -> str:
    """What the updater said where it has ended; nothing while it works, or while nobody answers."""
    with suppress(MachineError):
        state = run.machine.run("systemctl show -P ActiveState turnkey-update; ls /run/turnkey-update", 15).out
        if state.startswith(("inactive", "failed")) and "restart" not in state:
            return state + run.machine.run("journalctl -b -u turnkey-update --no-pager | tail -n 15", 15).out
    return ""


def tampered_is_refused(run: Run) -> str:
    """A bundle whose payload was changed after it was signed must not be installed. Returns: RAUC's word."""
    tried = run.machine.run(f"rauc install {stick(run)}/tampered.raucb", INSTALL_S)
    assert tried.rc != 0, "a bundle with another payload was installed"
    return tried.out.strip().splitlines()[-1][-200:]


def update(run: Run) -> dict[str, object]:
    """v2 comes over TUF, is installed into the other slot, started, found well by the device itself, and kept."""
    settled(run)
    tampered = tampered_is_refused(run)
    offer(run, "v2")
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
    return {"tampered_bundle": tampered, "fetched_installed_restarted_s": installed_s, "from": before, "to": after,
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
    """The power goes at random moments of an installation; every time the device starts, and is stopped as it was. In
    the end an installation that nobody disturbs is taken, started and kept."""
    moments = random.Random(run.seed)  # noqa: S311 - moments, not secrets
    settled(run)
    began = time.monotonic()
    whole = run.machine.run(f"rauc install {stick(run)}/update.raucb", INSTALL_S)
    assert whole.rc == 0, whole.out[-2000:]
    whole_s = time.monotonic() - began
    cuts = []
    for number in range(run.cuts):
        before, started = version_running(run), len(run.machine.slots_started())
        assert run.state() == "MORATORIUM"
        run.machine.must(f"systemd-run --collect --unit=cut-install rauc install {stick(run)}/update.raucb", 120)
        wait_s = moments.uniform(0.0, whole_s)
        time.sleep(wait_s)
        run.cut_power()
        up_s = round(run.machine.up_s)
        run.machine.until("systemctl is-active turnkey-interlock", r"^active", SETTLE_S)
        run.until_state("MORATORIUM")
        settled(run)
        states = slots(run)
        (slot,) = run.machine.slots_started()[started:]
        assert states[slot]["boot_status"] == "good", f"cut {number}: slot {slot}: {states[slot]}"
        after = version_running(run)
        assert after in (before, VERSIONS["v2"]), f"cut {number}: {before} became {after}"
        cuts.append({"after_s": round(wait_s, 1), "slot": slot, "version": after, "agent_s": up_s})
    return {"seed": run.seed, "whole_install_s": round(whole_s), "cuts": cuts, "then": installed_and_started(run)}


def installed_and_started(run: Run) -> dict[str, str]:
    """Install the stick's bundle and restart in order. Returns: the slot that was kept, and its version."""
    started = len(run.machine.slots_started())
    installed = run.machine.run(f"rauc install {stick(run)}/update.raucb", INSTALL_S)
    assert installed.rc == 0, installed.out[-2000:]
    left = next(name for name, state in slots(run).items() if state["state"] == "booted")
    run.power_off()
    settled(run)
    (slot,) = run.machine.slots_started()[started:]
    states = slots(run)
    assert slot != left, f"slot {slot} was started again after an installation into the other"
    assert states[slot]["boot_status"] == "good", f"slot {slot}: {states[slot]}"
    run.until_state("MORATORIUM")
    return {"slot": slot, "version": version_running(run)}

"""From the first power to a turned key: boot, commission, booking, switch."""

from __future__ import annotations

import json
import re
import threading
import time

from tests.appliance.machine import MachineError
from tests.appliance.workshop import KEY, SETTLE_S, Run

from turnkey_tools.leads.keys import device_keys
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription

ALWAYS_UP = ("turnkey-interlock", "turnkey-notary", "turnkey-uplink")
EXPOSURE = {"turnkey-booth": 1.5, "turnkey-interlock": 1.5, "turnkey-notary": 1.5, "turnkey-uplink": 2.0,
            "turnkey-update": 2.0}  # fmt: skip
DESK = "lead-desk"
BOOTHS_PROCESSES = "/sys/fs/cgroup/system.slice/turnkey-booth.service/cgroup.procs"


def boot(run: Run) -> dict[str, object]:
    """A card fresh from the recipe starts, is locked down, and is in moratorium."""
    assert run.broker.port
    machine = run.machine
    figures: dict[str, object] = {"agent_s": round(machine.ready()), "agent_guest_s": round(machine.guest_s())}
    for unit in ALWAYS_UP:
        machine.until(f"systemctl is-active {unit}", r"^active", SETTLE_S)
    run.until_state("MORATORIUM")
    figures |= {"interlock_up_s": round(machine.up_s), "interlock_up_guest_s": round(machine.guest_s())}
    assert machine.run("systemctl is-active turnkey-booth").out.strip() != "active", "the booth runs in a moratorium"
    figures["slot_kept"] = _slot_kept(run)
    figures |= {"ready_s": round(machine.up_s), "ready_guest_s": round(machine.guest_s())}
    figures["memory_free_mib"] = int(machine.must("awk '/MemAvailable/ {print $2}' /proc/meminfo")) // 1024
    figures["systemd_cpu_guest_s"] = round(sum(map(int, machine.must("cut -d' ' -f14,15 /proc/1/stat").split())) / 100)
    figures |= _locked_down(run)
    figures["exposure"] = _exposure(run)
    sealed = machine.must("ls /var/lib/turnkey-site/credstore.encrypted").split()
    assert {"gallery.key", "signing.key", "mqtt.key"} <= set(sealed), f"sealed: {sealed}"
    assert not machine.must("ls /var/lib/turnkey-site/secrets").split(), "plain secrets are left on the card"
    return figures


def _slot_kept(run: Run) -> str:
    """The slot that the device's own health check kept, waited for."""
    said = run.machine.until("systemctl show -P ActiveState turnkey-health", r"^(active|failed)", SETTLE_S, 10)
    assert said.startswith("active"), run.machine.run("journalctl -b -u turnkey-health --no-pager | tail -n 20").out
    states = json.loads(run.machine.must("rauc status --output-format=json"))["slots"]
    (kept,) = [state for entry in states for state in entry.values() if state["state"] == "booted"]
    assert kept["boot_status"] == "good", f"the slot that runs: {kept}"
    return str(kept["bootname"])


def _locked_down(run: Run) -> dict[str, object]:
    """The root cannot be written, nobody can log in, nothing listens but on loopback."""
    machine = run.machine
    assert machine.run("touch /usr/x /etc/x").rc != 0, "the root file system can be written"
    ways_in = machine.must("cat /proc/[0-9]*/comm | grep -cE 'getty|^login$|sshd' || true").strip()
    assert ways_in == "0", "a getty or an SSH server runs"
    shadow = machine.must("cut -d: -f1,2 /etc/shadow").split()
    assert all(re.search(r":[!*]", line) for line in shadow), f"somebody has a password: {shadow}"
    listening = machine.must("ss -Hlntup").splitlines()
    outside = [line for line in listening if not re.search(r"\s(127\.|\[::1\])", line)]
    assert not outside, f"somebody listens: {outside}"
    failed = machine.must("systemctl --failed --no-legend --plain | cut -d' ' -f1").split()
    return {"failed_units": failed, "listeners": [line.split()[0] + " " + line.split()[4] for line in listening]}


def _exposure(run: Run) -> dict[str, float]:
    """systemd's figure for each unit, as it is installed."""
    figures = {}
    for unit, limit in EXPOSURE.items():
        said = run.machine.run(f"systemd-analyze security --no-pager {unit}.service | tail -1").out
        found = re.search(r"(\d+\.\d+)", said)
        assert found, said
        figures[unit] = float(found.group(1))
        assert figures[unit] <= limit, f"{unit}: exposure {figures[unit]} above {limit}"
    return figures


def commission(run: Run) -> dict[str, object]:
    """The key alone starts nothing; the key and two of three signatures start the booth."""
    run.until_state("MORATORIUM")
    run.turn_key(True)
    run.until_key(True)
    assert run.state() == "MORATORIUM", "the key alone started something"
    run.release()
    run.until_state("RUNNING")
    began_s = run.machine.guest_s()
    run.machine.until("systemctl is-active turnkey-booth", r"^active", SETTLE_S)
    return {"booth_up_guest_s": round(run.machine.guest_s() - began_s, 1)}


def _running(run: Run) -> None:
    """Bring a device that is stopped back into operation, as its people would."""
    assert run.broker.port
    run.machine.until("systemctl is-active turnkey-interlock", r"^active", SETTLE_S)
    run.turn_key(True)
    run.until_key(True)
    if run.state() != "RUNNING":
        run.release()
    run.until_state("RUNNING")
    run.machine.until("systemctl is-active turnkey-booth", r"^active", SETTLE_S)


def booking(run: Run) -> dict[str, object]:
    """A case is opened, a person is booked inside the guest, and the lead arrives, signed, at the desk out here."""
    _running(run)
    leads: list[object] = []
    ready, end = threading.Event(), threading.Event()

    def listen() -> None:
        site = run.prepared.site
        keys = device_keys(site.desk_device_keys(DESK))
        with (
            Store(run.prepared.out / f"desk-{time.time_ns()}.db") as store,
            Subscription(site.desk(DESK), run.broker.host, run.broker.port, keys, store) as desk,
        ):
            ready.set()
            while not end.is_set():
                verdict = desk.next(1.0)
                if verdict is not None:
                    leads.append(verdict)

    desk = threading.Thread(target=listen, daemon=True)
    desk.start()
    ready.wait(60)
    try:
        enrolled = run.turnkey("enrol-case C-2026-1 --json")
        assert enrolled.rc == 0, enrolled.out
        booked = run.turnkey("book B-1 --json")
        assert booked.rc == 0, booked.out
        deadline_s = time.monotonic() + SETTLE_S
        while not leads and time.monotonic() < deadline_s:
            time.sleep(1)
        assert leads, f"no lead came to the desk in {SETTLE_S:.0f} s"
    finally:
        end.set()
        desk.join(30)
    for answer in (enrolled, booked):
        assert json.loads(answer.out.strip().splitlines()[-1])["outcome"] in ("enrolled", "recorded"), answer.out
    said = json.loads(booked.out.strip().splitlines()[-1])
    return {"leads": len(leads), "desk_said": type(leads[0]).__name__, "stages_ms": said.get("stages_ms")}


def switch(run: Run) -> dict[str, object]:
    """The key is turned off: the booth is gone, nothing is booked, and neither the key nor a restart brings it back."""
    _running(run)
    timed = run.machine.must(
        f"s=$(date +%s%N); echo 0 > {KEY}; "
        "while [ -e /run/turnkey-interlock/running ]; do :; done; m=$(date +%s%N); "
        f"while read -r process < {BOOTHS_PROCESSES}; do :; done 2> /dev/null; e=$(date +%s%N); "
        "echo $(( (m - s) / 1000000 )) $(( (e - s) / 1000000 ))"
    ).split()
    assert run.state() == "MORATORIUM"
    refused = run.turnkey("book B-2 --json")
    assert refused.rc != 0, f"a booking went through in a moratorium: {refused.out}"
    left = run.machine.must("stat -c %U /proc/[0-9]* 2> /dev/null | grep -cx turnkey-booth || true").strip()
    assert left == "0", f"{left} processes of the booth are left"
    run.turn_key(True)
    run.machine.must("sleep 5")
    assert run.state() == "MORATORIUM", "the key alone started it again"
    run.power_off()
    run.turn_key(True)
    run.machine.until("systemctl is-active turnkey-interlock", r"^active", SETTLE_S)
    run.until_state("MORATORIUM")
    if run.machine.run("systemctl is-active turnkey-booth").out.strip() == "active":
        raise MachineError("the booth runs after a restart in a moratorium")
    return {"marker_ms": int(timed[0]), "booth_gone_ms": int(timed[1]), "after_restart": "MORATORIUM"}

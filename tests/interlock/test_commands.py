"""The device's commands for authority, key and process, on a provisioned pilot."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from patience import wait_for
from typer.testing import CliRunner

from turnkey.cli import app
from turnkey.interlock.authority import AUTHORITY_TYPE
from turnkey.interlock.daemon import OPERATOR_RIGHTS, Daemon
from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.machine import State
from turnkey.interlock.orders import MORATORIUM_TYPE, ReleaseRequest, make_moratorium_order
from turnkey.interlock.switch import SimulatedSwitch
from turnkey_tools.authority import sign_with, throwaway_authority


def turnkey(pilot, *words: str):
    return CliRunner().invoke(app, ["--config", str(pilot.settings_file), *words])


def test_a_device_follows_the_successor_of_its_authority_and_no_other(pilot):
    successor = throwaway_authority("Demonstration")
    document = successor.authority.model_copy(update={"version": 2})
    roots = (*pilot.authority.bodies["root"].keys[:2], *successor.bodies["root"].keys[:2])
    usurper = pilot.root / "usurper.json"
    usurper.write_bytes(sign_with(AUTHORITY_TYPE, document.payload(), roots[2:]))
    refused = turnkey(pilot, "authority", "follow", str(usurper))
    assert refused.exit_code == 1
    assert "not-signed" in refused.stderr
    file = pilot.root / "second.json"
    file.write_bytes(sign_with(AUTHORITY_TYPE, document.payload(), roots))
    followed = turnkey(pilot, "authority", "follow", str(file))
    assert followed.exit_code == 0, followed.stderr
    assert "version 2" in followed.stdout
    assert turnkey(pilot, "authority", "follow", str(file)).exit_code == 1
    payload = make_moratorium_order("*", "chief", now=datetime.now(UTC))
    for bodies, accepted in ((pilot.authority, False), (successor, True)):
        order = pilot.root / f"{accepted}.json"
        order.write_bytes(bodies.sign(MORATORIUM_TYPE, payload, "chief"))
        assert (turnkey(pilot, "order", "apply", str(order)).exit_code == 0) == accepted
    assert "stopped by chief" in turnkey(pilot, "status").stdout


def test_without_a_notary_there_is_no_interlock_process(pilot):
    with pilot.settings_file.open("a") as settings:
        settings.write(f'\n[interlock.socket]\nnotary = "{pilot.root}/nobody"\npath = "{pilot.root}/socket"\n')
    pilot.settings().state.mkdir(exist_ok=True)
    run = turnkey(pilot, "run", "interlock")
    assert run.exit_code == 2
    assert "nothing runs" in run.stderr
    assert not (pilot.root / "socket").exists()


def test_orders_go_to_the_interlocks_own_process_where_there_is_one(pilot):
    with pilot.settings_file.open("a") as text:
        text.write(f'\n[interlock.socket]\npath = "{pilot.root}/socket"\nmarkers = "{pilot.root}"\n')
    settings = pilot.settings()
    settings.state.mkdir(exist_ok=True)
    switch = SimulatedSwitch()
    interlock = Interlock(
        switch,
        Latch(settings.state / "latch"),
        device_id=pilot.device_id,
        authority=pilot.authority.authority,
        settings=settings.interlock,
        monotonic_ns=time.monotonic_ns,
        utc_now=lambda: datetime.now(UTC),
        witness=[].append,
    )
    daemon = Daemon(interlock, settings.interlock, rights={os.getuid(): OPERATOR_RIGHTS}, orders=[].append).start()
    try:
        request = ReleaseRequest.model_validate_json(turnkey(pilot, "order", "request").stdout)
        order = pilot.root / "release.json"
        order.write_bytes(pilot.release(request))
        early = turnkey(pilot, "order", "apply", str(order))
        assert early.exit_code == 1
        assert "key-open" in early.stderr
        switch.close_key()
        wait_for(lambda: interlock.status().key_closed)
        applied = turnkey(pilot, "order", "apply", str(order))
        assert applied.exit_code == 0, applied.stderr
        assert "RUNNING" in applied.stdout
        assert interlock.state is State.RUNNING
    finally:
        daemon.close()


def test_a_device_whose_gpio_chip_is_absent_is_in_fault(pilot):
    text = pilot.settings_file.read_text().replace('adapter = "simulated"', 'adapter = "gpio"')
    lines = {name: number for number, name in enumerate(("channel_a", "channel_b", "relay_feedback", "pulse_a"))}
    lines |= {"pulse_b": 8, "lamp": 9}
    named = "\n".join(f"{name} = {number}" for name, number in lines.items())
    pilot.settings_file.write_text(f'{text}\n[interlock.lines]\nchip = "/dev/no-such-chip"\n{named}\n')
    status = turnkey(pilot, "status", "--json")
    assert status.exit_code == 0, status.stderr
    assert '"FAULT"' in status.stdout
    assert "switch-unreadable" in status.stdout
    assert "it must be put right" in turnkey(pilot, "status").stdout
    assert turnkey(pilot, "book", "B-1").exit_code == 1
    assert turnkey(pilot, "key", "closed").exit_code == 1

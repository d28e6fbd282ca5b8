"""The units keep the design's table: what each process has, and what it has not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from turnkey.cli import app
from turnkey.commands.update import BOOT_VARIABLE, boot_id
from turnkey.interlock.daemon import UPDATE_RIGHTS
from turnkey.settings import ConsoleSettings, SocketSettings, UpdateSettings
from turnkey.update.refusals import UpdateError

UNITS = Path(__file__).parents[2] / "systemd"
SERVICES = ("interlock", "booth", "notary", "uplink", "update", "console")
OFFLINE = ("interlock", "booth", "notary", "console")


def unit(name: str) -> list[tuple[str, str]]:
    """Every assignment of a unit, in order."""
    text = (UNITS / name).read_text()
    return [
        (key, value)
        for key, _, value in (line.partition("=") for line in text.splitlines())
        if value is not None and re.fullmatch(r"[A-Z][A-Za-z]+", key)
    ]


def values(service: str, key: str) -> list[str]:
    return [value for name, value in unit(f"turnkey-{service}.service") if name == key]


def has(service: str, key: str, value: str) -> bool:
    return value in values(service, key)


def test_exposure_is_within_the_limits_and_systemd_accepts_every_unit():
    assert shutil.which("systemd-analyze"), "apt-get install systemd"
    run = subprocess.run([Path(__file__).with_name("check")], capture_output=True, text=True, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("service", OFFLINE)
def test_what_touches_faces_keys_or_the_switch_has_no_network(service):
    assert has(service, "PrivateNetwork", "yes")
    assert values(service, "RestrictAddressFamilies") == ["AF_UNIX"]
    assert has(service, "IPAddressDeny", "any")


@pytest.mark.parametrize("service", ["uplink", "update"])
def test_what_has_a_network_reaches_nobody_until_provisioned_and_sees_no_device(service):
    assert values(service, "IPAddressDeny") == ["any"]
    assert values(service, "IPAddressAllow") == []
    assert has(service, "PrivateDevices", "yes")
    hidden = " ".join(values(service, "InaccessiblePaths"))
    for folder in ("turnkey-booth", "turnkey-notary", "turnkey-interlock"):
        assert folder in hidden


@pytest.mark.parametrize("service", SERVICES)
def test_devices_are_closed_but_for_the_ones_of_the_table(service):
    allowed = {
        "interlock": ["/dev/gpiochip0 rw"],
        "booth": ["char-video4linux rw", "char-media rw", "char-dma_heap rw"],
    }
    assert values(service, "DevicePolicy") == ["closed"]
    assert values(service, "DeviceAllow") == allowed.get(service, [])


def test_each_secret_goes_to_one_process_as_an_encrypted_credential():
    secrets = {
        "interlock": ["gallery.key"],
        "notary": ["signing.key"],
        "uplink": ["mqtt.key"],
        "booth": ["encryption.key"],
        "update": [],
        "console": [],
    }
    for service, expected in secrets.items():
        assert values(service, "LoadCredentialEncrypted") == expected


@pytest.mark.parametrize("service", SERVICES)
def test_each_process_is_a_user_of_its_own_that_sysusers_makes(service):
    made = re.findall(r"^u\s+(\S+)", (UNITS / "turnkey.sysusers").read_text(), re.MULTILINE)
    groups = re.findall(r"^g\s+(\S+)", (UNITS / "turnkey.sysusers").read_text(), re.MULTILINE)
    assert values(service, "User") == [f"turnkey-{service}"]
    assert f"turnkey-{service}" in made
    for group in (*values(service, "Group"), *" ".join(values(service, "SupplementaryGroups")).split()):
        assert group in made + groups


@pytest.mark.parametrize("service", SERVICES)
def test_every_unit_gives_up_privileges_and_filters_system_calls(service):
    assert has(service, "NoNewPrivileges", "yes")
    assert values(service, "CapabilityBoundingSet") == [""]
    assert has(service, "ProtectSystem", "strict")
    assert has(service, "MemoryDenyWriteExecute", "yes")
    assert values(service, "SystemCallFilter")[0] == "@system-service"


@pytest.mark.parametrize("service", ["interlock", "booth", "notary", "console"])
def test_long_running_processes_have_a_watchdog(service):
    assert values(service, "Type") == ["notify"]
    assert values(service, "WatchdogSec")


def test_servers_that_ask_who_is_calling_have_no_user_namespace():
    """In one, SO_PEERCRED names every caller nobody."""
    for service in ("interlock", "notary", "booth"):
        assert "yes" not in values(service, "PrivateUsers")


def test_the_console_outlives_a_moratorium_and_has_one_socket_on_loopback_passed_in():
    console, passed = dict(unit("turnkey-console.service")), unit("turnkey-console.socket")
    assert "Conflicts" not in console
    assert "BindsTo" not in console
    assert console["Requires"] == "turnkey-console.socket"
    assert [value for key, value in passed if key.startswith("Listen")] == [f"127.0.0.1:{ConsoleSettings().port}"]


def test_a_stick_is_offered_by_root_with_no_network_and_only_one_with_its_name_is_looked_at():
    assert values("stick", "User") == []
    assert values("stick", "CapabilityBoundingSet") == ["CAP_DAC_OVERRIDE CAP_SETUID CAP_SETGID"]
    assert has("stick", "PrivateNetwork", "yes")
    assert has("stick", "NoNewPrivileges", "yes")
    hidden = " ".join(values("stick", "InaccessiblePaths"))
    assert all(folder in hidden for folder in ("turnkey-booth", "turnkey-interlock", "turnkey-outbox"))
    mount = dict(unit("run-turnkey-stick.mount"))
    assert values("stick", "ExecStart") == [f"/usr/bin/turnkey stick {mount['Where']}"]
    assert {"nodev", "nosuid", "noexec"} <= set(mount["Options"].split(","))
    rule = (UNITS / "turnkey.rules").read_text().replace("\\\n", "").splitlines()[-1]
    for wanted in ('ENV{ID_BUS}=="usb"', 'ENV{ID_FS_TYPE}=="vfat"', 'ENV{ID_FS_LABEL}=="TURNKEY-IN"'):
        assert wanted in rule
    assert f'SYMLINK+="{mount["What"].removeprefix("/dev/")}"' in rule
    assert 'ENV{SYSTEMD_WANTS}+="turnkey-stick.service"' in rule


def test_the_booth_goes_with_the_interlock_and_with_a_moratorium_and_within_a_second():
    booth = dict(unit("turnkey-booth.service"))
    assert booth["BindsTo"] == "turnkey-interlock.service"
    assert booth["Conflicts"] == "moratorium.target"
    assert booth["TimeoutStopSec"] == "500ms", "after up to 250 ms of draining"
    assert dict(unit("moratorium.target"))["Conflicts"] == "turnkey-booth.service"


def test_the_booth_is_started_by_the_interlocks_marker_and_nothing_else():
    markers = SocketSettings().markers
    assert dict(unit("turnkey-running.path")) | {"Description": ""} == {
        "Description": "",
        "PathExists": f"{markers}/running",
        "Unit": "turnkey-booth.service",
        "WantedBy": "multi-user.target",
    }
    assert dict(unit("turnkey-stopped.path"))["PathExists"] == f"{markers}/stopped"
    assert "WantedBy" not in dict(unit("turnkey-booth.service"))
    assert has("interlock", "RuntimeDirectory", markers.name)


def test_a_booth_started_by_hand_while_stopped_does_not_start():
    """Its condition is the path unit's own file: a path that is there with a condition that fails is tried for ever."""
    started_by = dict(unit("turnkey-running.path"))["PathExists"]
    conditions = [value for key, value in unit("turnkey-booth.service") if key.startswith("Condition")]
    assert conditions == [started_by]


def test_no_path_unit_gives_up_or_starts_without_a_pause():
    """It checks again as soon as what it started is inactive, and fails for good with that one's start limit."""
    for path in UNITS.glob("*.path"):
        started = dict(unit(path.name))["Unit"]
        if started.endswith(".target"):
            # A target stays active until something conflicts with it; nothing pulls it down while the marker is there.
            target = dict(unit(started)) if (UNITS / started).exists() else {}
            assert "StopWhenUnneeded" not in target
        else:
            service = dict(unit(started))
            assert service["StartLimitIntervalSec"] == "0"
            assert (service["Restart"], service["RestartSec"]) == ("always", "2s")


def test_the_interlock_starts_again_whatever_happens_to_it():
    assert values("interlock", "Restart") == ["always"]
    assert has("interlock", "StartLimitIntervalSec", "0")


@pytest.mark.parametrize("service", SERVICES)
def test_each_units_program_is_a_command_that_exists(service):
    (line,) = values(service, "ExecStart")
    program, *words = line.split()
    assert program == "/usr/bin/turnkey"
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    assert command.callback is not None


def test_the_sockets_are_where_the_units_make_room_for_them():
    sockets = SocketSettings()
    for service, path in (("interlock", sockets.path), ("notary", sockets.notary), ("booth", sockets.booth)):
        assert path.parts[:2] == ("/", "run")
        assert values(service, "RuntimeDirectory") == [path.parent.name]


def test_the_outbox_is_the_one_that_notary_and_uplink_share():
    folder = "/var/lib/turnkey-outbox"
    assert has("notary", "Environment", f"TURNKEY_OUTBOX={folder}/outbox.db")
    assert has("uplink", "Environment", f"TURNKEY_STATE={folder}")
    assert has("notary", "ReadWritePaths", folder)
    assert has("uplink", "ReadWritePaths", folder)


def test_the_updater_asks_for_a_restart_and_may_not_cause_one():
    """A marker in its own runtime directory, which a path unit turns into a restart."""
    marker = UpdateSettings().restart_marker
    assert dict(unit("turnkey-restart.path"))["PathExists"] == str(marker)
    assert dict(unit("turnkey-restart.path"))["Unit"] == "reboot.target"
    assert has("update", "RuntimeDirectory", marker.parent.name)
    assert has("update", "RuntimeDirectoryPreserve", "yes")
    assert has("update", "StateDirectory", UpdateSettings().folder.name)


def test_nothing_is_written_over_the_other_slot_before_the_running_one_has_its_verdict():
    assert "turnkey-health.service" in " ".join(values("update", "After")).split()
    assert values("health", "Type") == ["oneshot"], "so that what comes after it waits for its end"


def test_an_updater_ended_by_the_restart_that_it_asked_for_has_not_failed():
    """systemd counts SIGTERM as an orderly end for every type but this one."""
    assert values("update", "Type") == ["oneshot"]
    assert values("update", "SuccessExitStatus") == ["SIGTERM"]
    assert values("update", "TimeoutStartSec"), "which ends it as failed, whatever the signal"


def test_the_updater_knows_the_boot_although_it_does_not_see_the_kernels_files(monkeypatch: pytest.MonkeyPatch):
    assert has("update", "ProcSubset", "pid")
    assert has("update", "Environment", f"{BOOT_VARIABLE}=%b")
    by_kernel = boot_id()
    assert re.fullmatch(r"[0-9a-f]{32}", by_kernel)
    monkeypatch.setenv(BOOT_VARIABLE, by_kernel)
    monkeypatch.setattr("turnkey.commands.update.BOOT_FILE", Path("/nowhere"))
    assert boot_id() == by_kernel
    monkeypatch.delenv(BOOT_VARIABLE)
    with pytest.raises(UpdateError):
        boot_id()


def test_the_updater_reaches_the_ledger_and_neither_latch_nor_keys():
    assert has("update", "SupplementaryGroups", "turnkey-record turnkey-lease")
    assert frozenset({"status", "authority"}) == UPDATE_RIGHTS, "no lease, no order"
    written = " ".join(values("update", "ReadWritePaths"))
    assert written.split() == ["-/var/lib/turnkey-policy", "-/var/lib/turnkey-models"]
    assert "-/var/lib/turnkey-interlock" in " ".join(values("update", "InaccessiblePaths"))


def test_sysusers_accepts_its_file():
    assert shutil.which("systemd-sysusers"), "apt-get install systemd"
    run = subprocess.run(
        ["systemd-sysusers", "--dry-run", str(UNITS / "turnkey.sysusers")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Creating user 'turnkey-interlock'" in run.stderr

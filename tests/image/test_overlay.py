"""What runs on the device beside its units: the slot's verdict, the site's drop-ins, the sealing of secrets."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

OVERLAY = Path(__file__).parents[2] / "image-build/overlay"
UNITS = Path(__file__).parents[2] / "systemd"


@pytest.fixture(scope="module")
def settle() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("settle_slot", str(OVERLAY / "usr/lib/turnkey/settle-slot"))
    spec = importlib.util.spec_from_loader("settle_slot", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def slots(a: str, b: str) -> list[dict[str, str]]:
    return [{"bootname": "A", "boot_status": a}, {"bootname": "B", "boot_status": b}]


def test_a_slot_that_is_well_is_kept(settle: ModuleType) -> None:
    assert settle.verdict(True, "B", slots("good", "bad")) == "keep"


def test_a_slot_that_is_not_well_gives_way_to_the_good_one(settle: ModuleType) -> None:
    assert settle.verdict(False, "B", slots("good", "good")) == "return"


def test_without_a_good_slot_the_device_stays_up_and_does_not_restart_for_ever(settle: ModuleType) -> None:
    assert settle.verdict(False, "A", slots("good", "bad")) == "stay"


@pytest.mark.parametrize(("other", "decision"), [("bad", "keep"), ("good", "return")])
def test_a_system_without_an_identity_is_kept_only_where_no_other_is_good(
    settle: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: str, decision: str
) -> None:
    monkeypatch.setattr(settle, "SITE", tmp_path / "none")
    assert settle.verdict(settle.healthy(), "A", slots("good", other)) == decision


MARKED_GOOD, MARKED_BAD = ["status", "mark-good", "booted"], ["status", "mark-bad", "booted"]
OTHER_MARKED_BAD = ["status", "mark-bad", "other"]


@pytest.mark.parametrize(
    ("well", "other", "first", "wanted"),
    [
        (False, "bad", "A", []),
        (False, "good", "A", [MARKED_BAD, ["/usr/bin/systemctl", "reboot"]]),
        (True, "bad", "A", [MARKED_GOOD]),
        (True, "good", "A", [MARKED_GOOD, OTHER_MARKED_BAD]),
        (True, "good", "B", [MARKED_GOOD]),
        (None, "bad", "A", [MARKED_GOOD]),
    ],
)
def test_a_slot_is_marked_bad_only_where_there_is_a_better_one(
    settle: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    well: bool | None,
    other: str,
    first: str,
    wanted: list[list[str]],
) -> None:
    """The slot that runs is A; the other one is also bad once A is well, unless it is the next to be tried."""
    did: list[list[str]] = []
    named = {f"rootfs.{slot['bootname']}": slot for slot in slots("good", other)}
    status = {"booted": "A", "boot_primary": f"rootfs.{first}", "slots": [{name: slot} for name, slot in named.items()]}

    def rauc(*words: str) -> str:
        if "--output-format=json" not in words:
            did.append(list(words))
        return json.dumps(status)

    monkeypatch.setattr(settle, "healthy", lambda: well)
    monkeypatch.setattr(settle, "rauc", rauc)
    monkeypatch.setattr(settle.subprocess, "run", lambda words, **_: did.append(words))
    assert settle.main() == (1 if well is False else 0)
    assert did == wanted


def test_an_examination_that_does_not_end_has_failed(
    settle: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = subprocess.run
    monkeypatch.setattr(settle.subprocess, "run", lambda _words, **options: run(["sleep", "600"], **options))
    monkeypatch.setattr(settle, "SITE", tmp_path)
    for name in ("ROUND_S", "EXAMINATION_S", "PATIENCE_S"):
        monkeypatch.setattr(settle, name, 0.1)
    assert settle.healthy() is False


def test_the_unit_outlasts_the_patience_of_the_verdict(settle: ModuleType) -> None:
    assert "TimeoutStartSec=25min\n" in (UNITS / "turnkey-health.service").read_text()
    assert settle.PATIENCE_S + settle.ROUND_S + settle.EXAMINATION_S < 25 * 60


def test_raucs_list_of_slots_is_read(settle: ModuleType) -> None:
    status = {"slots": [{"rootfs.0": {"bootname": "A", "boot_status": "good"}}, {"rootfs.1": {"bootname": "B"}}]}
    assert [slot["bootname"] for slot in settle.slots_of(status)] == ["A", "B"]


def examination(**checks: bool) -> str:
    return json.dumps({"checks": [{"name": name.replace("_", "-"), "holds": holds} for name, holds in checks.items()]})


def test_a_changed_interlock_unit_is_not_waited_for(settle: ModuleType) -> None:
    assert settle.beyond_mending(examination(interlock_units_unchanged=False, ledger_appends=True))


def test_a_unit_that_is_late_is_waited_for(settle: ModuleType) -> None:
    assert not settle.beyond_mending(examination(units_up=False, ledger_appends=True))


def test_while_the_ledger_does_not_answer_nothing_is_final(settle: ModuleType) -> None:
    assert not settle.beyond_mending(examination(interlock_units_unchanged=False, ledger_appends=False))


@pytest.mark.parametrize("said", ["", "settings: nothing", "[]", '{"checks": 3}'])
def test_a_health_check_that_says_nothing_readable_is_asked_again(settle: ModuleType, said: str) -> None:
    assert not settle.beyond_mending(said)


def generate(tmp_path: Path, **files: str) -> dict[str, str]:
    site, target = tmp_path / "site", tmp_path / "units"
    site.mkdir()
    target.mkdir()
    for name, text in files.items():
        path = site / name.replace("__", "/").replace("_", "-")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    subprocess.run(
        [OVERLAY / "usr/lib/systemd/system-generators/turnkey-site", target, target, target],
        env={**os.environ, "TURNKEY_SITE": str(site)},
        check=True,
    )
    return {path.parent.name: path.read_text() for path in target.rglob("*.conf")}


def test_a_site_without_addresses_reaches_nobody(tmp_path: Path) -> None:
    assert generate(tmp_path) == {}


def test_the_brokers_address_is_allowed_for_the_uplink_alone(tmp_path: Path) -> None:
    made = generate(tmp_path, uplink_addresses="192.0.2.10\n2001:db8::/64\n")
    assert made == {"turnkey-uplink.service.d": "[Service]\nIPAddressAllow=192.0.2.10\nIPAddressAllow=2001:db8::/64\n"}


def test_a_line_that_is_no_address_allows_nothing(tmp_path: Path) -> None:
    made = generate(tmp_path, uplink_addresses="any\n0.0.0.0/0\nExecStart=/bin/sh\n192.0.2.10 x\n")
    assert made == {"turnkey-uplink.service.d": "[Service]\n"}


def test_another_chip_replaces_the_interlocks_and_is_a_chip(tmp_path: Path) -> None:
    made = generate(tmp_path, gpio_chip="/dev/gpiochip4\n")
    assert made == {"turnkey-interlock.service.d": "[Service]\nDeviceAllow=\nDeviceAllow=/dev/gpiochip4 rw\n"}


def test_what_is_no_chip_opens_no_device(tmp_path: Path) -> None:
    assert generate(tmp_path, gpio_chip="/dev/mem\n") == {}


def test_a_device_without_a_key_for_the_update_server_asks_for_none(tmp_path: Path) -> None:
    assert "LoadCredential" not in "".join(generate(tmp_path, update_addresses="192.0.2.9\n").values())


@pytest.mark.parametrize("place", ["secrets__update.key", "credstore.encrypted__update.key"])
def test_a_key_for_the_update_server_is_the_update_units_alone(tmp_path: Path, place: str) -> None:
    made = generate(tmp_path, **{place: "key"})
    assert list(made) == ["turnkey-update.service.d"]
    lines = made["turnkey-update.service.d"].splitlines()
    assert {"LoadCredentialEncrypted=update.key", "Environment=TURNKEY_UPDATE__KEY=%d/update.key"} <= set(lines)


def test_one_process_waits_for_health_and_a_lasting_fault_is_not_waited_for(
    settle: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = [examination(units_up=False, ledger_appends=True), examination(models_verified=False, ledger_appends=True)]
    asked: list[list[str]] = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 1, said[len(asked) - 1], "")

    monkeypatch.setattr(settle.subprocess, "run", run)
    monkeypatch.setattr(settle, "SITE", tmp_path)
    monkeypatch.setattr(settle, "ROUND_S", 0.1)
    assert settle.healthy() is False
    assert asked == [["/usr/bin/turnkey", "health", "--json", "--wait", "0.1"]] * 2


@pytest.fixture
def sealing(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A site, and a stand-in for systemd-creds, which needs a host key that tests have no business making."""
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_in = programs / "systemd-creds"
    stand_in.write_text('#!/bin/sh\n[ "$1" = encrypt ] || exit 9\n{ echo "$2"; base64 "$3"; } > "$4"\n')
    stand_in.chmod(0o755)
    site = tmp_path / "site"
    (site / "secrets").mkdir(parents=True)
    (site / "secrets/signing.key").write_text("secret")
    return site, {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TURNKEY_SITE": str(site)}


def seal(environment: dict[str, str]) -> None:
    subprocess.run([OVERLAY / "usr/lib/turnkey/seal-identity"], env=environment, check=True)


def test_secrets_are_sealed_and_the_plain_ones_go(sealing: tuple[Path, dict[str, str]]) -> None:
    site, environment = sealing
    seal(environment)
    assert list((site / "secrets").iterdir()) == []
    assert sorted(path.name for path in (site / "credstore.encrypted").iterdir()) == ["gallery.key", "signing.key"]


def test_sealing_again_changes_nothing(sealing: tuple[Path, dict[str, str]]) -> None:
    site, environment = sealing
    seal(environment)
    before = {path.name: path.read_bytes() for path in (site / "credstore.encrypted").iterdir()}
    seal(environment)
    assert {path.name: path.read_bytes() for path in (site / "credstore.encrypted").iterdir()} == before


def test_a_gallery_key_that_exists_is_never_replaced(sealing: tuple[Path, dict[str, str]]) -> None:
    site, environment = sealing
    seal(environment)
    before = (site / "credstore.encrypted/gallery.key").read_bytes()
    (site / "secrets/gallery.key").write_bytes(b"x" * 32)
    seal(environment)
    assert (site / "credstore.encrypted/gallery.key").read_bytes() == before


def test_a_secret_that_cannot_be_sealed_is_kept(sealing: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    site, environment = sealing
    (tmp_path / "bin/systemd-creds").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        seal(environment)
    assert (site / "secrets/signing.key").read_text() == "secret"


def test_everything_that_starts_is_in_the_preset_and_the_rest_is_off() -> None:
    lines = (OVERLAY / "etc/systemd/system-preset/00-turnkey.preset").read_text().splitlines()
    assert lines[-1] == "disable *"
    enabled = {line.split()[1] for line in lines if line.startswith("enable turnkey-") and "*" not in line}
    assert enabled <= {path.name for path in UNITS.iterdir()}
    assert not any("ssh" in line or "getty" in line for line in lines)


def test_health_alone_marks_a_slot_good() -> None:
    finish = (OVERLAY.parent / "finish.sh").read_text()
    assert "systemctl mask --quiet rauc-mark-good.service" in finish
    assert "ExecStart=/usr/lib/turnkey/settle-slot" in (UNITS / "turnkey-health.service").read_text()

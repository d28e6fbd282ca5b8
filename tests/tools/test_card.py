"""A card's identity: whole or not there, and only what the device itself would start with."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata
from typer.testing import CliRunner
from update.repository import Repository

from turnkey.settings import read_settings
from turnkey_tools.cli import app
from turnkey_tools.pilot import Pilot

HARDWARE = """
[camera]
adapter = "folder"
folder = "pictures"
[interlock]
adapter = "gpio"
[interlock.lines]
chip = "/dev/gpiochip0"
channel_a = 5
channel_b = 6
relay_feedback = 13
pulse_a = 19
pulse_b = 26
lamp = 21
"""


class Bench:
    def __init__(self, pilot: Pilot, folder: Path) -> None:
        self.pilot, self.out = pilot, folder / "identity"
        self.hardware, self.root = folder / "hardware.toml", folder / "1.root.json"
        self.hardware.write_text(HARDWARE)
        self.root.write_bytes(Repository().first_root)

    def make(self, *words: str, host: str = "192.0.2.7", device: str = "") -> tuple[int, str]:
        pilot = self.pilot
        files = ("--authority", str(pilot.authority_file), "--policy", str(pilot.policy_file))
        arguments = [str(pilot.site.root), device or pilot.device_id, str(self.out), *files]
        result = CliRunner().invoke(
            app, ["card", *arguments, "--broker", host, "--hardware", str(self.hardware), *words]
        )
        return result.exit_code, result.output

    def updates(self) -> tuple[str, ...]:
        server = ("--update-server", "https://192.0.2.8/turnkey", "--update-root", str(self.root))
        return (*server, "--group", "pilot", "--board", "turnkey-rpi5")


@pytest.fixture
def bench(pilot: Pilot, tmp_path: Path) -> Bench:
    return Bench(pilot, tmp_path)


def test_everything_the_first_boot_needs_is_there_and_the_device_reads_it(bench: Bench) -> None:
    code, said = bench.make(*bench.updates(), "--update-address", "198.51.100.0/24")
    assert code == 0, said
    settings = read_settings(bench.out / "device.toml")
    assert settings.device_id == bench.pilot.device_id
    assert settings.update.server == "https://192.0.2.8/turnkey"
    assert (settings.update.group, settings.update.board) == ("pilot", "turnkey-rpi5")
    assert settings.update.root == bench.out / "update-root.json"
    assert settings.interlock.adapter == "gpio"
    assert (bench.out / "uplink-addresses").read_text() == "192.0.2.7\n"
    assert (bench.out / "update-addresses").read_text() == "198.51.100.0/24\n192.0.2.8\n"
    names = {str(path.relative_to(bench.out)) for path in bench.out.rglob("*") if path.is_file()}
    secrets = {f"secrets/{name}.key" for name in ("signing", "encryption", "mqtt")}
    assert names - secrets == {
        "device.toml", "authority.json", "policy.json", "update-root.json", "uplink-addresses", "update-addresses",
        "credstore/ca.pem", "credstore/mqtt.pem",
    }  # fmt: skip
    assert all((bench.out / secret).stat().st_mode & 0o077 == 0 for secret in secrets)
    assert bench.out.stat().st_mode & 0o077 == 0


def test_a_device_without_an_update_server_takes_none(bench: Bench) -> None:
    assert bench.make()[0] == 0
    assert "update" not in tomllib.loads((bench.out / "device.toml").read_text())
    assert read_settings(bench.out / "device.toml").update.root is None


def test_a_device_without_a_network_takes_updates_by_stick(bench: Bench) -> None:
    words = tuple(word for word in bench.updates() if not word.endswith(("server", "/turnkey")))
    assert bench.make(*words)[0] == 0
    update = read_settings(bench.out / "device.toml").update
    assert (update.server, update.root, update.board) == (None, bench.out / "update-root.json", "turnkey-rpi5")
    assert not (bench.out / "update-addresses").exists()


@pytest.mark.parametrize(
    ("words", "host", "device", "said"),
    [
        ((), "broker.example", "", "--broker-address"),
        (("--broker-address", "not-an-address"), "broker.example", "", "not-an-address"),
        ((), "192.0.2.7", "nobody-1", "has no device"),
        (("--update-server", "https://192.0.2.8"), "192.0.2.7", "", "goes with --update-root"),
        (("--board", "turnkey-rpi5"), "192.0.2.7", "", "go together"),
    ],
)
def test_what_is_missing_or_would_be_guessed_is_refused(
    bench: Bench, words: tuple[str, ...], host: str, device: str, said: str
) -> None:
    code, output = bench.make(*words, host=host, device=device)
    assert code == 1
    assert said in output
    assert not bench.out.exists()


def test_a_card_that_no_bundle_would_fit_is_refused(bench: Bench) -> None:
    code, output = bench.make(*bench.updates()[:-2])
    assert code == 1
    assert "--board" in output
    assert not bench.out.exists()


def test_settings_the_device_would_not_start_with_are_refused(bench: Bench) -> None:
    bench.hardware.write_text(HARDWARE.replace("pulse_a = 19", "pulse_a = 5"))
    code, output = bench.make()
    assert code == 1
    assert "wire of its own" in output
    assert not bench.out.exists()


def test_an_update_root_that_is_not_signed_is_refused(bench: Bench) -> None:
    root = Metadata.from_file(str(bench.root))
    root.signatures.clear()
    root.to_file(str(bench.root))
    code, output = bench.make(*bench.updates())
    assert code == 1
    assert "signed TUF root" in output


def test_a_policy_for_another_device_is_refused(bench: Bench) -> None:
    bench.pilot.policy_file.write_bytes(bench.pilot.authority_file.read_bytes())
    code, output = bench.make()
    assert code == 1
    assert "policy would not be in force" in output


def test_a_folder_that_exists_is_left_alone(bench: Bench) -> None:
    bench.out.mkdir()
    assert bench.make()[0] == 1
    assert list(bench.out.iterdir()) == []


def test_a_fixed_address_is_written_down_and_no_lease_is_asked_for(bench: Bench) -> None:
    code, said = bench.make("--address", "192.0.2.20/24", "--gateway", "192.0.2.1", "--resolver", "192.0.2.53")
    assert code == 0, said
    lines = (bench.out / "wired.network").read_text().splitlines()
    assert {"Address=192.0.2.20/24", "Gateway=192.0.2.1", "DNS=192.0.2.53", "DHCP=no"} <= set(lines)


@pytest.mark.parametrize(
    "words",
    [
        ("--address", "192.0.2.20"),
        ("--address", "192.0.2.0.1/24"),
        ("--address", "192.0.2.20/24", "--gateway", "router"),
        ("--gateway", "192.0.2.1"),
    ],
)
def test_an_address_that_is_none_writes_no_card(bench: Bench, words: tuple[str, ...]) -> None:
    code, _ = bench.make(*words)
    assert code == 1
    assert not bench.out.exists()


def test_a_pair_for_the_update_server_goes_among_the_secrets(bench: Bench) -> None:
    pair = bench.pilot.site.device(bench.pilot.device_id).mqtt
    words = ("--update-certificate", str(pair.certificate), "--update-key", str(pair.key))
    code, said = bench.make(*bench.updates(), *words)
    assert code == 0, said
    assert (bench.out / "secrets/update.key").read_bytes() == pair.key.read_bytes()
    assert (bench.out / "secrets/update.key").stat().st_mode & 0o077 == 0
    assert (bench.out / "credstore/update.pem").read_bytes() == pair.certificate.read_bytes()


def test_half_a_pair_is_refused(bench: Bench) -> None:
    pair = bench.pilot.site.device(bench.pilot.device_id).mqtt
    assert bench.make(*bench.updates(), "--update-key", str(pair.key))[0] == 1
    assert bench.make("--update-certificate", str(pair.certificate), "--update-key", str(pair.key))[0] == 1

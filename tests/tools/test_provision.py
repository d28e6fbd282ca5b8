"""Provisioning: keys that only their owner reads, certificates that openssl and mosquitto take, nothing overwritten."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
import typer
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typer.testing import CliRunner

from turnkey.envelope import PublicKey, SigningKey
from turnkey_tools.provision import Identity, Site, SiteError, add_device, provision, provision_site

CLI = typer.Typer()
CLI.command()(provision)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return provision_site(tmp_path / "site", ["booking-1", "booking-2"])


def certificate(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate.read_bytes())


def everything(site: Site) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in site.root.rglob("*") if file.is_file()}


def test_private_keys_are_readable_by_their_owner_only(site: Site) -> None:
    keys = list(site.root.rglob("*.key"))
    assert len(keys) == 1 + 1 + 2 * 3 + 1 + 1
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in site.root.rglob("*") if folder.is_dir()} == {0o700}


def test_openssl_verifies_every_certificate_for_its_use_and_for_no_other(site: Site) -> None:
    def verdict(identity: Identity, purpose: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", site.ca, identity.certificate]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    assert verdict(site.broker, "sslserver")
    assert not verdict(site.broker, "sslclient")
    for client in (site.device("booking-1").mqtt, site.desk("lead-desk")):
        assert verdict(client, "sslclient")
        assert not verdict(client, "sslserver"), "a stolen device could play the broker"


def test_common_name_is_the_device_id(site: Site) -> None:
    names = certificate(site.device("booking-1").mqtt).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["booking-1"]


def test_certificates_are_not_cas_and_name_one_use(site: Site) -> None:
    for identity in (site.broker, site.desk("lead-desk"), site.device("booking-2").mqtt):
        leaf = certificate(identity)
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usages = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        assert len(usages) == 1
    assert usages == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_signing_key_and_connection_key_differ_and_every_desk_believes_the_device(site: Site) -> None:
    device = site.device("booking-1")
    signing = SigningKey.from_pem(device.signing_key.read_bytes())
    assert device.signing_key.read_bytes() != device.mqtt.key.read_bytes()
    assert PublicKey.from_pem(device.public_key.read_bytes()).keyid == signing.public.keyid
    believed = PublicKey.from_pem((site.desk_device_keys("lead-desk") / "booking-1.pub").read_bytes())
    assert believed.keyid == signing.public.keyid


def test_access_list_lets_devices_write_their_own_topics_and_desks_read(site: Site) -> None:
    blocks = site.acl.read_text().split("\n\n")[1:]
    assert sorted(block.strip() for block in blocks) == [
        "user booking-1\ntopic write turnkey/v1/booking-1/lead\ntopic write turnkey/v1/booking-1/attestation\n"
        "topic write turnkey/v1/booking-1/attestation/state",
        "user booking-2\ntopic write turnkey/v1/booking-2/lead\ntopic write turnkey/v1/booking-2/attestation\n"
        "topic write turnkey/v1/booking-2/attestation/state",
        "user fleet\ntopic read turnkey/v1/+/attestation\ntopic read turnkey/v1/+/attestation/state",
        "user lead-desk\ntopic read turnkey/v1/+/lead",
    ]


def test_existing_site_is_never_overwritten(site: Site) -> None:
    before = everything(site)
    with pytest.raises(SiteError):
        provision_site(site.root, ["booking-9"])
    with pytest.raises(SiteError):
        add_device(site, "booking-1")
    assert everything(site) == before


def test_added_device_is_believed_and_admitted_and_nothing_else_changes(site: Site) -> None:
    before = everything(site)
    add_device(site, "booking-3")
    after = everything(site)
    assert {file for file in before if after[file] != before[file]} == {site.acl}
    assert site.devices() == ["booking-1", "booking-2", "booking-3"]
    assert (site.desk_device_keys("lead-desk") / "booking-3.pub").exists()
    assert "user booking-3" in site.acl.read_text()


@pytest.mark.parametrize(
    "name", ["", "a", "A-1", "../evil", "a/b", "a+", "#", "a b", "x" * 64, "lead-desk", "é-1", "a1\n"]
)
def test_name_that_is_no_topic_level_or_is_taken_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(SiteError):
        provision_site(tmp_path / "site", ["booking-1", name])
    assert not (tmp_path / "site").exists()


def test_key_file_that_appears_meanwhile_is_not_followed(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    folder = site.root / "devices" / "booking-7"
    folder.mkdir()
    (folder / "mqtt.key").symlink_to(target)
    with pytest.raises(SiteError):
        add_device(site, "booking-7")
    assert target.read_text() == "precious"


def test_command_makes_a_site_then_adds_a_device_then_refuses_a_second_time(tmp_path: Path) -> None:
    root = str(tmp_path / "site")
    run = CliRunner()
    assert run.invoke(CLI, [root, "--device", "booking-1"]).exit_code == 0
    assert run.invoke(CLI, [root, "--device", "booking-2"]).exit_code == 0
    again = run.invoke(CLI, [root, "--device", "booking-2"])
    assert again.exit_code == 1
    assert "exists already" in again.output
    assert Site(tmp_path / "site").devices() == ["booking-1", "booking-2"]

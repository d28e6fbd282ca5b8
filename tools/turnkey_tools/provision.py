"""A pilot site in one directory: a CA, a broker with its configuration, devices that may only publish, desks that may
only listen.

    SITE/ca.pem, ca.key                     the site's CA (keep ca.key off the broker)
    SITE/broker/broker.pem, broker.key      the broker's certificate: 127.0.0.1, localhost and the names given
    SITE/broker/mosquitto.conf, acl         TLS 1.3 only, certificates required
    SITE/devices/ID/mqtt.pem, mqtt.key      a device's connection; common name = device id
    SITE/devices/ID/signing.key, signing.pub   the notary's key pair, Ed25519: what makes a lead a lead
    SITE/devices/ID/encryption.key, encryption.pub   X25519: what case packets for the device are sealed to
    SITE/desks/NAME/mqtt.pem, mqtt.key      a lead desk's connection
    SITE/desks/NAME/devices/ID.pub          the devices whose leads this desk believes
    SITE/fleet/mqtt.pem, mqtt.key, devices/ID.pub   IT's view: attestations only, never a lead
    SITE/witness/mqtt.pem, mqtt.key         a witness's connection, where one was enlisted: the same, nothing more

Rules kept here:
1. Private keys are created with O_EXCL and mode 0600. Nothing that exists is overwritten.
2. The signing key and the connection's key are two keys: a stolen uplink cannot sign, a stolen notary cannot talk.
3. Access is written out per identity. A pattern (`turnkey/v1/%u/lead`) would let a desk publish under its own name.
4. Connections are ECDSA P-256: OpenSSL, rustls, mosquitto and hardware keys all take it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from turnkey.envelope import SigningKey
from turnkey.sealed import OpeningKey
from turnkey.uplink.topics import ROOT, Kind, Topic, is_device_id, state_topic
from turnkey_tools.broker_config import Access, mosquitto_acl, mosquitto_conf
from turnkey_tools.certificates import Pair, Use, issue, new_ca

FLEET: Final = "fleet"
WITNESS: Final = "witness"
_TAKEN: Final = {"broker", FLEET, WITNESS}


class SiteError(Exception):
    """The site cannot be made or extended; the message says why. Nothing that existed was changed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One connection's certificate and key, with the CA that it believes."""

    name: str
    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Device:
    """A device's connection, the key pair that it signs with, and the one that files for it are sealed to."""

    device_id: str
    mqtt: Identity
    signing_key: Path
    public_key: Path
    encryption_key: Path
    sealing_key: Path


@dataclass(frozen=True, slots=True)
class Site:
    """A provisioned site, by its directory. Nothing is read until it is asked for."""

    root: Path

    @property
    def ca(self) -> Path:
        return self.root / "ca.pem"

    @property
    def broker(self) -> Identity:
        return self._identity("broker", self.root / "broker", "broker")

    @property
    def mosquitto_conf(self) -> Path:
        return self.root / "broker" / "mosquitto.conf"

    @property
    def acl(self) -> Path:
        return self.root / "broker" / "acl"

    def devices(self) -> list[str]:
        """Ids of the provisioned devices."""
        return _names(self.root / "devices")

    def desks(self) -> list[str]:
        """Names of the provisioned desks."""
        return _names(self.root / "desks")

    def bridges(self) -> list[str]:
        """Names under which other stations' brokers hand on to this site's."""
        return _names(self.root / "bridges")

    def device(self, device_id: str) -> Device:
        folder = self.root / "devices" / device_id
        return Device(
            device_id,
            mqtt=self._identity(device_id, folder, "mqtt"),
            signing_key=folder / "signing.key",
            public_key=folder / "signing.pub",
            encryption_key=folder / "encryption.key",
            sealing_key=folder / "encryption.pub",
        )

    def desk(self, name: str) -> Identity:
        return self._identity(name, self.root / "desks" / name, "mqtt")

    @property
    def fleet(self) -> Identity:
        """IT's identity, which reads attestations and nothing else."""
        return self._identity(FLEET, self.root / "fleet", "mqtt")

    @property
    def witness(self) -> Identity:
        """A witness's identity, which reads attestations and nothing else."""
        return self._identity(WITNESS, self.root / "witness", "mqtt")

    @property
    def fleet_device_keys(self) -> Path:
        """The directory with one `ID.pub` per device whose attestations IT believes."""
        return self.root / "fleet" / "devices"

    def desk_device_keys(self, name: str) -> Path:
        """The directory with one `ID.pub` per device that the desk believes."""
        return self.root / "desks" / name / "devices"

    def _identity(self, name: str, folder: Path, stem: str) -> Identity:
        return Identity(name, self.ca, folder / f"{stem}.pem", folder / f"{stem}.key")


def provision_site(
    root: Path,
    devices: Sequence[str],
    desks: Sequence[str] = ("lead-desk",),
    broker_names: Sequence[str] = (),
    port: int = 8883,
) -> Site:
    """Make a site.

    Args:
        root: must not exist, or be empty.
        devices: device ids.
        desks: names of lead desks; another name space than device ids only in that they get other rights.
        broker_names: host names or addresses of the broker beside 127.0.0.1 and localhost.
        port: the port in mosquitto.conf, on loopback; a pilot opens it to its network on purpose, in `listener`.

    Raises:
        SiteError: the directory is not empty, or a name is not usable.
    """
    everyone = [*devices, *desks]
    wrong = [name for name in everyone if not is_device_id(name)]
    if wrong or len(set(everyone)) != len(everyone) or _TAKEN & set(everyone):
        raise SiteError(
            f"names are 2 to 63 lower-case letters, digits and hyphens, each used once: {wrong or everyone}"
        )
    if root.exists() and any(root.iterdir()):
        raise SiteError(f"{root} is not empty: a site is never overwritten")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    site = Site(root)
    ca = new_ca("Turnkey site CA")
    _write_private(root / "ca.key", ca.key)
    write_public(site.ca, ca.certificate)
    folder = root / "broker"
    for each in (folder, root / "devices", root / "desks"):
        each.mkdir(mode=0o700)
    issue_identity(site, site.broker, Use.SERVER, ["localhost", "127.0.0.1", *broker_names])
    write_public(site.mosquitto_conf, mosquitto_conf(folder.resolve(), site.ca.resolve(), port).encode())
    write_public(site.acl, b"")
    for desk in desks:
        keys = site.desk_device_keys(desk)
        keys.parent.mkdir(mode=0o700)
        keys.mkdir(mode=0o700)
        issue_identity(site, site.desk(desk), Use.CLIENT, [desk])
    (root / "fleet").mkdir(mode=0o700)
    site.fleet_device_keys.mkdir(mode=0o700)
    issue_identity(site, site.fleet, Use.CLIENT, [FLEET])
    for device in devices:
        add_device(site, device)
    grant(site)
    return site


def add_device(site: Site, device_id: str) -> Device:
    """Provision one more device at an existing site and let every desk of the site believe it.

    A running mosquitto reads the new access list on SIGHUP.

    Raises:
        SiteError: no such site, or the device exists.
    """
    if not is_device_id(device_id) or device_id in {*site.desks(), *site.bridges(), *_TAKEN}:
        raise SiteError(f"not usable as a device id: {device_id!r}")
    device = site.device(device_id)
    if not site.ca.exists():
        raise SiteError(f"{site.root} is not a site")
    try:
        device.signing_key.parent.mkdir(mode=0o700)
    except FileExistsError as error:
        raise SiteError(f"device {device_id} exists already: keys are never overwritten") from error
    issue_identity(site, device.mqtt, Use.CLIENT, [device_id])
    signing = SigningKey.generate()
    _write_private(device.signing_key, signing.to_pem())
    write_public(device.public_key, signing.public.to_pem())
    opening = OpeningKey.generate()
    _write_private(device.encryption_key, opening.to_pem())
    write_public(device.sealing_key, opening.public.to_pem())
    for desk in site.desks():
        write_public(site.desk_device_keys(desk) / f"{device_id}.pub", signing.public.to_pem())
    write_public(site.fleet_device_keys / f"{device_id}.pub", signing.public.to_pem())
    grant(site)
    return device


def enlist_witness(site: Site) -> Identity:
    """Issue a witness its connection. Raises: SiteError: no such site, or there is one."""
    if not site.ca.exists():
        raise SiteError(f"{site.root} is not a site")
    site.witness.key.parent.mkdir(mode=0o700, exist_ok=True)
    issue_identity(site, site.witness, Use.CLIENT, [WITNESS])
    grant(site)
    return site.witness


def access(site: Site) -> list[Access]:
    """Who may do what, as the broker's access list says it."""
    devices = site.devices()
    topics = {device: (*(str(Topic(device, kind)) for kind in Kind), state_topic(device)) for device in devices}
    publishers = [Access(device, write=topics[device], read=()) for device in devices]
    listeners = [Access(desk, write=(), read=("turnkey/v1/+/lead",)) for desk in site.desks()]
    every = tuple(f"{ROOT}/+/{kind}" for kind in Kind)
    bridges = [Access(name, write=every, read=()) for name in site.bridges()]
    watching = [FLEET, *([WITNESS] if site.witness.certificate.exists() else [])]
    watched = ("turnkey/v1/+/attestation", "turnkey/v1/+/attestation/state")
    watchers = [Access(name, write=(), read=watched) for name in watching]
    return [*publishers, *bridges, *listeners, *watchers]


def grant(site: Site) -> None:
    """Write the broker's access list anew, whole; a running mosquitto reads it on SIGHUP."""
    temporary = site.acl.with_suffix(".new")
    temporary.write_text(mosquitto_acl(access(site)))
    temporary.replace(site.acl)


def issue_identity(site: Site, identity: Identity, use: Use, hosts: Sequence[str]) -> None:
    """Issue a certificate of the site's CA and put it and its key where `identity` has them. Raises: SiteError."""
    ca = Pair(site.ca.read_bytes(), (site.root / "ca.key").read_bytes())
    try:
        pair = issue(ca, identity.name, use, hosts)
    except ValueError as error:
        raise SiteError(f"{site.root}: {error}") from error
    _write_private(identity.key, pair.key)
    write_public(identity.certificate, pair.certificate)


def _write_private(path: Path, content: bytes) -> None:
    _write(path, content, 0o600)


def write_public(path: Path, content: bytes) -> None:
    """Write a file that everybody may read and that did not exist. Raises: SiteError."""
    _write(path, content, 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise SiteError(f"{path} exists already: nothing is overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def provision(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="the site's directory: new, or one made by this command")],
    device: Annotated[list[str], typer.Option(help="device id; may be given several times")],
    desk: Annotated[list[str] | None, typer.Option(help="lead desk's name (default: lead-desk)")] = None,
    broker_name: Annotated[list[str] | None, typer.Option(help="host name or address of the broker")] = None,
    port: Annotated[int, typer.Option(help="the broker's port")] = 8883,
) -> None:
    """Make a pilot site's CA, broker configuration, devices and desks; or add devices to a site that exists."""
    try:
        site = Site(root)
        if site.ca.exists():
            if desk or broker_name:
                raise SiteError(f"{root} is a site already: only devices can be added to it")
            for device_id in device:
                add_device(site, device_id)
        else:
            site = provision_site(root, device, desk or ["lead-desk"], broker_name or (), port)
    except SiteError as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"site {root}: devices {', '.join(site.devices())}; desks {', '.join(site.desks())}")
    typer.echo(f"broker: `mosquitto -c {site.mosquitto_conf}`, run by the owner of that directory, not by root")
    typer.echo(f"a device's card: `turnkeyctl card {root} DEVICE DIR …`, then `image-build/card`")
    typer.echo(f"then move {site.root / 'ca.key'} off this machine; it is needed only to add devices")

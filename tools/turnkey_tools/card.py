"""`turnkeyctl card`: everything that makes a card one device's, as a folder, so that its first boot needs no keyboard.

    device.toml, authority.json, policy.json      settings and signed documents
    update-root.json                              where trust in updates begins
    secrets/*.key                                 encrypted on the device at its first boot, and then removed
    credstore/ca.pem, mqtt.pem                    the connection's certificate, and the CA that it believes
    uplink-addresses, update-addresses            whom the two processes with a network may reach
    wired.network                                 a fixed address, where there is one

`image-build/card BOARD --identity DIR` writes it onto a card. The device starts in moratorium, like every new one.

Rules kept here:
1. The folder is whole or not there: it is made under another name and renamed.
2. The settings are read back as the device will read them, authority and policy as it will believe them; what would not
   start there is refused here.
3. Nothing electrical and no address is guessed. A host name is written down with the addresses that it has.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from turnkey.interlock.authority import AuthorityError, first_authority
from turnkey.leads.policy import PolicyRefusal
from turnkey.policy_file import PolicyFile
from turnkey.settings import SettingsError, read_settings
from turnkey_tools.provision import Site, SiteError

ADOPTED_POLICY = "/var/lib/turnkey-policy/policy.json"
"""Where the device reads its policy: systemd-tmpfiles puts the card's there once, updates replace it."""


@dataclass(frozen=True)
class Updates:
    """Where a device's updates come from; no `server`: by stick.

    `root`: the repository's 1.root.json; `pair`: certificate and key, PEM, for a server that asks who is there.
    """

    server: str | None
    root: Path
    group: str
    board: str
    addresses: tuple[str, ...]
    pair: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Wired:
    """A fixed address on the wire, and whom to ask for what lies beyond it. Such a device runs no DHCP client."""

    address: str
    gateway: str | None
    resolver: str | None


@dataclass(frozen=True)
class Card:
    """What a card is made of.

    Attributes:
        site, device_id: made by `turnkeyctl provision`.
        authority, policy: signed documents (DSSE).
        broker, port, broker_addresses: of the site's broker.
        hardware: TOML with the board's `[camera]` and `[interlock]`.
        updates: None: by stick only, and only once an update root is given.
        wired: None: the device asks for an address by DHCP.
    """

    site: Site
    device_id: str
    authority: Path
    policy: Path
    broker: str
    port: int
    broker_addresses: tuple[str, ...]
    hardware: Path
    updates: Updates | None
    wired: Wired | None = None


def write_card(card: Card, out: Path) -> Path:
    """Write the folder. Raises: SiteError."""
    if out.exists():
        raise SiteError(f"{out} exists already: nothing is overwritten")
    device = card.site.device(card.device_id)
    if not device.signing_key.exists():
        raise SiteError(f"{card.site.root} has no device {card.device_id}: turnkeyctl provision --device")
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        for folder, mode in ((draft, 0o700), (draft / "secrets", 0o700), (draft / "credstore", 0o755)):
            folder.mkdir(mode=mode, parents=True)
        pair = card.updates.pair if card.updates else None
        for source, name in (
            (device.signing_key, "secrets/signing.key"),
            (device.encryption_key, "secrets/encryption.key"),
            (device.mqtt.key, "secrets/mqtt.key"),
            (device.mqtt.certificate, "credstore/mqtt.pem"),
            (device.mqtt.ca, "credstore/ca.pem"),
            (card.authority, "authority.json"),
            (card.policy, "policy.json"),
            *(((pair[0], "credstore/update.pem"), (pair[1], "secrets/update.key")) if pair else ()),
        ):
            shutil.copyfile(source, draft / name)
            (draft / name).chmod(0o600 if name.startswith("secrets/") else 0o644)
        (draft / "device.toml").write_text(_settings(card))
        (draft / "uplink-addresses").write_text(_lines(_addresses(card.broker, card.broker_addresses, "broker")))
        if card.wired is not None:
            (draft / "wired.network").write_text(network_file(card.wired))
        if card.updates is not None:
            _update_root(card.updates.root, draft / "update-root.json")
        if card.updates is not None and card.updates.server is not None:
            host = urlsplit(card.updates.server).hostname or ""
            (draft / "update-addresses").write_text(_lines(_addresses(host, card.updates.addresses, "update")))
        _check(draft, card.device_id)
        draft.rename(out)
    except OSError as error:
        raise SiteError(f"{error.filename}: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def _settings(card: Card) -> str:
    hardware = card.hardware.read_text()
    try:
        tables = set(tomllib.loads(hardware))
    except tomllib.TOMLDecodeError as error:
        raise SiteError(f"{card.hardware} is not TOML: {error}") from error
    if not {"camera", "interlock"} <= tables or tables & {"broker", "update", "device_id"}:
        raise SiteError(f"{card.hardware} is to have [camera] and [interlock], and nothing that this command writes")
    lines = [
        "# Written by turnkeyctl card. Each unit gets its own keys as credentials; none is read from here.",
        *_pairs(
            device_id=card.device_id,
            authority="authority.json",
            policy=ADOPTED_POLICY,
            signing_key="/run/credentials/none",
            gallery_key="/run/credentials/none",
        ),
        "",
        "[broker]",
        *_pairs(host=card.broker, port=card.port, ca="credstore/ca.pem", certificate="credstore/mqtt.pem"),
        *_pairs(key="/run/credentials/none"),
        "",
    ]
    if card.updates is not None:
        updates = card.updates
        lines += [
            "[update]",
            *(_pairs(server=updates.server, ca="credstore/ca.pem") if updates.server is not None else ()),
            *_pairs(root="update-root.json", group=updates.group, board=updates.board),
            "",
        ]
    return "\n".join(lines) + "\n" + hardware


def _pairs(**values: str | int) -> list[str]:
    # A JSON string or number is a TOML one as well.
    return [f"{name} = {json.dumps(value)}" for name, value in values.items()]


def _addresses(host: str, given: Sequence[str], whose: str) -> list[str]:
    """The addresses (or networks) to allow: the ones given, and the host's own where it is one."""
    found = []
    for each in (*given, *([host] if _is_address(host) else [])):
        try:
            found.append(str(ipaddress.ip_network(each, strict=False)))
        except ValueError as error:
            raise SiteError(f"--{whose}-address {each}: {error}") from error
    if not found:
        raise SiteError(f"{host} is a name: give the addresses that it may have with --{whose}-address")
    return [each.removesuffix("/32").removesuffix("/128") for each in found]


def network_file(wired: Wired) -> str:
    """wired.network of an identity, as in systemd.network(5). Raises: SiteError where an address is none."""
    try:
        interface = ipaddress.ip_interface(wired.address)
        others = [
            f"{name}={ipaddress.ip_address(value)}"
            for name, value in (("Gateway", wired.gateway), ("DNS", wired.resolver))
            if value is not None
        ]
    except ValueError as error:
        raise SiteError(f"the fixed address: {error}") from error
    if interface.network.num_addresses == 1:
        raise SiteError(f"--address {wired.address}: give it with its prefix, as in 192.0.2.7/24")
    lines = ["[Match]", "Name=en* eth*", "", "[Network]", "DHCP=no", "IPv6AcceptRA=no", "LinkLocalAddressing=no",
             "LLMNR=no", "MulticastDNS=no", "LLDP=no", "EmitLLDP=no", f"Address={interface}", *others]  # fmt: skip
    return _lines(lines)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _lines(values: Sequence[str]) -> str:
    return "".join(f"{value}\n" for value in values)


def _update_root(source: Path, target: Path) -> None:
    try:
        root = Metadata[Root].from_file(str(source))
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    except (OSError, RepositoryError, AttributeError, ValueError) as error:
        raise SiteError(f"{source} is no signed TUF root (1.root.json of the published repository): {error}") from error
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _check(folder: Path, device_id: str) -> None:
    """What the device will make of it."""
    try:
        read_settings(folder / "device.toml")
        authority = first_authority((folder / "authority.json").read_bytes())
        memory = folder / ".policy-memory"
        policy = PolicyFile(folder / "policy.json", memory, device_id).in_force(authority, datetime.now(UTC))
        memory.unlink(missing_ok=True)
    except (SettingsError, AuthorityError) as error:
        raise SiteError(str(error)) from error
    if isinstance(policy, PolicyRefusal):
        raise SiteError(f"the policy would not be in force on {device_id}: {policy.message}")


File = Annotated[Path, typer.Option(exists=True, dir_okay=False)]


def card(
    root: Annotated[Path, typer.Argument(metavar="SITE", help="made by turnkeyctl provision", exists=True)],
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="a device of the site")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="the folder to write; must not exist")],
    authority: File,
    policy: File,
    broker: Annotated[str, typer.Option(help="the broker's host, as in its certificate")],
    hardware: Annotated[Path, typer.Option(exists=True, help="TOML: the board's [camera] and [interlock]")],
    port: Annotated[int, typer.Option(help="the broker's port")] = 8883,
    broker_address: Annotated[list[str] | None, typer.Option(help="its address or network; the resolver's too")] = None,
    update_server: Annotated[str | None, typer.Option(help="https address of the published repository")] = None,
    update_root: Annotated[
        Path | None, typer.Option(help="metadata/1.root.json; alone: updates by stick", exists=True)
    ] = None,
    update_address: Annotated[list[str] | None, typer.Option(help="its address or network; the resolver's too")] = None,
    update_certificate: Annotated[Path | None, typer.Option(help="this device's, where the server asks")] = None,
    update_key: Annotated[Path | None, typer.Option(help="its key", exists=True, dir_okay=False)] = None,
    address: Annotated[str | None, typer.Option(help="a fixed one with its prefix; default: by DHCP")] = None,
    gateway: Annotated[str | None, typer.Option(help="with --address: whom to ask for other networks")] = None,
    resolver: Annotated[str | None, typer.Option(help="with --address: whom to ask for names")] = None,
    group: Annotated[str, typer.Option(help="whose roll-outs are this device's")] = "station",
    board: Annotated[
        str | None,
        typer.Option(help="with --update-root: RAUC's `compatible`, as in turnkey-rpi5"),
    ] = None,
) -> None:
    """Write the identity of one device's card: who it is, whom it believes, where it reports and updates from.

    `image-build/card BOARD --identity DIR` puts it onto a card; the device needs no keyboard, and starts in moratorium.
    """
    try:
        if update_server is not None and update_root is None:
            raise SiteError("--update-server goes with --update-root; that alone is for updates that come by stick")
        if (update_root is None) != (board is None):
            raise SiteError("--update-root and --board go together: no other board's bundles fit, so none is guessed")
        if (update_certificate is None) != (update_key is None) or (update_key is not None and update_server is None):
            raise SiteError("--update-certificate and --update-key go together, and with --update-server")
        if address is None and (gateway, resolver) != (None, None):
            raise SiteError("--gateway and --resolver go with --address: by DHCP the device is told")
        pair = (update_certificate, update_key) if update_certificate is not None and update_key is not None else None
        updates = None
        if update_root is not None and board is not None:
            updates = Updates(update_server, update_root, group, board, tuple(update_address or ()), pair)
        wired = Wired(address, gateway, resolver) if address is not None else None
        brokers = tuple(broker_address or ())
        made = Card(Site(root), device, authority, policy, broker, port, brokers, hardware, updates, wired)
        write_card(made, out)
    except SiteError as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"wrote {out}: it holds private keys; remove it once the card is written")

"""`turnkeyctl bridge`: a station's broker hands on to a central one, by mosquitto's own bridge.

The station's mosquitto connects outwards, to one address, with a certificate of the central site that may only publish
devices' topics. Nothing but acknowledgements comes back over it: `out` only, so that a central broker that was taken
over can put nothing into a station.

    STATION/broker/bridge.pem, bridge.key   the station's identity at the central broker
    STATION/broker/bridge-ca.pem            the central site's CA, the only one the bridge believes
    STATION/broker/bridge.conf              the bridge; appended to the station's mosquitto.conf as well
    CENTRAL/bridges/NAME                    an empty file: this name may publish for devices
    CENTRAL/desks/*/devices/ID.pub          the station's devices, believed by the central desks (and by IT's view)

Rules kept here:
1. Leads are signed by their device, so a bridge can withhold, delay, repeat or reorder, and nothing else. The desk
   shows what is missing.
2. Device ids are unique over all stations: a second one is refused, since the desk could not tell the two apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turnkey.uplink.topics import is_device_id
from turnkey_tools.broker_config import mosquitto_bridge
from turnkey_tools.certificates import Use
from turnkey_tools.provision import Identity, Site, SiteError, grant, issue_identity, write_public


def add_bridge(station: Site, central: Site, name: str, host: str, port: int) -> Path:
    """Let the station's broker hand on to the central one.

    Args:
        station, central: provisioned sites; the central one's CA key must be at hand.
        name: the station's name at the central broker: common name, user and client id.
        host, port: the central broker; its certificate must carry `host`.

    Returns:
        The station's bridge.conf.

    Raises:
        SiteError: the name or a device id is taken, or the station has a bridge. Nothing was changed.
    """
    folder = station.root / "broker"
    file = folder / "bridge.conf"
    taken = {*central.devices(), *central.desks(), *central.bridges(), "broker", "fleet"}
    if not is_device_id(name) or name in taken:
        raise SiteError(f"not usable as a bridge's name: {name!r}")
    if file.exists():
        raise SiteError(f"{station.root} hands on to a central broker already")
    keys = [central.desk_device_keys(desk) for desk in central.desks()] + [central.fleet_device_keys]
    believed = {key.stem for folder in keys for key in folder.glob("*.pub")}
    twice = sorted(believed & set(station.devices()))
    if twice:
        raise SiteError(f"device ids are unique over all stations; the centre knows another {', '.join(twice)}")
    identity = Identity(name, folder / "bridge-ca.pem", folder / "bridge.pem", folder / "bridge.key")
    issue_identity(central, identity, Use.CLIENT, [name])
    write_public(identity.ca, central.ca.read_bytes())
    (central.root / "bridges").mkdir(mode=0o700, exist_ok=True)
    write_public(central.root / "bridges" / name, b"")
    for device in station.devices():
        for each in keys:
            write_public(each / f"{device}.pub", station.device(device).public_key.read_bytes())
    grant(central)
    text = mosquitto_bridge(folder.resolve(), name, host, port)
    write_public(file, text.encode())
    with station.mosquitto_conf.open("a") as configuration:
        configuration.write("\n" + text)
    return file


def bridge(
    station: Annotated[Path, typer.Argument(help="the station's site")],
    central: Annotated[Path, typer.Argument(help="the central site, with its ca.key")],
    name: Annotated[str, typer.Option(help="the station's name at the central broker")],
    host: Annotated[str, typer.Option(help="the central broker, by a name that its certificate carries")],
    port: Annotated[int, typer.Option(help="the central broker's port")] = 8883,
) -> None:
    """Let a station's broker hand on what its devices publish to a central broker."""
    try:
        for site in (station, central):
            if not Site(site).ca.exists():
                raise SiteError(f"{site} is not a site")
        file = add_bridge(Site(station), Site(central), name, host, port)
    except (SiteError, OSError) as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{file} is written and part of {Site(station).mosquitto_conf}: restart the station's mosquitto")
    typer.echo(f"the central mosquitto reads {Site(central).acl} anew on SIGHUP")

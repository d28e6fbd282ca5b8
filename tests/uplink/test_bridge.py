"""A station's broker hands on to a central one: outages of either, several stations, and nothing the other way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from patience import PATIENCE_S
from typer.testing import CliRunner

from turnkey.envelope import SigningKey
from turnkey.uplink.mqtt import Uplink, UplinkSettings
from turnkey.uplink.outbox import Outbox
from turnkey_tools.bridge import add_bridge
from turnkey_tools.broker import Broker, Kind
from turnkey_tools.cli import app
from turnkey_tools.leads.desk import Accepted, Reason
from turnkey_tools.leads.keys import device_keys
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.provision import Site, SiteError, provision_site

from .conftest import envelope


@dataclass
class Stationed:
    """One station: a site with one device, its broker and the device's outbox."""

    device: str
    site: Site
    broker: Broker
    outbox: Outbox

    def send(self, first: int, last: int) -> None:
        key = SigningKey.from_pem(self.site.device(self.device).signing_key.read_bytes())
        for sequence in range(first, last + 1):
            self.outbox.put(f"turnkey/v1/{self.device}/lead", envelope(sequence, key, self.device))
        mqtt = self.site.device(self.device).mqtt
        settings = UplinkSettings(
            self.broker.host, self.broker.port, self.device, mqtt.ca, mqtt.certificate, mqtt.key, settle_s=0.0
        )
        assert Uplink(self.outbox, replace(settings, poll_s=0.02)).flush(PATIENCE_S)


@dataclass
class City:
    central: Broker
    site: Site
    stations: list[Stationed]
    folder: Path

    @contextmanager
    def desk(self) -> Iterator[Subscription]:
        keys = device_keys(self.site.desk_device_keys("lead-desk"))
        with (
            Store(self.folder / "desk.db") as store,
            Subscription(self.site.desk("lead-desk"), self.central.host, self.central.port, keys, store) as desk,
        ):
            assert desk.listening(PATIENCE_S)
            yield desk


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    with ExitStack() as parts:
        site = provision_site(tmp_path / "central", [])
        central = parts.enter_context(Broker(site, Kind.MOSQUITTO))
        stations = []
        for device in ("booking-1", "booking-2"):
            station = provision_site(tmp_path / device, [device])
            add_bridge(station, site, f"station-{device}", "127.0.0.1", central.port)
            central.reload()
            broker = parts.enter_context(Broker(station, Kind.MOSQUITTO))
            outbox = parts.enter_context(Outbox(tmp_path / f"{device}.db"))
            stations.append(Stationed(device, station, broker, outbox))
        yield City(central, site, stations, tmp_path)


def received(desk: Subscription, count: int, timeout_s: float = PATIENCE_S) -> dict[str, list[int]]:
    """Sequences per device in the order of acceptance, until `count` leads are there."""
    arrived: dict[str, list[int]] = {}
    until_s = time.monotonic() + timeout_s
    while sum(map(len, arrived.values())) < count and time.monotonic() < until_s:
        verdict = desk.next(0.2)
        if isinstance(verdict, Accepted):
            assert not verdict.missing
            arrived.setdefault(verdict.lead.device_id, []).append(verdict.lead.sequence)
        elif verdict is not None:
            assert verdict.reason is Reason.DUPLICATE
    return arrived


def test_leads_of_two_stations_arrive_at_the_centre_each_in_order(city: City) -> None:
    with city.desk() as desk:
        for station in city.stations:
            station.send(1, 10)
        assert received(desk, 20) == {"booking-1": list(range(1, 11)), "booking-2": list(range(1, 11))}


def test_what_a_station_took_during_an_outage_of_the_centre_and_its_own_restart_arrives(city: City) -> None:
    first = city.stations[0]
    with city.desk() as desk:
        first.send(1, 3)
        assert received(desk, 3) == {"booking-1": [1, 2, 3]}
    city.central.stop()
    first.send(4, 8)  # the station's broker takes them for the bridge
    first.broker.restart()
    city.central.start()
    with city.desk() as desk:
        assert received(desk, 5) == {"booking-1": [4, 5, 6, 7, 8]}


def test_nothing_comes_back_over_the_bridge(city: City) -> None:
    """Not even for a bridge's own identity at the centre, which reads nothing there."""
    folder = city.stations[0].site.root / "broker"
    got: list[str] = []
    spy = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="station-booking-2", protocol=paho.MQTTv5)
    spy.tls_set(str(folder / "bridge-ca.pem"), str(folder / "bridge.pem"), str(folder / "bridge.key"))
    spy.on_message = lambda _client, _data, message: got.append(message.topic)
    spy.on_connect = lambda client, *_: client.subscribe("#", qos=1)
    with city.desk() as desk:
        city.stations[0].broker.stop()  # the spy takes its place
        spy.connect(city.central.host, city.central.port)
        spy.loop_start()
        city.stations[1].send(1, 2)
        assert received(desk, 2) == {"booking-2": [1, 2]}
        spy.loop_stop()
    assert got == []
    conf = (folder / "bridge.conf").read_text()
    assert [line.split()[2] for line in conf.splitlines() if line.startswith("topic ")] == ["out", "out"]


def test_a_device_id_is_taken_once_in_all_stations(city: City, tmp_path: Path) -> None:
    twin = provision_site(tmp_path / "twin", ["booking-1"])
    before = city.site.acl.read_text()
    with pytest.raises(SiteError, match="unique"):
        add_bridge(twin, city.site, "station-3", "127.0.0.1", 1)
    arguments = ["bridge", str(twin.root), str(city.site.root), "--name", "booking-1", "--host", "127.0.0.1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert city.site.acl.read_text() == before


def test_the_command_writes_a_bridge_once(tmp_path: Path) -> None:
    for name, devices in (("central", []), ("station", ["booking-9"])):
        provision_site(tmp_path / name, devices)
    arguments = [
        "bridge",
        str(tmp_path / "station"),
        str(tmp_path / "central"),
        "--name",
        "north",
        "--host",
        "mq.example",
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "address mq.example:8883" in Site(tmp_path / "station").mosquitto_conf.read_text()
    assert "user north\ntopic write turnkey/v1/+/lead" in Site(tmp_path / "central").acl.read_text()
    assert CliRunner().invoke(app, arguments).exit_code == 1

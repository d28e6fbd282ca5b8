"""A provisioned site, a real broker and signed leads. Without mosquitto these tests fail, and say what to install."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from patience import PATIENCE_S, wait_for

from turnkey.envelope import SigningKey, sign
from turnkey.leads.records import PAYLOAD_TYPE_LEAD, Lead, canonical
from turnkey.uplink.delivery import Backoff, State, Status
from turnkey.uplink.mqtt import Uplink, UplinkSettings
from turnkey.uplink.outbox import Outbox
from turnkey_tools.broker import Broker, Kind, mosquitto_path
from turnkey_tools.leads.cli import device_keys
from turnkey_tools.leads.sample import sample_lead
from turnkey_tools.leads.store import Store
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.provision import Site, provision_site

from .egress import PICTURES, Egress, fields_of, recorded

DEVICE = "booking-1"
OTHER = "booking-2"
LEAD_TOPIC = f"turnkey/v1/{DEVICE}/lead"


def lead(sequence: int, device_id: str = DEVICE) -> Lead:
    """A lead as the notary would make it; different for each sequence."""
    return sample_lead(sequence, device_id)


def envelope(sequence: int, key: SigningKey, device_id: str = DEVICE) -> bytes:
    return sign(PAYLOAD_TYPE_LEAD, canonical(lead(sequence, device_id)), key)


@dataclass
class Station:
    """One site with its broker, and what a device and a desk of it have."""

    site: Site
    broker: Broker
    folder: Path

    @property
    def key(self) -> SigningKey:
        return SigningKey.from_pem(self.site.device(DEVICE).signing_key.read_bytes())

    def settings(self, device_id: str = DEVICE) -> UplinkSettings:
        mqtt = self.site.device(device_id).mqtt
        return UplinkSettings(
            host=self.broker.host,
            port=self.broker.port,
            device_id=device_id,
            ca_file=mqtt.ca,
            certificate_file=mqtt.certificate,
            key_file=mqtt.key,
            settle_s=0.0,
            poll_s=0.02,
            ack_timeout_s=30.0,
            connect_timeout_s=30.0,
            backoff=Backoff(first_s=0.05, most_s=0.3),
        )

    def outbox(self) -> Outbox:
        return Outbox(self.folder / "outbox.db")

    def put_leads(self, outbox: Outbox, first: int, last: int) -> None:
        for sequence in range(first, last + 1):
            outbox.put(LEAD_TOPIC, envelope(sequence, self.key), f"lead-{sequence}")

    @contextmanager
    def desk(self) -> Iterator[Subscription]:
        keys = device_keys(self.site.desk_device_keys("lead-desk"))
        with (
            Store(self.folder / "leads.db") as store,
            Subscription(self.site.desk("lead-desk"), self.broker.host, self.broker.port, keys, store) as desk,
        ):
            yield desk


@contextmanager
def running(uplink: Uplink) -> Iterator[threading.Event]:
    """The uplink on its thread, ended with the block."""
    stop = threading.Event()
    thread = threading.Thread(target=uplink.run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture(scope="session", autouse=True)
def everything_said() -> Iterator[Egress]:
    """All that the uplinks of these tests write, checked when the last of them is over."""
    with recorded() as egress:
        yield egress
    said = egress.everything()
    publications = egress.publications()
    assert not any(mark in said for mark in PICTURES), "a picture's header was in what an uplink wrote"
    signed = [payload for _, payload in publications if payload.startswith(b'{"payload"')]
    for payload in signed:
        fields_of(payload)
    print(f"egress: {len(said)} bytes, {len(publications)} publications, {len(signed)} of them signed records")


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    assert mosquitto_path() is not None, "these tests need mosquitto: apt-get install mosquitto"
    site = provision_site(tmp_path / "site", [DEVICE, OTHER])
    with Broker(site, Kind.MOSQUITTO) as broker:
        yield Station(site, broker, tmp_path)


@pytest.fixture
def reaches(station: Station) -> Callable[[UplinkSettings], Status]:
    """The status that an uplink with such settings comes to."""

    def run(settings: UplinkSettings) -> Status:
        with Outbox(station.folder / "probe.db") as outbox:
            outbox.put(f"turnkey/v1/{settings.device_id}/lead", b"anything", "one")
            uplink = Uplink(outbox, replace(settings, backoff=Backoff(first_s=5.0, most_s=5.0)))
            with running(uplink):
                wait_for(lambda: uplink.status.state in (State.REFUSED, State.HELD) or uplink.status.failures)
                return uplink.status

    return run

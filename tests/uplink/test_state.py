"""The state at the broker: the last attestation of it while there is a connection, UNKNOWN once there is none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from patience import PATIENCE_S, wait_for

from turnkey.envelope import sign
from turnkey.leads.records import PAYLOAD_TYPE_ATTESTATION, Attestation, Boot, SwitchChanged, canonical
from turnkey.uplink.connection import tls_context
from turnkey.uplink.delivery import State
from turnkey.uplink.mqtt import Uplink, tells_state
from turnkey.uplink.outbox import Outbox
from turnkey.uplink.topics import state_topic, unknown_state
from turnkey_tools.fleet.cli import survey
from turnkey_tools.fleet.health import Level, Limits
from turnkey_tools.fleet.store import Store
from turnkey_tools.fleet.subscription import Subscription

from .conftest import DEVICE, Station, station
from .scripted_broker import Script, ScriptedBroker

__all__ = ["station"]

TOPIC = f"turnkey/v1/{DEVICE}/attestation"
STOPPED = SwitchChanged(
    previous="RUNNING", state="MORATORIUM", reason="key-opened", channel_a=False, channel_b=False, epoch=2
)


def attestation(station: Station, index: int, event: SwitchChanged | Boot) -> bytes:
    record = Attestation(
        device_id=DEVICE,
        index=index,
        boot_id="1" * 32,
        at=datetime.now(UTC),
        monotonic_ns=index,
        event=event,
        ledger_root="ab" * 32,
    )
    return sign(PAYLOAD_TYPE_ATTESTATION, canonical(record), station.key)


@contextmanager
def publishing(station: Station, outbox: Outbox, *, port: int | None = None) -> Iterator[Uplink]:
    settings = replace(station.settings(), state=True)
    uplink = Uplink(outbox, replace(settings, port=port) if port else settings)
    stop = threading.Event()
    thread = threading.Thread(target=uplink.run, args=(stop,))
    thread.start()
    try:
        yield uplink
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def kept(station: Station) -> bytes | None:
    """What the broker keeps for the device, as a new reader gets it."""
    identity, got = station.site.fleet, []
    reader = paho.Client(CallbackAPIVersion.VERSION2, client_id=identity.name, protocol=paho.MQTTv5)
    reader.tls_set_context(tls_context(identity.ca, identity.certificate, identity.key))
    reader.on_message = lambda _client, _data, message: got.append(message)
    reader.on_connect = lambda client, *_: client.subscribe(state_topic(DEVICE), qos=1)
    subscribed = threading.Event()
    reader.on_subscribe = lambda *_: subscribed.set()
    reader.connect(station.broker.host, station.broker.port, clean_start=True)
    reader.loop_start()
    try:
        assert subscribed.wait(PATIENCE_S)
        wait_for(lambda: got or None, 5)
    except AssertionError:
        return None
    finally:
        reader.disconnect()
        reader.loop_stop()
    return bytes(got[0].payload)


def test_the_last_state_is_kept_and_unknown_once_the_connection_ends(station: Station) -> None:
    with station.outbox() as outbox:
        boot, stop = attestation(station, 0, Boot(software="1.0", models={})), attestation(station, 1, STOPPED)
        outbox.put(TOPIC, boot, "attestation-0")
        outbox.put(TOPIC, stop, "attestation-1")
        with publishing(station, outbox):
            wait_for(lambda: kept(station) == stop)
        wait_for(lambda: kept(station) == unknown_state(DEVICE))
        with publishing(station, outbox) as again:
            wait_for(lambda: again.status.connected)
            assert kept(station) == unknown_state(DEVICE), "nothing is known until it is attested anew"
            newer = attestation(station, 2, STOPPED)
            outbox.put(TOPIC, newer, "attestation-2")
            wait_for(lambda: kept(station) == newer)


def test_the_fleet_calls_a_device_unknown_as_soon_as_its_connection_is_lost(station: Station) -> None:
    keys = {DEVICE: station.key.public}
    with station.outbox() as outbox, Store(station.folder / "fleet.db") as store:

        def level() -> tuple[Level, str]:
            with Subscription(station.site.fleet, station.broker.host, station.broker.port, keys, store) as watching:
                assert watching.listening(PATIENCE_S)
                while watching.next(0.5) is not None:
                    pass
            (one,) = survey(store, keys, datetime.now(UTC), Limits())
            return one.level, one.state

        assert level() == (Level.UNKNOWN, "UNKNOWN")
        outbox.put(TOPIC, attestation(station, 0, STOPPED), "attestation-0")
        with publishing(station, outbox):
            wait_for(lambda: level() == (Level.OK, "MORATORIUM"))
        wait_for(lambda: level() == (Level.UNKNOWN, "UNKNOWN"))
        (one,) = survey(store, keys, datetime.now(UTC), Limits())
        assert (one.last_state, one.why) == ("MORATORIUM", "the broker has lost its connection")


def test_a_broker_that_keeps_nothing_gets_leads_all_the_same(station: Station) -> None:
    script = Script(connack=0x9A)
    with ScriptedBroker(station.site, script) as broker, station.outbox() as outbox:
        station.put_leads(outbox, 1, 1)
        with publishing(station, outbox, port=broker.port) as uplink:
            wait_for(lambda: uplink.status.reason == "retain-not-supported")
            script.connack = 0
            wait_for(lambda: script.publishes())
            wait_for(lambda: uplink.status.state is State.CONNECTED)
        assert unknown_state(DEVICE) not in b"".join(packet.body for packet in script.received[1:])


def test_only_what_tells_the_state_is_kept(station: Station) -> None:
    assert tells_state(attestation(station, 0, STOPPED))
    assert not tells_state(attestation(station, 0, Boot(software="1.0", models={})))
    for hostile in (b"", b"[]", b"{}", json.dumps({"payload": "e30=", "payloadType": "x", "signatures": []}).encode()):
        assert not tells_state(hostile)

"""What the uplink makes of a broker that refuses, stalls, repeats itself or sets limits; and all that it ever says."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from patience import wait_for

from turnkey.uplink.connection import UplinkSettings
from turnkey.uplink.delivery import Backoff, State, Status
from turnkey.uplink.mqtt import Uplink
from turnkey.uplink.outbox import Outbox
from turnkey_tools.provision import Site, provision_site

from .conftest import DEVICE, LEAD_TOPIC, running
from .scripted_broker import CONNECT, DISCONNECT, PUBLISH, Packet, Script, ScriptedBroker

ATTESTATION_TOPIC = f"turnkey/v1/{DEVICE}/attestation"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return provision_site(tmp_path / "site", [DEVICE])


Until = Callable[[Uplink, Outbox], object]


def settings(site: Site, broker: ScriptedBroker, **changed: float) -> UplinkSettings:
    mqtt = site.device(DEVICE).mqtt
    patient = UplinkSettings(
        broker.host, broker.port, DEVICE, mqtt.ca, mqtt.certificate, mqtt.key,
        connect_timeout_s=30.0, ack_timeout_s=30.0, settle_s=0.0, poll_s=0.01, backoff=Backoff(0.02, 0.1),
    )  # fmt: skip
    return replace(patient, **changed)


def send(
    site: Site, script: Script, until: Until, leads: int = 1, size: int = 100, **changed: float
) -> tuple[Status, Outbox]:
    """Send some rows through the script until something has come about; the status then, and the outbox."""
    outbox = Outbox(site.root / "outbox.db")
    for number in range(leads):
        outbox.put(LEAD_TOPIC, f"{number}:".encode() + b"x" * size, f"lead-{number}")
    with ScriptedBroker(site, script) as broker:
        uplink = Uplink(outbox, settings(site, broker, **changed))
        with running(uplink):
            wait_for(lambda: until(uplink, outbox))
            status = uplink.status
    return status, outbox


def refused(uplink: Uplink, _outbox: Outbox) -> bool:
    return uplink.status.state is State.REFUSED


def held(uplink: Uplink, _outbox: Outbox) -> bool:
    return uplink.status.state is State.HELD


def empty(_uplink: Uplink, outbox: Outbox) -> bool:
    return outbox.depth() == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0x86, "bad-credentials"),
        (0x87, "not-authorised"),
        (0x88, "broker-unavailable"),
        (0x8A, "banned"),
        (0x97, "quota-exceeded"),
        (0x9F, "connection-rate-exceeded"),
    ],
)
def test_refused_connect_is_named_never_connected_and_loses_nothing(site: Site, code: int, reason: str) -> None:
    status, outbox = send(site, Script(connack=code), refused)
    assert status.reason == reason
    assert not status.connected
    assert outbox.depth() == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0x80, "unspecified"),
        (0x87, "not-authorised"),
        (0x90, "topic-refused"),
        (0x97, "quota-exceeded"),
        (0x99, "payload-format"),
    ],
)
def test_refused_publication_is_named_and_kept(site: Site, code: int, reason: str) -> None:
    status, outbox = send(site, Script(puback=lambda _n: code), held, leads=3)
    assert status.reason == reason
    assert outbox.depth() == 3


def test_publication_refused_for_a_while_is_taken_later_in_order(site: Site) -> None:
    script = Script(puback=lambda n: 0x97 if n < 4 else 0)
    send(site, script, empty, leads=4)
    taken = [packet.body.split(b":x")[0][-1:] for packet in script.publishes()[-4:]]
    assert taken == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize(("code", "reason"), [(0x8E, "session-taken-over"), (0x8B, "broker-shutting-down")])
def test_disconnect_by_the_broker_is_named(site: Site, code: int, reason: str) -> None:
    status, outbox = send(site, Script(puback=lambda _n: None, disconnect_after=code), refused)
    assert status.reason == reason
    assert outbox.depth() == 1


def test_broker_that_never_answers_the_connect_is_given_up(site: Site) -> None:
    status, _ = send(site, Script(connack=None), lambda uplink, _: uplink.status.failures, connect_timeout_s=0.4)
    assert (status.state, status.reason) == (State.OFFLINE, "connack-timeout")


def test_uplink_that_is_still_waiting_says_that_it_is_connecting(site: Site) -> None:
    script = Script(connack=None)
    status, _ = send(site, script, lambda *_: script.received)
    assert (status.state, status.reason) == (State.OFFLINE, "connecting")


def test_broker_that_never_acknowledges_is_given_up_and_the_row_goes_again(site: Site) -> None:
    script = Script(puback=lambda n: None if n == 0 else 0)
    send(site, script, empty, ack_timeout_s=0.4)
    first, second = (packet.body for packet in script.publishes()[:2])
    assert first.split(b":")[1] == second.split(b":")[1]


def test_repeated_pubacks_remove_nothing_else(site: Site) -> None:
    script = Script(puback=lambda n: 0 if n < 3 else None, echo=3)
    _, outbox = send(site, script, lambda _, outbox: outbox.depth() == 2, leads=5)
    assert [message.message_id for message in outbox.head(9)] == ["lead-3", "lead-4"]


def test_receive_maximum_of_the_broker_is_kept(site: Site) -> None:
    script = Script(properties=b"\x21\x00\x02", puback=lambda _n: None)
    send(site, script, lambda *_: len(script.publishes()) == 2 and not time.sleep(0.3), leads=9)
    assert len(script.publishes()) == 2


def test_row_larger_than_the_brokers_packet_limit_is_held_unsent(site: Site) -> None:
    script = Script(properties=b"\x27" + struct.pack("!I", 4096))
    status, outbox = send(site, script, held, size=5000)
    assert status.reason == "packet-too-large"
    assert (script.publishes(), outbox.depth()) == ([], 1)


def waits(site: Site, script: Script) -> float:
    """Seconds until four attempts have failed, with waits of 0.1, 0.2 and 0.4 s between them."""
    outbox = Outbox(site.root / "outbox.db")
    outbox.put(LEAD_TOPIC, b"x")
    with ScriptedBroker(site, script) as broker:
        patient = replace(settings(site, broker), backoff=Backoff(first_s=0.2, most_s=60.0))
        uplink, began_s = Uplink(outbox, patient, chance=lambda: 0.0), time.monotonic()
        with running(uplink):
            wait_for(lambda: uplink.status.failures >= 4)
            return time.monotonic() - began_s


def test_failures_wait_longer_each_time(site: Site) -> None:
    assert waits(site, Script(connack=0x97)) >= 0.1 + 0.2 + 0.4


def test_broker_that_accepts_and_drops_is_not_hammered(site: Site) -> None:
    assert waits(site, Script(puback=lambda _n: None, disconnect_after=0x97)) >= 0.1 + 0.2 + 0.4


def _properties(packet: Packet) -> dict[str, object]:
    """The properties of a PUBLISH at QoS 1."""
    start = 2 + int(struct.unpack_from("!H", packet.body)[0]) + 2
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.unpack(packet.body[start:])
    return dict(properties.json())


def test_all_that_a_device_ever_says_is_on_the_allow_list(site: Site) -> None:
    """Every packet of a session with refusals, repeats and restarts in it: kinds, flags, topics and properties."""
    script = Script(puback=lambda n: [0x97, 0, None, 0][n % 4])
    with Outbox(site.root / "outbox.db") as outbox, ScriptedBroker(site, script) as broker:
        for number in range(12):
            kind = LEAD_TOPIC if number % 3 else ATTESTATION_TOPIC
            outbox.put(kind, b'{"n":%d}' % number, f"message-{number}")
        for _ in range(3):
            Uplink(outbox, settings(site, broker)).flush(1.5)
    assert {packet.kind for packet in script.received} <= {CONNECT, PUBLISH, DISCONNECT, 12}, "12 is PINGREQ"
    for packet in script.received:
        if packet.kind == CONNECT:
            flags = packet.body[7]
            assert flags == 0b0000_0010, "Clean Start; no will, no user name, no password"
        if packet.kind == PUBLISH:
            assert packet.flags & 0b0111 == 0b0010, "QoS 1, not retained"
            topic = packet.body[2 : 2 + struct.unpack_from("!H", packet.body)[0]].decode()
            properties = _properties(packet)
            allowed = {"PayloadFormatIndicator", "ContentType", "UserProperty"}
            assert topic in (LEAD_TOPIC, ATTESTATION_TOPIC)
            assert set(properties) == allowed | ({"MessageExpiryInterval"} if topic == ATTESTATION_TOPIC else set())
            attributes = dict(properties["UserProperty"])  # type: ignore[call-overload]
            assert set(attributes) == {"specversion", "id", "source", "type"}
            assert attributes["source"] == f"turnkey/v1/{DEVICE}"

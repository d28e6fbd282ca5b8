"""The uplink over a real mosquitto with mutual TLS 1.3."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from patience import PATIENCE_S, wait_for

from turnkey.uplink.connection import UplinkSettings
from turnkey.uplink.delivery import State, Status
from turnkey.uplink.mqtt import Uplink
from turnkey_tools.broker import Broker, Kind
from turnkey_tools.leads.desk import Accepted, Reason, Refused
from turnkey_tools.leads.subscription import Subscription
from turnkey_tools.provision import provision_site

from .conftest import DEVICE, LEAD_TOPIC, OTHER, Station, envelope, running

Reaches = Callable[[UplinkSettings], Status]


def sequences(desk: Subscription, last: int, timeout_s: float = PATIENCE_S) -> list[int]:
    """Sequences in the order in which the desk accepted them, until `last`; duplicates are passed over."""
    accepted: list[int] = []
    until_s = time.monotonic() + timeout_s
    while (not accepted or accepted[-1] < last) and time.monotonic() < until_s:
        verdict = desk.next(0.2)
        if isinstance(verdict, Accepted):
            assert not verdict.missing
            accepted.append(verdict.lead.sequence)
        elif verdict is not None:
            assert verdict.reason is Reason.DUPLICATE, verdict
    return accepted


def held(uplink: Uplink) -> str:
    """Why the row at the head is not taken, once that has shown."""
    with running(uplink):
        wait_for(lambda: uplink.status.state is State.HELD)
    return uplink.status.reason


def test_leads_arrive_verified_and_in_order(station: Station) -> None:
    with station.desk() as desk, station.outbox() as outbox:
        assert desk.listening(PATIENCE_S)
        station.put_leads(outbox, 1, 100)
        uplink = Uplink(outbox, station.settings())
        assert uplink.flush(PATIENCE_S)
        assert sequences(desk, 100) == list(range(1, 101))
        assert uplink.status.delivered == 100
        assert outbox.depth() == 0


def test_the_uplink_talks_to_nobody_but_the_broker(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    def talks_to_itself() -> None:
        raise AssertionError("a connection to itself over 127.0.0.1: its unit's firewall lets none through")

    with station.desk() as desk, station.outbox() as outbox:
        assert desk.listening(PATIENCE_S)
        # The desk's client, on a workstation, wakes itself so, and has begun that by now.
        monkeypatch.setattr(paho, "_socketpair_compat", talks_to_itself)
        station.put_leads(outbox, 1, 1)
        assert Uplink(outbox, station.settings()).flush(PATIENCE_S)


def test_lead_that_nobody_listens_for_stays_and_says_so(station: Station) -> None:
    with station.outbox() as outbox:
        station.put_leads(outbox, 1, 3)
        uplink = Uplink(outbox, station.settings())
        assert held(uplink) == "no-subscriber"
        assert not uplink.status.connected
        assert outbox.depth() == 3
        with station.desk() as desk:
            assert desk.listening(PATIENCE_S)
            assert uplink.flush(PATIENCE_S)
            assert sequences(desk, 3) == [1, 2, 3]


def test_attestation_that_nobody_listens_for_does_not_hold_the_leads(station: Station) -> None:
    with station.outbox() as outbox:
        outbox.put(f"turnkey/v1/{DEVICE}/attestation", b"{}")
        assert Uplink(outbox, station.settings()).flush(PATIENCE_S)


def test_leads_queued_while_the_broker_is_stopped_arrive_after_it_returns(station: Station) -> None:
    with station.desk() as desk, station.outbox() as outbox:
        assert desk.listening(PATIENCE_S)
        uplink = Uplink(outbox, station.settings())
        with running(uplink):
            station.put_leads(outbox, 1, 5)
            assert sequences(desk, 5) == [1, 2, 3, 4, 5]
            station.broker.stop()
            station.put_leads(outbox, 6, 10)
            wait_for(lambda: (uplink.status.state, uplink.status.reason) == (State.OFFLINE, "connection-refused"))
            assert outbox.depth() == 5
            station.broker.start()
            assert sequences(desk, 10) == [6, 7, 8, 9, 10]


def test_leads_arrive_at_a_desk_that_was_away(station: Station) -> None:
    with station.desk() as desk:
        assert desk.listening(PATIENCE_S)
    with station.outbox() as outbox:
        station.put_leads(outbox, 1, 5)
        assert Uplink(outbox, station.settings()).flush(PATIENCE_S)
    station.broker.restart()
    with station.desk() as desk:
        assert sequences(desk, 5) == [1, 2, 3, 4, 5]


def test_leads_that_a_killed_broker_had_acknowledged_are_sent_again(station: Station) -> None:
    """A PUBACK is a promise that a SIGKILL breaks: what was not settled goes again, and the desk sees each once."""
    with station.desk() as desk:
        assert desk.listening(PATIENCE_S)
    station.broker.restart()  # the desk's session is on the broker's disk now, the leads to come are not
    with station.outbox() as outbox:
        uplink = Uplink(outbox, replace(station.settings(), settle_s=60.0))
        with running(uplink):
            station.put_leads(outbox, 1, 20)
            wait_for(lambda: uplink.status.delivered == 20 and not outbox.depth())
            station.broker.kill()
            station.broker.start()
            with station.desk() as desk:
                assert sequences(desk, 20) == list(range(1, 21))


@pytest.mark.parametrize("round_number", range(3))
def test_broker_killed_in_the_middle_of_a_drain_loses_nothing(station: Station, round_number: int) -> None:
    with station.desk() as desk, station.outbox() as outbox:
        assert desk.listening(PATIENCE_S)
        station.broker.restart()
        assert desk.listening(PATIENCE_S)
        station.put_leads(outbox, 1, 300)
        with running(Uplink(outbox, replace(station.settings(), settle_s=60.0))):
            first = sequences(desk, 40 + 60 * round_number)
            station.broker.kill()
            station.broker.start()
            assert first + sequences(desk, 300) == list(range(1, 301))


def test_uplink_restarted_with_waiting_rows_sends_them(station: Station) -> None:
    with station.desk() as desk:
        assert desk.listening(PATIENCE_S)
        with station.outbox() as outbox:
            station.put_leads(outbox, 1, 3)
        with station.outbox() as outbox:
            assert Uplink(outbox, station.settings()).flush(PATIENCE_S)
        assert sequences(desk, 3) == [1, 2, 3]


def test_unsettled_rows_go_again_after_a_restart_and_the_desk_drops_the_duplicates(station: Station) -> None:
    with station.desk() as desk, station.outbox() as outbox:
        assert desk.listening(PATIENCE_S)
        station.put_leads(outbox, 1, 3)
        for _ in range(2):
            assert Uplink(outbox, replace(station.settings(), settle_s=60.0)).flush(PATIENCE_S)
            outbox.restore()
        seen = [desk.next(PATIENCE_S) for _ in range(6)]
        assert [type(verdict) for verdict in seen] == [Accepted] * 3 + [Refused] * 3
        assert {verdict.reason for verdict in seen if isinstance(verdict, Refused)} == {Reason.DUPLICATE}


def test_broker_of_another_ca_is_not_spoken_to(station: Station, tmp_path: Path, reaches: Reaches) -> None:
    stranger = provision_site(tmp_path / "stranger", [DEVICE])
    status = reaches(replace(station.settings(), ca_file=stranger.ca))
    assert (status.state, status.reason) == (State.OFFLINE, "broker-certificate")


def test_broker_under_another_name_is_not_spoken_to(station: Station, reaches: Reaches) -> None:
    status = reaches(replace(station.settings(), host="127.0.0.2"))
    assert status.reason in {"broker-certificate", "connection-refused"}
    assert not status.connected


def test_certificate_of_another_ca_is_a_named_refusal(station: Station, tmp_path: Path, reaches: Reaches) -> None:
    mqtt = provision_site(tmp_path / "stranger", [DEVICE]).device(DEVICE).mqtt
    stranger = replace(station.settings(), certificate_file=mqtt.certificate, key_file=mqtt.key)
    attempts = [reaches(stranger) for _ in range(3)]
    assert not any(status.connected or status.delivered for status in attempts)
    assert {(status.state, status.reason) for status in attempts} == {(State.REFUSED, "client-certificate")}


def test_missing_key_file_is_a_named_failure(station: Station, tmp_path: Path, reaches: Reaches) -> None:
    status = reaches(replace(station.settings(), key_file=tmp_path / "nothing.key"))
    assert (status.state, status.reason) == (State.OFFLINE, "credentials-missing")


def test_topic_that_the_access_list_denies_is_a_named_hold(station: Station, reaches: Reaches) -> None:
    mqtt = station.site.device(OTHER).mqtt  # a stolen certificate of another device
    status = reaches(replace(station.settings(), certificate_file=mqtt.certificate, key_file=mqtt.key))
    assert (status.state, status.reason) == (State.HELD, "not-authorised")


def test_identity_without_any_right_is_refused(station: Station, reaches: Reaches) -> None:
    station.site.acl.write_text("# nobody\n")
    station.broker.reload()
    time.sleep(0.3)
    status = reaches(station.settings())
    assert (status.state, status.reason) == (State.HELD, "not-authorised")


def test_row_for_a_foreign_topic_never_reaches_the_socket(station: Station) -> None:
    with station.outbox() as outbox:
        outbox.put("turnkey/v1/booking-2/lead", b"x")
        uplink = Uplink(outbox, station.settings())
        assert held(uplink) == "foreign-topic"


def test_plain_tcp_and_tls_1_2_get_no_answer(station: Station) -> None:
    mqtt = station.site.device(DEVICE).mqtt
    old = ssl.create_default_context(cafile=str(mqtt.ca))
    old.load_cert_chain(mqtt.certificate, mqtt.key)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=DEVICE, protocol=paho.MQTTv5)
    client.tls_set_context(old)
    with pytest.raises(ssl.SSLError):
        client.connect(station.broker.host, station.broker.port)


def test_device_that_subscribes_receives_nothing(station: Station) -> None:
    mqtt = station.site.device(OTHER).mqtt
    context = ssl.create_default_context(cafile=str(mqtt.ca))
    context.load_cert_chain(mqtt.certificate, mqtt.key)
    received: list[str] = []
    spy = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=OTHER, protocol=paho.MQTTv5)
    spy.tls_set_context(context)
    spy.on_message = lambda _client, _data, message: received.append(message.topic)
    spy.on_connect = lambda client, *_: client.subscribe("#", qos=1)
    spy.connect(station.broker.host, station.broker.port)
    spy.loop_start()
    try:
        with station.desk() as desk, station.outbox() as outbox:
            assert desk.listening(PATIENCE_S)
            station.put_leads(outbox, 1, 3)
            assert Uplink(outbox, station.settings()).flush(PATIENCE_S)
            assert sequences(desk, 3) == [1, 2, 3]
        time.sleep(0.3)
    finally:
        spy.disconnect()
        spy.loop_stop()
    assert received == []


def test_rumqttd_carries_a_lead_too(tmp_path: Path) -> None:
    site = provision_site(tmp_path / "site", [DEVICE])
    with Broker(site, Kind.RUMQTTD) as broker:
        station = Station(site, broker, tmp_path)
        assert broker.shortcomings
        with station.desk() as desk, station.outbox() as outbox:
            assert desk.listening(PATIENCE_S)
            outbox.put(LEAD_TOPIC, envelope(1, station.key))
            assert Uplink(outbox, station.settings()).flush(PATIENCE_S)
            assert sequences(desk, 1) == [1]

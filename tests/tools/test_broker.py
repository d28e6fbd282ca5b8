"""The brokers for demo and tests: they start, answer, end, and say what they cannot do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from turnkey_tools.broker import Broker, BrokerError, Kind, available, mosquitto_path
from turnkey_tools.provision import Site, provision_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return provision_site(tmp_path / "site", ["booking-1"])


def listens(broker: Broker) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((broker.host, broker.port)) == 0


@pytest.mark.parametrize("kind", list(Kind))
def test_broker_answers_inside_its_context_and_is_gone_after_it(site: Site, kind: Kind) -> None:
    assert kind in available(), "install it: apt-get install mosquitto; pip install iotcore"
    with Broker(site, kind) as broker:
        pid = broker.pid
        assert pid is not None
        assert listens(broker)
        assert broker.log()
    assert not listens(broker)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("kind", list(Kind))
def test_restarted_and_killed_broker_comes_back_on_its_port(site: Site, kind: Kind) -> None:
    with Broker(site, kind) as broker:
        port, first = broker.port, broker.pid
        broker.restart()
        assert (broker.port, listens(broker)) == (port, True)
        assert broker.pid != first
        broker.kill()
        assert not listens(broker)
        broker.start()
        assert listens(broker)


def test_broker_that_cannot_start_says_why(site: Site) -> None:
    site.broker.key.write_text("not a key")
    with pytest.raises(BrokerError, match="did not start"):
        Broker(site, Kind.MOSQUITTO).start()


def test_only_mosquitto_is_without_shortcomings(site: Site) -> None:
    assert Broker(site, Kind.MOSQUITTO).shortcomings == ()
    assert any("certificate" in sentence for sentence in Broker(site, Kind.RUMQTTD).shortcomings)


def test_mosquitto_is_the_first_choice(site: Site) -> None:
    assert mosquitto_path() is not None, "these tests need mosquitto: apt-get install mosquitto"
    assert Broker(site).kind is Kind.MOSQUITTO

"""`turnkeyctl leads watch` from end to end: a real broker, a real uplink, the command's own output."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from turnkey.envelope import SigningKey, sign
from turnkey.leads.records import LEAD_NOTICE, PAYLOAD_TYPE_LEAD, canonical
from turnkey.uplink.mqtt import Uplink, UplinkSettings
from turnkey.uplink.outbox import Outbox
from turnkey_tools.broker import Broker, Kind
from turnkey_tools.leads.cli import app
from turnkey_tools.leads.sample import sample_lead
from turnkey_tools.provision import Site, provision_site


def envelope(site: Site, sequence: int) -> bytes:
    key = SigningKey.from_pem(site.device("booking-1").signing_key.read_bytes())
    return sign(PAYLOAD_TYPE_LEAD, canonical(sample_lead(sequence)), key)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(provision_site(tmp_path / "site", ["booking-1"]), Kind.MOSQUITTO) as broker:
        yield broker


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def outbox(tmp_path: Path, site: Site, broker: Broker) -> Iterator[Outbox]:
    """An outbox with an uplink at work on it."""
    mqtt = site.device("booking-1").mqtt
    settings = UplinkSettings(broker.host, broker.port, "booking-1", mqtt.ca, mqtt.certificate, mqtt.key, settle_s=0.0)
    stop = threading.Event()
    with Outbox(tmp_path / "outbox.db") as outbox:
        thread = threading.Thread(target=Uplink(outbox, settings).run, args=(stop,))
        thread.start()
        yield outbox
        stop.set()
        thread.join(10.0)


def watch(site: Site, broker: Broker, *more: str) -> tuple[int, str, str]:
    arguments = ["watch", "--site", str(site.root), "--port", str(broker.port), *more]
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_lead_is_printed_as_a_detective_should_see_it(site: Site, broker: Broker, outbox: Outbox) -> None:
    outbox.put("turnkey/v1/booking-1/lead", envelope(site, 1))
    code, out, _ = watch(site, broker, "--count", "1", "--timeout", "20")
    assert code == 0
    assert "Not an identification" in out
    assert "2025-0042" in out


def test_json_has_one_verdict_per_line(site: Site, broker: Broker, outbox: Outbox) -> None:
    outbox.put("turnkey/v1/booking-1/lead", b"rubbish")
    for sequence in (1, 2):
        outbox.put("turnkey/v1/booking-1/lead", envelope(site, sequence))
    code, out, _ = watch(site, broker, "--json", "--count", "2", "--timeout", "20")
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [verdict["verdict"] for verdict in verdicts] == ["refused", "accepted", "accepted"]
    assert [verdict["lead"]["sequence"] for verdict in verdicts[1:]] == [1, 2]
    assert verdicts[1]["lead"]["notice"] == LEAD_NOTICE


def test_too_few_leads_in_time_is_exit_code_1(site: Site, broker: Broker) -> None:
    assert watch(site, broker, "--count", "1", "--timeout", "1")[0] == 1


def test_desk_that_cannot_listen_says_why_with_exit_code_2(site: Site, broker: Broker) -> None:
    broker.stop()
    code, _, err = watch(site, broker, "--count", "1", "--timeout", "1")
    assert code == 2
    assert "connection-refused" in err


def test_stranger_desk_is_told_that_its_certificate_is_refused(site: Site, broker: Broker, tmp_path: Path) -> None:
    stranger = provision_site(tmp_path / "stranger", ["booking-1"]).desk("lead-desk")
    code, _, err = watch(site, broker, "--timeout", "1.5")
    assert code == 0, err
    arguments = ["watch", "--ca", site.ca, "--cert", stranger.certificate, "--key", stranger.key, "--port", broker.port]
    arguments += ["--device-keys", site.desk_device_keys("lead-desk"), "--store", tmp_path / "s.db", "--timeout", "3"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    assert "client-certificate" in result.stderr


def test_desk_without_any_device_key_does_not_start(site: Site, broker: Broker) -> None:
    for file in site.desk_device_keys("lead-desk").iterdir():
        file.unlink()
    code, _, err = watch(site, broker, "--timeout", "1")
    assert code == 2
    assert "no device key" in err

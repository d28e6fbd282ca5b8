"""The AsyncAPI document says what is on the wire, and the example subscriber reads it from a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import jsonschema
import paho.mqtt.client as paho
from booking_room import REPOSITORY
from patience import PATIENCE_S
from uplink.conftest import DEVICE, Station, envelope, station

from turnkey.leads.records import schemas
from turnkey.uplink.mqtt import Uplink
from turnkey.uplink.topics import Kind, Topic, state_topic
from turnkey_tools.asyncapi import document

__all__ = ["station"]

EXAMPLE = REPOSITORY / "tools" / "examples" / "subscriber.py"


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_every_reference_in_the_document_leads_somewhere() -> None:
    api = document()
    for reference in references(api):
        if reference.startswith("./"):
            assert reference.removeprefix("./") in schemas()
            continue
        node: object = api
        for step in reference.removeprefix("#/").split("/"):
            assert isinstance(node, dict)
            node = node[step]


def test_channels_and_operations_are_the_devices_topics_and_nothing_else() -> None:
    api = document()
    addresses = {channel["address"].replace("{device}", DEVICE) for channel in api["channels"].values()}
    assert addresses == {*(str(Topic(DEVICE, kind)) for kind in Kind), state_topic(DEVICE)}
    retained = {name for name, one in api["operations"].items() if one["bindings"]["mqtt"]["retain"]}
    assert retained == {"publish-state"}
    assert {operation["action"] for operation in api["operations"].values()} == {"send"}
    assert json.loads(json.dumps(api)) == api


def test_what_arrives_is_what_the_document_says(station: Station) -> None:
    message = document()["components"]["messages"]["lead"]
    payload = document()["components"]["schemas"]["lead-envelope"]
    seen: list[paho.MQTTMessage] = []
    with station.desk() as desk, station.outbox() as outbox:
        take_in = desk._on_message
        desk._on_message = lambda client, data, got: (seen.append(got), take_in(client, data, got))[-1]  # type: ignore[method-assign, func-returns-value]
        assert desk.listening(PATIENCE_S)
        station.put_leads(outbox, 1, 1)
        assert Uplink(outbox, station.settings()).flush(PATIENCE_S)
        assert desk.next(PATIENCE_S) is not None
    (got,) = seen
    assert got.properties is not None
    assert got.properties.ContentType == message["contentType"]
    headers = dict(got.properties.UserProperty)
    jsonschema.validate(headers, message["headers"])
    assert headers == {
        "specversion": "1.0", "id": "lead-1", "source": f"turnkey/v1/{DEVICE}", "type": "turnkey.lead.v1",
    }  # fmt: skip
    assert (got.qos, got.retain) == (1, False)
    loose = {**payload, "properties": {**payload["properties"], "payload": {"type": "string"}}}
    jsonschema.validate(json.loads(got.payload), loose)


def test_the_example_prints_a_verified_lead_and_refuses_a_forged_one(station: Station) -> None:
    command = [sys.executable, EXAMPLE, station.site.root / "desks" / "lead-desk", station.site.ca, "127.0.0.1"]
    with station.outbox() as outbox:
        forged = envelope(7, station.key).replace(b'"sig": "', b'"sig": "AAAA')
        station.put_leads(outbox, 1, 2)
        outbox.put(f"turnkey/v1/{DEVICE}/lead", forged.replace(b'"sig":"', b'"sig":"AAAA'), "forged")
        process = subprocess.Popen([*command, str(station.broker.port)], stdout=subprocess.PIPE, text=True)
        alarm = threading.Timer(20.0, process.kill)
        alarm.start()
        try:  # until the example listens, the broker says that nobody does, and the uplink keeps its leads
            assert Uplink(outbox, station.settings()).flush(PATIENCE_S)
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(3)]
        finally:
            alarm.cancel()
            process.terminate()
            process.wait(5)
    assert [line.split(" ")[-2:] for line in lines[:2]] == [["1", "['2025-0042']\n"], ["2", "['2025-0042']\n"]]
    assert lines[0].startswith("Investigative lead only.")
    assert lines[2].startswith("refused: ")


def test_the_example_is_as_short_as_it_says() -> None:
    code = EXAMPLE.read_text().split('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 30

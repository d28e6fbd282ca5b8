"""Everything that uplinks in this process write to their sockets, before it is encrypted, and what of it is allowed.

The recorder sits under paho, at the one place where its client hands bytes to TLS. It keeps the streams of clients that
present a device's identity; a lead desk's or a spy's are not a device's word.
"""

from __future__ import annotations

import base64
import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from turnkey.uplink import connection
from turnkey.uplink.topics import Kind, parse

CONNECT, PUBLISH, PINGREQ, DISCONNECT = 1, 3, 12, 14

LEAD_FIELDS = {
    "lead_id", "device_id", "sequence", "attempt_id", "issued_at", "booking_number", "partition", "gallery_size",
    "threshold", "max_fpir", "search", "search_recall", "model_id", "policy_digest", "probe_quality", "candidates",
    "notice", "case_number",
}  # fmt: skip
CANDIDATE_FIELDS = {"rank", "reference", "score", "enrolled_at"}
ATTESTATION_FIELDS = {
    "device_id", "index", "boot_id", "at", "monotonic_ns", "event", "ledger_root", "checkpoint", "previous_size",
    "consistency",
}  # fmt: skip
EVENT_FIELDS = {
    "kind", "software", "models", "previous", "state", "reason", "epoch", "channel_a", "channel_b", "relay_closed",
    "policy", "leads_waiting", "uptime_s", "order_id", "sequence", "captures", "searches", "leads", "step",
    "what", "version", "digest",
}  # fmt: skip
PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"WEBP", b"JFIF", b"Exif")


class Egress:
    """The streams, by client."""

    def __init__(self) -> None:
        self.streams: dict[int, bytearray] = defaultdict(bytearray)
        self._kept: list[paho.Client] = []  # so that no id is used twice

    def written(self, client: paho.Client, data: bytes) -> None:
        if id(client) not in self.streams:
            self._kept.append(client)
        self.streams[id(client)] += data

    def everything(self) -> bytes:
        return b"".join(self.streams.values())

    def publications(self) -> list[tuple[str, bytes]]:
        """Topic and payload of every publication. Raises AssertionError for anything else that a device said."""
        return [found for stream in self.streams.values() for found in _publications(bytes(stream))]


@contextmanager
def recorded() -> Iterator[Egress]:
    """Record what the uplinks of this process write, while inside."""
    egress = Egress()
    original_send = paho.Client._sock_send

    def send(client: paho.Client, data: bytes) -> int:
        count = original_send(client, data)
        if getattr(client.on_publish, "__self__", None).__class__ is connection.Connection:
            egress.written(client, bytes(data[:count]))
        return count

    paho.Client._sock_send = send  # type: ignore[method-assign, assignment]
    try:
        yield egress
    finally:
        paho.Client._sock_send = original_send  # type: ignore[method-assign]


def _publications(stream: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(stream):
        head, at = stream[at], at + 1
        length = shift = 0
        while at < len(stream):
            byte, at = stream[at], at + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        body, at = stream[at : at + length], at + length
        if len(body) < length:
            return  # the connection broke in the middle of it
        assert head >> 4 in {CONNECT, PUBLISH, PINGREQ, DISCONNECT}, f"a device sent packet type {head >> 4}"
        if head >> 4 == PUBLISH:
            topic, payload = _publication(body)
            retained = topic.endswith("/attestation/state")
            assert head & 0b0111 == 0b0010 | retained, "QoS 1, and nothing retained but the state"
            yield topic, payload


def _publication(body: bytes) -> tuple[str, bytes]:
    size = int(struct.unpack_from("!H", body)[0])
    topic = body[2 : 2 + size].decode()
    kept = topic.endswith("/attestation/state")
    place = parse(topic.removesuffix("/state"))
    assert place is not None, f"a device published to {topic}"
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    _, used = properties.unpack(body[4 + size :])
    known = dict(properties.json())
    allowed = {"PayloadFormatIndicator", "ContentType", "UserProperty"}
    assert set(known) <= allowed | ({"MessageExpiryInterval"} if place.kind is Kind.ATTESTATION else set())
    assert kept or set(dict(known["UserProperty"])) == {"specversion", "id", "source", "type"}
    return topic, body[4 + size + used :]


def fields_of(payload: bytes) -> dict[str, object]:
    """The signed record in an envelope. Raises AssertionError for any field that is not on the allow-list."""
    envelope = json.loads(payload)
    assert set(envelope) == {"payload", "payloadType", "signatures"}
    assert all(set(signature) == {"keyid", "sig"} for signature in envelope["signatures"])
    record: dict[str, object] = json.loads(base64.b64decode(envelope["payload"]))
    if "lead" in envelope["payloadType"]:
        assert set(record) <= LEAD_FIELDS
        assert isinstance(record["candidates"], list)
        assert all(set(candidate) <= CANDIDATE_FIELDS for candidate in record["candidates"])
    else:
        assert set(record) <= ATTESTATION_FIELDS
        assert isinstance(record["event"], dict)
        assert set(record["event"]) <= EVENT_FIELDS
    return record

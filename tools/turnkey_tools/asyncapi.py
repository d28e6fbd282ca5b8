"""The AsyncAPI 3 document of what a device publishes, made from the records and the topics themselves.

Pure: `document` is a value; `turnkeyctl schemas` writes it and a test holds the committed file to it.
"""

from __future__ import annotations

from typing import Any, Final

from turnkey.leads.records import PAYLOAD_TYPE_ATTESTATION, PAYLOAD_TYPE_LEAD
from turnkey.uplink.connection import CONTENT_TYPE, cloud_event
from turnkey.uplink.topics import ROOT, Kind

FILE: Final = "asyncapi.v1.json"

_DEVICE_ID: Final = "^[a-z0-9][a-z0-9-]{1,62}$"
_PAYLOAD_TYPES: Final = {Kind.LEAD: PAYLOAD_TYPE_LEAD, Kind.ATTESTATION: PAYLOAD_TYPE_ATTESTATION}
_SUMMARIES: Final = {
    Kind.LEAD: "A signed investigative lead. Not an identification and not probable cause.",
    Kind.ATTESTATION: "A signed boot, change of state, heartbeat or update, with the ledger's root. No personal data.",
}


def document() -> dict[str, Any]:
    """The document. Channels are the device's topics; the only operations are its publications."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:turnkey:uplink:v1",
        "info": {
            "title": "Turnkey uplink",
            "version": "1.0.0",
            "description": "All that a Turnkey device publishes. It subscribes to nothing and retains its state alone. "
            "Delivery is at least once and in order per device; verify the envelope's signature before reading its "
            "payload.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "station": {
                "host": "{host}:{port}",
                "protocol": "secure-mqtt",
                "protocolVersion": "5.0",
                "description": "The station's broker: TLS 1.3, a client certificate of the site, no session kept.",
                "variables": {"host": {"default": "broker.station.example"}, "port": {"default": "8883"}},
                "security": [{"$ref": "#/components/securitySchemes/certificate"}],
                "bindings": {"mqtt": {"cleanSession": True, "keepAlive": 30, "bindingVersion": "0.2.0"}},
            }
        },
        "channels": {kind.value: _channel(kind) for kind in Kind} | {"state": _state_channel()},
        "operations": {
            f"publish-{kind.value}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{kind.value}"},
                "messages": [{"$ref": f"#/channels/{kind.value}/messages/{kind.value}"}],
                "bindings": {"mqtt": {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}},
            }
            for kind in Kind
        }
        | {
            "publish-state": {
                "action": "send",
                "channel": {"$ref": "#/channels/state"},
                "messages": [{"$ref": f"#/channels/state/messages/{name}"} for name in ("attestation", "unknown")],
                "bindings": {"mqtt": {"qos": 1, "retain": True, "bindingVersion": "0.2.0"}},
            }
        },
        "components": {
            "securitySchemes": {"certificate": {"type": "X509"}},
            "messages": {kind.value: _message(kind) for kind in Kind} | {"unknown": _unknown()},
            "schemas": {f"{kind.value}-envelope": _envelope(kind) for kind in Kind},
        },
    }


def _channel(kind: Kind) -> dict[str, Any]:
    return {
        "address": f"{ROOT}/{{device}}/{kind.value}",
        "messages": {kind.value: {"$ref": f"#/components/messages/{kind.value}"}},
        "parameters": {
            "device": {"description": f"The device's id, {_DEVICE_ID}; the key that signs is that device's."}
        },
    }


def _state_channel() -> dict[str, Any]:
    return {
        "address": f"{ROOT}/{{device}}/attestation/state",
        "description": "Retained: the last attestation that tells the state. The device's will replaces it by "
        "`unknown` when its connection ends.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in ("attestation", "unknown")},
        "parameters": _channel(Kind.ATTESTATION)["parameters"],
    }


def _unknown() -> dict[str, Any]:
    return {
        "name": "unknown",
        "summary": "The device is not connected; its state is not known. Unsigned: it claims nothing.",
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "properties": {"device_id": {"type": "string", "pattern": _DEVICE_ID}, "state": {"const": "UNKNOWN"}},
            "required": ["device_id", "state"],
            "additionalProperties": False,
        },
    }


def _message(kind: Kind) -> dict[str, Any]:
    attributes = [name for name, _ in cloud_event(kind, "device-1", "id")]
    return {
        "name": kind.value,
        "summary": _SUMMARIES[kind],
        "contentType": CONTENT_TYPE,
        "headers": {
            "type": "object",
            "description": "CloudEvents 1.0 attributes as MQTT 5 user properties (binary mode); content type is the "
            "publication's own property.",
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {"type": "string", "description": "the same for a second delivery of the same message"},
                "source": {"type": "string", "description": f"{ROOT}/ and the device's id"},
                "type": {"const": dict(cloud_event(kind, "device-1", "id"))["type"]},
            },
            "required": attributes,
        },
        "payload": {"$ref": f"#/components/schemas/{kind.value}-envelope"},
    }


def _envelope(kind: Kind) -> dict[str, Any]:
    base64 = {"type": "string", "contentEncoding": "base64"}
    return {
        "type": "object",
        "description": "DSSE v1 envelope (Ed25519).",
        "properties": {
            "payloadType": {"const": _PAYLOAD_TYPES[kind]},
            "payload": {
                **base64,
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": f"./{kind.value}.v1.json"},
            },
            "signatures": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "properties": {"keyid": {"type": "string"}, "sig": base64},
                    "required": ["keyid", "sig"],
                },
            },
        },
        "required": ["payload", "payloadType", "signatures"],
        "additionalProperties": False,
    }

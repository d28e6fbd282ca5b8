"""The texts that configure a site's broker: mosquitto.conf with its access list, and rumqttd's TOML for the demo.

Pure: values in, text out. What each line is for stands beside it, because a pilot's IT reads these files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_PACKET_BYTES: Final = 72 * 1024  # the outbox's 64 KiB payload, its topic and properties
AUTOSAVE_S: Final = 5  # the uplink keeps acknowledged rows for longer than this (`settle_s`)
DESK_SESSION_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Access:
    """What one certificate's common name may publish to and receive from."""

    user: str
    write: tuple[str, ...]
    read: tuple[str, ...]


def mosquitto_acl(entries: Sequence[Access]) -> str:
    """The access list, one block per identity. Who is not named may do nothing."""
    lines = ["# Devices publish to their own topics and read nothing; desks read and publish nothing."]
    for entry in entries:
        lines += ["", f"user {entry.user}"]
        lines += [f"topic write {topic}" for topic in entry.write]
        lines += [f"topic read {topic}" for topic in entry.read]
    return "\n".join(lines) + "\n"


def mosquitto_conf(folder: Path, ca: Path, port: int, host: str = "127.0.0.1", user: str = "") -> str:
    """mosquitto.conf (mosquitto 2.0) for a site.

    Args:
        folder: absolute; the broker's own, with its key, its access list and its store.
        ca: the site's CA certificate.
        port, host: where it listens.
        user: whom a mosquitto that root starts becomes; its default, `mosquitto`, must then own `folder`.
    """
    become = f"user {user}\n" if user else ""
    return f"""\
{become}# Written by `turnkeyctl provision`. One listener: TLS 1.3 and a certificate of the site, or no connection.
per_listener_settings false
listener {port} {host}
cafile {ca}
certfile {folder}/broker.pem
keyfile {folder}/broker.key
tls_version tlsv1.3
require_certificate true
# The certificate's common name is the user and the client id: nobody can take another's session over.
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/acl

# Retained: the state of each device, under attestation/state, and its will that says UNKNOWN. mosquitto cannot permit
# that for one topic alone; a device retains nothing else, and a desk takes nothing that was retained.
retain_available true
# No packet larger than an envelope can be.
max_packet_size {MAX_PACKET_BYTES}
max_topic_alias 0
max_keepalive 120
# Also what a publisher may have on the way (Receive Maximum).
max_inflight_messages 100

# What waits for a desk that is away is kept, all of it (the default would drop all but 1000), on disk.
max_queued_messages 0
max_queued_bytes 0
persistent_client_expiration {DESK_SESSION_DAYS}d
persistence true
persistence_location {folder}/
persistence_file broker.db
autosave_interval {AUTOSAVE_S}
autosave_on_changes false

connection_messages true
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
"""


def mosquitto_bridge(folder: Path, name: str, host: str, port: int) -> str:
    """The part of a station's mosquitto.conf that hands on to a central broker.

    Args:
        folder: absolute; the station broker's own.
        name: the station's user and client id at the centre.
        host, port: the central broker; its certificate is checked for `host`.
    """
    return f"""\
# Written by `turnkeyctl bridge`. What devices publish goes out to one broker; nothing comes in.
connection {name}
address {host}:{port}
bridge_protocol_version mqttv50
bridge_cafile {folder}/bridge-ca.pem
bridge_certfile {folder}/bridge.pem
bridge_keyfile {folder}/bridge.key
bridge_tls_version tlsv1.3
bridge_insecure false
remote_clientid {name}
topic turnkey/v1/+/lead out 1
topic turnkey/v1/+/attestation out 1
# What cannot be handed on waits here, on disk, for as long as it takes.
cleansession false
notifications false
try_private false
bridge_attempt_unsubscribe false
bridge_outgoing_retain false
start_type automatic
restart_timeout 1 30
keepalive_interval 30
"""


def rumqttd_toml(certificate: Path, key: Path, port: int) -> str:
    """rumqttd's configuration (rumqttd 0.20): one MQTT 5 listener on loopback, TLS with the broker's certificate."""
    return f"""\
id = 0

[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "v5-tls"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.tls]
certpath = "{certificate}"
keypath = "{key}"

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = {MAX_PACKET_BYTES}
max_inflight_count = 100
dynamic_filters = true
"""

"""One connection to the broker: paho-mqtt 2, MQTT 5, mutual TLS 1.3.

Rules kept here:
1. TLS 1.3 or nothing; the broker's certificate comes from the one pinned CA and names the host; ours is shown.
2. Clean Start, no session at the broker, no subscription, QoS 1. Nothing is retained but the state: the last signed
   attestation of it while there is a connection, and after that, by the will, that it is UNKNOWN.
3. What ends a connection is named (`Status`), as precisely as the broker and TLS let us know.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from turnkey.uplink.delivery import Backoff, State, Status, Window, reason
from turnkey.uplink.outbox import Message
from turnkey.uplink.topics import ROOT, Kind, state_topic, unknown_state

CONTENT_TYPE: Final = "application/vnd.dsse+json"
_WITH_WILL: Final = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
_ALERT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """One broker, one identity.

    Attributes:
        device_id: also the certificate's common name and the topic level.
        ca_file: the one CA a broker's certificate may come from (PEM). The system's CAs are not asked.
        certificate_file, key_file: this device's identity (PEM); the key comes as a systemd credential.
        keepalive_s: MQTT keep alive, seconds.
        connect_timeout_s: for TCP, for the TLS handshake and for the CONNACK, each.
        ack_timeout_s: a PUBACK later than this means that the connection is dead.
        window: rows on the way at once.
        settle_s: unbroken seconds between PUBACK and removal; above the broker's `autosave_interval`.
        poll_s: how often an idle uplink looks for new rows.
        attestation_expiry_s: after this the broker may drop an undelivered attestation; leads never expire.
        state: keep the state at the broker, with a will that says UNKNOWN.
    """

    host: str
    port: int
    device_id: str
    ca_file: Path
    certificate_file: Path
    key_file: Path
    keepalive_s: int = 30
    connect_timeout_s: float = 5.0
    ack_timeout_s: float = 20.0
    window: int = 64
    settle_s: float = 15.0
    poll_s: float = 0.05
    attestation_expiry_s: int = 24 * 3600
    state: bool = False
    backoff: Backoff = field(default_factory=Backoff)


class Connection:
    """One TCP connection with one paho client. Driven by `turn`; never waits but in the constructor (bounded)."""

    def __init__(self, settings: UplinkSettings, now_s: Callable[[], float]) -> None:
        self._settings = settings
        self._now_s = now_s
        self._deadline_s = now_s() + settings.connect_timeout_s
        self._last_log = ""
        self.keeps_state = settings.state
        self.accepted = False
        self.failure: Status | None = None
        self.packet_limit = 256 * 1024 * 1024
        self.window = Window(settings.window, settings.settle_s, settings.backoff)
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=settings.device_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        client.connect_timeout = settings.connect_timeout_s
        client.max_inflight_messages_set(settings.window)
        client.tls_set_context(tls_context(settings.ca_file, settings.certificate_file, settings.key_file))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_log = self._on_log
        self._client = client
        if settings.state:
            client.will_set(state_topic(settings.device_id), unknown_state(settings.device_id), qos=1, retain=True)
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0
        # Our own limit for what a broker may send: PUBACKs and a DISCONNECT, never a message.
        properties.MaximumPacketSize = 4096
        client.connect(settings.host, settings.port, settings.keepalive_s, clean_start=True, properties=properties)

    def turn(self, timeout_s: float) -> None:
        """Read and write what the socket allows, waiting at most `timeout_s` for it."""
        code = self._moved(timeout_s)
        if self.failure is not None:
            return
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self.failure = self._lost(paho.error_string(code))
        elif not self.accepted and self._now_s() > self._deadline_s:
            self.failure = Status(State.OFFLINE, "connack-timeout", "the broker did not answer the CONNECT")

    def publish(self, message: Message, kind: Kind) -> None:
        """Hand one row to the socket. What happens to it arrives in `window`."""
        properties = _properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        properties.PayloadFormatIndicator = 1
        properties.UserProperty = cloud_event(kind, self._settings.device_id, message.message_id)
        if kind is Kind.ATTESTATION:
            properties.MessageExpiryInterval = self._settings.attestation_expiry_s
        info = self._client.publish(message.topic, message.payload, qos=1, retain=False, properties=properties)
        self.window.sent(info.mid, message.sequence, kind, self._now_s())

    def show_state(self, envelope: bytes) -> None:
        """Have the broker keep an attestation of the state. Nothing waits for its PUBACK: the next one says it anew."""
        properties = _properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        properties.PayloadFormatIndicator = 1
        topic = state_topic(self._settings.device_id)
        self._client.publish(topic, envelope, qos=1, retain=True, properties=properties)

    def close(self) -> None:
        """Say DISCONNECT where that is still possible and close the socket. The state at the broker is UNKNOWN then."""
        self._client.on_disconnect = None
        if self._client.is_connected():
            self._client.disconnect(_WITH_WILL if self._settings.state else None)
            self._moved(0.0)
        open_socket = self._client.socket()
        if open_socket is not None:
            open_socket.close()

    def _moved(self, timeout_s: float) -> MQTTErrorCode:
        """What paho's own `loop` does, without its way to wake itself.

        That is a TCP connection from 127.0.0.1 to itself: a port that listens for a moment, and under the unit's
        IPAddressDeny= a connection that never comes about, which it waits for without an end.
        """
        open_socket = self._client.socket()
        if open_socket is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        # What TLS has already taken out of the socket, select() does not see.
        decrypted = isinstance(open_socket, ssl.SSLSocket) and open_socket.pending() > 0
        to_write = [open_socket] if self._client.want_write() else []
        try:
            readable, writable, _ = select.select([open_socket], to_write, [], 0.0 if decrypted else timeout_s)
        except (OSError, ValueError):
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        for ready, step in ((decrypted or readable, self._client.loop_read), (writable, self._client.loop_write)):
            code = step() if ready else MQTTErrorCode.MQTT_ERR_SUCCESS
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS or self._client.socket() is None:
                return code
        return self._client.loop_misc()

    def _on_connect(
        self,
        _client: paho.Client,
        _data: Any,
        _flags: paho.ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.value >= 0x80:
            self.failure = Status(State.REFUSED, reason(code.value), f"the broker refused the connection: {code}")
            return
        receive_maximum = getattr(properties, "ReceiveMaximum", None) or self._settings.window
        self.packet_limit = getattr(properties, "MaximumPacketSize", None) or self.packet_limit
        self.window = Window(
            min(self._settings.window, receive_maximum), self._settings.settle_s, self._settings.backoff
        )
        self.accepted = True
        self._client.on_log = None  # from here on it would only format every packet; what matters was the handshake

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: Any,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if self.failure is not None:
            return
        if flags.is_disconnect_packet_from_server:
            state = State.REFUSED if code.value >= 0x80 else State.OFFLINE
            self.failure = Status(state, reason(code.value), f"the broker ended the connection: {code}")
        else:
            self.failure = self._lost(str(code))

    def _on_publish(
        self, _client: paho.Client, _data: Any, packet_id: int, code: ReasonCode, _properties: Properties
    ) -> None:
        self.window.answered(packet_id, code.value, self._now_s())

    def _on_log(self, _client: paho.Client, _data: Any, _level: int, text: str) -> None:
        if "socket" in text:
            self._last_log = text

    def _lost(self, text: str) -> Status:
        detail = self._last_log or text
        if self.accepted:
            return Status(State.OFFLINE, "connection-lost", detail)
        if is_certificate_refusal(detail):
            return Status(State.REFUSED, "client-certificate", f"the broker refused our certificate: {detail}")
        settings = self._settings
        refusal = certificate_refusal(
            settings.host, settings.port, settings.ca_file, settings.certificate_file, settings.key_file
        )
        if refusal is not None:
            return Status(State.REFUSED, "client-certificate", f"the broker refused our certificate: {refusal}")
        text = f"the broker closed before it answered (does it know our certificate's CA?): {detail}"
        return Status(State.OFFLINE, "closed-before-connack", text)


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call] # paho leaves this one constructor untyped


def cloud_event(kind: Kind, device_id: str, message_id: str) -> list[tuple[str, str]]:
    """CloudEvents 1.0 attributes as user properties (MQTT protocol binding 3.1, binary mode)."""
    return [
        ("specversion", "1.0"),
        ("id", message_id),
        ("source", f"{ROOT}/{device_id}"),
        ("type", f"turnkey.{kind}.v1"),
    ]


def is_certificate_refusal(detail: str) -> bool:
    """Whether a lost connection was the broker's refusal of our certificate.

    In TLS 1.3 the handshake ends for the client before the broker has looked at its certificate, so a refusal shows
    only afterwards, as an alert on the first read.
    """
    return "ALERT" in detail.upper() or "certificate" in detail.lower()


def certificate_refusal(host: str, port: int, ca: Path, certificate: Path, key: Path) -> str | None:
    """What a broker says to our certificate when we say nothing else; None where it does not refuse it.

    A broker that refuses it closes with our CONNECT still unread, and then TCP resets the connection and throws the
    alert away (RFC 1122, 4.2.2.13). So this shakes hands, sends nothing, and listens for `_ALERT_S`.
    """
    try:
        with (
            socket.create_connection((host, port), timeout=_ALERT_S) as tcp,
            tls_context(ca, certificate, key).wrap_socket(tcp, server_hostname=host) as tls,
        ):
            tls.recv(1)
    except ssl.SSLError as error:
        return str(error) if is_certificate_refusal(str(error)) else None
    except OSError:
        return None
    return None


def tls_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Mutual TLS 1.3 with one pinned CA; the system's CAs are not asked, the broker's name is checked.

    Raises:
        OSError: a file is missing or unreadable (ssl.SSLError, its subclass: not PEM, or not a pair).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=ca)
    context.load_cert_chain(certificate, key)
    return context


def named(error: Exception) -> Status:
    """The status for a connection that could not be opened."""
    named: list[tuple[type[Exception], str, str]] = [
        (ssl.SSLCertVerificationError, "broker-certificate", "the broker's certificate is not from the site's CA"),
        (ssl.SSLError, "tls", "no TLS 1.3 with this broker"),
        (socket.gaierror, "name-unresolved", "the broker's name has no address"),
        (ConnectionRefusedError, "connection-refused", "nothing listens at the broker's address"),
        (TimeoutError, "timeout", "the broker did not answer in time"),
        (FileNotFoundError, "credentials-missing", "a certificate or key file is missing"),
        (PermissionError, "credentials-unreadable", "a certificate or key file may not be read"),
    ]
    for kind, code, text in named:
        if isinstance(error, kind):
            return Status(State.OFFLINE, code, f"{text}: {error}")
    return Status(State.OFFLINE, "network", str(error))

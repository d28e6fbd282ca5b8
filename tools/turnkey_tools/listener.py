"""The listening end of the wire: subscribes, hands what arrived to its subclass to judge and store, then acknowledges.

Rules kept here:
1. What `take_in` returned for is stored, and only then does the broker get its PUBACK. A listener that dies in between
   receives the message again. What arrived together is stored together, up to `_BATCH`: a commit costs an fsync,
   however many messages it holds.
2. The session outlives the listener (`SESSION_S`): what arrives while it is away waits at the broker.
3. Nothing is published. The broker is told not to send packets larger than an envelope.
4. A lost connection is opened again, with back-off, for as long as the caller keeps asking.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from turnkey.uplink.connection import certificate_refusal, is_certificate_refusal, named, tls_context
from turnkey.uplink.delivery import Backoff, reason
from turnkey_tools.broker_config import DESK_SESSION_DAYS, MAX_PACKET_BYTES
from turnkey_tools.provision import Identity

SESSION_S: Final = DESK_SESSION_DAYS * 24 * 3600
_KEEPALIVE_S: Final = 30
_CONNECT_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.1
_BATCH: Final = 100
_SEND: Final = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
_DO_NOT_SEND: Final = SubscribeOptions.RETAIN_DO_NOT_SEND

Verdict = TypeVar("Verdict")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why nobody is not listening: a code and one line for a person."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """One message as it came; an empty topic where it was not UTF-8."""

    topic: str
    payload: bytes


class Listener(ABC, Generic[Verdict]):
    """Listens at one broker. Single-threaded: everything happens inside `next` and `listening`.

    Args:
        identity: the listener's certificate; its name is the MQTT client id.
        host, port: the broker.
        topics: the MQTT topic filters.
        retained: whether what the broker kept is taken as well; else the broker is told to send none of it.
    """

    def __init__(self, identity: Identity, host: str, port: int, *topics: str, retained: bool = False) -> None:
        options = SubscribeOptions(qos=1, retainHandling=_SEND if retained else _DO_NOT_SEND)
        self._filters = [(topic, options) for topic in topics]
        self._identity = identity
        self._host = host
        self._port = port
        self._client: paho.Client | None = None
        self._arrived: list[paho.MQTTMessage] = []
        self._verdicts: deque[Verdict] = deque()
        self._subscribed = False
        self._backoff = Backoff(first_s=0.2, most_s=10.0)
        self._attempts = 0
        self._retry_at_s = 0.0
        self._last_log = ""
        self._answered = False
        self._refusal: Trouble | None = None
        self.trouble: Trouble | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def listening(self, timeout_s: float) -> bool:
        """Wait until the broker has granted the subscription. False: see `trouble`."""
        until_s = time.monotonic() + timeout_s
        while not self._subscribed and time.monotonic() < until_s:
            self._turn(until_s)
        return self._subscribed

    def next(self, timeout_s: float) -> Verdict | None:
        """The next verdict, already stored; None where none came in time."""
        until_s = time.monotonic() + timeout_s
        while not self._verdicts and time.monotonic() < until_s:
            self._turn(until_s)
        return self._verdicts.popleft() if self._verdicts else None

    def close(self) -> None:
        """Leave; the session stays at the broker."""
        client, self._client, self._subscribed = self._client, None, False
        self._arrived.clear()
        if client is None:
            return
        client.on_disconnect = None
        if client.is_connected():
            client.disconnect()
            client.loop(0.0)
        open_socket = client.socket()
        if open_socket is not None:
            open_socket.close()

    def _turn(self, until_s: float) -> None:
        now_s = time.monotonic()
        if self._client is None:
            if now_s < self._retry_at_s:
                time.sleep(max(0.0, min(_POLL_S, self._retry_at_s - now_s, until_s - now_s)))
                return
            self._connect()
            return
        code = self._client.loop(_POLL_S)
        # paho reads one packet a turn: as long as each turn brings one, there may be more.
        before = 0
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS and before < len(self._arrived) < _BATCH:
            before = len(self._arrived)
            code = self._client.loop(0.0)
        self._take_in(self._client)
        if self._refusal is not None:
            self._fail(self._refusal.reason, self._refusal.detail)
        elif code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lost(paho.error_string(code))

    def _connect(self) -> None:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._identity.name,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_log = self._on_log
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho leaves it untyped
        properties.SessionExpiryInterval = SESSION_S
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        self._last_log, self._answered = "", False
        try:
            client.tls_set_context(tls_context(self._identity.ca, self._identity.certificate, self._identity.key))
            client.connect(self._host, self._port, _KEEPALIVE_S, clean_start=False, properties=properties)
        except (OSError, ValueError) as error:
            status = named(error)
            self._fail(status.reason, status.detail)
            return
        self._client = client
        self._refusal = None

    def _fail(self, code: str, detail: str) -> None:
        self.close()
        self.trouble = Trouble(code, detail)
        self._retry_at_s = time.monotonic() + self._backoff.wait_s(self._attempts, random.random())  # noqa: S311 - jitter
        self._attempts += 1

    def _lost(self, text: str) -> None:
        if is_certificate_refusal(self._last_log):
            self._fail("client-certificate", f"the broker refused this certificate: {self._last_log}")
        elif self._answered:
            self._fail("connection-lost", self._last_log or text)
        else:
            identity = self._identity
            alert = certificate_refusal(self._host, self._port, identity.ca, identity.certificate, identity.key)
            if alert is not None:
                self._fail("client-certificate", f"the broker refused this certificate: {alert}")
                return
            hint = "the broker closed before it answered (does it know this certificate's CA?)"
            self._fail("closed-before-connack", f"{hint}: {self._last_log or text}")

    def _on_connect(
        self,
        client: paho.Client,
        _data: Any,
        _flags: paho.ConnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._answered = True
        if code.value >= 0x80:
            self._refusal = Trouble(reason(code.value), f"the broker refused the connection: {code}")
            return
        client.subscribe(self._filters)

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        refused = [code for code in codes if code.value >= 0x80]
        if refused:
            self._refusal = Trouble(reason(refused[0].value), f"the broker refused the subscription: {refused[0]}")
            return
        self._attempts = 0
        self.trouble = None
        self._subscribed = True

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._arrived.append(message)

    @abstractmethod
    def take_in(self, arrived: Sequence[Arrived]) -> list[Verdict]:
        """Judge messages and store the verdicts; on disk when this returns.

        Raises:
            StorageError: nothing was stored, and nothing is acknowledged.
        """

    def _take_in(self, client: paho.Client) -> None:
        arrived, self._arrived = self._arrived, []
        if arrived:
            messages = [Arrived(_topic(message), bytes(message.payload)) for message in arrived]
            self._verdicts.extend(self.take_in(messages))
        for message in arrived:
            client.ack(message.mid, message.qos)

    def _on_log(self, _client: paho.Client, _data: Any, _level: int, text: str) -> None:
        if "socket" in text:
            self._last_log = text


def _topic(message: paho.MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:  # paho decodes late; a broker that lets such a topic through is not ours
        return ""

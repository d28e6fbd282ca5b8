"""A broker that answers as it is told, over real TLS 1.3: for the refusals that mosquitto gives only on its worst days.

It keeps every packet it received, so that a test can look at all that a device said.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from turnkey_tools.provision import Site

CONNECT, PUBLISH, DISCONNECT = 1, 3, 14


@dataclass(frozen=True)
class Packet:
    """One MQTT control packet as received (MQTT 5, 2.1)."""

    kind: int
    flags: int
    body: bytes

    @property
    def packet_id(self) -> int:
        """Of a PUBLISH at QoS 1."""
        topic_length = int(struct.unpack_from("!H", self.body)[0])
        return int(struct.unpack_from("!H", self.body, 2 + topic_length)[0])


@dataclass
class Script:
    """What the broker says. None: nothing at all.

    Attributes:
        connack: reason code.
        properties: CONNACK properties, encoded.
        puback: reason code for the n-th PUBLISH of all connections, counted from 0.
        disconnect_after: send DISCONNECT with this reason after the first PUBLISH.
        echo: PUBACKs sent for each PUBLISH.
    """

    connack: int | None = 0
    properties: bytes = b""
    puback: Callable[[int], int | None] = lambda _n: 0
    disconnect_after: int | None = None
    echo: int = 1
    received: list[Packet] = field(default_factory=list)

    def publishes(self) -> list[Packet]:
        return [packet for packet in self.received if packet.kind == PUBLISH]


class ScriptedBroker:
    """Listens on 127.0.0.1:`port` with the site's broker certificate and asks for a client's."""

    host = "127.0.0.1"

    def __init__(self, site: Site, script: Script) -> None:
        self._script = script
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(site.ca))
        self._context.load_cert_chain(site.broker.certificate, site.broker.key)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self.waiting_at_once = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> ScriptedBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), self._context.wrap_socket(client, server_side=True) as tls:
            while True:
                packet = _read(tls)
                self._script.received.append(packet)
                if packet.kind == CONNECT and self._script.connack is not None:
                    body = bytes([0, self._script.connack, len(self._script.properties)]) + self._script.properties
                    tls.sendall(bytes([0x20, len(body)]) + body)
                    if self._script.connack >= 0x80:
                        return
                elif packet.kind == PUBLISH:
                    self._answer(tls, packet)
                    if self._script.disconnect_after is not None:
                        tls.sendall(bytes([0xE0, 2, self._script.disconnect_after, 0]))
                        return

    def _answer(self, tls: ssl.SSLSocket, packet: Packet) -> None:
        code = self._script.puback(len(self._script.publishes()) - 1)
        if code is not None:
            for _ in range(self._script.echo):
                tls.sendall(b"\x40\x04" + struct.pack("!HBB", packet.packet_id, code, 0))


def _read(tls: ssl.SSLSocket) -> Packet:
    head = _exactly(tls, 1)[0]
    length = shift = 0
    while True:
        byte = _exactly(tls, 1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return Packet(head >> 4, head & 0x0F, _exactly(tls, length))


def _exactly(tls: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = tls.recv(count - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data

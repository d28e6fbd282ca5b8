"""A TCP proxy that misbehaves on command, between an uplink and its broker. It sees TLS records, not packets."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from enum import StrEnum


class Fault(StrEnum):
    """What happens to the connections that are open, and for the moment to new ones."""

    CUT = "cut"  # both sides closed in good order
    RESET = "reset"  # RST to both sides, in the middle of whatever was on the way
    TORN = "torn"  # half of the next chunk is passed on, then RST
    STALL = "stall"  # nothing moves, nothing closes
    HALF_OPEN = "half-open"  # the broker's side is gone, the uplink's side stays open
    DRIBBLE = "dribble"  # one byte at a time
    REFUSE = "refuse"  # new connections are closed at once


class FaultProxy:
    """Forwards 127.0.0.1:`port` to a broker."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._mode: Fault | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._close_all(reset=False)

    def strike(self, fault: Fault, seconds: float) -> None:
        """Let one fault happen, and return when it is over."""
        if fault in (Fault.CUT, Fault.RESET):
            self._close_all(reset=fault is Fault.RESET)
            return
        self._mode = fault
        if fault is Fault.HALF_OPEN:
            with self._lock:
                for _, broker in self._pairs:
                    _close(broker, reset=False)
        if fault is Fault.REFUSE:
            self._close_all(reset=False)
        time.sleep(seconds)
        self._mode = None
        if fault in (Fault.STALL, Fault.HALF_OPEN) and random.random() < 0.5:  # noqa: S311 - either may be what ends it
            self._close_all(reset=True)

    def _close_all(self, reset: bool) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _close(end, reset)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._mode is Fault.REFUSE:
                client.close()
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port), timeout=1.0)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            with self._lock:
                self._pairs.append((client, broker))
            for source, sink in ((client, broker), (broker, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        half_open = False
        try:
            while chunk := source.recv(4096):
                while self._mode is Fault.STALL:
                    time.sleep(0.01)
                if self._mode is Fault.TORN:
                    sink.sendall(chunk[: len(chunk) // 2])
                    for end in (source, sink):
                        _close(end, reset=True)
                    return
                step = 1 if self._mode is Fault.DRIBBLE else len(chunk)
                for start in range(0, len(chunk), step):
                    sink.sendall(chunk[start : start + step])
            half_open = self._mode is Fault.HALF_OPEN
        except OSError:
            half_open = self._mode is Fault.HALF_OPEN
        if not half_open:
            for end in (source, sink):
                _close(end, reset=False)


def _close(end: socket.socket, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            end.shutdown(socket.SHUT_RDWR)
        end.close()

"""What the interlock's daemon and its clients say to each other over the Unix socket. Pure.

One message is one packet (SOCK_SEQPACKET). A lease is binary, so that the buffer it came in can be overwritten;
everything else is JSON.

    b"L" + run (16 bytes) + end of the lease (8, big-endian, CLOCK_MONOTONIC ns) + gallery key (32 or none)
    b"S" + reason code                       stopped: every permit of every run is dead
    b"A" + JSON                              the answer to a request
    b"G" + run                               from the client: my permit of that run is dead, nothing is under way
    b"R" + JSON                              from the client: a request

The end of a lease is an absolute time: CLOCK_MONOTONIC is one clock for all processes of a machine (clock_gettime(2)),
so a packet that lay in a buffer grants nothing that has run out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

RUN_BYTES = 16
KEY_BYTES = 32
MAX_PACKET = 128 * 1024
"""An order of 64 KiB in base64, with room."""

_LEASE = struct.Struct(f">c{RUN_BYTES}sQ")


class WireError(ValueError):
    """A packet that is none of the above."""


@dataclass(frozen=True)
class Lease:
    """Permission until `valid_until_ns`. `run` is new with each start: a permit of an earlier one stays dead."""

    run: bytes
    valid_until_ns: int
    has_key: bool


class Request(BaseModel):
    """What a client asks. `document` is an order's or an authority's envelope, `version` an authority's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ask: Literal["lease", "status", "request", "apply", "follow", "authority"]
    document: str = ""
    version: int = 0


class Answer(BaseModel):
    """What it is told. `reason` and `message` where it was refused, `body` (JSON) where not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    done: bool
    reason: str = ""
    message: str = ""
    body: str = ""


def pack_lease(run: bytes, valid_until_ns: int, key: bytes | bytearray | None) -> bytearray:
    """The packet; the caller overwrites it once it is sent."""
    return bytearray(_LEASE.pack(b"L", run, valid_until_ns)) + (key or b"")


def unpack_lease(packet: memoryview) -> Lease:
    """Read a lease; its key, where it has one, is `packet[-KEY_BYTES:]`.

    Raises:
        WireError: not a lease.
    """
    if len(packet) not in (_LEASE.size, _LEASE.size + KEY_BYTES):
        raise WireError("a lease of a wrong length")
    kind, run, valid_until_ns = _LEASE.unpack_from(packet)
    if kind != b"L":
        raise WireError("not a lease")
    return Lease(run, valid_until_ns, len(packet) > _LEASE.size)


def unpack_request(packet: bytes) -> Request:
    """Read a request.

    Raises:
        WireError: not a request.
    """
    if packet[:1] != b"R":
        raise WireError("not a request")
    try:
        return Request.model_validate_json(packet[1:])
    except ValidationError as error:
        raise WireError("not a request") from error

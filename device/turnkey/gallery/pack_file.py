"""A template pack as a file: a head that one device opens, then the rows in chunks, each encrypted for its place.

    magic line | the receiver's public key, 32 bytes | the head, sealed to it | chunk | chunk | ...
    head        the content key, the manifest, the order (DSSE envelopes); always of the same length
    chunk       length (4 bytes, big-endian), then nonce, cipher text and tag (`sealing`)
    plain chunk how many rows (4 bytes), their templates ((m, 128) float32, little-endian), their facts (JSON)

The head is sealed by HPKE (`turnkey.sealed`), the chunks by the AEAD that encrypts the gallery's rows, with a random
key that was made for this file and is nowhere but in its head. The head is written last: its manifest is signed once
the rows are there, and holds their digest.

Rules kept here:
1. A chunk is bound to the pack's id, its place and whether it is the last one: none can be left out, put in, moved, or
   taken over from another pack, even by whoever signs.
2. Memory is bounded by the chunk, whatever the pack's size. A length in the file is believed only up to that bound.
3. Templates in clear are in `SecretMemory` and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, BinaryIO

import numpy as np
from cryptography.exceptions import InvalidTag
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from turnkey.envelope import MAX_ENVELOPE_BYTES
from turnkey.gallery.memory import SecretMemory
from turnkey.gallery.rows import KEY_BYTES, TEMPLATE_DIMENSIONS, Row
from turnkey.gallery.sealing import OVERHEAD_BYTES, Sealer
from turnkey.sealed import SEAL_BYTES, OpeningKey, SealingKey

MAGIC = b"turnkey template pack v1\n"
SEALED_FOR = "template-pack/v1"
ROWS_A_CHUNK = 1024

MOST_BYTES = 8 << 30
"""The largest file that is looked at: five million rows, with room."""

_LENGTH_BYTES = 4
_RECEIVER_BYTES = 32
_TEMPLATE_BYTES = TEMPLATE_DIMENSIONS * 4
_MOST_FACTS_BYTES = 512
"""Of one row: a reference has forty characters, a time thirty."""
_MOST_PLAIN_BYTES = _LENGTH_BYTES + ROWS_A_CHUNK * (_TEMPLATE_BYTES + _MOST_FACTS_BYTES)
_HEAD_PLAIN_BYTES = KEY_BYTES + 2 * (_LENGTH_BYTES + MAX_ENVELOPE_BYTES)
_HEAD_BYTES = _HEAD_PLAIN_BYTES + SEAL_BYTES
BODY_AT = len(MAGIC) + _RECEIVER_BYTES + _HEAD_BYTES
_READ_BYTES = 1 << 20


class PackFileError(Exception):
    """A file that is no pack, or none for this device, or not whole. `reason` is a code for the ledger."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PackRow(BaseModel):
    """One row's facts. Times are UTC.

    Attributes:
        row: its number on the exporting device, which never gives it again.
        reference: booking or case number.
        quality: of its probe, 0 to 100.
        enrolled_at, taken_at, delete_after: as in `rows.Row`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: Annotated[int, Field(ge=1, le=2**53 - 1)]
    reference: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    quality: Annotated[int, Field(ge=0, le=100)]
    enrolled_at: AwareDatetime
    taken_at: AwareDatetime | None = None
    delete_after: AwareDatetime | None = None


_FACTS: TypeAdapter[tuple[PackRow, ...]] = TypeAdapter(tuple[PackRow, ...])


@dataclass(frozen=True)
class PackHead:
    """What the head holds: the key to the chunks, and the two envelopes. Nothing of it is believed yet."""

    key: bytes
    manifest: bytes
    order: bytes

    def to_bytes(self) -> bytes:
        """As it is sealed: padded, so that every head is as long as every other."""
        envelopes = b"".join(
            len(each).to_bytes(_LENGTH_BYTES, "big") + each.ljust(MAX_ENVELOPE_BYTES, b"\0")
            for each in (self.manifest, self.order)
        )
        return self.key + envelopes

    @classmethod
    def from_bytes(cls, data: bytes) -> PackHead:
        """What `to_bytes` wrote. Raises: PackFileError."""
        envelopes, at = [], KEY_BYTES
        for _ in range(2):
            start = at + _LENGTH_BYTES
            length = int.from_bytes(data[at:start], "big")
            if length > MAX_ENVELOPE_BYTES:
                raise PackFileError("pack-unreadable", "the head is not one of a template pack")
            envelopes.append(data[start : start + length])
            at = start + MAX_ENVELOPE_BYTES
        return cls(data[:KEY_BYTES], *envelopes)


@dataclass(frozen=True)
class PackBody:
    """The chunks of a pack as they stand in its file.

    Attributes:
        chunks: how many.
        size: in bytes.
        digest: SHA-256 of all of them, hexadecimal.
    """

    chunks: int
    size: int
    digest: str


class PackWriter:
    """Writes one pack to an open file: every chunk, then the head. `wipe` it in any case.

    Args:
        file: empty, seekable.
        pack_id: what the chunks are bound to.
    """

    def __init__(self, file: BinaryIO, pack_id: str) -> None:
        self._file = file
        self._pack_id = pack_id
        self._key = os.urandom(KEY_BYTES)
        self._sealer = Sealer(self._key)
        self._plain = SecretMemory(_MOST_PLAIN_BYTES)
        self._digest = hashlib.sha256()
        self._chunks = self._size = 0
        file.seek(BODY_AT)

    def sealed(self, rows: Sequence[Row], templates: NDArray[np.float32], *, last: bool) -> bytes:
        """The next chunk: up to `ROWS_A_CHUNK` rows and their templates, (m, 128) float32. It is not written yet."""
        facts = _FACTS.dump_json(tuple(_packed(row) for row in rows), exclude_none=True)
        behind = _LENGTH_BYTES + len(rows) * _TEMPLATE_BYTES
        count = self._plain.view(0, _LENGTH_BYTES)
        count[:] = len(rows).to_bytes(_LENGTH_BYTES, "big")
        self._plain.array(np.float32, (len(rows), TEMPLATE_DIMENSIONS), _LENGTH_BYTES)[:] = templates
        with self._plain.view(behind, behind + len(facts)) as place:
            place[:] = facts
        with self._plain.view(0, behind + len(facts)) as plain:
            sealed = self._sealer.seal(plain, _bound(self._pack_id, self._chunks, last))
        count.release()
        return len(sealed).to_bytes(_LENGTH_BYTES, "big") + sealed

    def write(self, chunk: bytes) -> None:
        """Write the chunk that was just sealed. Raises: OSError."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self._chunks += 1
        self._size += len(chunk)

    @property
    def body(self) -> PackBody:
        """What has been written so far."""
        return PackBody(self._chunks, self._size, self._digest.hexdigest())

    @property
    def key_digest(self) -> str:
        """SHA-256 of the key that the chunks are encrypted with, hexadecimal."""
        return hashlib.sha256(self._key).hexdigest()

    def seal(self, manifest: bytes, order: bytes, receiver: SealingKey) -> None:
        """Write the head: now it is a pack, and `receiver` opens it. Raises: OSError."""
        head = receiver.seal(PackHead(self._key, manifest, order).to_bytes(), SEALED_FOR)
        self._file.seek(0)
        self._file.write(MAGIC + bytes.fromhex(receiver.to_hex()) + head)

    def wipe(self) -> None:
        """Overwrite what was in clear."""
        self._plain.wipe()


class PackReader:
    """Reads a pack from an open file; believes nothing of it.

    Raises:
        PackFileError: `pack-too-large`.
        OSError: it cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        if self.size > MOST_BYTES:
            raise PackFileError("pack-too-large", f"a pack has at most {MOST_BYTES} bytes, this file {self.size}")

    @property
    def body_bytes(self) -> int:
        """How many bytes stand behind the head."""
        return max(0, self.size - BODY_AT)

    def digest(self, check: Callable[[], None]) -> str:
        """SHA-256 of what stands behind the head, hexadecimal. `check` is called for every megabyte."""
        digest = hashlib.sha256()
        self._file.seek(BODY_AT)
        while data := self._file.read(_READ_BYTES):
            check()
            digest.update(data)
        return digest.hexdigest()

    def head(self, key: OpeningKey) -> PackHead:
        """What was sealed to this device.

        Raises:
            PackFileError: `not-a-pack`, `pack-truncated`, `pack-for-another-device`, `pack-unreadable`.
            SealedFileError: `does-not-open`: it was changed.
        """
        self._file.seek(0)
        if self._file.read(len(MAGIC)) != MAGIC:
            raise PackFileError("not-a-pack", "this is no template pack, or one that was cut short as it was written")
        if self.size <= BODY_AT:
            raise PackFileError("pack-truncated", "the file ends within its head: copy it again")
        receiver = self._file.read(_RECEIVER_BYTES)
        if receiver.hex() != key.public.to_hex():
            raise PackFileError("pack-for-another-device", "the pack is encrypted for another device")
        return PackHead.from_bytes(key.open(self._file.read(_HEAD_BYTES), SEALED_FOR))

    def chunks(
        self, head: PackHead, pack_id: str, count: int
    ) -> Iterator[tuple[tuple[PackRow, ...], NDArray[np.float32]]]:
        """Each chunk's rows and their templates, (m, 128) float32 in memory that the next chunk overwrites.

        Raises:
            PackFileError: `pack-truncated`, `pack-changed`: it is not the chunk that belongs there.
            ValidationError: its facts are not of the schema.
        """
        sealer, memory = Sealer(head.key), SecretMemory(_MOST_PLAIN_BYTES)
        self._file.seek(BODY_AT)
        try:
            for index in range(count):
                yield self._chunk(sealer, memory, _bound(pack_id, index, index == count - 1), index)
        finally:
            memory.wipe()

    def _chunk(
        self, sealer: Sealer, memory: SecretMemory, bound: bytes, index: int
    ) -> tuple[tuple[PackRow, ...], NDArray[np.float32]]:
        length = int.from_bytes(self._file.read(_LENGTH_BYTES), "big")
        if not OVERHEAD_BYTES + _LENGTH_BYTES <= length <= _MOST_PLAIN_BYTES + OVERHEAD_BYTES:
            raise PackFileError("pack-changed", f"chunk {index} has a length that none has")
        sealed = self._file.read(length)
        if len(sealed) < length:
            raise PackFileError("pack-truncated", f"the file ends within chunk {index}: copy it again")
        with memory.view(0, length - OVERHEAD_BYTES) as plain:
            try:
                sealer.open_into(sealed, bound, plain)
            except InvalidTag as error:
                raise PackFileError(
                    "pack-changed", f"chunk {index} was changed, moved, or is of another pack: nothing of it is used"
                ) from error
            rows = int.from_bytes(plain[:_LENGTH_BYTES], "big")
            behind = _LENGTH_BYTES + rows * _TEMPLATE_BYTES
            if not 1 <= rows <= ROWS_A_CHUNK or behind > len(plain):
                raise PackFileError("pack-unreadable", f"chunk {index} holds {rows} rows, and is too short for them")
            facts = _FACTS.validate_json(bytes(plain[behind:]))
        if len(facts) != rows:
            raise PackFileError("pack-unreadable", f"chunk {index} holds {rows} rows, and facts of {len(facts)}")
        return facts, memory.array(np.float32, (rows, TEMPLATE_DIMENSIONS), _LENGTH_BYTES)


def _bound(pack_id: str, index: int, last: bool) -> bytes:
    return json.dumps(["turnkey template pack 1", pack_id, index, last]).encode()


def _packed(row: Row) -> PackRow:
    return PackRow(
        row=row.row,
        reference=row.reference,
        quality=row.quality,
        enrolled_at=row.enrolled_at,
        taken_at=row.taken_at,
        delete_after=row.delete_after,
    )

"""Signed notes, checkpoints and cosignatures: how a tree's size and root leave the device.

A checkpoint (c2sp.org/tlog-checkpoint) is three lines: the log's origin, the tree's size, its root in base64. A signed
note (c2sp.org/signed-note) is a text, an empty line, and lines `— <key name> <base64 of key id and signature>`. A
witness adds its cosignature (c2sp.org/tlog-cosignature, version 1): the time at which it found the tree consistent with
all that it had seen of this log.

Rules kept here:
1. Only Ed25519 (type 0x01) for a log, timestamped Ed25519 (0x04) for a witness.
2. A signature by a key that is not asked for is passed over. One by a key that is asked for and that is wrong makes the
   note worthless, whatever else is on it (signed-note, "Signatures").
3. What is not exactly a note or a checkpoint is refused, never repaired.

This module does no I/O; the time is passed in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from turnkey.envelope import PublicKey, SigningKey
from turnkey.notary.ledger import HASH_BYTES

MAX_NOTE_BYTES = 16 * 1024
"""A checkpoint with a hundred cosignatures."""
MAX_SIGNATURES = 100
_SIGNATURE_BYTES = 64
_NAME = re.compile(r"[^\s+]+")
_LINE = re.compile("— ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


class NoteError(ValueError):
    """Not a note, or not one to be believed. `reason` is a code, the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class KeyType(IntEnum):
    """Signature types of signed-note that are used here."""

    LOG = 0x01
    WITNESS = 0x04


@dataclass(frozen=True)
class NoteKey:
    """Who may sign a note: a name, and the key under it."""

    name: str
    type: KeyType
    public: PublicKey

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise NoteError("bad-name", f"not a key name: {self.name!r}; no spaces and no plus")

    @cached_property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256 over name, newline, type and public key."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed()).digest()[:4]

    def _typed(self) -> bytes:
        return bytes((self.type,)) + bytes.fromhex(self.public.to_hex())

    def to_text(self) -> str:
        """The verifier key as notes' tools write it: `<name>+<key id>+<base64 of type and key>`."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._typed()).decode()}"

    @classmethod
    def from_text(cls, text: str) -> NoteKey:
        """Read a verifier key.

        Raises:
            NoteError: it is none, or of another type, or its key id is not its own.
        """
        try:
            name, key_id, encoded = text.strip().split("+", 2)
            typed = base64.b64decode(encoded, validate=True)
            key = cls(name, KeyType(typed[0]), PublicKey.from_hex(typed[1:].hex()))
        except (ValueError, IndexError, binascii.Error) as error:
            raise NoteError("not-a-key", "not a verifier key: name, key id and base64, joined by plus signs") from error
        if key.key_id.hex() != key_id:
            raise NoteError("not-a-key", "the verifier key's id is not that of its name and key")
        return key


@dataclass(frozen=True)
class Signature:
    """One signature line: who, by name and key id, and what follows the id."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True)
class Note:
    """A note as read. NOTHING of it is verified.

    Attributes:
        text: what is signed, its last newline included.
    """

    text: str
    signatures: tuple[Signature, ...]

    def by(self, key: NoteKey) -> bytes | None:
        """The first signature of a key, unverified; None where there is none."""
        key_id = key.key_id
        for signature in self.signatures:
            if signature.key_id == key_id and signature.name == key.name:
                return signature.value
        return None


@dataclass(frozen=True)
class Checkpoint:
    """A tree's size and root (32 bytes), and whose tree."""

    origin: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """The three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Read the text of a note. Extension lines are refused: this log has none.

        Raises:
            NoteError: it is no checkpoint of such a log.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.fullmatch(lines[1]):
            raise NoteError("not-a-checkpoint", "not a checkpoint: origin, size and root, a line each")
        try:
            root = base64.b64decode(lines[2], validate=True)
        except binascii.Error as error:
            raise NoteError("not-a-checkpoint", "the root is not base64") from error
        if len(root) != HASH_BYTES or base64.b64encode(root).decode() != lines[2]:
            raise NoteError("not-a-checkpoint", f"the root is not {HASH_BYTES} bytes in base64")
        return cls(lines[0], int(lines[1]), root)


def origin_of(device_id: str) -> str:
    """The origin of a device's ledger, which is also its key's name on checkpoints."""
    return f"turnkey/v1/{device_id}"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The checkpoint as a note signed by its log."""
    text = checkpoint.to_text()
    signer = NoteKey(checkpoint.origin, KeyType.LOG, key.public)
    return text + "\n" + _line(signer, key.sign_raw(text.encode()))


def cosign(note: str, name: str, key: SigningKey, time_s: int) -> str:
    """The note with a witness's cosignature added (tlog-cosignature/v1). The caller has checked that it is consistent.

    Args:
        time_s: POSIX time, whole seconds.

    Raises:
        NoteError: it is no note.
    """
    text = parse_note(note).text
    signature = key.sign_raw(_cosigned(text, time_s))
    return note + _line(NoteKey(name, KeyType.WITNESS, key.public), time_s.to_bytes(8, "big") + signature)


def parse_note(note: str) -> Note:
    """Take a note apart WITHOUT trusting it.

    Raises:
        NoteError: it is none, or is too large.
    """
    if len(note) > MAX_NOTE_BYTES:
        raise NoteError("too-large", f"a note has at most {MAX_NOTE_BYTES} bytes here")
    text, separator, rest = note.rpartition("\n\n")
    lines = rest.split("\n")
    if not separator or not text or lines.pop() or not lines or len(lines) > MAX_SIGNATURES or _CONTROLS.search(note):
        raise NoteError("not-a-note", "not a signed note: text, an empty line, signature lines")
    return Note(text + "\n", tuple(_signature(line) for line in lines))


class Verifier:
    """Checks the signatures of one key; keeps it ready, since an audit checks a hundred thousand."""

    def __init__(self, key: NoteKey) -> None:
        self.key = key
        self._public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public.to_hex()))

    def signed(self, note: Note) -> bool:
        """Whether the log's key signed the note. Raises: NoteError: it bears its name and is wrong."""
        value = note.by(self.key)
        return value is not None and self._check(value, note.text.encode())

    def cosigned_at(self, note: Note) -> int | None:
        """The POSIX time of the witness's cosignature; None where there is none.

        Raises:
            NoteError: it bears the witness's name and is wrong.
        """
        value = note.by(self.key)
        if value is None:
            return None
        time_s = int.from_bytes(value[:8], "big")
        self._check(value[8:], _cosigned(note.text, time_s))
        return time_s

    def _check(self, signature: bytes, message: bytes) -> bool:
        try:
            if len(signature) != _SIGNATURE_BYTES:
                raise InvalidSignature
            self._public.verify(signature, message)
        except InvalidSignature as error:
            raise NoteError("wrong-signature", f"the signature of {self.key.name} is wrong") from error
        return True


def read_checkpoint(note: str, log: Verifier) -> Checkpoint:
    """The checkpoint of a note that its log signed.

    Raises:
        NoteError: it is no checkpoint, it is another log's, or it is not signed as it must be.
    """
    parsed = parse_note(note)
    if not log.signed(parsed):
        raise NoteError("not-signed", f"{log.key.name} did not sign this checkpoint")
    checkpoint = Checkpoint.from_text(parsed.text)
    if checkpoint.origin != log.key.name:
        raise NoteError("other-log", f"a checkpoint of {checkpoint.origin!r}, not of {log.key.name!r}")
    return checkpoint


def log_verifier(device_id: str, public: PublicKey) -> Verifier:
    """What checks a device's checkpoints."""
    return Verifier(NoteKey(origin_of(device_id), KeyType.LOG, public))


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _line(key: NoteKey, value: bytes) -> str:
    return f"— {key.name} {base64.b64encode(key.key_id + value).decode()}\n"


def _signature(line: str) -> Signature:
    parts = _LINE.fullmatch(line)
    try:
        value = base64.b64decode(parts[2], validate=True) if parts else b""
    except binascii.Error:
        value = b""
    if parts is None or len(value) <= 4:
        raise NoteError("not-a-note", "a signature line is a dash, a name, and base64")
    return Signature(parts[1], value[:4], value[4:])

"""DSSE envelopes: the one format for everything that is signed.

Authority, policy, orders, case packets, leads and attestations are all DSSE v1 envelopes (Dead Simple Signing Envelope,
secure-systems-lab/dsse, protocol.md) made and checked by securesystemslib, signed with Ed25519 (RFC 8032).

Rules kept here, in the order in which they are enforced:
1. An envelope larger than `MAX_ENVELOPE_BYTES` is refused before it is parsed.
2. It is JSON of exactly the DSSE shape; anything else is refused, never a traceback.
3. The payload type is the one the caller expects: an order is never read as a policy.
4. `threshold` different keys of the given set signed it. A key counts once, by its own bytes, however often it signed
   and however often it is listed.
5. Only then is the payload handed out.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, UnverifiedSignatureError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from turnkey.pem import KeyFileError as KeyFileError
from turnkey.pem import private_pem, public_pem, read_private_pem, read_public_pem

MAX_ENVELOPE_BYTES = 64 * 1024
"""An envelope is a page of JSON; RFC 8259 sets no limit, so this does."""

MAX_SIGNATURES = 64
"""A council has fifteen members; four times that bounds the work a hostile file can ask for."""


class EnvelopeError(Exception):
    """An envelope that cannot be trusted. `reason` is a code for the ledger, the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key. `keyid` is the SHA-256 that securesystemslib derives from its content."""

    key: SSlibKey

    @property
    def keyid(self) -> str:
        return self.key.keyid

    @classmethod
    def from_pem(cls, pem: bytes) -> PublicKey:
        """Read a SubjectPublicKeyInfo PEM (RFC 8410).

        Raises:
            KeyFileError: not PEM, or not Ed25519.
        """
        key = read_public_pem(pem)
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError("not an Ed25519 public key")
        return cls(SSlibKey.from_crypto(key))

    @classmethod
    def from_hex(cls, value: str) -> PublicKey:
        """Read the 32 raw bytes as 64 hexadecimal digits.

        Raises:
            KeyFileError: not 32 bytes in hexadecimal.
        """
        try:
            return cls(SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(value))))
        except ValueError as error:
            raise KeyFileError("not an Ed25519 public key of 64 hexadecimal digits") from error

    def to_hex(self) -> str:
        """The 32 raw bytes as 64 hexadecimal digits."""
        return str(self.key.keyval["public"])

    def to_pem(self) -> bytes:
        """SubjectPublicKeyInfo in PEM."""
        raw = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.to_hex()))
        return public_pem(raw)


class SigningKey:
    """An Ed25519 private key. On the device the notary alone holds one."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self._signer = CryptoSigner(private)
        self.public = PublicKey(SSlibKey.from_crypto(private.public_key()))

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> SigningKey:
        """Read an unencrypted PKCS#8 PEM (on the device it comes as a systemd credential).

        Raises:
            KeyFileError: not PEM, encrypted, or not Ed25519.
        """
        key = read_private_pem(pem)
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError("not an Ed25519 private key")
        return cls(key)

    def to_pem(self) -> bytes:
        """PKCS#8 in PEM, unencrypted."""
        return private_pem(self._private)

    def sign_raw(self, message: bytes) -> bytes:
        """An Ed25519 signature over `message` itself, 64 bytes: for notes, whose text no envelope can be taken for."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.public.keyid[:16]})"


@dataclass(frozen=True)
class Verified:
    """A payload whose signatures were checked.

    Attributes:
        payload_type: what the payload is.
        payload: the signed bytes.
        keyids: the different keys, of those given, whose signatures are good.
    """

    payload_type: str
    payload: bytes
    keyids: frozenset[str]


def sign(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """Make an envelope with one signature, as JSON with sorted keys and no white space."""
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(key._signer)
    return _encode(envelope)


def cosign(data: bytes, key: SigningKey) -> bytes:
    """Add one signature to an envelope; a second one by the same key replaces its first.

    Raises:
        EnvelopeError: `data` is not an envelope.
    """
    envelope = _decode(data)
    envelope.sign(key._signer)
    return _encode(envelope)


def merge(first: bytes, second: bytes) -> bytes:
    """Unite the signatures of two copies of one payload, each signed on its own machine.

    Raises:
        EnvelopeError: not envelopes, or not of the same payload.
    """
    one, two = _decode(first), _decode(second)
    if (one.payload, one.payload_type) != (two.payload, two.payload_type):
        raise EnvelopeError("different-payload", "the two files are not copies of one document: nothing was merged")
    one.signatures.update(two.signatures)
    return _encode(one)


def peek(data: bytes) -> Verified:
    """Read an envelope WITHOUT trusting it, to show it or to find out what it claims to be. `keyids` is empty.

    Raises:
        EnvelopeError: `data` is not an envelope.
    """
    envelope = _decode(data)
    return Verified(envelope.payload_type, envelope.payload, frozenset())


def signing_keyids(data: bytes) -> frozenset[str]:
    """The ids of the keys that an envelope CLAIMS to be signed with; none of them was checked.

    Raises:
        EnvelopeError: `data` is not an envelope.
    """
    return frozenset(_decode(data).signatures)


def verify(data: bytes, payload_type: str, keys: Iterable[PublicKey], *, threshold: int = 1) -> Verified:
    """Hand out the payload of an envelope that `threshold` of `keys` signed.

    Args:
        data: the envelope, JSON.
        payload_type: the only type accepted.
        keys: who may sign.
        threshold: how many different ones must have.

    Raises:
        EnvelopeError: with reason `too-large`, `not-an-envelope`, `wrong-type` or `not-signed`.
        ValueError: a threshold below one, a fault of the caller.
    """
    if threshold < 1:
        raise ValueError("a threshold is at least 1")
    envelope = _decode(data)
    if envelope.payload_type != payload_type:
        raise EnvelopeError("wrong-type", f"expected {payload_type}, got {envelope.payload_type[:80]!r}")
    good = frozenset(key.keyid for key in {key.to_hex(): key for key in keys}.values() if _signed(envelope, key))
    if len(good) < threshold:
        raise EnvelopeError("not-signed", f"{len(good)} good signature(s) of the {threshold} needed")
    return Verified(envelope.payload_type, envelope.payload, good)


def _signed(envelope: Envelope, key: PublicKey) -> bool:
    signature = envelope.signatures.get(key.keyid)
    if signature is None:
        return False
    try:
        key.key.verify_signature(signature, envelope.pae())
    except (UnverifiedSignatureError, VerificationError):
        return False
    return True


def _decode(data: bytes) -> Envelope:
    if len(data) > MAX_ENVELOPE_BYTES:
        raise EnvelopeError("too-large", f"an envelope has at most {MAX_ENVELOPE_BYTES} bytes, this one {len(data)}")
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or set(document) != {"payload", "payloadType", "signatures"}:
            raise EnvelopeError("not-an-envelope", "not a DSSE envelope: payload, payloadType, signatures")
        signatures = document["signatures"]
        if not isinstance(signatures, list) or len(signatures) > MAX_SIGNATURES:
            raise EnvelopeError("not-an-envelope", f"a DSSE envelope has a list of at most {MAX_SIGNATURES} signatures")
        if not isinstance(document["payloadType"], str):
            raise EnvelopeError("not-an-envelope", "a DSSE envelope's payloadType is a string")
        return Envelope.from_dict(document)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError, FormatError) as error:
        raise EnvelopeError("not-an-envelope", f"not a DSSE envelope: {type(error).__name__}") from error


def _encode(envelope: Envelope) -> bytes:
    return json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")).encode()

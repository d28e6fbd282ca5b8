"""Files that only one device can read: HPKE to the device's own key (case packets, templates from another Turnkey).

HPKE in base mode (RFC 9180) with X25519, HKDF-SHA256 and ChaCha20-Poly1305, by `cryptography`. A sealed file is the
magic line, then HPKE's encapsulated key and ciphertext. It says nothing about who sealed it: what is inside is signed.

Rules kept here:
1. What a file is for is bound into the key schedule (`purpose`): a case packet never opens as something else.
2. A file that was changed, cut or sealed to another key does not open, and gives no hint which of these it was.
3. Plain text exists in memory only.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from turnkey.pem import KeyFileError, private_pem, public_pem, read_private_pem, read_public_pem

MAGIC = b"turnkey sealed file v1\n"

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

SEAL_BYTES = len(MAGIC) + 32 + 16
"""What sealing adds: the magic line, HPKE's encapsulated key, the tag."""


class SealedFileError(Exception):
    """A sealed file that does not open. `reason` is a code for the ledger, the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class SealingKey:
    """The public key that files for one device are sealed to."""

    def __init__(self, public: X25519PublicKey) -> None:
        self._public = public

    @classmethod
    def from_pem(cls, pem: bytes) -> SealingKey:
        """Read a SubjectPublicKeyInfo PEM (RFC 8410).

        Raises:
            KeyFileError: not PEM, or not X25519.
        """
        key = read_public_pem(pem)
        if not isinstance(key, X25519PublicKey):
            raise KeyFileError("not an X25519 public key: a device's encryption.pub is needed")
        return cls(key)

    @classmethod
    def from_hex(cls, value: str) -> SealingKey:
        """Read the 32 raw bytes as 64 hexadecimal digits.

        Raises:
            KeyFileError: not 32 bytes in hexadecimal.
        """
        try:
            return cls(X25519PublicKey.from_public_bytes(bytes.fromhex(value)))
        except ValueError as error:
            raise KeyFileError("not an X25519 public key of 64 hexadecimal digits") from error

    def to_hex(self) -> str:
        """The 32 raw bytes as 64 hexadecimal digits."""
        return self._public.public_bytes_raw().hex()

    def to_pem(self) -> bytes:
        """SubjectPublicKeyInfo in PEM."""
        return public_pem(self._public)

    def seal(self, plain: bytes, purpose: str) -> bytes:
        """A file that only the holder of the private key opens, and only for the same `purpose`."""
        return MAGIC + _SUITE.encrypt(plain, self._public, _info(purpose))


class OpeningKey:
    """The private key of one device. In the five-process form the booth alone has it."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private
        self.public = SealingKey(private.public_key())

    @classmethod
    def generate(cls) -> OpeningKey:
        """A new key from the operating system's randomness."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> OpeningKey:
        """Read an unencrypted PKCS#8 PEM (on the device it comes as a systemd credential).

        Raises:
            KeyFileError: not PEM, encrypted, or not X25519.
        """
        key = read_private_pem(pem)
        if not isinstance(key, X25519PrivateKey):
            raise KeyFileError("not an X25519 private key")
        return cls(key)

    def to_pem(self) -> bytes:
        """PKCS#8 in PEM, unencrypted."""
        return private_pem(self._private)

    def open(self, data: bytes, purpose: str) -> bytes:
        """What was sealed.

        Raises:
            SealedFileError: `not-sealed`, or `does-not-open`: for another device or purpose, or not whole.
        """
        if not data.startswith(MAGIC):
            raise SealedFileError("not-sealed", "this is no sealed file of Turnkey's")
        try:
            return _SUITE.decrypt(memoryview(data)[len(MAGIC) :], self._private, _info(purpose))
        except (InvalidTag, ValueError) as error:
            raise SealedFileError(
                "does-not-open", "the file does not open here: it is for another device, or it was changed on the way"
            ) from error

    def __repr__(self) -> str:
        return "OpeningKey()"


def _info(purpose: str) -> bytes:
    return b"turnkey/" + purpose.encode()

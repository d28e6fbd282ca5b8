"""What encrypts the gallery: rows, snapshots and keys, with ChaCha20-Poly1305 (RFC 8439).

As fast and as safe on a board without AES instructions. Nonces are 96 random bits: for the few million messages a key
ever seals here, two alike have a chance below 1e-15.

Rules kept here:
1. What a message belongs to (row, partition, chunk) is bound to it as associated data: moved, it does not open.
2. Plain text is read from and written into memory that the caller owns: this file makes no copies of it.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from turnkey.gallery.memory import SecretMemory

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES

_PROOF = b"turnkey gallery key"


class Sealer:
    """Seals and opens with one 32-byte key."""

    def __init__(self, key: bytes | bytearray | memoryview) -> None:
        self._cipher = ChaCha20Poly1305(key)

    def seal(self, plain: bytes | bytearray | memoryview, bound: bytes) -> bytes:
        """Nonce, cipher text and tag; `bound` has to be given again to open it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, bound)

    def open_into(self, sealed: bytes | memoryview, bound: bytes, into: memoryview) -> None:
        """Open into memory of exactly the plain text's size.

        Raises:
            InvalidTag: changed, moved, cut short, or sealed with another key.
        """
        if len(sealed) != len(into) + OVERHEAD_BYTES:
            raise InvalidTag
        message = memoryview(sealed)  # sliced without a copy: a graph is hundreds of megabytes
        self._cipher.decrypt_into(message[:NONCE_BYTES], message[NONCE_BYTES:], bound, into)

    def proof(self, number: int) -> bytes:
        """What shows later, to `proves`, that a key is this one."""
        return self.seal(_PROOF, _proof_bound(number))

    def proves(self, proof: bytes, number: int) -> bool:
        """Whether `proof` was made with this key."""
        into = bytearray(len(_PROOF))
        try:
            self.open_into(proof, _proof_bound(number), memoryview(into))
        except InvalidTag:
            return False
        return bytes(into) == _PROOF

    def wrap(self, key: bytes | bytearray, number: int) -> bytes:
        """Another key, sealed with this one."""
        return self.seal(key, _wrap_bound(number))

    def unwrap(self, wrapped: bytes, number: int) -> Sealer:
        """The sealer of a wrapped key; the key itself is overwritten once it is in use.

        Raises:
            InvalidTag: not wrapped with this key.
        """
        memory = SecretMemory(KEY_BYTES)
        key = memory.view(0, KEY_BYTES)
        try:
            self.open_into(wrapped, _wrap_bound(number), key)
            return Sealer(key)
        finally:
            key.release()
            memory.wipe()


def _proof_bound(number: int) -> bytes:
    # The first key's proof is as the first version of the format wrote it.
    return _PROOF if number == 1 else b"%s %d" % (_PROOF, number)


def _wrap_bound(number: int) -> bytes:
    return b"turnkey gallery key %d, wrapped" % number

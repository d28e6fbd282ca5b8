"""The keys of a repository of updates: Ed25519, in PEM files, under a passphrase where they are to lie in a safe.

Rules kept here:
1. A private key is written with O_EXCL and mode 0600, and never printed. Nothing that exists is overwritten.
2. A key that no role asks for signs nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from turnkey.envelope import KeyFileError, PublicKey


class ReleaseError(Exception):
    """A step of a release that was not taken; the message says why, and what to do. Nothing was changed."""


class PassphraseNeeded(ReleaseError):
    """The key is encrypted and no passphrase was given."""


def new_key(path: Path, passphrase: str | None) -> Path:
    """Write `path` (private) and `path` with the suffix .pub; returns the latter. Raises: ReleaseError."""
    private = Ed25519PrivateKey.generate()
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase:
        encryption = BestAvailableEncryption(passphrase.encode())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    public = path.with_suffix(".pub")
    if public.exists():
        raise ReleaseError(f"{public} exists already: keys are never overwritten")
    _write_new(path, pem, 0o600)
    _write_new(public, PublicKey(SSlibKey.from_crypto(private.public_key())).to_pem(), 0o644)
    return public


def read_signer(path: Path, passphrase: str | None = None) -> CryptoSigner:
    """A private key, ready to sign. Raises: PassphraseNeeded, ReleaseError."""
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase.encode() if passphrase else None)
    except TypeError as error:
        raise PassphraseNeeded(f"{path} is under a passphrase") from error
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path} is no private key that can be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError(f"{path} is no Ed25519 key")
    return CryptoSigner(key)


def read_public(path: Path) -> SSlibKey:
    """A public key. Raises: ReleaseError."""
    try:
        return PublicKey.from_pem(path.read_bytes()).key
    except (OSError, KeyFileError) as error:
        raise ReleaseError(f"{path}: {error}") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        raise ReleaseError(f"{path}: {error.strerror}: keys are never overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)

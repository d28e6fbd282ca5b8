"""Key files: PEM in, PEM out, for whatever kind of key the caller wants.

Rules kept here:
1. A private key file is unencrypted PKCS#8 (on the device it comes as a systemd credential), a public one
   SubjectPublicKeyInfo (RFC 8410).
2. Whatever is wrong with the bytes is a `KeyFileError`; its message never holds a part of them.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)


class KeyFileError(ValueError):
    """A key file that is not a key of the kind that is wanted, in PEM."""


def read_private_pem(pem: bytes) -> object:
    """The private key of a file, of whatever kind.

    Raises:
        KeyFileError: not PEM, or encrypted.
    """
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise KeyFileError("not an unencrypted private key in PEM") from error


def read_public_pem(pem: bytes) -> object:
    """The public key of a file, of whatever kind.

    Raises:
        KeyFileError: not PEM.
    """
    try:
        return load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise KeyFileError("not a public key in PEM") from error


def private_pem(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    """PKCS#8 in PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PublicKey | X25519PublicKey) -> bytes:
    """SubjectPublicKeyInfo in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

"""Certificates for a pilot site: its CA, and what the CA issues to a broker, a device or a desk (RFC 5280).

No I/O: keys and certificates are values here; provision.py writes them down. ECDSA P-256 throughout.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_YEARS: Final = 10
LEAF_DAYS: Final = 825  # longer than a pilot
_CLOCK_SKEW: Final = timedelta(hours=1)  # a device without a clock battery is a little behind at first


class Use(Enum):
    """What a certificate is good for: never both, so that a stolen device cannot play the broker."""

    SERVER = ExtendedKeyUsageOID.SERVER_AUTH
    CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key (PKCS#8, unencrypted), both PEM."""

    certificate: bytes
    key: bytes


def new_ca(name: str) -> Pair:
    """A self-signed CA that issues end certificates only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        _certificate(_name(name), _name(name), key.public_key(), now, now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(Encoding.PEM), _pem(key))


def issue(ca: Pair, common_name: str, use: Use, hosts: Sequence[str]) -> Pair:
    """A certificate with a new key.

    Args:
        ca: from `new_ca`.
        common_name: the device id, the desk's name or `broker`.
        use: for which end of a connection.
        hosts: host names or addresses, as subject alternative names.

    Raises:
        ValueError: `ca` is not one of ours.
    """
    ca_key = load_pem_private_key(ca.key, password=None)
    ca_certificate = x509.load_pem_x509_certificate(ca.certificate)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ValueError("not this tool's CA key: it is not ECDSA")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject, names = _name(common_name), [_alternative(host) for host in hosts]
    certificate = (
        _certificate(subject, ca_certificate.subject, key.public_key(), now, now + timedelta(days=LEAF_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use.value]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(Encoding.PEM), _pem(key))


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

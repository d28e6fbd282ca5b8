"""`turnkeyctl hardware-key`: a device's connection key in a PKCS#11 token (TPM, smart card, HSM) instead of a file.

The uplink is not changed for it. OpenSSL 3 reads private keys through providers, and with the `pkcs11-provider` package
(Debian 13; Debian 12 does not carry it) a key *file* may hold nothing but the URI of a key that stays in its token.
This command writes the two files that takes:

    mqtt.key       PEM "PKCS#11 PROVIDER URI": where the key is (RFC 7512), no secret in it
    openssl.cnf    loads the provider and names the token's module and the file with its PIN

The unit then gets `OPENSSL_CONF=` with the second; settings stay as they are. The token's own tools make the key and
its certificate request; ECDSA P-256, as everything else that a site issues.

Rules kept here: no PIN is written, only the name of its file; nothing is overwritten. Source of the PEM's form:
pkcs11-provider, docs "provider-pkcs11(7)" and its tool uri2pem: SEQUENCE { VisibleString version, UTF8String uri }.
"""

from __future__ import annotations

import base64
import re
import textwrap
from pathlib import Path
from typing import Annotated, Final

import typer

from turnkey_tools.authority import write_new

PROVIDER: Final = Path("/usr/lib/x86_64-linux-gnu/ossl-modules/pkcs11.so")
_VERSION: Final = b"PKCS#11 Provider URI v1.0"
_URI: Final = re.compile(r"pkcs11:[A-Za-z0-9%=;:_.+@!*,&?/-]{3,400}")
_SEQUENCE, _VISIBLE_STRING, _UTF8_STRING = 0x30, 0x1A, 0x0C


def key_reference(uri: str) -> bytes:
    """The PEM that OpenSSL takes for a private key and finds in a token.

    Raises:
        ValueError: not a PKCS#11 URI, or one with a PIN in it.
    """
    if not _URI.fullmatch(uri) or "pin-value" in uri:
        raise ValueError("a PKCS#11 URI (RFC 7512) names token and object, and no PIN: pkcs11:token=…;object=…")
    content = _tlv(_VISIBLE_STRING, _VERSION) + _tlv(_UTF8_STRING, uri.encode())
    body = "\n".join(textwrap.wrap(base64.b64encode(_tlv(_SEQUENCE, content)).decode(), 64))
    return f"-----BEGIN PKCS#11 PROVIDER URI-----\n{body}\n-----END PKCS#11 PROVIDER URI-----\n".encode()


def openssl_cnf(provider: Path, module: Path, pin_file: Path) -> str:
    """OpenSSL's configuration: its default provider, and the token's beside it."""
    return f"""\
# Written by `turnkeyctl hardware-key`; named to the uplink by OPENSSL_CONF.
openssl_conf = turnkey

[turnkey]
providers = providers

[providers]
default = built_in
pkcs11 = token

[built_in]
activate = 1

[token]
module = {provider}
pkcs11-module-path = {module}
pkcs11-module-token-pin = file:{pin_file}
activate = 1
"""


def hardware_key(
    uri: Annotated[str, typer.Argument(help="the key, RFC 7512: 'pkcs11:token=device;object=mqtt;type=private'")],
    module: Annotated[Path, typer.Option(help="the token's PKCS#11 module, absolute")],
    pin_file: Annotated[Path, typer.Option(help="file with the token's PIN on the device, absolute")],
    out: Annotated[Path, typer.Option(help="directory for mqtt.key and openssl.cnf")],
    provider: Annotated[Path, typer.Option(help="pkcs11-provider's shared object, absolute")] = PROVIDER,
) -> None:
    """Write the key file and the OpenSSL configuration for a connection key that lives in a token."""
    try:
        reference = key_reference(uri)
    except ValueError as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_new(out / "mqtt.key", reference, private=True)
    write_new(out / "openssl.cnf", openssl_cnf(provider, module, pin_file).encode(), private=False)
    typer.echo(f"broker.key in the settings is {out / 'mqtt.key'}; the uplink's OPENSSL_CONF is {out / 'openssl.cnf'}")


def _tlv(tag: int, content: bytes) -> bytes:
    """DER (X.690, 8.1): definite length."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(digits)]) + digits + content

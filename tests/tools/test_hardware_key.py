"""The files for a key in a token. That OpenSSL takes them is shown by tests/uplink/pkcs11, on Debian 13."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from turnkey_tools.cli import app
from turnkey_tools.hardware_key import key_reference

URI = "pkcs11:token=device;object=mqtt;type=private"


@pytest.mark.parametrize("uri", [URI, URI + ";id=" + "%01" * 60])
def test_openssl_reads_the_reference_as_version_and_uri(uri: str) -> None:
    body = b"".join(key_reference(uri).splitlines()[1:-1])
    command = ["openssl", "asn1parse", "-inform", "DER"]
    parsed = subprocess.run(command, input=base64.b64decode(body), capture_output=True, check=True).stdout.decode()
    assert "VISIBLESTRING     :PKCS#11 Provider URI v1.0" in parsed
    assert f"UTF8STRING        :{uri}" in parsed


@pytest.mark.parametrize("uri", ["", "file:/etc/key", URI + "?pin-value=1234", URI + "\n[evil]"])
def test_what_is_not_a_uri_or_holds_a_pin_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="PKCS#11"):
        key_reference(uri)


def test_the_command_writes_both_files_once_and_no_pin(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("1234")
    arguments = ["hardware-key", URI, "--module", "/usr/lib/x.so", "--pin-file", str(tmp_path / "pin")]
    arguments += ["--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    text = (tmp_path / "out" / "openssl.cnf").read_text()
    assert f"file:{tmp_path / 'pin'}" in text
    assert "1234" not in text.replace(str(tmp_path), "")
    assert CliRunner().invoke(app, arguments).exit_code == 1

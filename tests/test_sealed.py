"""Sealed files: they open for one device and one purpose, whole, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkey.envelope import KeyFileError, SigningKey
from turnkey.sealed import MAGIC, OpeningKey, SealedFileError, SealingKey

KEY = OpeningKey.generate()
PLAIN = b"a picture" * 1000
SEALED = KEY.public.seal(PLAIN, "case-packet/v1")


def test_what_was_sealed_opens_for_the_device_it_was_sealed_to() -> None:
    assert OpeningKey.from_pem(KEY.to_pem()).open(SEALED, "case-packet/v1") == PLAIN
    assert KEY.open(SealingKey.from_pem(KEY.public.to_pem()).seal(b"", "x"), "x") == b""


def test_nothing_of_the_plain_text_shows_and_no_two_files_are_alike() -> None:
    assert b"picture" not in SEALED
    assert KEY.public.seal(PLAIN, "case-packet/v1") != SEALED


def test_another_device_another_purpose_and_a_changed_file_do_not_open() -> None:
    changed = bytearray(SEALED)
    changed[-1] ^= 1
    for key, data, purpose in (
        (OpeningKey.generate(), SEALED, "case-packet/v1"),
        (KEY, SEALED, "template-pack/v1"),
        (KEY, bytes(changed), "case-packet/v1"),
        (KEY, SEALED[:-1], "case-packet/v1"),
        (KEY, MAGIC, "case-packet/v1"),
    ):
        with pytest.raises(SealedFileError) as refused:
            key.open(data, purpose)
        assert refused.value.reason == "does-not-open"
    with pytest.raises(SealedFileError) as refused:
        KEY.open(b"\xff\xd8\xff", "case-packet/v1")
    assert refused.value.reason == "not-sealed"


@given(st.binary(max_size=200))
def test_hostile_bytes_do_not_open_and_raise_nothing_else(data: bytes) -> None:
    for hostile in (data, MAGIC + data, MAGIC + bytes(32) + data, MAGIC + b"\x01" + bytes(31) + data):
        with pytest.raises(SealedFileError):
            KEY.open(hostile, "case-packet/v1")


def test_a_key_of_another_kind_is_refused_by_name() -> None:
    signing = SigningKey.generate()
    with pytest.raises(KeyFileError, match="X25519"):
        OpeningKey.from_pem(signing.to_pem())
    with pytest.raises(KeyFileError, match=r"encryption\.pub"):
        SealingKey.from_pem(signing.public.to_pem())
    for parse in (OpeningKey.from_pem, SealingKey.from_pem):
        with pytest.raises(KeyFileError):
            parse(b"nonsense")


def test_the_key_does_not_print_itself() -> None:
    assert repr(KEY) == "OpeningKey()"

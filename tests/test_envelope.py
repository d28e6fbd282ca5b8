"""Envelopes: what is signed is what is read, and nothing else is."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkey.envelope import (
    MAX_ENVELOPE_BYTES,
    EnvelopeError,
    KeyFileError,
    PublicKey,
    SigningKey,
    cosign,
    merge,
    sign,
    verify,
)

TYPE = "application/vnd.turnkey.test.v1+json"


def test_a_signed_payload_comes_back_as_it_was() -> None:
    key = SigningKey.generate()
    verified = verify(sign(TYPE, b"payload \xff", key), TYPE, [key.public])
    assert verified.payload == b"payload \xff"
    assert verified.keyids == {key.public.keyid}


def test_the_published_dsse_pre_authentication_encoding_is_what_is_signed() -> None:
    """protocol.md of secure-systems-lab/dsse: PAE("http://example.com/HelloWorld", "hello world")."""
    key = SigningKey.generate()
    document = json.loads(sign("http://example.com/HelloWorld", b"hello world", key))
    signature = base64.b64decode(document["signatures"][0]["sig"])
    key._private.public_key().verify(signature, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: {**d, "payload": base64.b64encode(b"other").decode()}, "not-signed"),
        (lambda d: {**d, "payloadType": "application/vnd.turnkey.policy.v1+json"}, "wrong-type"),
        (lambda d: {**d, "signatures": []}, "not-signed"),
        (lambda d: {**d, "signatures": "x"}, "not-an-envelope"),
        (lambda d: {**d, "signatures": [None]}, "not-an-envelope"),
        (lambda d: {**d, "signatures": d["signatures"] * 2}, "not-an-envelope"),
        (lambda d: {**d, "signatures": [{"keyid": "k", "sig": "!"}]}, "not-an-envelope"),
        (lambda d: {**d, "payload": 3}, "not-an-envelope"),
        (lambda d: {**d, "payloadType": 3}, "not-an-envelope"),
        (lambda d: {**d, "extra": 1}, "not-an-envelope"),
        (lambda d: [d], "not-an-envelope"),
    ],
)
def test_a_changed_envelope_is_refused_with_its_reason(change, reason) -> None:  # type: ignore[no-untyped-def]
    key = SigningKey.generate()
    changed = json.dumps(change(json.loads(sign(TYPE, b"payload", key)))).encode()
    with pytest.raises(EnvelopeError) as refused:
        verify(changed, TYPE, [key.public])
    assert refused.value.reason == reason


def test_another_key_with_the_same_name_does_not_pass() -> None:
    signer, other = SigningKey.generate(), SigningKey.generate()
    document = json.loads(sign(TYPE, b"payload", signer))
    document["signatures"][0]["keyid"] = other.public.keyid
    with pytest.raises(EnvelopeError, match="0 good"):
        verify(json.dumps(document).encode(), TYPE, [other.public])


def test_one_key_signing_twice_is_one_signer() -> None:
    one, two = SigningKey.generate(), SigningKey.generate()
    data = cosign(sign(TYPE, b"payload", one), one)
    with pytest.raises(EnvelopeError, match="1 good"):
        verify(data, TYPE, [one.public, one.public, two.public], threshold=2)


def test_signatures_made_on_two_machines_merge() -> None:
    one, two = SigningKey.generate(), SigningKey.generate()
    data = merge(sign(TYPE, b"payload", one), sign(TYPE, b"payload", two))
    assert verify(data, TYPE, [one.public, two.public], threshold=2).keyids == {one.public.keyid, two.public.keyid}
    with pytest.raises(EnvelopeError, match="not copies"):
        merge(data, sign(TYPE, b"other", two))


def test_an_oversized_envelope_is_refused_before_parsing() -> None:
    with pytest.raises(EnvelopeError) as refused:
        verify(b"[" * (MAX_ENVELOPE_BYTES + 1), TYPE, [])
    assert refused.value.reason == "too-large"


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(EnvelopeError) as refused:
        verify(b"[" * 60_000, TYPE, [])
    assert refused.value.reason == "not-an-envelope"


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_but_a_refusal(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        verify(data, TYPE, [])


def test_keys_survive_their_files_and_others_are_refused() -> None:
    key = SigningKey.generate()
    assert SigningKey.from_pem(key.to_pem()).public == key.public
    assert PublicKey.from_pem(key.public.to_pem()) == key.public
    assert PublicKey.from_hex(key.public.to_hex()) == key.public
    for read in (SigningKey.from_pem, PublicKey.from_pem):
        with pytest.raises(KeyFileError):
            read(b"nonsense")
    with pytest.raises(KeyFileError):
        PublicKey.from_hex("00")

"""Signed notes, against published ones and against what must not pass for one."""

from __future__ import annotations

import base64
import hashlib

import pytest

from turnkey.envelope import SigningKey
from turnkey.notary.note import (
    Checkpoint,
    KeyType,
    NoteError,
    NoteKey,
    Verifier,
    cosign,
    log_verifier,
    origin_of,
    parse_note,
    read_checkpoint,
    sign_checkpoint,
)

# The reference note of Go's sumdb/note package, with its verifier key.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# The example of C2SP's tlog-cosignature: a checkpoint, its log's signature and a witness's.
SOFA = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
# The example of C2SP's signed-note: a text that has an empty line of its own.
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore "
    "NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
)

KEY, WITNESS = SigningKey.generate(), SigningKey.generate()
HERE = Checkpoint(origin_of("booth-1"), 42, hashlib.sha256(b"tree").digest())
LOG = log_verifier("booth-1", KEY.public)
WATCHER = Verifier(NoteKey("witness.example/one", KeyType.WITNESS, WITNESS.public))
NOTE = sign_checkpoint(HERE, KEY)


def test_the_published_note_is_signed_by_its_key() -> None:
    key = NoteKey.from_text(PETER)
    assert key.to_text() == PETER
    assert Verifier(key).signed(parse_note(PETERS_NOTE))


def test_the_published_note_that_was_changed_is_not() -> None:
    with pytest.raises(NoteError, match="is wrong"):
        Verifier(NoteKey.from_text(PETER)).signed(parse_note(PETERS_NOTE.replace("answer", "ansver")))


def test_the_published_cosigned_checkpoint_reads_as_it_says() -> None:
    note = parse_note(SOFA)
    checkpoint = Checkpoint.from_text(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.to_text() == note.text
    assert [signature.name for signature in note.signatures] == [
        "example.com/behind-the-sofa",
        "witness.example.com/w1",
    ]
    assert int.from_bytes(note.signatures[1].value[:8], "big") == 1679315147


def test_the_last_empty_line_ends_the_text() -> None:
    note = parse_note(POEM)
    assert note.text.endswith("\n\ned è subito sera.\n")
    assert note.signatures[0].key_id.hex() == "367ba04b"


def test_a_checkpoint_signed_and_cosigned_is_both() -> None:
    cosigned = cosign(NOTE, "witness.example/one", WITNESS, 1_700_000_000)
    assert read_checkpoint(cosigned, LOG) == HERE
    assert WATCHER.cosigned_at(parse_note(cosigned)) == 1_700_000_000
    assert WATCHER.cosigned_at(parse_note(NOTE)) is None


def test_the_cosigned_message_is_the_specifications() -> None:
    value = parse_note(cosign(NOTE, "witness.example/one", WITNESS, 7)).by(WATCHER.key)
    assert value is not None
    assert value[8:] == WITNESS.sign_raw(b"cosignature/v1\ntime 7\n" + HERE.to_text().encode())


def test_a_cosignature_moved_to_another_time_or_tree_is_wrong() -> None:
    note = cosign(NOTE, "witness.example/one", WITNESS, 1_700_000_000)
    line = note.splitlines()[-1]
    raw = base64.b64decode(line.rsplit(" ", 1)[1])
    later = base64.b64encode(raw[:4] + (1_700_000_999).to_bytes(8, "big") + raw[12:]).decode()
    for changed in (note.replace(line.rsplit(" ", 1)[1], later), note.replace("\n42\n", "\n43\n")):
        with pytest.raises(NoteError, match="is wrong"):
            WATCHER.cosigned_at(parse_note(changed))


def test_another_logs_checkpoint_is_refused() -> None:
    other = SigningKey.generate()
    for note, reason in (
        (sign_checkpoint(HERE, other), "not-signed"),
        (sign_checkpoint(Checkpoint(origin_of("booth-2"), 1, HERE.root), KEY), "not-signed"),
        (NOTE.replace("\n42\n", "\n41\n"), "wrong-signature"),
    ):
        with pytest.raises(NoteError) as refused:
            read_checkpoint(note, LOG)
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    "note",
    [
        "", "\n\n", "text\n", "text\n\n", NOTE.rstrip("\n"), NOTE.replace("— ", "- "), NOTE + "\n",
        NOTE.replace("— ", "— \t"), NOTE.replace("/v1/", "/v1\r/"), NOTE + "— name !!!\n", NOTE + "— name AAAA\n",
        "x" * 20_000 + NOTE,
    ],
)  # fmt: skip
def test_what_is_no_note_is_refused(note: str) -> None:
    with pytest.raises(NoteError):
        parse_note(note)


@pytest.mark.parametrize(
    "text",
    [
        "", "o\n1\n", "o\n01\n" + "A" * 43 + "=\n", "o\n-1\n" + "A" * 43 + "=\n", "o\n1\nAAAA\n", "o\n1\n?\n",
        "\n1\n" + "A" * 43 + "=\n", "o\n1\n" + "A" * 43 + "=\nextension\n", "o\n1\n" + "A" * 42 + "B=\n",
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteError, match=r"checkpoint|root"):
        Checkpoint.from_text(text)


@pytest.mark.parametrize("text", ["", "a+b", PETER.replace("c74f20a3", "c74f20a4"), PETER[:-4], "x+00000000+////"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        NoteKey.from_text(text)

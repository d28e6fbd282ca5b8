"""Template packs that are refused: each for its own reason, on the ledger, with nothing enrolled."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from booking_room import events
from exchange import (
    Pair,
    change_policy,
    exported,
    fill,
    named,
    order,
    present_policy,
    provision_pair,
    refused,
    room,
    rule,
    running,
    taken,
    two_of,
    units,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from turnkey.device import Device
from turnkey.envelope import SigningKey, peek, sign
from turnkey.gallery import pack_file
from turnkey.gallery.pack_file import BODY_AT, PackHead, PackRow
from turnkey.gallery.sealing import Sealer
from turnkey.leads.policy import Policy
from turnkey.leads.records import PackPresented, Refused, canonical
from turnkey.leads.template_pack import PAYLOAD_TYPE_PACK, PackManifest
from turnkey.pack_export import export_pack
from turnkey.sealed import OpeningKey

ROWS = 1100


@dataclass(frozen=True)
class Scene:
    """Two running devices and a good pack from one for the other, which nobody has taken yet."""

    pair: Pair
    here: Device
    there: Device
    pack: bytes

    def opening_key(self) -> OpeningKey:
        file = self.there.settings.encryption_key
        assert file is not None
        return OpeningKey.from_pem(file.read_bytes())

    def head(self) -> PackHead:
        return pack_file.PackReader(io.BytesIO(self.pack)).head(self.opening_key())

    def remade(self, body: bytes, **changes: Any) -> bytes:
        """A pack with another body, signed anew by a sender whose booth and notary both lie."""
        head = self.head()
        claim = PackManifest.model_validate_json(_payload(head.manifest))
        key = SigningKey.from_pem(self.pair.sender.site.device("booth-1").signing_key.read_bytes())
        draft = claim.draft.model_copy(
            update={"body_bytes": len(body), "body_digest": hashlib.sha256(body).hexdigest()} | changes
        )
        manifest = sign(PAYLOAD_TYPE_PACK, canonical(claim.model_copy(update={"draft": draft})), key)
        return self.sealed(PackHead(head.key, manifest, head.order)) + body

    def sealed(self, head: PackHead) -> bytes:
        """Everything before the body."""
        receiver = self.opening_key().public
        return pack_file.MAGIC + bytes.fromhex(receiver.to_hex()) + receiver.seal(head.to_bytes(), pack_file.SEALED_FOR)

    def refuses(self, data: bytes) -> str:
        """The reason for which the receiver refuses; held against its ledger and its gallery."""
        reason = taken(self.there, data)
        last = events(self.there)[-1]
        assert isinstance(last, Refused)
        assert last.reason == reason
        assert self.there.gallery.counters().rows == {"bookings": 0, "cases": 0}, "nothing half-imported"
        return reason


def _payload(envelope: bytes) -> bytes:
    return peek(envelope).payload


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNKEY_INTERLOCK__CLOSING_STABLE_MS", "100")
        patch.setenv("TURNKEY_INTERLOCK__LEASE_VALIDITY_MS", "5000")
        patch.setenv("TURNKEY_ATTESTATION__PUBLISH", "false")
        pair = provision_pair(root)
        with running(pair.sender) as here, running(pair.receiver) as there, (root / "x").open("w+b") as file:
            fill(here, units(ROWS))
            exported(here, order(pair), file)
            file.seek(0)
            yield Scene(pair, here, there, file.read())


@pytest.fixture
def policies(scene: Scene) -> Iterator[None]:
    """Puts both policies back as they were."""
    before = [(pilot, present_policy(pilot)) for pilot in (scene.pair.sender, scene.pair.receiver)]
    yield
    for pilot, policy in before:
        pilot.adopt(policy)


# The file


def test_a_flipped_byte_anywhere_is_found_and_named(scene: Scene) -> None:
    def flipped(at: int) -> bytes:
        data = bytearray(scene.pack)
        data[at] ^= 1
        return bytes(data)

    assert scene.refuses(flipped(0)) == "not-a-pack"
    assert scene.refuses(flipped(len(pack_file.MAGIC))) == "pack-for-another-device"
    assert scene.refuses(flipped(len(pack_file.MAGIC) + 32)) == "not-sealed"
    assert scene.refuses(flipped(BODY_AT - 1)) == "does-not-open"
    assert scene.refuses(flipped(BODY_AT)) == "pack-changed"
    assert scene.refuses(flipped(len(scene.pack) - 1)) == "pack-changed"


def test_a_truncated_pack_is_found_and_named(scene: Scene) -> None:
    assert scene.refuses(b"") == "not-a-pack"
    assert scene.refuses(scene.pack[:BODY_AT]) == "pack-truncated"
    assert scene.refuses(scene.pack[:-1]) == "pack-truncated"
    assert scene.refuses(scene.pack + b"\0") == "pack-changed"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_changed_or_cut_nothing_enters(scene: Scene, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(scene.pack) - 1))
    if data.draw(st.booleans()):
        changed = scene.pack[:at]
    else:
        mask = data.draw(st.integers(1, 255))
        changed = scene.pack[:at] + bytes([scene.pack[at] ^ mask]) + scene.pack[at + 1 :]
    assert scene.refuses(changed) in {
        "not-a-pack",
        "not-sealed",
        "does-not-open",
        "pack-for-another-device",
        "pack-truncated",
        "pack-changed",
    }


def test_a_file_that_is_too_large_is_not_looked_at(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_file, "MOST_BYTES", len(scene.pack) - 1)
    presented = sum(isinstance(event, PackPresented) for event in events(scene.there))
    assert scene.refuses(scene.pack) == "pack-too-large"
    assert sum(isinstance(event, PackPresented) for event in events(scene.there)) == presented


# Chunks, where sender and notary sign whatever they like


def chunks(scene: Scene) -> list[bytes]:
    """The chunks as they stand in the file, lengths and all."""
    body, found = scene.pack[BODY_AT:], []
    while body:
        end = 4 + int.from_bytes(body[:4], "big")
        found.append(body[:end])
        body = body[end:]
    return found


def test_chunks_left_out_moved_or_taken_from_another_pack_do_not_open(scene: Scene) -> None:
    first, second = chunks(scene)
    head = scene.head()
    assert scene.refuses(scene.remade(second + first)) == "pack-changed"
    assert scene.refuses(scene.remade(first, chunks=1, rows=1024)) == "pack-changed", "it is not the last one"
    assert scene.refuses(scene.remade(first + first)) == "pack-changed"
    facts = pack_file._FACTS.dump_json(())
    foreign = Sealer(head.key).seal((0).to_bytes(4, "big") + facts, pack_file._bound("f" * 32, 0, True))
    other = len(foreign).to_bytes(4, "big") + foreign
    assert scene.refuses(scene.remade(other, chunks=1, rows=1)) == "pack-changed", "bound to another pack's id"
    assert scene.refuses(scene.remade(first + second, rows=ROWS - 1)) == "pack-unreadable"
    assert scene.refuses(scene.remade(first + second, key_digest="0" * 64)) == "pack-changed"
    assert scene.refuses(scene.remade(b"\xff" * 64, chunks=1)) == "pack-changed"


def test_a_field_that_nobody_knows_refuses_the_whole_pack(scene: Scene) -> None:
    pack_id = PackManifest.model_validate_json(_payload(scene.head().manifest)).draft.pack_id
    row = PackRow(row=1, reference="B-1", quality=50, enrolled_at=datetime.now(UTC) - timedelta(days=1))
    good = row.model_dump_json()

    def chunk(facts: str) -> bytes:
        plain = (1).to_bytes(4, "big") + units(1).tobytes() + facts.encode()
        sealed = Sealer(scene.head().key).seal(plain, pack_file._bound(pack_id, 0, True))
        return len(sealed).to_bytes(4, "big") + sealed

    named_too = f'[{good[:-1]},"name":"somebody"}}]'
    assert scene.refuses(scene.remade(chunk(named_too), chunks=1, rows=1)) == "pack-unknown-field"
    wrong = f"[{good.replace('50', '500')}]"
    assert scene.refuses(scene.remade(chunk(wrong), chunks=1, rows=1)) == "pack-unreadable"
    assert scene.refuses(scene.remade(chunk("[]"), chunks=1, rows=1)) == "pack-unreadable"
    assert scene.refuses(scene.remade(chunk("nonsense"), chunks=1, rows=1)) == "pack-unreadable"


# Whose pack it is, and whether it may be


def test_a_pack_of_another_model_or_unlike_its_order_is_refused(scene: Scene) -> None:
    body = scene.pack[BODY_AT:]
    assert scene.refuses(scene.remade(body, model_id="sface-000000000000")) == "pack-of-another-model"
    assert scene.refuses(scene.remade(body, rows=5001)) == "pack-too-large"
    assert scene.refuses(scene.remade(body, partition="cases")) == "pack-unlike-its-order"
    assert scene.refuses(scene.remade(body, pack_id="e" * 32)) == "pack-unlike-its-order"
    assert scene.refuses(scene.remade(body, order_digest="e" * 64)) == "pack-unlike-its-order"


def test_a_pack_that_its_device_did_not_sign_is_refused(scene: Scene) -> None:
    head = scene.head()
    forged = sign(PAYLOAD_TYPE_PACK, _payload(head.manifest), SigningKey.generate())
    pack = scene.sealed(PackHead(head.key, forged, head.order)) + scene.pack[BODY_AT:]
    assert scene.refuses(pack) == "pack-not-signed-by-its-device"


def with_order(scene: Scene, envelope: bytes) -> bytes:
    head = scene.head()
    return scene.sealed(PackHead(head.key, head.manifest, envelope)) + scene.pack[BODY_AT:]


def test_an_order_that_does_not_hold_at_the_receiver_refuses_the_pack(scene: Scene) -> None:
    pair, now = scene.pair, datetime.now(UTC)

    def reason(*signers: SigningKey, **changes: Any) -> str:
        return scene.refuses(with_order(scene, order(pair, *signers, **changes)))

    assert reason(*two_of(pair.sender)) == "not-signed", "the sender's own two people are nobody here"
    assert reason(two_of(pair.receiver)[0]) == "one-signer"
    assert reason(not_after=now - timedelta(minutes=1)) == "pack-expired"
    assert reason(not_before=now + timedelta(hours=1)) == "pack-not-yet-valid"
    assert reason(not_after=now + timedelta(days=90)) == "pack-valid-too-long"
    assert reason(to_device="booth-3") == "pack-for-another-device"
    assert reason(from_device="booth-3") == "device-not-named-by-policy"
    assert reason() == "pack-unlike-its-order", "a good order, but not the one that it was made under"


PolicyChange = Callable[[Scene], dict[str, Any]]
NOT_PERMITTED: tuple[tuple[str, PolicyChange], ...] = (
    ("template-packs-not-permitted", lambda _: {"template_packs": None}),
    ("device-not-named-by-policy", lambda _: {"template_packs": rule()}),
    ("bookings-not-enrolled", lambda _: {"enrol_bookings": False}),
    ("model-not-permitted", lambda _: {"models": ("sface-000000000000",)}),
    ("unknown-role", lambda scene: {"template_packs": _rule_of("nobody", scene)}),
    ("role-may-not", lambda scene: {"template_packs": _rule_of("chief", scene)}),
)


def _rule_of(role: str, scene: Scene) -> Any:
    return rule(named(scene.pair.sender)).model_copy(update={"proposer_role": role})


@pytest.mark.usefixtures("policies")
@pytest.mark.parametrize(("reason", "change"), NOT_PERMITTED)
def test_what_the_receivers_policy_does_not_permit_is_refused(scene: Scene, reason: str, change: PolicyChange) -> None:
    change_policy(scene.pair.receiver, **change(scene))
    assert scene.refuses(scene.pack) == reason


def test_no_policy_permits_packs_unless_it_says_so() -> None:
    assert Policy.model_fields["template_packs"].default is None
    assert not rule().devices


# The exporting end


def export_refused(scene: Scene, envelope: bytes, file: Path, **options: Any) -> str:
    with file.open("w+b") as opened:
        reason = refused(export_pack(room(scene.here), envelope, opened, **options))
        opened.seek(0)
        assert not any(opened.read(BODY_AT)), "no head: nobody can open it"
    last = events(scene.here)[-1]
    assert isinstance(last, Refused)
    assert last.reason == reason
    return reason


def test_an_order_that_does_not_hold_at_the_sender_makes_no_pack(scene: Scene, tmp_path: Path) -> None:
    pair, now = scene.pair, datetime.now(UTC)

    def reason(*signers: SigningKey, **changes: Any) -> str:
        return export_refused(scene, order(pair, *signers, **changes), tmp_path / "x")

    assert reason(*two_of(pair.receiver)) == "not-signed"
    assert reason(two_of(pair.sender)[1]) == "one-signer"
    assert reason(not_after=now - timedelta(minutes=1)) == "pack-expired"
    assert reason(from_device="booth-2", to_device="booth-1") == "pack-for-another-device"
    assert reason(to_device="booth-3") == "device-not-named-by-policy"
    assert reason(most_rows=ROWS - 1) == "pack-too-large"
    assert reason(partition="cases") == "nothing-to-export"
    assert export_refused(scene, b"{}", tmp_path / "x") == "not-an-envelope"
    used = scene.head().order
    assert export_refused(scene, used, tmp_path / "x") == "pack-used-before"
    stranger = OpeningKey.generate().public
    assert export_refused(scene, order(pair), tmp_path / "x", receiver=stranger) == "receivers-key-not-the-policys"


@pytest.mark.usefixtures("policies")
def test_what_the_senders_policy_does_not_permit_is_not_exported(scene: Scene, tmp_path: Path) -> None:
    change_policy(scene.pair.sender, template_packs=None)
    assert export_refused(scene, order(scene.pair), tmp_path / "x") == "template-packs-not-permitted"
    change_policy(scene.pair.sender, template_packs=rule())
    assert export_refused(scene, order(scene.pair), tmp_path / "x") == "device-not-named-by-policy"

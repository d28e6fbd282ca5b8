"""Hostile input to the desk and to IT's view, generated: no message crashes either, and none is believed that its
device did not sign.

`TURNKEY_FUZZ_S` sets for how many seconds (without it, 600 messages, to keep the suite fast; 300 s is the bar, see
tests/uplink/fuzz), `TURNKEY_FUZZ_SEED` which messages.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console

from turnkey.envelope import SigningKey, sign
from turnkey.leads.records import PAYLOAD_TYPE_ATTESTATION, PAYLOAD_TYPE_LEAD, Boot, LedgerEntry, canonical
from turnkey_tools.fleet import judge as fleet
from turnkey_tools.fleet.store import Store as FleetStore
from turnkey_tools.leads import desk, view
from turnkey_tools.leads.store import Store

from .conftest import DEVICE, OTHER, lead

SECONDS = float(os.environ.get("TURNKEY_FUZZ_S", "0"))
AT_LEAST = 600
SEED = int(os.environ.get("TURNKEY_FUZZ_SEED", "1"))
KEY, OTHER_KEY, STRANGER = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
KEYS = {DEVICE: KEY.public, OTHER: OTHER_KEY.public}

ODD: list[object] = [
    None, True, -1, 0, 2**53, 2**63, 2**64, 10**400, 1e308, -0.0, float("inf"), float("nan"), [], {}, [[[[]]]],
    "", "\x00", "\ud800", "\x1b[2J", "[red]x", "é" * 40, "9" * 5000, {"a": {"b": {}}}, "2026-01-02T03:04:05Z",
    "booking-1\n", "../../etc", "A" * 64,
]  # fmt: skip


def document(kind: str, chance: random.Random) -> dict[str, object]:
    if kind == "lead":
        record: dict[str, object] = json.loads(canonical(lead(chance.randrange(1, 50))))
        return record
    entry = LedgerEntry(
        device_id=DEVICE,
        index=chance.randrange(50),
        boot_id="1" * 32,
        at=datetime(2026, 1, 2, tzinfo=UTC),
        monotonic_ns=1,
        event=Boot(software="1", models={}),
    )
    return {**json.loads(canonical(entry)), "ledger_root": "ab" * 32}


def drift(node: object, chance: random.Random) -> object:
    """The same document with something in it exchanged, left out, added or nested."""
    if isinstance(node, dict) and node and chance.random() < 0.8:
        name = chance.choice(list(node))
        match chance.randrange(4):
            case 0:
                return {key: value for key, value in node.items() if key != name}
            case 1:
                return {**node, chance.choice(["image", "template", "name", "kind", name]): chance.choice(ODD)}
            case _:
                return {**node, name: drift(node[name], chance)}
    if isinstance(node, list) and node and chance.random() < 0.5:
        return node * chance.randrange(0, 30) if chance.random() < 0.3 else [drift(node[0], chance), *node[1:]]
    return chance.choice(ODD)


def damage(data: bytes, chance: random.Random) -> bytes:
    """Flipped, cut, repeated or spliced bytes."""
    at = chance.randrange(len(data) + 1)
    match chance.randrange(5):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        case 2:
            return data[:at] + chance.randbytes(chance.randrange(64)) + data[at:]
        case 3:
            return data[:at] + data[: chance.randrange(len(data) + 1)]
        case _:
            return data[:at] + b"[" * chance.randrange(70_000) + data[at:]


def message(chance: random.Random) -> tuple[str, bytes]:
    """Mostly right but for one or two things: what is wrong all over is refused at the first look."""
    kinds = ["lead", "attestation"]
    kind = chance.choice(kinds)
    record = document(kind if chance.random() < 0.9 else chance.choice(kinds), chance)
    foreign = chance.random() < 0.1
    if foreign:
        record["device_id"] = OTHER
    payload = json.dumps(record if foreign or chance.random() < 0.3 else drift(record, chance)).encode()
    if chance.random() < 0.2:
        payload = damage(payload, chance)
    right = PAYLOAD_TYPE_LEAD if kind == "lead" else PAYLOAD_TYPE_ATTESTATION
    payload_type = right if chance.random() < 0.9 else chance.choice([PAYLOAD_TYPE_LEAD, PAYLOAD_TYPE_ATTESTATION, ""])
    data = sign(payload_type, payload, chance.choice([KEY, KEY, KEY, KEY, OTHER_KEY, STRANGER]))
    if chance.random() < 0.2:
        data = json.dumps(drift(json.loads(data), chance)).encode()
    if chance.random() < 0.2:
        data = damage(data, chance)
    if chance.random() < 0.003:
        data += b" " * 10_000_000
    if chance.random() < 0.8:
        return f"turnkey/v1/{DEVICE}/{kind}", data
    device = chance.choice([DEVICE, OTHER, "stranger", "+", "#", "a/b", "\ud800", "é", ""])
    return f"{chance.choice(['turnkey/v1', 'turnkey/v2', '$SYS'])}/{device}/{chance.choice(kinds)}", data


def honest(data: bytes, key: SigningKey) -> bool:
    """Whether these bytes carry that key's signature, by another way than the code under test: PAE and raw Ed25519."""
    content = json.loads(data)
    kind, payload = content["payloadType"].encode(), base64.b64decode(content["payload"])
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public.to_hex()))
    for signature in content["signatures"]:
        try:
            public.verify(base64.b64decode(signature["sig"]), pae)
            return True
        except (InvalidSignature, ValueError, TypeError, KeyError):
            continue
    return False


def test_no_message_crashes_a_listener_and_none_is_believed_unsigned(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - hostile input, not secrets
    console = Console(width=100, file=(tmp_path / "screen").open("w"), force_terminal=False)
    seen: Counter[str] = Counter()
    until_s = time.monotonic() + SECONDS
    signers = {DEVICE: KEY, OTHER: OTHER_KEY}
    with Store(tmp_path / "leads.db") as leads, FleetStore(tmp_path / "fleet.db") as view_of_it:
        while time.monotonic() < until_s or sum(seen.values()) < 2 * AT_LEAST:
            topic, data = message(chance)
            verdict = desk.judge(topic, data, KEYS, leads)
            leads.keep(verdict)
            console.print(view.panel(verdict))
            assert json.loads(view.line(verdict))["verdict"] in {"accepted", "refused"}
            seen[f"lead {verdict.reason if isinstance(verdict, desk.Refused) else 'accepted'}"] += 1
            if isinstance(verdict, desk.Accepted):
                assert honest(data, signers[verdict.lead.device_id])
            attested = fleet.judge(topic, data, KEYS, view_of_it)
            with view_of_it.transaction():
                view_of_it.write(attested)
            seen[f"attestation {attested.reason if isinstance(attested, fleet.Refused) else 'believed'}"] += 1
            if isinstance(attested, fleet.Believed):
                assert honest(data, signers[attested.attestation.device_id])
    assert "\x1b" not in (tmp_path / "screen").read_text()
    assert seen["lead accepted"]
    assert seen["attestation believed"]
    for reason in ("not-signed", "not-a-lead", "not-an-envelope", "wrong-device", "unknown-device", "duplicate"):
        assert seen[f"lead {reason}"], f"no message met {reason}: the generator has gone blunt"
    print(f"{sum(seen.values()) // 2} messages in {SECONDS:.0f} s: {dict(sorted(seen.items()))}")

"""The memory of the policy that was last in force: old or new after every fault, never forgotten, never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from policies import DOCUMENT, NOW

from turnkey.database import StorageError
from turnkey.interlock.latch import PosixDisk
from turnkey.leads.policy import PolicyReason, PolicyRefusal, SignedPolicy
from turnkey.leads.records import PAYLOAD_TYPE_POLICY
from turnkey.policy_file import PolicyFile, judge_policy
from turnkey_tools.authority import ThrowawayAuthority, throwaway_authority

AUTHORITY = throwaway_authority()


def signed(authority: ThrowawayAuthority = AUTHORITY, **change: Any) -> bytes:
    return authority.sign(PAYLOAD_TYPE_POLICY, json.dumps(DOCUMENT | change).encode(), "policy")


class Place:
    """A policy file with its memory."""

    def __init__(self, folder: Path) -> None:
        self.path, self.memory = folder / "policy.json", folder / "memory.json"
        self.adopted: list[int] = []

    def ask(self, envelope: bytes, disk: PosixDisk | None = None) -> SignedPolicy | PolicyRefusal:
        self.path.write_bytes(envelope)
        file = PolicyFile(
            self.path,
            self.memory,
            "booth-1",
            adopted=lambda policy: self.adopted.append(policy.policy.version),
            disk=disk,
        )
        return file.in_force(AUTHORITY.authority, NOW)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def reason(outcome: SignedPolicy | PolicyRefusal) -> PolicyReason:
    assert isinstance(outcome, PolicyRefusal)
    assert outcome.message
    return outcome.reason


def test_versions_only_grow_and_each_that_comes_into_force_is_told_once(place: Place) -> None:
    for version in (1, 1, 4):
        assert isinstance(place.ask(signed(version=version)), SignedPolicy)
    assert reason(place.ask(signed(version=3))) is PolicyReason.OLDER
    assert reason(place.ask(signed(version=4, candidate_limit=9))) is PolicyReason.VERSION_REUSED
    assert isinstance(place.ask(signed(version=4)), SignedPolicy)
    assert place.adopted == [1, 4]


def test_a_policy_that_is_not_in_force_is_not_remembered(place: Place) -> None:
    future = signed(version=9, valid_from="2026-06-01T00:00:00Z")
    assert reason(place.ask(future)) is PolicyReason.NOT_YET_VALID
    assert reason(place.ask(signed(version=8, devices=["booth-2"]))) is PolicyReason.OTHER_DEVICE
    assert reason(place.ask(signed(throwaway_authority(), version=7))) is PolicyReason.NOT_SIGNED
    assert isinstance(place.ask(signed(version=1)), SignedPolicy)


@pytest.mark.parametrize("step", ["write", "fsync", "rename", "fsync_directory"])
def test_a_disk_that_fails_at_any_step_leaves_no_policy_in_force_and_forgets_none(
    place: Place, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(place.ask(signed(version=2)), SignedPolicy)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    disk = PosixDisk()
    monkeypatch.setattr(disk, step, fail)
    assert reason(place.ask(signed(version=3), disk)) is PolicyReason.MEMORY_UNREADABLE
    assert reason(place.ask(signed(version=1))) is PolicyReason.OLDER
    assert isinstance(place.ask(signed(version=3)), SignedPolicy)


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 0}', b"\xff" * 64])
def test_a_memory_that_says_nothing_is_not_a_first_day(place: Place, content: bytes) -> None:
    place.memory.write_bytes(content)
    assert reason(place.ask(signed())) is PolicyReason.MEMORY_UNREADABLE


def test_what_cannot_be_put_on_the_ledger_does_not_come_into_force(place: Place, tmp_path: Path) -> None:
    def refuse(_: SignedPolicy) -> None:
        raise StorageError("disk", "the ledger cannot be written")

    place.path.write_bytes(signed())
    file = PolicyFile(place.path, place.memory, "booth-1", adopted=refuse)
    with pytest.raises(StorageError):
        file.in_force(AUTHORITY.authority, NOW)
    assert not place.memory.exists()


def test_no_file_is_no_policy(place: Place) -> None:
    file = PolicyFile(place.path, place.memory, "booth-1")
    assert reason(file.in_force(AUTHORITY.authority, NOW)) is PolicyReason.NOT_SIGNED


def test_only_a_role_that_may_sign_policies_signs_one() -> None:
    payload = json.dumps(DOCUMENT).encode()
    by_the_release = AUTHORITY.sign(PAYLOAD_TYPE_POLICY, payload, "release")
    assert reason(judge_policy(by_the_release, AUTHORITY.authority, "booth-1", NOW)) is PolicyReason.NOT_SIGNED
    assert isinstance(judge_policy(signed(), AUTHORITY.authority, "booth-1", NOW), SignedPolicy)

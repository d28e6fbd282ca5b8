"""Every attack is found, and nothing that it touched is called PROVEN. `tests/adversary` prints the same as a table."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from audit.attacks import ATTACKS
from audit.world import Attack, World

from turnkey_tools.audit.findings import Severity
from turnkey_tools.audit.intervals import Verdict


def test_an_honest_history_is_proven(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.history()
    found = world.audited(with_witness=True)
    assert (found.verdict, found.findings.counts) == (Verdict.PROVEN, {})
    assert [one.state for one in found.intervals] == ["BOOTING", "MORATORIUM", "RUNNING", "MORATORIUM"]
    assert {one.verdict for one in found.intervals} == {Verdict.PROVEN}


def test_without_a_witness_nothing_is_proven(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.history()
    found = world.audited(with_witness=False)
    assert (found.verdict, set(found.findings.counts)) == (Verdict.LATE, {"no-witness"})
    assert {one.verdict for one in found.intervals} == {Verdict.LATE}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Attack], World]:
    """The world after an attack, made once."""

    @cache
    def make(attack: Attack) -> World:
        world = World(tmp_path_factory.mktemp("world"))
        attack.make(world)
        return world

    return make


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_found_and_nothing_it_touched_is_proven(
    attack: Attack, attacked: Callable[[Attack], World]
) -> None:
    world = attacked(attack)
    found = world.audited(with_witness=True)
    assert not attack.finding or attack.finding in found.findings.counts
    assert found.verdict is not Verdict.PROVEN
    assert world.proven_inside(found) == []


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_only_a_witness_finds_what_the_device_can_hide_from_all_others(
    attack: Attack, attacked: Callable[[Attack], World]
) -> None:
    world = attacked(attack)
    found = world.audited(with_witness=False)
    proofs = [code for code in found.findings.counts if code != "no-witness"]
    if attack.finding != "witness-signature-wrong":
        assert bool(proofs) == attack.alone
    assert Verdict.PROVEN not in {one.verdict for one in found.intervals}
    assert found.verdict is Verdict.VIOLATION or found.findings.worst() is not Severity.VIOLATION

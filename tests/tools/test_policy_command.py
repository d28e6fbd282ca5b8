"""`turnkeyctl policy`: written, signed by two of three, compared, checked as a device would."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from turnkey_tools.authority import ThrowawayAuthority, throwaway_authority, write_new
from turnkey_tools.cli import app

AT = "2026-03-01 12:00:00"


def turnkeyctl(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["policy", *map(str, words)])


@pytest.fixture
def office(tmp_path: Path) -> ThrowawayAuthority:
    """An authority beside its policy keys, in files."""
    authority = throwaway_authority()
    (tmp_path / "authority.json").write_bytes(authority.envelope)
    for number, key in enumerate(authority.bodies["policy"].keys, start=1):
        write_new(tmp_path / f"{number}.key", key.to_pem(), private=True)
    (tmp_path / "policy.toml").write_text(turnkeyctl("example").stdout)
    return authority


def made(folder: Path, name: str, *more: str | Path, specification: str = "policy.toml") -> Path:
    """A policy signed by two of three."""
    one, two = folder / f"{name}.1", folder / f"{name}.json"
    first = turnkeyctl("new", folder / specification, "--key", folder / "1.key", "--out", one, *more)
    assert first.exit_code == 0, first.stderr
    second = turnkeyctl("sign", one, "--key", folder / "2.key", "--out", two)
    assert second.exit_code == 0, second.stderr
    return two


def checked(folder: Path, file: Path, *more: str | Path) -> dict[str, object]:
    words = ("check", file, "--authority", folder / "authority.json", "--at", AT, "--json", *more)
    return dict(json.loads(turnkeyctl(*words).stdout))


def test_the_example_becomes_a_policy_that_two_of_three_sign(tmp_path: Path, office: ThrowawayAuthority) -> None:
    file = made(tmp_path, "first")
    verdict = checked(tmp_path, file)
    assert (verdict["verdict"], verdict["version"]) == ("good", 1)
    refused = checked(tmp_path, tmp_path / "first.1")
    assert (refused["verdict"], refused["reason"]) == ("refused", "policy-not-signed")
    shown = turnkeyctl("show", file, "--authority", tmp_path / "authority.json").stdout
    assert "policy 1, policy 2" in shown
    assert "retention_days.bookings" in shown
    late = turnkeyctl("check", file, "--authority", tmp_path / "authority.json", "--at", "2027-01-01 00:00:00")
    assert late.exit_code == 1
    assert "policy-expired" in late.stderr


def test_copies_signed_apart_are_merged(tmp_path: Path, office: ThrowawayAuthority) -> None:
    draft = tmp_path / "draft"
    turnkeyctl("new", tmp_path / "policy.toml", "--key", tmp_path / "1.key", "--out", draft)
    for number in (2, 3):
        turnkeyctl("sign", draft, "--key", tmp_path / f"{number}.key", "--out", tmp_path / f"copy{number}")
    turnkeyctl("merge", tmp_path / "copy2", tmp_path / "copy3", "--out", tmp_path / "merged")
    shown = json.loads(turnkeyctl("show", tmp_path / "merged", "--json").stdout)
    assert len(shown["claimed_signers"]) == 3
    assert checked(tmp_path, tmp_path / "merged")["verdict"] == "good"


def test_a_successor_shows_what_changes_and_nobody_goes_back(tmp_path: Path, office: ThrowawayAuthority) -> None:
    first = made(tmp_path, "first")
    changed = (tmp_path / "policy.toml").read_text().replace("bookings = 365", "bookings = 90")
    (tmp_path / "stricter.toml").write_text(changed.replace("alias_leads = false", "alias_leads = true"))
    second = made(tmp_path, "second", "--replaces", first, specification="stricter.toml")
    told = json.loads(turnkeyctl("diff", first, second, "--json").stdout)
    assert told["follows"]
    assert {change["attribute"]: (change["old"], change["new"]) for change in told["changes"]} == {
        "alias_leads": (False, True),
        "retention_days.bookings": (365, 90),
    }
    assert checked(tmp_path, second, "--last", first)["verdict"] == "good"
    assert checked(tmp_path, first, "--last", second)["reason"] == "policy-older-than-the-last"
    back = turnkeyctl("diff", second, first)
    assert back.exit_code == 1
    assert "does not follow" in back.stderr
    same = made(tmp_path, "same", specification="stricter.toml")
    assert checked(tmp_path, same, "--last", first)["reason"] == "policy-version-reused"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("candidate_limit = 5 ", "candidate_limit = 21 ", "candidate_limit"),
        ('search_on_booking = ["cases"] ', 'search_on_booking = ["bookings"] ', "alias_leads"),
        ("bookings = 365", "", "retention_days.bookings"),
        ("alias_leads = false", "alias_lead = false", "alias_lead"),
        ("valid_until = 2026-07-01T00:00:00Z", "valid_until = 2025-07-01T00:00:00Z", "valid_until"),
    ],
)
def test_a_specification_that_says_too_much_or_too_little_is_refused_by_name(
    tmp_path: Path, office: ThrowawayAuthority, old: str, new: str, told: str
) -> None:
    text = (tmp_path / "policy.toml").read_text()
    assert old in text
    (tmp_path / "wrong.toml").write_text(text.replace(old, new))
    out = tmp_path / "out"
    refused = turnkeyctl("new", tmp_path / "wrong.toml", "--key", tmp_path / "1.key", "--out", out)
    assert refused.exit_code == 1
    assert told in refused.stderr
    assert not out.exists()


def test_what_is_no_policy_is_refused(tmp_path: Path, office: ThrowawayAuthority) -> None:
    refused = turnkeyctl("show", tmp_path / "authority.json")
    assert refused.exit_code == 1
    assert "wrong-type" in refused.stderr


def test_the_examples_window_is_open_at_the_time_these_tests_judge_it() -> None:
    at = datetime.fromisoformat(AT).replace(tzinfo=UTC)
    assert datetime(2026, 1, 1, tzinfo=UTC) < at < datetime(2026, 7, 1, tzinfo=UTC) - timedelta(days=1)

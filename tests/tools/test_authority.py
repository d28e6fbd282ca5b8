"""`turnkeyctl authority`: an authority made by people who never meet at one machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from turnkey.interlock.authority import AuthorityError, first_authority, read_authority, successor
from turnkey_tools.authority import app, sign_with, throwaway_authority

SPECIFICATION = """
jurisdiction = "Benchville"
[holders]
"Clerk" = "clerk.key.pub"
"Mayor" = "mayor.key.pub"
"Chief" = "chief.key.pub"
[roles.root]
holders = ["Clerk", "Mayor"]
threshold = 2
rank = 3
may = ["authority"]
[roles.chief]
holders = ["Chief"]
threshold = 1
rank = 1
may = ["moratorium", "release"]
"""


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def office(tmp_path: Path) -> Path:
    for name in ("clerk", "mayor", "chief"):
        run("key", "--out", tmp_path / f"{name}.key")
    (tmp_path / "spec.toml").write_text(SPECIFICATION)
    return tmp_path


def test_an_authority_holds_once_its_root_threshold_signed(office):
    run("new", office / "spec.toml", "--key", office / "clerk.key", "--out", office / "one")
    assert "not-signed" in run("check", office / "one", code=1)
    run("sign", office / "one", "--key", office / "mayor.key", "--out", office / "two")
    assert "version 1" in run("check", office / "two")


def test_copies_signed_apart_are_merged(office):
    run("new", office / "spec.toml", "--key", office / "chief.key", "--out", office / "draft")
    run("sign", office / "draft", "--key", office / "clerk.key", "--out", office / "at-the-clerk")
    run("sign", office / "draft", "--key", office / "mayor.key", "--out", office / "at-the-mayor")
    run("merge", office / "at-the-clerk", office / "at-the-mayor", "--out", office / "merged")
    assert "good" in run("check", office / "merged")


def test_a_private_key_is_readable_by_its_owner_alone_and_never_overwritten(office):
    assert (office / "clerk.key").stat().st_mode & 0o777 == 0o600
    before = (office / "clerk.key").read_bytes()
    assert "not overwritten" in run("key", "--out", office / "clerk.key", code=1)
    assert (office / "clerk.key").read_bytes() == before


def test_a_threshold_out_of_reach_is_refused(office):
    (office / "spec.toml").write_text(SPECIFICATION.replace("threshold = 2", "threshold = 3"))
    out = run("new", office / "spec.toml", "--key", office / "clerk.key", "--out", office / "one", code=1)
    assert "cannot be reached" in out
    assert not (office / "one").exists()


def test_a_successor_needs_the_root_it_replaces(office):
    run("new", office / "spec.toml", "--key", office / "clerk.key", "--out", office / "draft")
    run("sign", office / "draft", "--key", office / "mayor.key", "--out", office / "first")
    for name in ("clerk2", "mayor2"):
        run("key", "--out", office / f"{name}.key")
    (office / "spec2.toml").write_text(
        SPECIFICATION.replace("clerk.key", "clerk2.key").replace("mayor.key", "mayor2.key")
    )
    new = ("new", office / "spec2.toml", "--replaces", office / "first")
    run(*new, "--key", office / "clerk2.key", "--out", office / "usurped-1")
    run("sign", office / "usurped-1", "--key", office / "mayor2.key", "--out", office / "usurped")
    assert "the present root" in run("check", office / "usurped", "--current", office / "first", code=1)
    run("sign", office / "usurped", "--key", office / "clerk.key", "--out", office / "half")
    assert "the present root" in run("check", office / "half", "--current", office / "first", code=1)
    run("sign", office / "half", "--key", office / "mayor.key", "--out", office / "second")
    assert "version 2" in run("check", office / "second", "--current", office / "first")


def test_a_successor_skips_no_version_and_stays_in_its_jurisdiction():
    one = throwaway_authority("Benchville")
    root = one.bodies["root"].keys
    for changed, reason in (
        ({"version": 1}, "not-the-next-version"),
        ({"version": 3}, "not-the-next-version"),
        ({"version": 2, "jurisdiction": "Elsewhere"}, "other-jurisdiction"),
    ):
        other = one.authority.model_copy(update=changed)
        data = sign_with("application/vnd.turnkey.authority+json", other.payload(), root)
        with pytest.raises(AuthorityError) as refusal:
            successor(one.authority, data)
        assert refusal.value.reason == reason


def test_the_throwaway_authority_holds():
    made = throwaway_authority()
    assert first_authority(made.envelope) == made.authority == read_authority(made.envelope)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"payload":"","payloadType":"x","signatures":[]}'])
def test_a_file_that_is_no_authority_is_refused_without_a_traceback(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert "refused" in run("show", tmp_path / "file", code=1)

"""IT's desk from nothing to a device that takes what it published: keys apart, thresholds, roll-out, pauses, pins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata
from typer.testing import CliRunner

from turnkey.update.client import Client, Way
from turnkey.update.fetching import STICK_URL, StickFetcher
from turnkey.update.limits import Limits
from turnkey.update.release import Release
from turnkey_tools.release.cli import app
from turnkey_tools.release.keys import ReleaseError, new_key, read_public, read_signer

ROOTS = ("root-1", "root-2", "root-3")


class DeskAtHand:
    """A repository, its keys, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repo = folder, folder / "repo"
        for name in (*ROOTS, "targets", "snapshot", "timestamp"):
            new_key(self.key(name), None)
        roots = [word for name in ROOTS for word in ("--root", str(self.public(name)))]
        roles = [
            word for name in ("targets", "snapshot", "timestamp") for word in (f"--{name}", str(self.public(name)))
        ]
        self.did("init", str(self.repo), *roots, *roles)
        self.bundle = folder / "system.raucb"
        self.bundle.write_bytes(b"a system")

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def public(self, name: str) -> Path:
        return self.folder / f"{name}.pub"

    def run(self, *words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, words)
        return result.exit_code, result.output

    def did(self, *words: str) -> str:
        code, said = self.run(*words)
        assert code == 0, said
        return said

    def refused(self, *words: str) -> str:
        code, said = self.run(*words)
        assert code == 1, said
        return said

    def sign(self, draft: str, key: str) -> str:
        return self.did("sign", str(self.repo / "draft" / draft), "--key", str(self.key(key)), "--yes")

    def publish_words(self) -> tuple[str, ...]:
        keys = ("--snapshot-key", str(self.key("snapshot")), "--timestamp-key", str(self.key("timestamp")))
        return ("publish", str(self.repo), *keys)

    def publish(self) -> None:
        """Sign what is drafted, with as many as are needed."""
        if (self.repo / "draft" / "root.json").exists():
            self.sign("root.json", "root-1")
            self.sign("root.json", "root-3")
        if (self.repo / "draft" / "targets.json").exists():
            self.sign("targets.json", "targets")
        self.did(*self.publish_words())

    def add(self, version: str, *words: str) -> str:
        self.did(
            "add", str(self.repo), str(self.bundle), "--kind", "bundle", "--version", version, "--board", "rpi5", *words
        )
        return f"bundle-rpi5-{version}.raucb"

    def status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.did("status", str(self.repo), "--json"))
        return found

    def client(self, place: Path | None = None) -> Client:
        way = Way(
            f"{STICK_URL}/metadata/", f"{STICK_URL}/targets/", StickFetcher(place or self.repo / "published", Limits())
        )
        root = (self.repo / "published" / "metadata" / "1.root.json").read_bytes()
        return Client(self.folder / "device", root, way, self.folder / "device" / "files")

    def releases(self) -> tuple[Release, ...]:
        client = self.client()
        client.refresh()
        return client.releases()


@pytest.fixture
def desk(tmp_path: Path) -> DeskAtHand:
    return DeskAtHand(tmp_path)


def test_a_device_takes_what_was_signed_and_published(desk: DeskAtHand) -> None:
    name = desk.add("1.1", "--group", "pilot=100", "--group", "station=5")
    desk.publish()
    client = desk.client()
    client.refresh()
    (release,) = client.releases()
    assert release.name == name
    assert release.terms.groups == {"pilot": 100, "station": 5}
    assert client.fetch(release).read_bytes() == b"a system"


def test_nothing_is_published_before_two_of_three_root_holders_signed(desk: DeskAtHand) -> None:
    desk.sign("targets.json", "targets")
    assert "0 of 2" in desk.refused(*desk.publish_words())
    desk.sign("root.json", "root-2")
    desk.sign("root.json", "root-2")
    assert "1 of 2" in desk.refused(*desk.publish_words())
    desk.sign("root.json", "root-3")
    desk.did(*desk.publish_words())
    assert desk.releases() == ()


def test_a_key_signs_only_what_its_role_asks_for(desk: DeskAtHand) -> None:
    draft = desk.repo / "draft" / "root.json"
    before = draft.read_bytes()
    assert "sign for nothing" in desk.refused("sign", str(draft), "--key", str(desk.key("targets")), "--yes")
    assert draft.read_bytes() == before


def test_a_draft_signed_elsewhere_needs_the_root_in_force(desk: DeskAtHand, tmp_path: Path) -> None:
    desk.publish()
    desk.add("1.1")
    elsewhere = tmp_path / "safe" / "targets.json"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes((desk.repo / "draft" / "targets.json").read_bytes())
    words = ("sign", str(elsewhere), "--key", str(desk.key("targets")), "--yes")
    assert "--root" in desk.refused(*words)
    desk.did(*words, "--root", str(desk.repo / "published" / "metadata" / "1.root.json"))
    (desk.repo / "draft" / "targets.json").write_bytes(elsewhere.read_bytes())
    desk.did(*desk.publish_words())
    assert [each.terms.version for each in desk.releases()] == ["1.1"]


def test_a_change_takes_the_signatures_off(desk: DeskAtHand) -> None:
    name = desk.add("1.1")
    desk.sign("targets.json", "targets")
    desk.did("pause", str(desk.repo), name)
    desk.sign("root.json", "root-1")
    desk.sign("root.json", "root-2")
    assert "targets has 0 of 1" in desk.refused(*desk.publish_words())


def test_shares_widen_pause_and_pins_reach_the_device(desk: DeskAtHand) -> None:
    old, new = desk.add("1.1", "--group", "station=10"), desk.add("1.2", "--group", "pilot=100")
    repo = str(desk.repo)
    desk.did("rollout", repo, old, "--group", "station=50")
    assert "only widens" in desk.refused("rollout", repo, old, "--group", "station=20")
    desk.did("rollout", repo, old, "--group", "station=20", "--narrow")
    desk.did("pause", repo, new)
    desk.did("pin", repo, new, "booth-7")
    desk.did("pin", repo, old, "booth-7")
    desk.publish()
    found = {each.terms.version: each.terms for each in desk.releases()}
    assert found["1.1"].groups == {"station": 20}
    assert found["1.1"].pins == ("booth-7",)
    assert found["1.2"].pins == ()
    assert found["1.2"].paused
    desk.did("resume", repo, new)
    desk.did("unpin", repo, "booth-7")
    desk.did("withdraw", repo, old)
    desk.publish()
    (left,) = desk.releases()
    assert (left.terms.version, left.terms.paused, left.terms.pins) == ("1.2", False, ())


def test_a_place_that_cannot_be_written_and_a_root_that_is_none_are_refused_in_words(desk: DeskAtHand) -> None:
    desk.publish()
    metadata = desk.repo / "published" / "metadata"
    desk.add("1.1")
    draft, file = desk.repo / "draft" / "targets.json", desk.bundle
    words = ("sign", str(draft), "--key", str(desk.key("targets")), "--yes", "--root")
    assert "is no root" in desk.refused(*words, str(metadata / "1.targets.json"))
    assert "Not a directory" in desk.refused("stick", str(desk.repo), str(file / "stick"))
    keys = [word for name in ("targets", "snapshot", "timestamp") for word in (f"--{name}", str(desk.public(name)))]
    roots = [word for name in ROOTS for word in ("--root", str(desk.public(name)))]
    assert "Not a directory" in desk.refused("init", str(file / "repo"), *roots, *keys)


def test_a_version_is_signed_once(desk: DeskAtHand) -> None:
    desk.add("1.1")
    words = ("--kind", "bundle", "--version", "1.1", "--board", "rpi5")
    assert "version of its own" in desk.refused("add", str(desk.repo), str(desk.bundle), *words)


@pytest.mark.parametrize(
    "words",
    [
        ("--kind", "bundle", "--version", "1.1"),
        ("--kind", "policy", "--version", "1", "--board", "rpi5"),
        ("--kind", "game", "--version", "1"),
        ("--kind", "policy", "--version", "one"),
        ("--kind", "policy", "--version", "1", "--group", "station=101"),
        ("--kind", "policy", "--version", "1", "--group", "station"),
    ],
)
def test_terms_that_mean_nothing_are_refused(desk: DeskAtHand, words: tuple[str, ...]) -> None:
    desk.refused("add", str(desk.repo), str(desk.bundle), *words)
    assert desk.status()["releases"] == []


def test_publishing_again_renews_the_timestamp_and_nothing_else(desk: DeskAtHand) -> None:
    desk.publish()
    published = desk.repo / "published" / "metadata"
    desk.did(*desk.publish_words())
    assert Metadata.from_file(str(published / "timestamp.json")).signed.version == 2
    assert sorted(path.name for path in published.glob("*.targets.json")) == ["1.targets.json"]
    desk.releases()


def test_root_keys_are_replaced_by_former_and_new_holders_together(desk: DeskAtHand) -> None:
    desk.publish()
    desk.releases()
    desk.did("keys", str(desk.key("root-4")))
    new = [word for name in ("root-2", "root-3", "root-4") for word in ("--root", str(desk.public(name)))]
    desk.did("root", str(desk.repo), *new)
    desk.sign("root.json", "root-4")
    desk.sign("root.json", "root-2")
    assert "1 of 2 of the former" in desk.refused(*desk.publish_words())
    desk.sign("root.json", "root-3")
    desk.did(*desk.publish_words())
    desk.releases()
    assert Metadata.from_file(str(desk.folder / "device" / "root.json")).signed.version == 2


def test_new_targets_keys_take_over(desk: DeskAtHand) -> None:
    desk.add("1.1")
    desk.publish()
    desk.did("keys", str(desk.key("targets-2")))
    desk.did("root", str(desk.repo), "--targets", str(desk.public("targets-2")))
    desk.sign("root.json", "root-1")
    desk.sign("root.json", "root-2")
    desk.refused("sign", str(desk.repo / "draft" / "targets.json"), "--key", str(desk.key("timestamp")), "--yes")
    desk.sign("targets.json", "targets-2")
    desk.did(*desk.publish_words())
    assert [each.terms.version for each in desk.releases()] == ["1.1"]


def test_one_machine_never_holds_root_and_another_role(desk: DeskAtHand, tmp_path: Path) -> None:
    root = str(desk.public("root-1"))
    words = ("--root", root, "--root", str(desk.public("root-2")))
    others = (
        "--targets",
        root,
        "--snapshot",
        str(desk.public("snapshot")),
        "--timestamp",
        str(desk.public("timestamp")),
    )
    assert "one machine would hold both" in desk.refused("init", str(tmp_path / "other"), *words, *others)


def test_a_stick_carries_the_same_state_and_only_the_releases_asked_for(desk: DeskAtHand, tmp_path: Path) -> None:
    desk.add("1.1")
    name = desk.add("1.2")
    desk.publish()
    desk.did("stick", str(desk.repo), str(tmp_path / "stick"), "--release", name)
    client = desk.client(tmp_path / "stick")
    client.refresh()
    old, new = client.releases()
    assert client.fetch(new).read_bytes() == b"a system"
    assert len(list((tmp_path / "stick" / "targets").iterdir())) == 1
    desk.did("stick", str(desk.repo), str(tmp_path / "stick.zip"), "--release", name)
    packed = desk.client(tmp_path / "stick.zip")
    packed.refresh()
    assert packed.releases() == (old, new)
    assert sorted(path.name for path in tmp_path.glob("*stick*")) == ["stick", "stick.zip"]
    assert old.terms.version == "1.1"


def test_a_key_under_a_passphrase_asks_for_it(desk: DeskAtHand, tmp_path: Path) -> None:
    key = tmp_path / "safe.key"
    said = CliRunner().invoke(app, ["keys", str(key), "--passphrase"], input="a b c\na b c\n")
    assert said.exit_code == 0
    assert "ENCRYPTED" in key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ReleaseError, match="passphrase"):
        read_signer(key)
    assert read_signer(key, "a b c").public_key.keyid == read_public(key.with_suffix(".pub")).keyid
    assert "never overwritten" in desk.refused("keys", str(key))


def test_what_a_device_would_refuse_is_not_published(desk: DeskAtHand) -> None:
    """A state whose timestamp went backwards on the desk's disk: the rehearsal finds it."""
    desk.publish()
    desk.did(*desk.publish_words())
    published = desk.repo / "published" / "metadata"
    before = (published / "timestamp.json").read_bytes()
    (published / "2.snapshot.json").unlink()
    (published / "1.snapshot.json").unlink()
    code, said = desk.run(*desk.publish_words())
    assert code == 1, said
    assert (published / "timestamp.json").read_bytes() == before

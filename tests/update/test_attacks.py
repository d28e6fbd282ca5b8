"""What an attacker between the repository and a device can do: withhold, and nothing else.

The attacks are the TUF specification's (1.5.2), played over a repository in memory; the trusted metadata and the files
are looked at after each.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile
from update.repository import METADATA, TARGETS, Repository, later

from turnkey.update.client import CONFIG, Client
from turnkey.update.refusals import UpdateError, UpdateReason
from turnkey.update.release import Release

GOOD = b"a system that was signed" * 40
TERMS = {"kind": "bundle", "version": "1.1", "board": "rpi5", "groups": {"station": 100}}


class Site:
    """A repository with one release, and a device that may have looked at it before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository()
        self.repository.add("turnkey-1.1.raucb", GOOD, TERMS)
        self.repository.publish()

    def client(self) -> Client:
        return Client(
            self.folder / "metadata", self.repository.first_root, self.repository.way(), self.folder / "files"
        )

    def look(self) -> tuple[Release, ...]:
        client = self.client()
        client.refresh()
        return client.releases()

    def refused(self) -> UpdateReason:
        with pytest.raises(UpdateError) as caught:
            self.look()
        return caught.value.refusal.reason

    def version(self, role: str) -> int:
        return int(Metadata.from_file(str(self.folder / "metadata" / f"{role}.json")).signed.version)

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "files").iterdir())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_was_signed_arrives(site: Site) -> None:
    client = site.client()
    client.refresh()
    (release,) = client.releases()
    assert release.terms.version == "1.1"
    assert client.fetch(release).read_bytes() == GOOD


def test_a_file_that_is_here_is_not_asked_for_again(site: Site) -> None:
    for _ in range(2):
        client = site.client()
        client.refresh()
        client.fetch(client.releases()[0])
    assert sum(url.startswith(TARGETS) for url in site.repository.asked) == 1


class TestArbitraryInstall:
    def test_another_file_under_the_signed_name(self, site: Site) -> None:
        client = site.client()
        client.refresh()
        (release,) = client.releases()
        site.repository.served = lambda url: iter((b"b" * len(GOOD),)) if url.startswith(TARGETS) else None
        with pytest.raises(UpdateError) as caught:
            client.fetch(release)
        assert caught.value.refusal.reason is UpdateReason.FILE_ALTERED
        assert site.files() == []

    def test_metadata_signed_by_a_stranger(self, site: Site) -> None:
        site.look()
        site.repository.add("turnkey-9.raucb", b"theirs", TERMS | {"version": "9"})
        for role in ("targets", "snapshot", "timestamp"):
            site.repository.signers[role] = [CryptoSigner.generate_ed25519()]
        site.repository.publish()
        assert site.refused() is UpdateReason.NOT_SIGNED
        assert site.version("targets") == 3

    def test_terms_widened_without_a_signature(self, site: Site) -> None:
        name = f"{METADATA}3.targets.json"
        altered = site.repository.files[name].replace(b'"station":100', b'"station":100,"pilot":100')
        assert altered != site.repository.files[name]
        site.repository.files[name] = altered
        assert site.refused() is UpdateReason.NOT_SIGNED


class TestRollback:
    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    def test_yesterdays_role_signed_with_todays_keys(self, site: Site, role: str) -> None:
        site.look()
        repository = site.repository
        before = site.version(role)
        repository.publish()
        getattr(repository, role).version = 1
        if role == "targets":
            repository.snapshot.meta["targets.json"] = MetaFile(1)
        if role in ("targets", "snapshot"):
            repository.timestamp.snapshot_meta = MetaFile(repository.snapshot.version)
        repository.sign_all()
        assert site.refused() is UpdateReason.ROLLED_BACK
        assert site.version(role) == before

    def test_yesterdays_whole_repository_replayed(self, site: Site) -> None:
        yesterday = dict(site.repository.files)
        site.repository.add("turnkey-1.2.raucb", b"newer", TERMS | {"version": "1.2"})
        site.repository.publish()
        assert len(site.look()) == 2
        site.repository.files = yesterday
        assert site.refused() is UpdateReason.ROLLED_BACK

    def test_an_older_root_after_a_rotation(self, site: Site) -> None:
        repository = site.repository
        repository.root.version = 2
        repository.publish_root()
        site.look()
        assert site.version("root") == 2
        del repository.files[f"{METADATA}2.root.json"]
        site.look()
        assert site.version("root") == 2, "the newer root is remembered, whatever the server serves"


class TestFastForward:
    def test_a_role_that_jumped_ahead_under_a_stolen_key_is_recovered_by_the_root(self, site: Site) -> None:
        repository = site.repository
        repository.timestamp.version = repository.snapshot.version = 10**6
        repository.publish()
        site.look()
        assert site.version("timestamp") == 10**6 + 1
        repository.timestamp.version = repository.snapshot.version = 10
        repository.publish()
        assert site.refused() is UpdateReason.ROLLED_BACK, "nobody can catch up with it by versions"
        for role in ("timestamp", "snapshot"):
            stolen = repository.signers[role][0].public_key.keyid
            repository.root.revoke_key(stolen, role)
            repository.signers[role] = [CryptoSigner.generate_ed25519()]
            repository.root.add_key(repository.signers[role][0].public_key, role)
        repository.root.version = 2
        repository.publish_root()
        repository.publish()
        site.look()
        assert site.version("timestamp") < 100


class TestFreeze:
    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
    def test_metadata_that_has_run_out_is_not_used(self, site: Site, role: str) -> None:
        site.look()
        getattr(site.repository, role).expires = later(0) - timedelta(hours=1)
        if role == "root":
            site.repository.root.version = 2
            site.repository.publish_root()
        site.repository.publish()
        assert site.refused() is UpdateReason.EXPIRED

    def test_a_server_that_repeats_itself_is_found_out_when_the_timestamp_runs_out(self, site: Site) -> None:
        site.repository.timestamp.expires = later(0) + timedelta(seconds=2)
        site.repository.publish()
        frozen = dict(site.repository.files)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(UpdateError):
                site.look()
                time.sleep(0.2)
                continue
            break
        assert site.refused() is UpdateReason.EXPIRED
        assert site.repository.files == frozen


class TestEndlessData:
    def endless(self) -> Iterator[bytes]:
        return itertools.repeat(b" " * 65536)

    @pytest.mark.parametrize("role", ["timestamp.json", ".snapshot.json", ".targets.json", "2.root.json"])
    def test_metadata_without_end_is_cut_off_at_its_limit(self, site: Site, role: str) -> None:
        served = 0

        def counted() -> Iterator[bytes]:
            nonlocal served
            for chunk in self.endless():
                served += len(chunk)
                yield chunk

        site.repository.served = lambda url: counted() if url.endswith(role) else None
        assert site.refused() is UpdateReason.FILE_TOO_LONG
        assert served <= CONFIG.targets_max_length + 65536

    def test_a_file_without_end_is_cut_off_at_its_signed_length(self, site: Site) -> None:
        client = site.client()
        client.refresh()
        (release,) = client.releases()
        site.repository.served = lambda url: self.endless() if url.startswith(TARGETS) else None
        with pytest.raises(UpdateError) as caught:
            client.fetch(release)
        assert caught.value.refusal.reason is UpdateReason.FILE_TOO_LONG
        assert site.files() == []


class TestMixAndMatch:
    def test_a_snapshot_of_one_state_with_targets_of_another(self, site: Site) -> None:
        """Both were once signed, but never together."""
        repository = site.repository
        older = repository.files[f"{METADATA}{repository.targets.version}.targets.json"]
        repository.add("turnkey-1.2.raucb", b"newer", TERMS | {"version": "1.2"})
        repository.publish()
        repository.files[f"{METADATA}{repository.targets.version}.targets.json"] = older
        assert site.refused() is UpdateReason.ROLLED_BACK

    def test_a_timestamp_of_one_state_with_a_snapshot_of_another(self, site: Site) -> None:
        repository = site.repository
        older = repository.files[f"{METADATA}{repository.snapshot.version}.snapshot.json"]
        repository.publish()
        repository.files[f"{METADATA}{repository.snapshot.version}.snapshot.json"] = older
        assert site.refused() is UpdateReason.ROLLED_BACK

    def test_metadata_of_another_repository(self, site: Site) -> None:
        site.look()
        other = Repository()
        other.add("theirs.raucb", b"theirs", TERMS | {"version": "7"})
        for _ in range(5):
            other.publish()
        site.repository.files = other.files
        assert site.refused() is UpdateReason.NOT_SIGNED


class TestWrongTarget:
    def test_another_signed_file_under_this_ones_name(self, site: Site) -> None:
        """Both are signed, and of one length; the device asked for the other one."""
        site.repository.add("turnkey-1.2.raucb", GOOD[::-1], TERMS | {"version": "1.2"})
        site.repository.publish()
        client = site.client()
        client.refresh()
        newer = next(each for each in client.releases() if each.terms.version == "1.2")
        site.repository.served = lambda url: iter((GOOD,)) if url.startswith(TARGETS) else None
        with pytest.raises(UpdateError) as caught:
            client.fetch(newer)
        assert caught.value.refusal.reason is UpdateReason.FILE_ALTERED

    def test_a_release_of_another_look_is_not_fetched(self, site: Site) -> None:
        client = site.client()
        client.refresh()
        (release,) = client.releases()
        site.repository.add("turnkey-1.1.raucb", b"replaced", TERMS)
        site.repository.publish()
        client = site.client()
        client.refresh()
        with pytest.raises(UpdateError) as caught:
            client.fetch(release)
        assert caught.value.refusal.reason is UpdateReason.MALFORMED


class TestKeyCompromiseBelowThreshold:
    def test_one_of_three_root_keys_makes_no_root(self, site: Site) -> None:
        site.look()
        repository = site.repository
        thief = [CryptoSigner.generate_ed25519()]
        repository.root.add_key(thief[0].public_key, "targets")
        repository.root.version = 2
        repository.publish_root(repository.signers["root"][:1])
        assert site.refused() is UpdateReason.NOT_SIGNED
        assert site.version("root") == 1

    def test_one_root_key_that_signs_twice_is_one(self, site: Site) -> None:
        repository = site.repository
        repository.root.version = 2
        repository.publish_root([repository.signers["root"][0], repository.signers["root"][0]])
        assert site.refused() is UpdateReason.NOT_SIGNED

    def test_a_new_root_signs_for_itself_as_well(self, site: Site) -> None:
        """Two of the old keys approve a root whose own threshold they do not reach (5.3.4)."""
        repository = site.repository
        new = [CryptoSigner.generate_ed25519() for _ in range(3)]
        for signer in repository.signers["root"]:
            repository.root.revoke_key(signer.public_key.keyid, "root")
        for signer in new:
            repository.root.add_key(signer.public_key, "root")
        repository.root.version = 2
        repository.publish_root(repository.signers["root"][:2])
        assert site.refused() is UpdateReason.NOT_SIGNED

    @pytest.mark.parametrize("stolen", ["timestamp", "snapshot"])
    def test_the_online_keys_alone_bring_no_release(self, site: Site, stolen: str) -> None:
        site.look()
        repository = site.repository
        repository.add("theirs.raucb", b"theirs", TERMS | {"version": "9"})
        repository.signers["targets"] = repository.signers[stolen]
        repository.publish()
        assert site.refused() is UpdateReason.NOT_SIGNED
        assert site.version("targets") == 3


def test_a_root_that_is_none_is_refused_before_anything_is_asked(site: Site) -> None:
    with pytest.raises(UpdateError) as caught:
        Client(site.folder / "metadata", b"{}", site.repository.way(), site.folder / "files")
    assert caught.value.refusal.reason is UpdateReason.ROOT_UNUSABLE
    assert site.repository.asked == []


def test_a_target_that_is_no_release_harms_none(site: Site) -> None:
    site.repository.add("notes.txt", b"plain")
    site.repository.add("odd.raucb", b"odd", {"kind": "bundle", "version": "one"})
    site.repository.add("wide.raucb", b"wide", {"kind": "bundle", "version": "2", "groups": {"station": 101}})
    site.repository.publish()
    assert [each.name for each in site.look()] == ["turnkey-1.1.raucb"]

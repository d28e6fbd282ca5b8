"""The client under test of theupdateframework/tuf-conformance: its three commands, as that suite calls them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from booking_room import REPOSITORY
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Targets
from update.repository import METADATA, TARGETS, Repository, later
from update.web import Web

CLIENT = REPOSITORY / "tests" / "tuf" / "client"


class Suite:
    """A repository on loopback and a client run as the conformance suite runs one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository()
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        self.web = Web(self.find)

    def find(self, path: str) -> bytes | None:
        base, _, name = path.lstrip("/").partition("/")
        return self.repository.files.get({"metadata": METADATA, "targets": TARGETS}.get(base, "?") + name)

    def run(self, *arguments: str) -> int:
        command = [str(CLIENT), "--metadata-dir", str(self.metadata), *arguments]
        return subprocess.run(command, cwd=self.folder, check=False, timeout=120).returncode

    def init(self, root: bytes | None = None) -> int:
        (self.folder / "initial_root.json").write_bytes(self.repository.first_root if root is None else root)
        return self.run("init", "initial_root.json")

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self.web.url}/metadata", "refresh")

    def download(self, name: str) -> int:
        return self.run(
            "--metadata-url", f"{self.web.url}/metadata/", "--target-name", name,
            "--target-base-url", f"{self.web.url}/targets/", "--target-dir", str(self.targets), "download",
        )  # fmt: skip

    def asked(self) -> list[str]:
        asked = [path.rpartition("/")[2] for path, _ in self.web.asked]
        self.web.asked.clear()
        return asked

    def files(self) -> list[bytes]:
        return [path.read_bytes() for path in self.targets.rglob("*") if path.is_file()]

    def roles(self) -> dict[str, int]:
        return {path.stem: int(Metadata.from_file(str(path)).signed.version) for path in self.metadata.glob("*.json")}


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    suite = Suite(tmp_path)
    with suite.web:
        yield suite


def test_init_asks_nobody_and_refresh_asks_in_the_specifications_order(suite: Suite) -> None:
    assert suite.init() == 0
    assert suite.asked() == []
    assert suite.refresh() == 0
    assert suite.asked() == ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]
    assert suite.roles() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}
    assert suite.refresh() == 0
    assert suite.asked() == ["2.root.json", "timestamp.json"]


def test_a_root_that_is_not_signed_is_refused_and_nothing_is_asked(suite: Suite) -> None:
    root = Metadata.from_bytes(suite.repository.first_root)
    root.signatures.clear()
    suite.init(root.to_bytes())
    assert suite.refresh() == 1
    assert suite.asked() == []


def test_download_takes_the_signed_file_once(suite: Suite) -> None:
    suite.repository.add("path/to/file.txt", b"content")
    suite.repository.publish()
    suite.init()
    assert suite.download("path/to/file.txt") == 0
    assert suite.files() == [b"content"]
    suite.asked()
    assert suite.download("path/to/file.txt") == 0
    assert suite.asked() == ["2.root.json", "timestamp.json"]


def test_download_refreshes_even_where_there_is_no_such_target(suite: Suite) -> None:
    suite.init()
    assert suite.download("no such target") == 1
    assert suite.roles() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}
    assert suite.files() == []


def test_an_altered_file_replaces_nothing(suite: Suite) -> None:
    suite.repository.add("file.txt", b"first")
    suite.repository.publish()
    suite.init()
    assert suite.download("file.txt") == 0
    second = suite.repository.add("file.txt", b"other")
    suite.repository.publish()
    suite.repository.files[f"{TARGETS}{second.hashes['sha256']}.file.txt"] = b"evil!"
    assert suite.download("file.txt") == 1
    assert suite.files() == [b"first"]


def test_a_rotated_root_is_followed(suite: Suite) -> None:
    suite.init()
    for version in (2, 3):
        suite.repository.root.version = version
        suite.repository.publish_root()
    assert suite.refresh() == 0
    assert suite.asked()[:3] == ["2.root.json", "3.root.json", "4.root.json"]
    assert suite.roles()["root"] == 3
    assert suite.init() == 0
    suite.asked()
    assert suite.refresh() == 0
    assert suite.asked()[0] == "4.root.json", "what is known of the roots outlasts a second init"
    assert suite.roles()["root"] == 3


def test_a_refused_timestamp_leaves_the_trusted_one(suite: Suite) -> None:
    suite.init()
    assert suite.refresh() == 0
    suite.repository.timestamp.expires = later(-1)
    suite.repository.publish()
    assert suite.refresh() == 1
    assert suite.roles()["timestamp"] == 2


@pytest.mark.parametrize("role", ["?", "#", "/delegated", "../delegated"])
def test_a_delegated_role_of_an_odd_name_stays_inside_the_directory(suite: Suite, role: str) -> None:
    repository = suite.repository
    signer = repository.signers["targets"][1]
    repository.targets.delegations = Delegations({}, {role: DelegatedRole(role, [], 1, False, ["*"])})
    repository.targets.add_key(signer.public_key, role)
    delegated = Metadata(Targets(expires=later(1)))
    delegated.sign(signer)
    repository.snapshot.meta[f"{role}.json"] = MetaFile(1)
    repository.files[f"{METADATA}1.{role}.json"] = delegated.to_bytes()
    repository.publish()
    suite.web.find = lambda path: suite.find(unquote(path))
    suite.init()
    assert suite.download("no such target") == 1
    assert len(suite.roles()) == 5
    assert {path.name for path in suite.folder.iterdir()} == {"metadata", "targets", "initial_root.json"}

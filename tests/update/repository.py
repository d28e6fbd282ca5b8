"""A repository in memory behind the client's own fetcher interface: honest until a test makes it something else.

It keeps every published state, so that an attacker who only replays what was once signed needs no key; an attacker with
keys takes them from `signers`. Nothing here decides what the client should make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface

from turnkey.update.client import Way

METADATA, TARGETS = "mem://repository/metadata/", "mem://repository/targets/"
ROLES = ("root", "targets", "snapshot", "timestamp")


def later(days: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)


@dataclass
class Repository(FetcherInterface):
    """Root by two of three keys, every other role by one.

    Attributes:
        signers: of each role.
        files: what is served, by address; published states are only added to.
        asked: every address that was asked for, in order.
        served: in place of `files`, where a test serves something else.
    """

    signers: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    served: Callable[[str], Iterator[bytes] | None] = lambda _url: None

    def __post_init__(self) -> None:
        self.signers = {role: [CryptoSigner.generate_ed25519() for _ in range(3)] for role in ROLES}
        self.root = Root(expires=later(365), consistent_snapshot=True)
        self.targets, self.snapshot, self.timestamp = (
            Targets(expires=later(90)),
            Snapshot(expires=later(30)),
            Timestamp(expires=later(7)),
        )
        for role in ROLES:
            for signer in self.signers[role][: 3 if role == "root" else 1]:
                self.root.add_key(signer.public_key, role)
        self.root.roles["root"].threshold = 2
        self.publish_root()
        self.first_root = self.files[f"{METADATA}1.root.json"]
        self.publish()

    def way(self) -> Way:
        return Way(METADATA, TARGETS, self)

    def add(self, name: str, content: bytes, custom: dict[str, Any] | None = None) -> TargetFile:
        """A target, served under its hash; published with the next `publish`."""
        target = TargetFile.from_data(name, content, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = {"turnkey": custom}
        self.targets.targets[name] = target
        folder, _, last = name.rpartition("/")
        self.files[f"{TARGETS}{folder}{'/' if folder else ''}{target.hashes['sha256']}.{last}"] = content
        return target

    def publish_root(self, signers: list[CryptoSigner] | None = None) -> None:
        self._put(f"{self.root.version}.root", self.root, signers or self.signers["root"])

    def publish(self) -> None:
        """A new state of everything below the root."""
        for role in (self.targets, self.snapshot, self.timestamp):
            role.version += 1
        self.snapshot.meta["targets.json"] = MetaFile(self.targets.version)
        self.timestamp.snapshot_meta = MetaFile(self.snapshot.version)
        self.sign_all()

    def sign_all(self) -> None:
        """Sign what stands in the roles as it stands."""
        self.sign("targets", f"{self.targets.version}.targets")
        self.sign("snapshot", f"{self.snapshot.version}.snapshot")
        self.sign("timestamp", "timestamp")

    def sign(self, role: str, name: str, signers: list[CryptoSigner] | None = None) -> bytes:
        """Sign one role and serve it under a name."""
        return self._put(name, getattr(self, role), signers or self.signers[role][:1])

    def _put(self, name: str, signed: Any, signers: list[CryptoSigner]) -> bytes:
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        self.files[f"{METADATA}{name}.json"] = metadata.to_bytes()
        return self.files[f"{METADATA}{name}.json"]

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.asked.append(url)
        instead = self.served(url)
        if instead is not None:
            return instead
        content = self.files.get(unquote(url))
        if content is None:
            raise DownloadHTTPError(f"{url}: not there", 404)
        return iter((content,))

"""IT's desk: a repository of updates as a directory.

    REPO/draft/root.json, targets.json     what is being prepared, and passed from signer to signer
    REPO/published/metadata/, targets/     static files for any web server or object store: upload this directory

Rules kept here:
1. What is published is only added to; `timestamp.json` alone is replaced, last, by one rename. A device that looks
   meanwhile sees the old state or the new one.
2. A draft loses its signatures with every change.
3. Files carry their hash in their name (consistent snapshots), so that caches never serve a wrong one for long.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from turnkey.update.installer import write_whole
from turnkey_tools.release.keys import ReleaseError

ROOT_DAYS, TARGETS_DAYS, SNAPSHOT_DAYS, TIMESTAMP_DAYS = 365, 120, 30, 10
"""A timestamp that nobody renews for ten days stops updates, nothing else: that is how long a server can hide one."""

Kind = TypeVar("Kind", Root, Snapshot, Targets, Timestamp)


@dataclass(frozen=True)
class RoleKeys:
    """The public keys of one role, and how many of them must sign."""

    keys: tuple[SSlibKey, ...]
    threshold: int = 1


class Desk:
    """The repository at `root`; nothing is read until it is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.metadata = root / "published" / "metadata"
        self.targets = root / "published" / "targets"
        self.draft_root = root / "draft" / "root.json"
        self.draft_targets = root / "draft" / "targets.json"

    def published_root(self) -> Metadata[Root] | None:
        """The newest published root; None where nothing was published yet. Raises: ReleaseError."""
        return self._newest(Root)

    def published_targets(self) -> Metadata[Targets] | None:
        """The newest published targets. Raises: ReleaseError."""
        return self._newest(Targets)

    def published_snapshot(self) -> Metadata[Snapshot] | None:
        """The newest published snapshot. Raises: ReleaseError."""
        return self._newest(Snapshot)

    def published_timestamp(self) -> Metadata[Timestamp] | None:
        """The published timestamp. Raises: ReleaseError."""
        path = self.metadata / "timestamp.json"
        return read_metadata(path, Timestamp) if path.exists() else None

    def current_root(self) -> Metadata[Root]:
        """The root that the next state will have: the draft, or else the published one. Raises: ReleaseError."""
        if self.draft_root.exists():
            return read_metadata(self.draft_root, Root)
        root = self.published_root()
        if root is None:
            raise ReleaseError(f"{self.root} is no repository: turnkeyctl release init")
        return root

    def open_targets(self) -> Metadata[Targets]:
        """The draft of the targets; a new one, of the next version, where there is none. Raises: ReleaseError."""
        if self.draft_targets.exists():
            return read_metadata(self.draft_targets, Targets)
        published = self.published_targets()
        if published is None:
            raise ReleaseError(f"{self.root} is no repository: turnkeyctl release init")
        published.signed.version += 1
        return published

    def keep_targets(self, targets: Metadata[Targets]) -> None:
        """Write the draft, without signatures, its expiry counted from now."""
        targets.signed.expires = expiry(TARGETS_DAYS)
        targets.signatures.clear()
        save(self.draft_targets, targets)

    def add_file(self, source: Path, name: str) -> TargetFile:
        """Put a file under its hash among the published ones, where it is of no use before it is signed."""
        digest, length = hashlib.sha256(), 0
        self.targets.mkdir(parents=True, exist_ok=True)
        draft = self.targets / f".{name}.draft"
        try:
            with source.open("rb") as read, draft.open("wb") as write:
                while chunk := read.read(1 << 20):
                    digest.update(chunk)
                    length += len(chunk)
                    write.write(chunk)
                write.flush()
                os.fsync(write.fileno())
            draft.chmod(0o644)
            draft.replace(self.targets / f"{digest.hexdigest()}.{name}")
        except OSError as error:
            raise ReleaseError(f"{source}: {error.strerror}") from error
        finally:
            draft.unlink(missing_ok=True)
        return TargetFile(length, {"sha256": digest.hexdigest()}, name)

    def _newest(self, kind: type[Kind]) -> Metadata[Kind] | None:
        form = re.compile(rf"(\d+)\.{kind.type}\.json")
        found = self.metadata.iterdir() if self.metadata.is_dir() else ()
        versions = [int(named.group(1)) for path in found if (named := form.fullmatch(path.name))]
        return read_metadata(self.metadata / f"{max(versions)}.{kind.type}.json", kind) if versions else None


def init(root: Path, roles: dict[str, RoleKeys]) -> Desk:
    """Begin a repository: the drafts of its first root and of empty targets. Raises: ReleaseError."""
    if root.exists() and any(root.iterdir()):
        raise ReleaseError(f"{root} is not empty: a repository is never overwritten")
    desk = Desk(root)
    for folder in (desk.metadata, desk.targets, desk.draft_root.parent):
        folder.mkdir(parents=True, exist_ok=True)
    signed = Root(expires=expiry(ROOT_DAYS), consistent_snapshot=True)
    set_roles(signed, roles)
    save(desk.draft_root, Metadata(signed))
    save(desk.draft_targets, Metadata(Targets(expires=expiry(TARGETS_DAYS))))
    return desk


def next_root(desk: Desk, roles: dict[str, RoleKeys]) -> None:
    """Draft the next root: the published one with the given roles' keys, its expiry counted from now.

    Raises: ReleaseError.
    """
    published = desk.published_root()
    if published is None:
        raise ReleaseError("there is no published root yet: sign and publish the first one")
    published.signed.version += 1
    published.signed.expires = expiry(ROOT_DAYS)
    set_roles(published.signed, roles)
    published.signatures.clear()
    save(desk.draft_root, published)


def set_roles(root: Root, roles: dict[str, RoleKeys]) -> None:
    """Replace the keys of roles. Raises: ReleaseError."""
    for name, role in roles.items():
        if not 1 <= role.threshold <= len({key.keyid for key in role.keys}):
            raise ReleaseError(f"{name}: {role.threshold} of {len(role.keys)} different keys is no threshold")
        for keyid in tuple(root.roles[name].keyids):
            root.revoke_key(keyid, name)
        for key in role.keys:
            root.add_key(key, name)
        root.roles[name].threshold = role.threshold
    for one, other in (("root", "targets"), ("root", "snapshot"), ("root", "timestamp"), ("targets", "timestamp")):
        shared = set(root.roles[one].keyids) & set(root.roles[other].keyids)
        if shared:
            raise ReleaseError(f"a key of {one} may not be {other}'s as well: one machine would hold both")


def copy_published(desk: Desk, into: Path, names: Sequence[str]) -> None:
    """Metadata, and the files of the named targets, into a directory or a .zip that does not exist.

    Raises: ReleaseError.
    """
    targets = desk.published_targets()
    if targets is None:
        raise ReleaseError("nothing is published yet")
    draft = into.with_name(f".{into.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(desk.metadata, draft / "metadata", ignore=shutil.ignore_patterns(".*"))
        (draft / "targets").mkdir()
        for name in names:
            file = f"{targets.signed.targets[name].hashes['sha256']}.{name}"
            shutil.copy2(desk.targets / file, draft / "targets" / file)
        if into.suffix == ".zip":
            packed = Path(shutil.make_archive(str(draft), "zip", draft))
            packed.rename(into)
        else:
            draft.rename(into)
    except OSError as error:
        raise ReleaseError(f"{into}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        draft.with_name(f"{draft.name}.zip").unlink(missing_ok=True)


def read_metadata(path: Path, kind: type[Kind]) -> Metadata[Kind]:
    """Read one file of one kind. Raises: ReleaseError."""
    try:
        metadata = Metadata[Kind].from_file(str(path))
    except (OSError, RepositoryError) as error:
        raise ReleaseError(f"{path} cannot be read: {error}") from error
    if not isinstance(metadata.signed, kind):
        raise ReleaseError(f"{path} is no {kind.type}")
    return metadata


def save(path: Path, metadata: Metadata[Any]) -> bytes:
    """Write metadata whole; returns the bytes."""
    data = metadata.to_bytes(JSONSerializer(compact=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data, mode=0o644)
    return data


def expiry(days: int) -> datetime:
    """So many days from now, UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)

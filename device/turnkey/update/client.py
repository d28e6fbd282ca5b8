"""The device's TUF client: which releases there are, and their files. Trust is python-tuf's `ngclient`; limits, storage
and the two ways (server, stick) are this room's.

Rules kept here, in the order in which they are enforced:
1. Trust begins at the root that the device was provisioned with, every time; a newer root counts only where a chain of
   thresholds leads to it (TUF specification 1.0.33, 5.3).
2. Root, timestamp, snapshot, targets are checked for signatures, versions and expiry (5.3 to 5.6) before a release is
   so much as seen.
3. A file is believed by length and SHA-256 (5.7), and only then gets its name: what stands under a release's name is
   whole.
4. Each way that this can fail is one `UpdateReason`; nothing is repaired, and the old metadata stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuf.api import exceptions
from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from turnkey.update.refusals import UpdateError, UpdateReason
from turnkey.update.release import Release, release_of

CONFIG = UpdaterConfig()
"""The library's limits: 256 rotations of the root, 32 delegations; root 512 kB, timestamp 16 kB, snapshot 2 MB, targets
5 MB. Metadata beyond these lengths is refused before it is read."""

_REASONS: tuple[tuple[type[Exception], UpdateReason], ...] = (
    (exceptions.UnsignedMetadataError, UpdateReason.NOT_SIGNED),
    (exceptions.ExpiredMetadataError, UpdateReason.EXPIRED),
    (exceptions.BadVersionNumberError, UpdateReason.ROLLED_BACK),
    (exceptions.LengthOrHashMismatchError, UpdateReason.FILE_ALTERED),
    (exceptions.DownloadLengthMismatchError, UpdateReason.FILE_TOO_LONG),
    (exceptions.SlowRetrievalError, UpdateReason.TOO_SLOW),
    (exceptions.DownloadHTTPError, UpdateReason.SERVER_REFUSES),
    (exceptions.DownloadError, UpdateReason.UNREACHABLE),
    (exceptions.RepositoryError, UpdateReason.MALFORMED),
    (OSError, UpdateReason.DISK),
    (ValueError, UpdateReason.MALFORMED),
)
"""The first that fits; the finer ones stand before what they inherit from."""


@dataclass(frozen=True)
class Way:
    """Where a repository is: its two addresses, and how to get there."""

    metadata_url: str
    targets_url: str
    fetcher: FetcherInterface


class Client:
    """One look at a repository: make it anew for each.

    Args:
        metadata: directory of the trusted metadata, kept from look to look: what is known of versions is what a
            rollback is told by.
        root: the provisioned root; None: the one in the directory.
        way: where the repository is.
        targets: directory for files.

    Raises:
        UpdateError: the root is unusable, or the directory is.
    """

    def __init__(self, metadata: Path, root: bytes | None, way: Way, targets: Path) -> None:
        self._metadata = metadata
        self._targets = targets
        with _reasons():
            metadata.mkdir(mode=0o700, parents=True, exist_ok=True)
            targets.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._updater = Updater(
                    str(metadata),
                    way.metadata_url,
                    target_base_url=way.targets_url,
                    fetcher=way.fetcher,
                    config=CONFIG,
                    bootstrap=root,
                )
            except exceptions.RepositoryError as error:
                raise UpdateError(UpdateReason.ROOT_UNUSABLE, f"the provisioned root is unusable: {error}") from error

    def refresh(self) -> None:
        """Bring the metadata up to date. Raises: UpdateError."""
        with _reasons():
            self._updater.refresh()

    def releases(self) -> tuple[Release, ...]:
        """Every release of the metadata, after `refresh`. Raises: UpdateError."""
        with _reasons():
            # The names are read from the file that was just verified; what is believed of each comes from the updater.
            names = Metadata[Targets].from_file(str(self._metadata / "targets.json")).signed.targets
            found = []
            for name in sorted(names):
                target = self._updater.get_targetinfo(name)
                if target is not None:
                    custom = target.unrecognized_fields.get("custom")
                    found.append(release_of(name, target.length, target.hashes, custom))
        return tuple(each for each in found if each is not None)

    def fetch(self, release: Release) -> Path:
        """The file of a release, by its digest in the directory of files. Raises: UpdateError."""
        with _reasons():
            target = self._updater.get_targetinfo(release.name)
            if target is None or target.hashes.get("sha256") != release.digest:
                raise UpdateError(UpdateReason.MALFORMED, f"{release.name} is not what was decided on")
            return self._fetched(target, self._targets / release.digest)

    def fetch_named(self, name: str, into: Path) -> Path:
        """Any target by its name, into a file. Raises: UpdateError; also where the metadata knows no such target."""
        with _reasons():
            target = self._updater.get_targetinfo(name)
            if target is None:
                raise UpdateError(UpdateReason.MALFORMED, f"the metadata knows no target {name!r}")
            return self._fetched(target, into)

    def _fetched(self, target: TargetFile, into: Path) -> Path:
        if self._updater.find_cached_target(target, str(into)) is not None:
            return into
        draft = into.with_name(f".{into.name}.draft")
        try:
            self._updater.download_target(target, str(draft))
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(into)
        finally:
            draft.unlink(missing_ok=True)
        return into


@contextmanager
def _reasons() -> Iterator[None]:
    try:
        yield
    except UpdateError:
        raise
    except Exception as error:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                raise UpdateError(reason, f"{error}" or type(error).__name__) from error
        raise

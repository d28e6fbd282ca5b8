"""The authorities a device has followed: the one it was provisioned with and every successor, on disk.

Rules kept here:
1. The folder holds `2.json`, `3.json`, ...: each is verified against its predecessor each time it is read
   (`successor`).
2. A file is written whole (draft, fsync, rename, fsync of the folder) and never changed.
3. A file that does not verify ends the chain, and says so; the latch, which remembers the highest version that was
   followed, then keeps the device stopped.
"""

from __future__ import annotations

from pathlib import Path

from turnkey.interlock.authority import Authority, AuthorityError, first_authority, successor
from turnkey.interlock.latch import Disk, PosixDisk


class AuthorityFolder:
    """The chain of authorities of one device.

    Args:
        first: the authority the device was provisioned with, as an envelope.
        folder: where its successors are; exists.
        disk: what the folder lies on.

    Raises:
        AuthorityError: the first authority does not hold.
    """

    def __init__(self, first: bytes, folder: Path, disk: Disk | None = None) -> None:
        self._folder = folder
        self._disk = disk or PosixDisk()
        self.current: Authority = first_authority(first)
        self.trouble: str | None = None
        while self.trouble is None:
            try:
                data = self._disk.read(self._path(self.current.version + 1))
            except FileNotFoundError:
                break
            except OSError:
                self.trouble = "authority-unreadable"
                break
            try:
                self.current = successor(self.current, data)
            except AuthorityError as error:
                self.trouble = error.reason

    def follow(self, data: bytes) -> Authority:
        """Take a successor; it is on disk when this returns.

        Raises:
            AuthorityError: it does not hold.
            OSError: it could not be written.
        """
        following = successor(self.current, data)
        path = self._path(following.version)
        draft = path.with_name(f"{path.name}.draft")
        self._disk.write(draft, data)
        self._disk.fsync(draft)
        self._disk.rename(draft, path)
        self._disk.fsync_directory(self._folder)
        self.current = following
        return following

    def envelope(self, version: int) -> bytes | None:
        """A successor as it was followed; None where there is none of that version."""
        try:
            return self._disk.read(self._path(version)) if version <= self.current.version else None
        except OSError:
            return None

    def _path(self, version: int) -> Path:
        return self._folder / f"{version}.json"

"""Putting in place what is no system: a policy, or a set of models. Both are checked by their own rules first.

Rules kept here:
1. What does not pass its own check (a policy its signatures and its device, models their manifest's hashes and their
   acceptance) replaces nothing, although the update's metadata was right: these are signed by different people.
2. The replacement is one rename, once the new is on the disk. A power cut leaves the old or the new, never something
   between.
3. What is placed can be read by the other processes' users, whatever the umask here.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol
from zipfile import BadZipFile, ZipFile

from turnkey.update.fetching import UNREADABLE
from turnkey.update.installer import sync_folder, write_whole
from turnkey.update.refusals import UpdateError, UpdateReason
from turnkey.update.release import Release
from turnkey.vision.litert import verified_bytes
from turnkey.vision.manifest import ModelError, read_manifest

CURRENT = "current"
MOST_MODEL_FILES = 32
MOST_MODELS_BYTES = 256 << 20
MOST_POLICY_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

PolicyCheck = Callable[[bytes], str | None]
"""Why a signed policy may not be in force on this device now; None where it may."""

ModelsCheck = Callable[[Path], object]
"""Raises a ModelError where this device would not load the models of a directory."""


class Placer(Protocol):
    """Puts the checked file of a release where it is used."""

    def place(self, file: Path, release: Release) -> None:
        """Put it in place; on disk when this returns. Raises: UpdateError."""
        ...


class PolicyPlacer:
    """Replaces the signed policy at `target`, which every booking reads anew."""

    def __init__(self, target: Path, check: PolicyCheck) -> None:
        self._target = target
        self._check = check

    def place(self, file: Path, release: Release) -> None:
        """As the port's."""
        if file.stat().st_size > MOST_POLICY_BYTES:
            raise UpdateError(UpdateReason.POLICY_REFUSED, f"{release.name} is too long for a policy")
        envelope = file.read_bytes()
        refused = self._check(envelope)
        if refused is not None:
            raise UpdateError(UpdateReason.POLICY_REFUSED, f"{release.name}: {refused}")
        try:
            write_whole(self._target, envelope, mode=0o644)
        except OSError as error:
            raise UpdateError(UpdateReason.DISK, f"{self._target}: {error}") from error


class ModelsPlacer:
    """Unpacks a set of models (a .zip of one flat directory) beside the present one and points `current` at it.

    The processes read models at their start, so a set of models takes effect with the restart that follows it.

    Args:
        folder: where sets of models lie, each under its digest.
        check: raises a ModelError for models that a device would not load.
    """

    def __init__(self, folder: Path, check: ModelsCheck) -> None:
        self._folder = folder
        self._check = check

    def place(self, file: Path, release: Release) -> None:
        """As the port's."""
        current, link = self._folder / CURRENT, self._folder / f".{CURRENT}.draft"
        # The same files once more get a folder of their own: the present one is not touched before the rename.
        again = current.is_symlink() and current.readlink().name == release.digest
        unpacked = self._folder / f"{release.digest}{'.again' if again else ''}"
        draft = self._folder / f".{release.digest}.draft"
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            draft.chmod(0o755)
            _unpack(file, draft)
            sync_folder(draft)
            _verify(draft)
            self._check(draft)
            shutil.rmtree(unpacked, ignore_errors=True)
            draft.rename(unpacked)
            link.unlink(missing_ok=True)
            link.symlink_to(unpacked.name)
            sync_folder(self._folder)
            link.replace(current)
            sync_folder(self._folder)
            for other in self._folder.iterdir():
                if other.is_dir() and not other.is_symlink() and other != unpacked:
                    shutil.rmtree(other, ignore_errors=True)
        except OSError as error:
            raise UpdateError(UpdateReason.DISK, f"{self._folder}: {error}") from error
        except (ModelError, *UNREADABLE) as error:
            raise UpdateError(UpdateReason.MODELS_REFUSED, f"{release.name}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _unpack(file: Path, into: Path) -> None:
    with ZipFile(file) as archive:
        members = archive.infolist()
        sizes = sum(member.file_size for member in members)
        if len(members) > MOST_MODEL_FILES or sizes > MOST_MODELS_BYTES:
            raise BadZipFile(f"{len(members)} files of {sizes} bytes are no set of models")
        for member in members:
            if _NAME.fullmatch(member.filename) is None:
                raise BadZipFile(f"{member.filename!r} is no name of a model file")
            with archive.open(member) as source, (into / member.filename).open("wb") as target:
                _copy(source, target, member.file_size)
                target.flush()
                os.fchmod(target.fileno(), 0o644)
                os.fsync(target.fileno())


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """What a member's header promises, and not a byte more."""
    while size > 0 and (chunk := source.read(min(size, 1 << 20))):
        size -= len(chunk)
        target.write(chunk)


def _verify(models: Path) -> None:
    manifest = read_manifest(models)
    every = (manifest.detector, manifest.embedder, manifest.mesh, *([manifest.guide] if manifest.guide else []))
    for entry in every:
        verified_bytes(models, entry)

"""A directory of pictures as a camera: for the demo, for tests, and for a booking desk whose camera writes to a card.

Rules kept here:
1. In the order of the names, each press of the shutter once; with `repeat`, from the first again, forever. A file is a
   press that gave one frame; a directory `NAME.burst` is a press that gave as many as it holds files.
2. Only regular files in those places. A link, a pipe or a device is passed over, and one put in a picture's place
   between listing and opening is refused: nothing outside is read and nothing hangs.
3. A bad file costs its own press only. It is named in the error, and the next press takes the next one.
4. A dead permit takes nothing: the press it would have been is still the next one. A permit that dies while a
   picture is decoded discards the picture.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from turnkey.capture.camera import CameraError, Frame
from turnkey.capture.picture import DEFAULT_LIMITS, PictureLimits, decode_picture, shrunk, too_many_bytes
from turnkey.interlock.permit import Permit

BURST: Final = ".burst"
"""What the name of a directory ends with whose files are the frames of one press."""


class FolderCamera:
    """The `Camera` port over a directory. For one thread at a time.

    Args:
        directory: where the pictures are; listed now, and again each time `repeat` starts over.
        monotonic_ns: the clock for `Frame.taken_ns`, nanoseconds.
        limits: bounds on what is decoded.
        repeat: start again after the last picture.

    Raises:
        CameraError: folder-unreadable.
    """

    def __init__(
        self,
        directory: Path,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        limits: PictureLimits = DEFAULT_LIMITS,
        repeat: bool = False,
    ) -> None:
        self._directory = directory
        self._monotonic_ns = monotonic_ns
        self._limits = limits
        self._repeat = repeat
        self._closed = False
        self._waiting = self._listing()
        self._previewed: tuple[str, NDArray[np.uint8]] | None = None

    def capture(self, permit: Permit) -> Frame:
        """The next press's first picture.

        Raises:
            Stopped: the permit is dead, or died while the picture was decoded.
            CameraError: no-more-pictures, folder-unreadable, picture-unreadable, camera-closed, and the reasons of
                `picture.decode_picture`.
        """
        return next(self.burst(permit, 1))

    def burst(self, permit: Permit, most: int) -> Generator[Frame]:
        """The next press's first `most` pictures; fewer where the press gave fewer.

        Raises: as `capture`.
        """
        name = self._next(permit)
        self._waiting.pop()
        self._previewed = None
        for picture in self._pictures(name)[:most]:
            yield self._frame(permit, picture)

    def preview(self, permit: Permit) -> Frame:
        """The next press's first picture, small; the press is still to come. Raises: as `capture`."""
        name = self._next(permit)
        if self._previewed is None or self._previewed[0] != name:
            picture = self._pictures(name)[0]
            self._previewed = (name, shrunk(decode_picture(self._read(picture), _shown(picture), limits=self._limits)))
            permit.check()
        return Frame(pixels=self._previewed[1], taken_ns=self._monotonic_ns(), source=_shown(name))

    def close(self) -> None:
        """Take no more pictures. Safe to call twice."""
        self._closed = True
        self._waiting = []
        self._previewed = None

    def _next(self, permit: Permit) -> str:
        permit.check()
        if self._closed:
            raise CameraError("camera-closed", "The camera is closed. Restart the booking.")
        if not self._waiting and self._repeat:
            self._waiting = self._listing()
        if not self._waiting:
            raise CameraError("no-more-pictures", f"There are no more pictures in {_shown(self._directory.name)}.")
        return self._waiting[-1]

    def _frame(self, permit: Permit, picture: str) -> Frame:
        permit.check()
        taken_ns = self._monotonic_ns()
        pixels = decode_picture(self._read(picture), _shown(picture), limits=self._limits)
        permit.check()
        return Frame(pixels=pixels, taken_ns=taken_ns, source=_shown(picture))

    def _listing(self) -> list[str]:
        """Names of the presses, last first, hidden ones left out."""
        try:
            with os.scandir(self._directory) as entries:
                names = [entry.name for entry in entries if _is_picture(entry) or _is_burst(entry)]
        except OSError as error:
            message = f"The picture folder {_shown(str(self._directory))} cannot be read: {error.strerror}."
            raise CameraError("folder-unreadable", message) from error
        return sorted(names, reverse=True)

    def _pictures(self, name: str) -> list[str]:
        """The files of one press, first first, as paths below the directory."""
        if not name.endswith(BURST):
            return [name]
        try:
            with os.scandir(self._directory / name) as entries:
                pictures = sorted(f"{name}/{entry.name}" for entry in entries if _is_picture(entry))
        except OSError as error:
            raise CameraError("picture-unreadable", f"{_shown(name)} cannot be read: {error.strerror}.") from error
        if not pictures:
            raise CameraError("picture-unreadable", f"{_shown(name)} holds no picture.")
        return pictures

    def _read(self, name: str) -> bytes:
        try:
            # Not blocking, so that a pipe put there meanwhile cannot hang the booth; a file is read as ever.
            handle = os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    raise CameraError("picture-unreadable", f"{_shown(name)} is not a file.")
                if status.st_size > self._limits.max_bytes:
                    raise too_many_bytes(_shown(name), self._limits)
                with open(handle, "rb", closefd=False) as file:
                    # One byte more than allowed: a file that grows while it is read is still refused for its size.
                    return file.read(self._limits.max_bytes + 1)
            finally:
                os.close(handle)
        except OSError as error:
            message = f"{_shown(name)} cannot be read: {error.strerror}."
            raise CameraError("picture-unreadable", message) from error


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) and not entry.name.startswith(".")


def _is_burst(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and entry.name.endswith(BURST) and not entry.name.startswith(".")


def _shown(name: str) -> str:
    """A file name that cannot break a line or a terminal: what does not print becomes a question mark."""
    return "".join(character if character.isprintable() else "?" for character in name)

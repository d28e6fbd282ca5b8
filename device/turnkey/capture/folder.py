"""A directory of pictures as a camera: for the demo, for tests, and for a booking desk whose camera writes to a card.

Rules kept here:
1. In the order of the file names, each picture once; with `repeat`, from the first again, forever.
2. Only regular files directly inside the directory. A link, a pipe or a device is passed over, and one put in a
   picture's place between listing and opening is refused: nothing outside is read and nothing hangs.
3. A bad file costs its own capture only. It is named in the error, and the next capture takes the next file.
4. A dead permit takes nothing: the file it would have been is still the next one. A permit that dies while a picture is
   decoded discards the picture.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from turnkey.capture.camera import CameraError, Frame
from turnkey.capture.picture import DEFAULT_LIMITS, PictureLimits, decode_picture, too_many_bytes
from turnkey.interlock.permit import Permit


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

    def capture(self, permit: Permit) -> Frame:
        """The next picture of the directory.

        Raises:
            Stopped: the permit is dead, or died while the picture was decoded.
            CameraError: no-more-pictures, folder-unreadable, picture-unreadable, camera-closed, and the reasons of
                `picture.decode_picture`.
        """
        permit.check()
        if self._closed:
            raise CameraError("camera-closed", "The camera is closed. Restart the booking.")
        if not self._waiting and self._repeat:
            self._waiting = self._listing()
        if not self._waiting:
            raise CameraError("no-more-pictures", f"There are no more pictures in {_shown(self._directory.name)}.")
        name = self._waiting.pop()
        taken_ns = self._monotonic_ns()
        pixels = decode_picture(self._read(name), _shown(name), limits=self._limits)
        permit.check()
        return Frame(pixels=pixels, taken_ns=taken_ns, source=_shown(name))

    def close(self) -> None:
        """Take no more pictures. Safe to call twice."""
        self._closed = True
        self._waiting = []

    def _listing(self) -> list[str]:
        """Names of the regular files, last first, hidden ones left out."""
        try:
            with os.scandir(self._directory) as entries:
                names = [e.name for e in entries if e.is_file(follow_symlinks=False) and not e.name.startswith(".")]
        except OSError as error:
            message = f"The picture folder {_shown(str(self._directory))} cannot be read: {error.strerror}."
            raise CameraError("folder-unreadable", message) from error
        return sorted(names, reverse=True)

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


def _shown(name: str) -> str:
    """A file name that cannot break a line or a terminal: what does not print becomes a question mark."""
    return "".join(character if character.isprintable() else "?" for character in name)

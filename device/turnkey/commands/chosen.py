"""The device that the options of one command line chose: its settings, itself, or the processes it is made of.

Every `turnkey` command begins here. What goes wrong is said on standard error and ends the command: 1 refused, with the
reason; 2 the device cannot start, or the arguments are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from turnkey.capture.camera import CameraError
from turnkey.capture.folder import FolderCamera
from turnkey.commands.settled import JsonOption, choose, chosen_settings, fail, interlock_socket
from turnkey.database import StorageError
from turnkey.device import Device, DeviceBusy, DeviceError
from turnkey.gallery_room import GalleryRoom, become, booth_room, room_of
from turnkey.interlock.authority import AuthorityError
from turnkey.interlock.lease import DaemonError, ask
from turnkey.interlock.wire import Request
from turnkey.vision.manifest import ModelError

__all__ = ["JsonOption", "SignedFile", "ask_interlock", "choose", "chosen_device", "chosen_room", "chosen_settings",
           "fail", "interlock_socket"]  # fmt: skip

SignedFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]


@contextmanager
def chosen_device(pictures: Path | None = None) -> Iterator[Device]:
    """The whole device in this process, its interlock settled."""
    try:
        camera = FolderCamera(pictures) if pictures is not None else None
        with Device(chosen_settings(), camera=camera) as device:
            device.settled()
            yield device
    except (DeviceError, CameraError) as error:
        fail(f"the device cannot start: {error}", 2)
    except StorageError as error:
        fail(f"refused ({error.reason}): {error}")


@contextmanager
def chosen_room() -> Iterator[GalleryRoom]:
    """The gallery to work on: the device's, or that of a booth whose process is apart and does not run."""
    if interlock_socket() is None:
        with chosen_device() as device:
            yield room_of(device)
        return
    settings = chosen_settings()
    sockets = settings.interlock.socket
    try:
        become(sockets.booth_user)
        with booth_room(settings.model_copy(update={"state": sockets.booth_state})) as room:
            yield room
    except DeviceBusy:
        fail(
            "refused (booth-running): the booth has the gallery; end it first, with `systemctl stop "
            "turnkey-running.path turnkey-booth`, and start the path again afterwards"
        )
    except StorageError as error:
        fail(f"refused ({error.reason}): {error}")
    except (ModelError, AuthorityError, OSError) as error:
        fail(f"the gallery cannot be opened: {error}", 2)


def ask_interlock(socket: Path, request: Request) -> str:
    """The answer of the interlock's own process; a refusal ends the command."""
    try:
        answer = ask(socket, request)
    except DaemonError as error:
        fail(str(error), 2)
    if not answer.done:
        fail(f"refused ({answer.reason}): {answer.message}")
    return answer.body

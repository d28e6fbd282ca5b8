"""The latch: what was stopped stays stopped, on disk, through crashes, power cuts and reboots.

One small file: a line of JSON and a line with its SHA-256. It holds the state, the epoch, the standing orders, the
nonces that were used, the challenge that the next release must name, and the latest time ever seen.

Rules kept here:
1. It is written to a draft, the draft is fsynced, renamed over the file, and the directory is fsynced: old or new,
   never between.
2. The epoch only grows. A record of a lower epoch is never written over a higher one.
3. Where it cannot be written because the disk is full, a stop is kept by renaming the old file to `<name>.stopped`,
   which needs no space; a latch under that name reads as moratorium, whatever it says.
4. A file that is missing, corrupt, another device's or older than the ledger knows reads as moratorium. Nothing is
   guessed from half a file, and a corrupt one is kept aside for whoever investigates.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from turnkey.interlock.machine import State

MAX_LATCH_BYTES = 1024 * 1024
"""Room for some five thousand used nonces; a larger file is not one that this program wrote."""


class LatchError(OSError):
    """The latch could not be written. The caller is stopped and stays so."""


class StandingOrder(BaseModel):
    """A moratorium order that is in force until a body of at least its rank lifts it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_id: str
    role: str
    rank: int
    since: datetime


class UsedNonce(BaseModel):
    """A nonce that no order may carry again, kept for as long as an order that carried it could be valid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nonce: str
    not_after: datetime


class LatchRecord(BaseModel):
    """What the latch says.

    Attributes:
        device_id: whose latch it is.
        epoch: counts the stops; grows only.
        state: `RUNNING` means released; anything else is latched.
        reason: code of the last change.
        since: when that was, UTC.
        challenge: random, new with each stop: what a release order must name, so that no file from another day can.
        standing: orders in force.
        used: nonces of the orders that were applied.
        authority_version: the highest authority this device has followed.
        latest: the latest time ever seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    device_id: str
    epoch: int = Field(ge=1)
    state: Literal[State.RUNNING, State.MORATORIUM, State.FAULT]
    reason: str
    since: datetime
    challenge: str
    standing: tuple[StandingOrder, ...] = ()
    used: tuple[UsedNonce, ...] = ()
    authority_version: int = 0
    latest: datetime

    def stopped_anew(self, state: State, reason: str, now: datetime) -> LatchRecord:
        """The record of a new stop: next epoch, new challenge."""
        changed = {
            "epoch": self.epoch + 1,
            "state": state,
            "reason": reason,
            "since": now,
            "challenge": new_challenge(),
        }
        return self.model_copy(update=changed).seen(now)

    def seen(self, now: datetime) -> LatchRecord:
        """The record with the latest time moved on, and nonces dropped whose orders can no longer be valid."""
        latest = max(self.latest, now)
        used = tuple(nonce for nonce in self.used if nonce.not_after >= latest)
        return self.model_copy(update={"latest": latest, "used": used})


class Disk(Protocol):
    """The six operations the latch needs, so that a test can make each of them fail."""

    def read(self, path: Path) -> bytes: ...
    def write(self, path: Path, data: bytes) -> None: ...
    def fsync(self, path: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def fsync_directory(self, path: Path) -> None: ...


class PosixDisk:
    """The real disk."""

    def read(self, path: Path) -> bytes:
        with path.open("rb") as file:
            return file.read(MAX_LATCH_BYTES + 1)

    def write(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor with its mode, not a path
            file.write(data)

    def fsync(self, path: Path) -> None:
        _sync(path, os.O_RDWR)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def fsync_directory(self, path: Path) -> None:
        _sync(path, os.O_RDONLY | os.O_DIRECTORY)


@dataclass(frozen=True)
class LatchFound:
    """What opening the latch found.

    Attributes:
        record: what holds now.
        trouble: why the file itself was not believed; None where it was.
    """

    record: LatchRecord
    trouble: str | None


class Latch:
    """The latch file of one device.

    Args:
        path: the file. Its directory exists and belongs to the interlock alone.
        disk: where it lives.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self._stopped_path = path.with_name(f"{path.name}.stopped")
        self._draft_path = path.with_name(f"{path.name}.draft")
        self._disk = disk or PosixDisk()
        self._highest = 0

    def load(self, device_id: str, now: datetime, *, ledger_epoch: int = 0) -> LatchFound:
        """Read the latch. Never raises: what cannot be read is a moratorium.

        Args:
            device_id: whose latch it must be.
            now: UTC.
            ledger_epoch: the highest epoch the ledger knows of; a latch behind it was set back.
        """
        aside, _ = self._read(self._stopped_path, device_id)
        record, trouble = self._read(self.path, device_id)
        if aside is not None:
            trouble = trouble if trouble not in (None, "latch-missing") else "latch-set-aside"
            if record is None or record.epoch < aside.epoch:
                record = aside
        # One that was set aside is behind the ledger by the stop that did not fit on the disk: the mark says as much.
        if record is not None and record.epoch < ledger_epoch and trouble != "latch-set-aside":
            trouble = "latch-older-than-ledger"
        if trouble is None and record is not None:
            self._highest = record.epoch
            return LatchFound(record, None)
        if trouble in ("latch-corrupt", "latch-of-another-device"):
            self._keep_for_investigation()
        if record is None:
            record = LatchRecord(
                device_id=device_id,
                epoch=max(1, ledger_epoch),
                state=State.MORATORIUM,
                reason=trouble or "latch-missing",
                since=now,
                challenge=new_challenge(),
                latest=now,
            )
        if trouble != "latch-missing" or ledger_epoch > 0:
            behind = record.model_copy(update={"epoch": max(record.epoch, ledger_epoch)})
            record = behind.stopped_anew(State.MORATORIUM, trouble or "latch-missing", now)
        self._highest = record.epoch
        return LatchFound(record, trouble or "latch-missing")

    def store(self, record: LatchRecord) -> None:
        """Put `record` on disk; on return it is there.

        Raises:
            LatchError: it is not; the old record still is, or is set aside as a stop.
            ValueError: its epoch is lower than the one stored, a fault of the caller.
        """
        if record.epoch < self._highest:
            raise ValueError(f"epoch {record.epoch} after {self._highest}")
        line = record.model_dump_json().encode()
        data = line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"
        directory = self.path.parent
        try:
            self._disk.write(self._draft_path, data)
            self._disk.fsync(self._draft_path)
            self._disk.rename(self._draft_path, self.path)
            self._disk.fsync_directory(directory)
            self._drop_stopped()
        except OSError as error:
            if record.state is not State.RUNNING:
                self._set_aside()
            raise LatchError(f"the latch cannot be written: {error}") from error
        self._highest = record.epoch

    def holds(self, record: LatchRecord) -> bool:
        """Whether the file still says what `record` does, which was stored: that stop, and whether it was released."""
        found, _ = self._read(self.path, record.device_id)
        return found is not None and _stop_of(found) == _stop_of(record)

    def _drop_stopped(self) -> None:
        """A stop that had been set aside is now in the file itself: the file is on disk before the mark goes."""
        try:
            self._disk.read(self._stopped_path)
        except OSError:
            return
        self._disk.rename(self._stopped_path, self.path.with_name(f"{self.path.name}.superseded"))
        self._disk.fsync_directory(self.path.parent)

    def _set_aside(self) -> None:
        """Keep a stop where the disk takes no more data. Best effort: without it the caller is stopped in memory."""
        with contextlib.suppress(OSError):
            self._disk.rename(self.path, self._stopped_path)
            self._disk.fsync_directory(self.path.parent)

    def _read(self, path: Path, device_id: str) -> tuple[LatchRecord | None, str | None]:
        try:
            data = self._disk.read(path)
        except FileNotFoundError:
            return None, "latch-missing"
        except OSError:
            return None, "latch-unreadable"
        record = _decode(data)
        if record is None:
            return None, "latch-corrupt"
        if record.device_id != device_id:
            return None, "latch-of-another-device"
        return record, None

    def _keep_for_investigation(self) -> None:
        """A file that is not believed must not be overwritten by the next one. Best effort."""
        with contextlib.suppress(OSError):
            self._disk.rename(self.path, self.path.with_name(f"{self.path.name}.disbelieved"))


def new_challenge() -> str:
    """Sixteen random bytes in hexadecimal."""
    return secrets.token_hex(16)


def _stop_of(record: LatchRecord) -> tuple[int, str, State]:
    return record.epoch, record.challenge, record.state


def _decode(data: bytes) -> LatchRecord | None:
    line, _, rest = data.partition(b"\n")
    if len(data) > MAX_LATCH_BYTES or rest != hashlib.sha256(line).hexdigest().encode() + b"\n":
        return None
    try:
        return LatchRecord.model_validate_json(line)
    except ValidationError:
        return None


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

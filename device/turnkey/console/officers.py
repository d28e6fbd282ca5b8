"""Who may use the console: badge, PIN (argon2id) and training date, from a file that only root writes.

Rules kept here, in the order in which they are enforced by `admit`:
1. The file is refused whole where anybody but root or this process's own user could have written it.
2. An unknown badge takes as long as a wrong PIN, and gets the same answer.
3. A right PIN is not enough: an officer whose training is missing or too old may not sign in, and is told so.
4. A PIN is never stored, printed or logged.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

Badge = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,16}$")]

PIN_DIGITS: Final = range(6, 13)
"""Six digits behind a lock of five tries in 15 minutes: some 40 years to try half of them."""
MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_HASHER: Final = PasswordHasher()  # argon2id; RFC 9106's second recommended choice: 64 MiB, 3 passes, 4 lanes


class SignInRefusal(StrEnum):
    """Why somebody may not sign in. Each has its words in every language."""

    WRONG = "wrong-badge-or-pin"
    LOCKED = "badge-locked"
    TRAINING = "training-too-old"
    OFFICERS_FILE = "officers-file-unusable"
    OTHER_BROWSER = "console-in-use"
    POLICY = "policy-missing"


class OfficersError(Exception):
    """The officers' file cannot be used; the message says what to do."""


class Officer(BaseModel):
    """One officer.

    Attributes:
        badge: as on the badge.
        pin: argon2id hash, in the PHC string format.
        trained_on: the day of the last training on this device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    badge: Badge
    pin: str
    trained_on: date


class Officers(BaseModel):
    """The file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    officers: tuple[Officer, ...] = ()

    def find(self, badge: str) -> Officer | None:
        """The officer with this badge."""
        return next((officer for officer in self.officers if officer.badge == badge), None)

    def without(self, badge: str) -> Officers:
        """The same officers but that one."""
        return Officers(officers=tuple(officer for officer in self.officers if officer.badge != badge))

    def including(self, officer: Officer) -> Officers:
        """The same officers and this one, in place of one with the same badge."""
        others = self.without(officer.badge).officers
        return Officers(officers=tuple(sorted((*others, officer), key=lambda one: one.badge)))


@dataclass(frozen=True)
class Admitted:
    """Somebody who may sign in."""

    badge: str


def weakness(pin: str) -> str | None:
    """Why a PIN is refused when it is set; None where it may be used."""
    if not (pin.isascii() and pin.isdigit() and len(pin) in PIN_DIGITS):
        return f"a PIN is {PIN_DIGITS.start} to {PIN_DIGITS.stop - 1} digits"
    steps = {(int(after) - int(before)) % 10 for before, after in pairwise(pin)}
    if len(steps) == 1 and steps <= {0, 1, 9}:
        return "one digit over and over, or digits in a row, are the first thing anybody tries"
    return None


def hashed(pin: str) -> str:
    """The PIN as it is stored."""
    return _HASHER.hash(pin)


def admit(
    officers: Officers, badge: str, pin: str, training_counts: Callable[[date], bool]
) -> Admitted | SignInRefusal:
    """Whether this badge and PIN may sign in. Takes some 0.1 s by design: call it off the event loop.

    Args:
        training_counts: whether a training of this day counts today, as the policy has it.
    """
    officer = officers.find(badge)
    try:
        _HASHER.verify(officer.pin if officer else _nobodys_hash(), pin)
    except (VerificationError, InvalidHashError):
        return SignInRefusal.WRONG
    if officer is None:
        return SignInRefusal.WRONG
    if not training_counts(officer.trained_on):
        return SignInRefusal.TRAINING
    return Admitted(officer.badge)


@cache
def _nobodys_hash() -> str:
    return hashed(secrets.token_hex(16))


def read_officers(path: Path) -> Officers:
    """The officers of a file that only root, or this process's user, can have written.

    Raises:
        OfficersError: it is missing, unsafe or no officers' file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise OfficersError(f"{path}: {error.strerror}. Make it with `turnkey officer add`.") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise OfficersError(f"{path}: must be a file of root's")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise OfficersError(f"{path}: others than its owner can write it. Take that right away (chmod go-w).")
        data = file.read(MAX_FILE_BYTES)
    try:
        return Officers.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise OfficersError(f"{path}: {place}: {first['msg']}") from error


def write_officers(path: Path, officers: Officers, group: int | None = None) -> None:
    """Replace the file, whole or not at all; `group` may read it.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if group is not None:
            os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, 0o640)
        file.write(officers.model_dump_json(indent=2).encode() + b"\n")
        file.flush()
        os.fsync(descriptor)
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""Why an update does not happen: one tree of reasons for the room, each a value that a person can act on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UpdateReason(StrEnum):
    """Code for the ledger."""

    NOT_SIGNED = "metadata-not-signed"
    EXPIRED = "metadata-expired"
    ROLLED_BACK = "metadata-rolled-back"
    MALFORMED = "metadata-malformed"
    ROOT_UNUSABLE = "root-unusable"
    FILE_ALTERED = "file-altered"
    FILE_TOO_LONG = "file-too-long"
    TOO_SLOW = "server-too-slow"
    SERVER_REFUSES = "server-refuses"
    UNREACHABLE = "server-unreachable"
    NO_SERVER = "no-update-server"
    STICK_UNREADABLE = "stick-unreadable"
    DISK = "disk-full-or-failing"
    NOT_INSTALLED = "install-failed"
    ANOTHER_VERSION = "another-version"
    NO_INSTALLER = "installer-unreachable"
    POLICY_REFUSED = "policy-refused"
    MODELS_REFUSED = "models-refused"
    BOOT_UNKNOWN = "boot-unknown"
    BUSY = "update-under-way"
    BOOTLOADER_OLD = "bootloader-too-old"
    BOOTLOADER_UNKNOWN = "bootloader-unknown"
    NO_LEDGER = "ledger-unwritable"


@dataclass(frozen=True)
class UpdateRefusal:
    """A step that was not taken: the code, and what it means here."""

    reason: UpdateReason
    message: str


class UpdateError(Exception):
    """Carries a refusal from where it was found to where it is put on the ledger."""

    def __init__(self, reason: UpdateReason, message: str) -> None:
        super().__init__(message)
        self.refusal = UpdateRefusal(reason, message)

"""The records of a device's upkeep: its updates, and its examinations of itself. The ledger's other records are in
`records.py`; the rules are the same.

This room does no I/O.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from turnkey.leads.fields import ReasonCode, Record, Sha256

VERSION_FORM = r"^[0-9]{1,9}(\.[0-9]{1,9}){0,3}$"
Version = Annotated[str, StringConstraints(pattern=VERSION_FORM)]
"""One to four numbers; compared number by number."""


class Updated(Record):
    """A step of an update: of the system, a policy or a set of models.

    Attributes:
        step: `offered` the signed metadata grants it to this device; `downloaded` its file is here, length and hash
            checked; `installed` it is in place (a system: in the other slot); `restarting` the device goes down for it;
            `arrived` it runs; `returned` the device came back without it; `refused` it, or the metadata, was not
            believed or not possible.
        what: what it is an update of; `metadata` where no file was reached.
        version, digest: of the file, SHA-256; None where none was reached.
        reason: why.
    """

    kind: Literal["update"] = "update"
    step: Literal["offered", "downloaded", "installed", "restarting", "arrived", "returned", "refused"]
    what: Literal["bundle", "policy", "models", "metadata"]
    version: Version | None = None
    digest: Sha256 | None = None
    reason: ReasonCode


class HealthChecked(Record):
    """The device examined itself, as it does before a new system counts as good.

    Attributes:
        software: version.
        passed: every check held.
        failed: the checks that did not.
        units: SHA-256 of each systemd unit of the device, with what changes it, as found on disk.
    """

    kind: Literal["health"] = "health"
    software: str
    passed: bool
    failed: tuple[ReasonCode, ...]
    units: dict[str, Sha256]

"""What the updater remembers from run to run: one small file, written whole or not at all.

A part that is not known is passed over: a newer system wrote it, and the device came back from that one. Were the file
no memory for it, the device would take that system again, and again.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from turnkey.leads.fields import Sha256
from turnkey.leads.upkeep import Version
from turnkey.update.installer import write_whole
from turnkey.update.release import Kind

MOST_RETURNED = 64


class Attempt(BaseModel):
    """A system that was, or was being, installed.

    Attributes:
        version, digest: of the bundle.
        boot: the boot during which it was (proc_sys_kernel(5), random/boot_id).
        installed: the installer was done with it.
        arrived: it has run.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Version
    digest: Sha256
    boot: str
    installed: bool = False
    arrived: bool = False


class UpdateState(BaseModel):
    """The whole of it.

    Attributes:
        attempt: the last system.
        placed: version of the policy and of the models that came as updates.
        returned: digests of what the device came back from, oldest first.
        offered: digest last put on the ledger as offered, so that a download of several runs is there once.
        refused: the last refusal put there, likewise.
        restart_for_models: the boot during which models were put in place; the next one reads them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: Attempt | None = None
    placed: dict[Kind, Version] = {}
    returned: tuple[Sha256, ...] = ()
    offered: str = ""
    refused: str = ""
    restart_for_models: str = ""

    def came_back(self, digest: str) -> UpdateState:
        """With one more file that is not to be taken again."""
        kept = (*(each for each in self.returned if each != digest), digest)[-MOST_RETURNED:]
        return self.model_copy(update={"attempt": None, "returned": kept})


class StateFile:
    """The file at `path`. One that cannot be read counts as empty: what failed here is then tried once more."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> UpdateState:
        """What it says."""
        try:
            return UpdateState.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return UpdateState()

    def write(self, state: UpdateState) -> None:
        """Replace it. Raises: OSError."""
        write_whole(self._path, state.model_dump_json(indent=1).encode())

"""What makes a card one device's: a folder that provisioning wrote, laid out on the data partition.

    device.toml                   settings; paths as on the device (see `WHERE`)
    authority.json, policy.json   signed documents
    secrets/signing.key           the notary's key      } encrypted on the device at first boot,
    secrets/encryption.key        the booth's key       } and then removed (/usr/lib/turnkey/seal-identity)
    secrets/mqtt.key              the connection's key  }
    secrets/gallery.key           optional: the device makes its own
    secrets/update.key            optional, with credstore/update.pem: for an update server that asks who is there
    credstore/mqtt.pem, ca.pem    the connection's certificate, and the CA it believes
    uplink-addresses, update-addresses, gpio-chip   optional: see the generator turnkey-site
    wired.network                 optional: a fixed address (systemd.network(5)); without it the device asks by DHCP

Rules kept here:
1. A folder that lacks something is refused, by name, before a card is made: a device in a booking room has no keyboard.
2. A folder that holds a latch or a ledger is refused: a card is never made from another one's history.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Final

from turnkey_image.programs import BuildError

WHERE: Final = "/var/lib/turnkey-site"
"""Where the folder's files are on the device; /etc/turnkey leads there."""

NEEDED: Final = (
    "device.toml",
    "authority.json",
    "policy.json",
    "secrets/signing.key",
    "secrets/encryption.key",
    "secrets/mqtt.key",
    "credstore/mqtt.pem",
    "credstore/ca.pem",
)
HISTORY: Final = ("latch", "ledger.db", "gallery.db", "outbox.db")


def lay_out(folder: Path | None, data: Path) -> None:
    """Make the tree of the data partition at `data`. Without a folder: a device that is nobody's, and starts nothing.

    Raises:
        BuildError: something is missing, or does not belong on a new card.
    """
    shutil.rmtree(data, ignore_errors=True)
    home = data / Path(WHERE).relative_to("/var")
    for each in (data / "lib", data / "log", data / "cache", data / "tmp", data / "lib/rauc", home):
        each.mkdir(parents=True, exist_ok=True)
    (data / "tmp").chmod(0o1777)
    if folder is None:
        return
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    history = [str(path.relative_to(folder)) for name in HISTORY for path in folder.rglob(name)]
    if missing:
        raise BuildError(f"{folder} is no device's identity: it lacks {', '.join(missing)}")
    if history:
        raise BuildError(f"{folder} holds {', '.join(history)}: a new card carries no history of another one")
    try:
        device = tomllib.loads((folder / "device.toml").read_text())["device_id"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise BuildError(f"{folder / 'device.toml'} does not name a device: {error}") from error
    if not isinstance(device, str):
        raise BuildError(f"{folder / 'device.toml'}: device_id is no text")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder)
            target = home / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            shutil.copyfile(path, target)
            target.chmod(0o600 if name.parts[0] == "secrets" else 0o644)
    (home / "secrets").chmod(0o700)

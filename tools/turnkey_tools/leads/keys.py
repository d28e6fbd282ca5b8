"""The public keys of the devices that a desk believes, out of a directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from turnkey.envelope import KeyFileError, PublicKey
from turnkey.uplink.topics import is_device_id


class KeysError(Exception):
    """The directory of device keys cannot be used; the message says which file."""


def device_keys(folder: Path) -> Mapping[str, PublicKey]:
    """Public keys by device id, from `ID.pub` files.

    Raises:
        KeysError: no such directory, no key in it, or a file that is not a key.
    """
    keys = {}
    for file in sorted(folder.glob("*.pub")):
        if not is_device_id(file.stem):
            raise KeysError(f"{file}: the file's name is not a device id")
        try:
            keys[file.stem] = PublicKey.from_pem(file.read_bytes())
        except KeyFileError as error:
            raise KeysError(f"{file}: {error}") from error
    if not keys:
        raise KeysError(f"{folder}: no device key (ID.pub) here, so no lead could be believed")
    return keys

"""The device's systemd units: what is on disk, what of it may not change, and what runs.

Rules kept here:
1. A unit is measured with everything that changes it: its file, and each drop-in of each directory that systemd reads
   (systemd.unit(5)), those for all `turnkey-` units and for all services as well.
2. A unit that is masked, or removed, measures differently from one that is there.
3. What stops recognition is guarded: it is what it was when the device first found itself good, or the system that
   changed it is not kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from jeepney import DBusAddress, DBusErrorResponse, new_method_call
from jeepney.io.blocking import open_dbus_connection
from jeepney.wrappers import unwrap_msg

DIRECTORIES = tuple(
    Path(each)
    for each in (
        "/etc/systemd/system.control",
        "/run/systemd/system.control",
        "/run/systemd/transient",
        "/run/systemd/generator.early",
        "/etc/systemd/system",
        "/etc/systemd/system.attached",
        "/run/systemd/system",
        "/run/systemd/system.attached",
        "/run/systemd/generator",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/run/systemd/generator.late",
    )
)
"""Where systemd looks; the first that has a unit wins (systemd.unit(5), "Unit File Load Path")."""

MORATORIUM = "moratorium.target"
INTERLOCK = "turnkey-interlock.service"
ALSO_GUARDED = (MORATORIUM, "turnkey-stopped.path", "turnkey-running.path")
SYSTEMD = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)


class UnitsUnknown(Exception):
    """systemd does not say what runs."""


def measure(directories: Iterable[Path] = DIRECTORIES) -> dict[str, str]:
    """SHA-256 (hexadecimal) of each of the device's units, by name."""
    places = [folder for folder in directories if folder.is_dir()]
    names = {path.name for folder in places for path in folder.iterdir() if _is_ours(path)}
    return {name: _measured(name, places) for name in sorted(names)}


def changed_guards(first: Mapping[str, str] | None, now: Mapping[str, str]) -> tuple[str, ...]:
    """Guarded units that are not what they were, or that are missing.

    Args:
        first: what the first good examination found; None where there was none: then it is enough that they are there.
        now: what is on disk.
    """
    missing = {name for name in (INTERLOCK, *ALSO_GUARDED) if name not in now}
    if first is None:
        return tuple(sorted(missing))
    guarded = {name for name in (*first, *now) if name.startswith("turnkey-interlock.") or name in ALSO_GUARDED}
    return tuple(sorted(missing | {name for name in guarded if first.get(name) != now.get(name)}))


def active_states(names: Iterable[str], bus: str = "SYSTEM") -> dict[str, str]:
    """What systemd says of units: `active`, `inactive`, `activating`, `failed`, ... Raises: UnitsUnknown."""
    wanted = list(names)
    try:
        with open_dbus_connection(bus) as connection:
            call = new_method_call(SYSTEMD, "ListUnitsByNames", "as", (wanted,))
            (units,) = unwrap_msg(connection.send_and_get_reply(call, timeout=25))
    except (OSError, EOFError, KeyError, ValueError, DBusErrorResponse) as error:
        raise UnitsUnknown(f"systemd does not answer: {error}") from error
    return {str(unit[0]): str(unit[3]) for unit in units}


def _is_ours(path: Path) -> bool:
    known = path.suffix in (".service", ".socket", ".path", ".timer", ".target")
    return known and (path.name.startswith("turnkey-") or path.name == MORATORIUM)


def _measured(name: str, places: list[Path]) -> str:
    digest = hashlib.sha256()
    file = next(folder / name for folder in places if os.path.lexists(folder / name))
    _add(digest, "unit", file)
    suffix = Path(name).suffix.removeprefix(".")
    folders = [f"{name}.d", f"{suffix}.d"]
    if name.startswith("turnkey-"):
        folders.append(f"turnkey-.{suffix}.d")
    for drop_in in sorted(
        (path for place in places for folder in folders for path in (place / folder).glob("*.conf")),
        key=lambda path: (path.parent.name, path.name, str(path)),
    ):
        _add(digest, f"{drop_in.parent.name}/{drop_in.name}", drop_in)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, label: str, path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        content = f"unreadable: {error.strerror}".encode()
    if path.is_symlink():
        content = b"link to " + str(path.readlink()).encode() + b"\n" + content
    for part in (label.encode(), content):
        digest.update(len(part).to_bytes(8) + part)

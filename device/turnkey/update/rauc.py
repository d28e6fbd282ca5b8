"""The real installer: RAUC's service over D-Bus (RAUC 1.8 and newer; rauc.readthedocs.io, "D-Bus API").

RAUC checks the bundle's own signature and its `compatible` a second time, as root; this process may only ask it to
(systemd/turnkey-rauc.conf names what it may ask).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, DBusErrorResponse, MatchRule, Properties, message_bus, new_method_call
from jeepney.io.blocking import DBusConnection, Proxy, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from turnkey.leads.upkeep import VERSION_FORM
from turnkey.update.bootloader import DEVICE_TREE, read_bootloader, refusal_of
from turnkey.update.installer import Progress, Slot, refuse_another
from turnkey.update.refusals import UpdateError, UpdateReason

SERVICE = DBusAddress("/", bus_name="de.pengutronix.rauc", interface="de.pengutronix.rauc.Installer")
ANSWER_TIMEOUT_S = 25.0
"""D-Bus's own default."""
LOOK_S = 1.0
"""How often RAUC is asked how far it is, beside its signal that it is done."""


class RaucInstaller:
    """Installs through RAUC's service.

    Args:
        release_file: os-release(5) of the running system; its IMAGE_VERSION is the version.
        bus: `SYSTEM`, or the address of another bus.
        most_s: the longest an installation may take.
        device_tree: where the board says what it is.
    """

    def __init__(
        self, release_file: Path, bus: str = "SYSTEM", most_s: float = 3000.0, device_tree: Path = DEVICE_TREE
    ) -> None:
        self._release_file = release_file
        self._bus = bus
        self._most_s = most_s
        self._device_tree = device_tree

    def running_version(self) -> str | None:
        """As the port's."""
        try:
            lines = self._release_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        version = values.get("IMAGE_VERSION", "").strip("\"'")
        return version if re.fullmatch(VERSION_FORM, version) else None

    def admit(self) -> None:
        """As the port's."""
        if (refusal := refusal_of(read_bootloader(self._device_tree))) is not None:
            raise UpdateError(refusal.reason, refusal.message)

    def install(self, bundle: Path, version: str, progress: Progress) -> None:
        """As the port's."""
        with self._connected() as connection:
            if self._property(connection, "Operation") != "idle":
                raise UpdateError(UpdateReason.BUSY, "RAUC is installing something already")
            refuse_another(bundle, self._version_of(bundle, connection), version)
            rule = MatchRule(type="signal", interface=SERVICE.interface, member="Completed", path=SERVICE.object_path)
            Proxy(message_bus, connection).AddMatch(rule)
            with connection.filter(rule) as completed:
                arguments = new_method_call(SERVICE, "InstallBundle", "sa{sv}", (str(bundle), {}))
                unwrap_msg(connection.send_and_get_reply(arguments, timeout=ANSWER_TIMEOUT_S))
                deadline_s = time.monotonic() + self._most_s
                while time.monotonic() < deadline_s:
                    try:
                        (result,) = connection.recv_until_filtered(completed, timeout=LOOK_S).body
                        break
                    except TimeoutError:
                        percent, doing, _depth = self._property(connection, "Progress")
                        progress(int(percent), str(doing))
                else:
                    raise UpdateError(UpdateReason.NOT_INSTALLED, f"RAUC is not done after {self._most_s:.0f} s")
            if result != 0:
                raise UpdateError(UpdateReason.NOT_INSTALLED, str(self._property(connection, "LastError")))
            progress(100, "done")

    def slots(self) -> tuple[Slot, ...]:
        """As the port's: the slots that a boot loader starts."""
        with self._connected() as connection:
            reply = connection.send_and_get_reply(new_method_call(SERVICE, "GetSlotStatus"), timeout=ANSWER_TIMEOUT_S)
            (found,) = unwrap_msg(reply)
        slots = ((name, {key: value for key, (_, value) in facts.items()}) for name, facts in sorted(found, key=_name))
        return tuple(_slot(name, facts) for name, facts in slots if facts.get("bootname"))

    def _version_of(self, bundle: Path, connection: DBusConnection) -> str:
        asked = new_method_call(SERVICE, "Info", "s", (str(bundle),))
        try:
            _compatible, version = unwrap_msg(connection.send_and_get_reply(asked, timeout=ANSWER_TIMEOUT_S))
        except DBusErrorResponse as error:
            why = "no bundle, or not signed for this device (journalctl -u rauc)"
            raise UpdateError(_reason(error), f"RAUC does not believe {bundle.name}: {why}") from error
        return str(version)

    def _property(self, connection: DBusConnection, name: str) -> Any:
        reply = connection.send_and_get_reply(Properties(SERVICE).get(name), timeout=ANSWER_TIMEOUT_S)
        ((_, value),) = unwrap_msg(reply)
        return value

    @contextmanager
    def _connected(self) -> Iterator[DBusConnection]:
        try:
            with open_dbus_connection(self._bus) as connection:
                yield connection
        except DBusErrorResponse as error:
            raise UpdateError(_reason(error), f"RAUC: {error}") from error
        except (OSError, EOFError, KeyError, ValueError) as error:
            raise UpdateError(UpdateReason.NO_INSTALLER, f"RAUC's service is not there: {error}") from error


def _reason(error: DBusErrorResponse) -> UpdateReason:
    absent = ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.AccessDenied")
    return UpdateReason.NO_INSTALLER if error.name in absent else UpdateReason.NOT_INSTALLED


def _name(slot: tuple[str, dict[str, Any]]) -> str:
    return slot[0]


def _slot(name: str, facts: dict[str, Any]) -> Slot:
    status = facts.get("boot-status")
    return Slot(
        name,
        booted=facts.get("state") == "booted",
        good=None if status is None else status == "good",
        version=facts.get("bundle.version"),
    )

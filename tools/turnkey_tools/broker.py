"""A broker on loopback for the demo and the tests: mosquitto where it is installed, else rumqttd out of a wheel.

| | mosquitto | rumqttd (`iotcore`, extra `broker`) |
|---|---|---|
| MQTT 5, TLS 1.3 to the broker | yes | yes |
| asks devices and desks for a certificate | yes | no: the wheel is built without it |
| access list | yes | no |
| keeps messages and sessions over a restart | yes | no |
| tells a publisher that nobody is subscribed | yes | no: it says success and drops the message |

So rumqttd shows the way of a lead, but not a site's security; `Broker.shortcomings` says that in words for the demo.

Rules kept here: loopback only; the broker ends with its context; only the process started here is ever signalled.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Final

from turnkey_tools.broker_config import mosquitto_conf, rumqttd_toml
from turnkey_tools.provision import Site

HOST: Final = "127.0.0.1"
_START_TIMEOUT_S: Final = 10.0
_STOP_TIMEOUT_S: Final = 10.0


class BrokerError(Exception):
    """No broker could be started; the message says what to install or what the broker said."""


class Kind(StrEnum):
    """Which broker."""

    MOSQUITTO = "mosquitto"
    RUMQTTD = "rumqttd"


def mosquitto_path() -> Path | None:
    """The mosquitto binary; Debian keeps it in /usr/sbin, which is not on everybody's PATH."""
    found = shutil.which(
        "mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    )
    return None if found is None else Path(found)


def available() -> list[Kind]:
    """The brokers that can be started here, the better one first."""
    kinds = [Kind.MOSQUITTO] if mosquitto_path() is not None else []
    return kinds + ([Kind.RUMQTTD] if importlib.util.find_spec("iotcore") is not None else [])


class Broker:
    """A broker for `site`, running between `start` and `stop` (or inside `with`).

    Args:
        site: gives the broker its certificate and its access list; its store and log are kept in the site's directory.
        kind: which broker; the best available one where absent.
        port: a free one where 0. It stays the same over a restart.

    Raises:
        BrokerError: there is no broker, or not this one.
    """

    def __init__(self, site: Site, kind: Kind | None = None, port: int = 0) -> None:
        kinds = available()
        if not kinds or (kind is not None and kind not in kinds):
            raise BrokerError(f"no {kind or 'broker'} here: `apt-get install mosquitto`, or `pip install iotcore`")
        self.kind = kind or kinds[0]
        self.host = HOST
        self.port = port or _free_port()
        self.log_file = site.root.resolve() / "broker" / f"{self.kind}.log"
        self._site = site
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """What this broker does not do, one sentence each, to be shown to a person."""
        if self.kind is Kind.MOSQUITTO:
            return ()
        return (
            "rumqttd does not ask for client certificates: anybody on this machine may publish and listen",
            "rumqttd has no access list and forgets its messages when it stops",
            "rumqttd accepts and drops what nobody is subscribed to: the lead desk must listen first",
        )

    @property
    def pid(self) -> int | None:
        """The running broker's process id."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return once it answers.

        Raises:
            BrokerError: it ended or did not answer in time; the message carries the end of its log.
        """
        if self.pid is not None:
            return
        command = self._command()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argument list
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.02)
        self.kill()
        raise BrokerError(f"{self.kind} did not start: {self.log()[-500:]}")

    def stop(self) -> None:
        """End it in good order: mosquitto writes its store."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would: whatever it did not save is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it in good order and start it again on the same port."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """Let mosquitto read its access list again."""
        if self._process is not None and self.kind is Kind.MOSQUITTO:
            self._process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """What the broker has written so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _answers(self) -> bool:
        """Whether it shakes hands. An open port is not enough: mosquitto listens before it handles signals."""
        context = ssl.create_default_context(cafile=str(self._site.ca))
        try:
            with (
                socket.create_connection((self.host, self.port), timeout=1.0) as tcp,
                context.wrap_socket(tcp, server_hostname=self.host),
            ):
                return True
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_TIMEOUT_S)

    def _command(self) -> list[str]:
        folder = self.log_file.parent
        if self.kind is Kind.MOSQUITTO:
            # The site's own mosquitto.conf is the pilot's; this one has our port, and our user, because a mosquitto
            # that root starts would become another user and could no longer read its key.
            user = pwd.getpwuid(os.geteuid()).pw_name
            file = folder / "loopback.conf"
            bridge = folder / "bridge.conf"
            text = mosquitto_conf(folder, self._site.ca.resolve(), self.port, self.host, user)
            file.write_text(text + (bridge.read_text() if bridge.exists() else ""))
            return [str(mosquitto_path()), "-c", str(file)]
        file = folder / "rumqttd.toml"
        file.write_text(rumqttd_toml(folder / "broker.pem", folder / "broker.key", self.port))
        return [sys.executable, "-m", "iotcore", "--config", str(file)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port

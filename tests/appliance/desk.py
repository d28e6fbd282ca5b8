"""IT's release desk of the tests' site: `turnkeyctl release`, and its files over HTTPS on this machine's loopback."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.appliance.machine import MachineError

from turnkey_tools.provision import Site
from turnkey_tools.release.serve import server

ROOT_HOLDERS = ("root-1", "root-2", "root-3")


class ReleaseDesk:
    """A TUF repository with its keys, in one folder.

    Args:
        folder: `keys/` and `repository/` are made in it where they are not there.
    """

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        self.repository = folder / "repository"
        if not self.repository.exists():
            self._begin()

    @property
    def first_root(self) -> Path:
        """The root that a card is provisioned with."""
        return self.repository / "published/metadata/1.root.json"

    def offer(self, bundle: Path, version: str, board: str) -> None:
        """Sign and publish a system for every device of the station. Raises: MachineError."""
        self._do("add", self.repository, bundle, "--kind", "bundle", "--version", version, "--board", board,
                 "--group", "station=100")  # fmt: skip
        self._sign("targets", "targets")
        self._publish()

    def renew(self) -> None:
        """Publish again, so that the timestamp is fresh."""
        self._publish()

    @contextmanager
    def served(self, site: Site, port: int) -> Iterator[None]:
        """The published files over HTTPS on loopback."""
        pair = site.broker
        web = server(self.repository / "published", ("127.0.0.1", port), pair.certificate, pair.key, None)
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            web.shutdown()
            web.server_close()
            thread.join(30)

    def _begin(self) -> None:
        self.keys.mkdir(parents=True)
        for name in (*ROOT_HOLDERS, "targets", "snapshot", "timestamp"):
            self._do("keys", self.keys / f"{name}.key")
        holders = [word for name in ROOT_HOLDERS for word in ("--root", self.keys / f"{name}.pub")]
        others = [
            word for name in ("targets", "snapshot", "timestamp") for word in (f"--{name}", self.keys / f"{name}.pub")
        ]
        self._do("init", self.repository, *holders, *others)
        for name in ROOT_HOLDERS[:2]:
            self._sign("root", name)
        self._sign("targets", "targets")
        self._publish()

    def _sign(self, role: str, key: str) -> None:
        self._do("sign", self.repository / f"draft/{role}.json", "--key", self.keys / f"{key}.key", "--yes")

    def _publish(self) -> None:
        self._do("publish", self.repository, "--snapshot-key", self.keys / "snapshot.key", "--timestamp-key",
                 self.keys / "timestamp.key")  # fmt: skip

    @staticmethod
    def _do(*words: str | Path) -> None:
        command = [Path(sys.executable).with_name("turnkeyctl"), "release", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MachineError(f"turnkeyctl release {words[0]}: {done.stderr[-1500:] or done.stdout[-1500:]}")

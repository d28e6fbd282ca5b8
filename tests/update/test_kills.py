"""The updater's own process killed in the middle of a download, again and again: what came is kept, and it ends whole.

`TURNKEY_UPDATE_KILLS=50 pytest -s tests/update/test_kills.py` for more of them.
"""

from __future__ import annotations

import os
import random
import ssl
import subprocess
import sys

from patience import wait_for
from update.test_road import Station, UpdateDesk, desk, recorded, system
from update.web import Web

from turnkey.update.installer import SimulatedInstaller

KILLS = int(os.environ.get("TURNKEY_UPDATE_KILLS", "2"))
SEED = 7
SIZE = 8 << 20
__all__ = ["desk", "recorded"]


def test_killed_at_random_moments_it_ends_with_the_whole_system_and_fetches_little_twice(
    recorded: Station, desk: UpdateDesk
) -> None:
    content = system("1.1") + os.urandom(SIZE)
    desk.offer(content, kind="bundle", version="1.1", board="rpi5")
    published = desk.folder / "repo" / "published"
    broker = recorded.pilot.site.broker
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(broker.certificate), str(broker.key))
    moments = random.Random(SEED)  # noqa: S311 - moments, not secrets
    partials = recorded.folder / "partials"

    def find(path: str) -> bytes | None:
        file = published / path.lstrip("/")
        return file.read_bytes() if file.is_file() else None

    def kept() -> int:
        return max((path.stat().st_size for path in partials.glob("*.part")), default=0)

    def poll(at: int | None) -> int:
        """Run the updater; kill it once so much of the file is on its disk."""
        command = [sys.executable, "-m", "turnkey.cli", "--config", str(recorded.pilot.settings_file), "update", "poll"]
        process = subprocess.Popen(command, env=os.environ | {"TURNKEY_UPDATE__SERVER": web.url})
        if at is not None:
            wait_for(lambda: kept() >= at)
            process.kill()
        return process.wait(timeout=300)

    with Web(find, context=context) as web:
        for _ in range(KILLS):
            assert poll(kept() + moments.randrange(65536, SIZE // (KILLS + 1))) == -9
            assert SimulatedInstaller(recorded.folder / "slots.json").slots()[1].version is None
        assert poll(None) == 0
    assert SimulatedInstaller(recorded.folder / "slots.json").slots()[1].version == "1.1"
    offsets = [int(asked[6:-1]) if asked else 0 for path, asked in web.asked if path.endswith(".raucb")]
    assert offsets == sorted(offsets), "what came before a kill is not fetched again"
    assert len(offsets) == KILLS + 1
    assert all(offset > 0 for offset in offsets[1:])
    assert list(partials.iterdir()) == []
    assert [step["step"] for step in recorded.ledger()] == ["offered", "downloaded", "installed", "restarting"]
    print(f"{KILLS} kills; {len(content)} bytes; each run began at {offsets}")

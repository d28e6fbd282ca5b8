"""Where `turnkey` begins on a device: a unit's process reads its own rooms, a person's command everything.

At power-on a board starts four of these processes at once. Reading the whole program takes each of them seconds there,
and the memory of a camera, models and a gallery that it has no business with.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the image's and the package's /usr/bin/turnkey; the same commands as `turnkey.cli`."""
    match sys.argv[1:2]:
        case ["run"]:
            from turnkey.commands.process import process_app

            process_app(sys.argv[2:], prog_name="turnkey run")
        case ["uplink"]:
            from turnkey.commands.uplink import uplink_app

            uplink_app(sys.argv[2:], prog_name="turnkey uplink")
        case _:
            from turnkey.cli import app

            app()

"""`turnkey uplink`: the process that alone has a network."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from turnkey.commands.settled import chosen_settings, fail
from turnkey.database import StorageError
from turnkey.uplink.mqtt import Uplink
from turnkey.uplink.outbox import Outbox
from turnkey.uplink_process import uplink_settings

uplink_app = typer.Typer(pretty_exceptions_enable=False)


@uplink_app.command()
def uplink(
    flush: Annotated[float, typer.Option(help="Send what waits, for at most so many seconds, and end; 0: run.")] = 0.0,
) -> None:
    """Send signed leads to the broker. Runs until interrupted."""
    settings = chosen_settings()
    try:
        with Outbox(settings.outbox_file) as outbox:
            sender = Uplink(outbox, uplink_settings(settings))
            if not flush:
                sender.run(threading.Event())
            elif not sender.flush(flush):
                fail(f"{outbox.depth()} message(s) still wait ({sender.status.reason}): {sender.status.detail}")
    except StorageError as error:
        fail(f"refused ({error.reason}): {error}")
    except KeyboardInterrupt:
        raise typer.Exit(0) from None

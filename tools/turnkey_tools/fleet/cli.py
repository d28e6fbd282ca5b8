"""`turnkeyctl fleet`: collects what waits at the broker, then shows how every device stands."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from turnkey.database import StorageError
from turnkey_tools.fleet import view
from turnkey_tools.fleet.health import BACKLOG_LEADS, STALE_S, Health, Level, Limits, health, worst
from turnkey_tools.fleet.store import Store
from turnkey_tools.fleet.subscription import Subscription
from turnkey_tools.leads.keys import KeysError, device_keys
from turnkey_tools.provision import Site

_QUIET_S = 0.5


def fleet(
    site: Annotated[Path, typer.Option(help="a site made by `turnkeyctl provision`")],
    host: Annotated[str, typer.Option(help="the broker")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="the broker's port")] = 8883,
    wait: Annotated[float, typer.Option(help="at most so many seconds at the broker; 0: show what is known")] = 10.0,
    stale: Annotated[float, typer.Option(help="a device silent for longer is UNKNOWN, seconds")] = STALE_S,
    backlog: Annotated[int, typer.Option(help="more waiting leads are a warning")] = BACKLOG_LEADS,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    prometheus: Annotated[bool, typer.Option("--prometheus", help="Prometheus text exposition")] = False,
) -> None:
    """Show each device's state, software, backlog, last heartbeat and switch channels, from its attestations.

    Run it from a timer: what is said in between waits at the broker. Exit code, as monitoring plugins have it: 0 all
    well, 1 warning, 2 critical, 3 unknown (a device is silent, or the broker cannot be reached).
    """
    place, note = Site(site), Console(stderr=True)
    try:
        keys = device_keys(place.fleet_device_keys)
        with Store(site / "fleet" / "fleet.db") as store:
            reached = True
            if wait:
                with Subscription(place.fleet, host, port, keys, store) as subscription:
                    reached = _collect(subscription, wait)
                    if not reached:
                        trouble = subscription.trouble
                        said = f"{trouble.reason}: {trouble.detail}" if trouble else "no answer in time"
                        note.print(f"not listening: {said}", markup=False)
            devices = survey(store, keys, datetime.now(UTC), Limits(stale, backlog))
    except (KeysError, StorageError, OSError) as error:
        note.print(f"refused: {error}", markup=False)
        raise typer.Exit(Level.UNKNOWN) from error
    level = worst([one.level for one in devices] + ([] if reached else [Level.UNKNOWN]))
    if prometheus:
        typer.echo(view.prometheus(devices), nl=False)
    elif as_json:
        typer.echo(view.as_json(devices, level))
    else:
        Console().print(view.table(devices))
    raise typer.Exit(level)


def survey(store: Store, device_ids: Iterable[str], now: datetime, limits: Limits) -> list[Health]:
    """How each device stands by what the store knows."""
    return [
        health(
            device_id,
            store.newest(device_id),
            store.newest(device_id, ("switch", "heartbeat")),
            store.newest(device_id, ("heartbeat",)),
            store.refusals(device_id),
            now,
            limits,
            store.is_lost(device_id),
            store.newest(device_id, ("update",)),
        )
        for device_id in sorted(device_ids)
    ]


def _collect(subscription: Subscription, wait_s: float) -> bool:
    """Take what waits, until nothing came for a moment. False where the broker did not let us listen."""
    until_s = time.monotonic() + wait_s
    if not subscription.listening(wait_s):
        return False
    while time.monotonic() < until_s and subscription.next(_QUIET_S) is not None:
        pass
    return True

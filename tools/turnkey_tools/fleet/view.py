"""The fleet as a table, as JSON and as Prometheus text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from rich.table import Table
from rich.text import Text

from turnkey_tools.fleet.health import Health, Level

_COLOURS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red", Level.UNKNOWN: "magenta"}
_STATES: Final = ("RUNNING", "MORATORIUM", "FAULT", "BOOTING", "UNKNOWN")


def table(fleet: Sequence[Health]) -> Table:
    """For a terminal."""
    rows = Table(
        "Device", "", "State", "Key A / B", "Camera", "Software", "Update", "Leads waiting", "Last word", "Why"
    )
    for one in fleet:
        state = one.state if one.state != "UNKNOWN" or not one.last_state else f"UNKNOWN (was {one.last_state})"
        rows.add_row(
            one.device_id,
            Text(one.level.name, style=_COLOURS[one.level]),
            state,
            f"{_contact(one.channel_a)} / {_contact(one.channel_b)}",
            {True: "powered", False: "off", None: "-"}[one.relay_closed],
            Text(one.software or "-"),
            Text(one.update or "-"),
            "-" if one.leads_waiting is None else str(one.leads_waiting),
            "never" if one.age_s is None else f"{one.age_s:.0f} s ago",
            Text(one.why),
        )
    return rows


def as_json(fleet: Sequence[Health], level: Level) -> str:
    """One object, for machines."""
    devices = [{**asdict(one), "level": one.level.name} for one in fleet]
    return json.dumps({"level": level.name, "devices": devices}, default=str, indent=2)


def prometheus(fleet: Sequence[Health]) -> str:
    """Text exposition format 0.0.4. A figure that was never attested is left out, not zero."""
    lines: list[str] = []

    def metric(name: str, text: str, samples: list[tuple[str, float]]) -> None:
        lines.append(f"# HELP turnkey_{name} {text}")
        lines.append(f"# TYPE turnkey_{name} gauge")
        lines.extend(f"turnkey_{name}{{{labels}}} {value:g}" for labels, value in samples)

    def device(one: Health) -> str:
        return f'device="{one.device_id}"'

    metric("level", "0 ok, 1 warning, 2 critical, 3 unknown", [(device(one), one.level) for one in fleet])
    states = [(f'{device(one)},state="{state}"', float(one.state == state)) for one in fleet for state in _STATES]
    metric("state", "1 for the interlock's present state", states)
    channels = [
        (f'{device(one)},channel="{name}"', float(closed))
        for one in fleet
        for name, closed in (("a", one.channel_a), ("b", one.channel_b))
        if closed is not None
    ]
    metric("switch_closed", "1 where the key switch's contact is closed", channels)
    waiting = [(device(one), float(one.leads_waiting)) for one in fleet if one.leads_waiting is not None]
    metric("leads_waiting", "signed leads that the broker has not taken", waiting)
    seen = [(device(one), one.seen_at.timestamp()) for one in fleet if one.seen_at is not None]
    lines += ["# HELP turnkey_last_attestation_timestamp_seconds when the newest attestation was signed"]
    lines += ["# TYPE turnkey_last_attestation_timestamp_seconds gauge"]
    lines += [f"turnkey_last_attestation_timestamp_seconds{{{labels}}} {value:.3f}" for labels, value in seen]
    places = [(device(one), float(one.index + 1)) for one in fleet if one.index is not None]
    metric("ledger_entries", "entries on the ledger at the newest attestation", places)
    return "\n".join(lines) + "\n"


def _contact(closed: bool | None) -> str:
    return {True: "closed", False: "open", None: "-"}[closed]

"""How a device stands, for whoever is on call: a function of its newest attestations and the time.

The levels and exit codes are those of the monitoring plugins (Nagios and its successors): OK 0, WARNING 1, CRITICAL 2,
UNKNOWN 3. The rules, in the order in which the first that holds decides:
1. Something signed by the device contradicts itself (a fork): CRITICAL.
2. Never heard, silent for longer than `stale_s`, or its connection lost by the broker's word: UNKNOWN. Silence is never
   taken for "stopped".
3. FAULT, or channels that disagree: CRITICAL.
4. Messages under its topic that it did not sign, a policy that is not in force, a backlog: WARNING.
5. Else OK. A moratorium is OK: it is what somebody decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from turnkey.leads.records import Attestation, Boot, Heartbeat, SwitchChanged, Updated
from turnkey_tools.fleet.judge import Reason

STALE_S: Final = 200.0  # three heartbeats of 60 s and a little
BACKLOG_LEADS: Final = 20


class Level(IntEnum):
    """The value is the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_SEVERITY: Final = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)


@dataclass(frozen=True, slots=True)
class Limits:
    """When to worry: seconds of silence, leads waiting."""

    stale_s: float = STALE_S
    backlog_leads: int = BACKLOG_LEADS


@dataclass(frozen=True, slots=True)
class Health:
    """One device as it stands. What was never attested is None.

    Attributes:
        state: of the interlock, `UNKNOWN` where the device is silent.
        last_state: what it last attested.
        seen_at, age_s: when it signed its newest attestation, and how long ago that was.
        index, ledger_root: the newest checkpoint.
        update: the last step of an update, in words.
    """

    device_id: str
    level: Level
    why: str
    state: str
    last_state: str | None
    reason: str | None
    channel_a: bool | None
    channel_b: bool | None
    relay_closed: bool | None
    software: str | None
    policy: str | None
    leads_waiting: int | None
    seen_at: datetime | None
    age_s: float | None
    index: int | None
    ledger_root: str | None
    update: str | None


def worst(levels: list[Level]) -> Level:
    """The level of a fleet; UNKNOWN for one without devices."""
    return max(levels, key=_SEVERITY.index, default=Level.UNKNOWN)


def health(
    device_id: str,
    newest: Attestation | None,
    standing: Attestation | None,
    beat: Attestation | None,
    refusals: Mapping[str, int],
    now: datetime,
    limits: Limits,
    lost: bool = False,
    update: Attestation | None = None,
) -> Health:
    """How a device stands.

    Args:
        newest: its newest attestation of any kind.
        standing: its newest that tells the state: change of state or heartbeat.
        beat: its newest heartbeat.
        refusals: messages under its topic that were refused, by reason.
        lost: the broker says that its connection ended, and nothing came since.
        update: its newest that tells a step of an update.
    """
    state = standing.event if standing is not None and isinstance(standing.event, SwitchChanged | Heartbeat) else None
    pulse = beat.event if beat is not None and isinstance(beat.event, Heartbeat) else None
    software = newest.event.software if newest is not None and isinstance(newest.event, Boot) else None
    age_s = (now - newest.at).total_seconds() if newest is not None else None
    level, why = _judged(state, pulse, age_s, refusals, limits, lost)
    silent = lost or age_s is None or age_s > limits.stale_s
    return Health(
        device_id=device_id,
        level=level,
        why=why,
        state="UNKNOWN" if silent or state is None else state.state,
        last_state=state.state if state else None,
        reason=state.reason if state else None,
        channel_a=state.channel_a if state else None,
        channel_b=state.channel_b if state else None,
        relay_closed=pulse.relay_closed if pulse else None,
        software=software or (pulse.software if pulse else None),
        policy=pulse.policy if pulse else None,
        leads_waiting=pulse.leads_waiting if pulse else None,
        seen_at=newest.at if newest else None,
        age_s=age_s,
        index=newest.index if newest else None,
        ledger_root=newest.ledger_root if newest else None,
        update=_words(update.event) if update is not None and isinstance(update.event, Updated) else None,
    )


def _words(step: Updated) -> str:
    said = " ".join(word for word in (step.what, step.version, step.step) if word)
    return f"{said}: {step.reason}" if step.step in ("refused", "returned") else said


def _judged(
    state: SwitchChanged | Heartbeat | None,
    pulse: Heartbeat | None,
    age_s: float | None,
    refusals: Mapping[str, int],
    limits: Limits,
    lost: bool,
) -> tuple[Level, str]:
    if refusals.get(Reason.FORK):
        return Level.CRITICAL, "it signed two histories: take it out of service and keep it as it is"
    if age_s is None or state is None:
        return Level.UNKNOWN, "never heard"
    if lost:
        return Level.UNKNOWN, "the broker has lost its connection"
    if age_s > limits.stale_s:
        return Level.UNKNOWN, f"silent for {age_s:.0f} s"
    if state.state == "FAULT":
        return Level.CRITICAL, f"fault: {state.reason}"
    if state.channel_a != state.channel_b:
        return Level.CRITICAL, "the switch's two channels disagree"
    if refusals:
        return Level.WARNING, "messages under its topic that are not its own: " + ", ".join(sorted(refusals))
    if pulse is not None and pulse.policy != "in-force":
        return Level.WARNING, f"policy: {pulse.policy}"
    if pulse is not None and pulse.leads_waiting > limits.backlog_leads:
        return Level.WARNING, f"{pulse.leads_waiting} leads wait to be sent"
    return Level.OK, state.reason

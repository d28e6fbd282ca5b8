"""Every limit and wire of the interlock, named and with its unit.

Rules kept here:
1. Nothing electrical is guessed: a device with real lines names each of them, a device without says `simulated`.
2. A time is an integer of milliseconds (`_ms`) or seconds (`_s`), with the reason for its size beside it.
3. A combination that could not be safe (a lease shorter than its renewal) is refused when it is read, not when it
   fails.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GpioLines(BaseModel):
    """The lines of the wiring drawing (systemd/WIRING.md), by chip and line name or offset.

    Attributes:
        chip: device node of the GPIO chip.
        channel_a: input, active where contact A of the key switch is closed.
        channel_b: input, active where contact B is closed.
        relay_feedback: input, energised through the camera-supply relay's force-guided normally-closed contact, so
            while the supply is off: only that contact cannot close while a working contact is welded (IEC 61810-3).
        pulse_a: output that feeds contact A; switched off for a moment to prove that the contact has a feed of its own.
        pulse_b: output that feeds contact B.
        lamp: output, on while recognition is permitted.
        inputs_active_low: an energised opto-coupler pulls its line low, so that a wire cut behind it reads as open too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chip: Path
    channel_a: int | str
    channel_b: int | str
    relay_feedback: int | str
    pulse_a: int | str
    pulse_b: int | str
    lamp: int | str
    inputs_active_low: bool = True

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        lines = (self.channel_a, self.channel_b, self.relay_feedback, self.pulse_a, self.pulse_b, self.lamp)
        if len(set(lines)) != len(lines):
            raise ValueError("each line of the interlock is a wire of its own: two settings name the same one")
        return self


class SocketSettings(BaseModel):
    """Where the daemon gives out leases, and to whom; a user that is not named is turned away.

    Attributes:
        path: the socket.
        booth_user: gets leases with the gallery key.
        notary_user: gets leases without it.
        operator_user: may ask for the status, and apply orders.
        interlock_user: may put transitions on the ledger.
        notary: the notary's socket, where transitions are witnessed and records submitted.
        booth: the booth's socket, where bookings are asked for.
        markers: directory in which `running` or `stopped` exists, for systemd's path units.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Path("/run/turnkey-interlock/socket")
    booth_user: str = "turnkey-booth"
    notary_user: str = "turnkey-notary"
    operator_user: str = "root"
    interlock_user: str = "turnkey-interlock"
    notary: Path = Path("/run/turnkey-notary/socket")
    booth: Path = Path("/run/turnkey-booth/socket")
    markers: Path = Path("/run/turnkey-interlock")


class InterlockSettings(BaseModel):
    """What the interlock is told; the defaults are the design's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: Literal["simulated", "gpio"] = "simulated"
    socket: SocketSettings = SocketSettings()
    lines: GpioLines | None = Field(default=None, description="Needed with the adapter `gpio`.")
    poll_ms: int = Field(default=20, ge=1, le=100, description="Polling behind the edge events, should one be lost.")
    closing_stable_ms: int = Field(default=1000, ge=100, description="A key being turned bounces; opening never waits.")
    disagreement_ms: int = Field(default=100, ge=10, description="Two contacts of one key part by milliseconds.")
    relay_settle_ms: int = Field(default=250, ge=20, description="A relay takes 10 to 50 ms; the rest is margin.")
    pulse_every_ms: int = Field(default=1000, ge=100, description="How often the feeds of the contacts are proved.")
    pulse_width_ms: int = Field(default=3, ge=1, le=20, description="Ten times an opto-coupler's switching time.")
    lease_renewal_ms: int = Field(default=200, ge=10)
    lease_validity_ms: int = Field(default=1000, ge=50, le=5000)
    drain_ms: int = Field(default=250, ge=0, le=1000, description="How long a stop waits for a commit under way.")
    clock_not_before: datetime = Field(
        default=datetime(2026, 1, 1, tzinfo=UTC), description="A clock before this was never set."
    )
    clock_tolerance_s: int = Field(default=300, ge=0, description="How far a corrected clock may step back.")
    clock_mark_s: int = Field(default=3600, ge=60, description="How often the latest time seen goes into the latch.")
    order_window_days: int = Field(default=92, ge=1, description="The longest time an order may be good for.")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.adapter == "gpio" and self.lines is None:
            raise ValueError("the adapter `gpio` needs `lines`: they are never guessed")
        if self.lease_validity_ms < 2 * self.lease_renewal_ms:
            raise ValueError("a lease must outlast at least one renewal that came late")
        return self

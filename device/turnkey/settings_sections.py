"""The sections of the settings tree, one for each part of the device; `turnkey.settings` puts them together.

The rules of that file hold here too. What these sections say is read from it, so that there is one place to import.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GpioLines(Section):
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


class SocketSettings(Section):
    """Where the daemon gives out leases, and to whom; a user that is not named is turned away.

    Attributes:
        path: the socket.
        booth_user: gets leases with the gallery key.
        notary_user: gets leases without it.
        operator_user: may ask for the status, and apply orders.
        interlock_user: may put transitions on the ledger.
        update_user: may put the steps of an update on the ledger.
        console_user: may ask for the status, book, look, and note that a booking has no picture.
        notary: the notary's socket, where transitions are witnessed and records submitted.
        booth: the booth's socket, where bookings are asked for.
        booth_state, interlock_state, notary_state: their state directories, for what an operator does there himself.
        markers: directory in which `running` or `stopped` exists, for systemd's path units.
    """

    path: Path = Path("/run/turnkey-interlock/socket")
    booth_user: str = "turnkey-booth"
    notary_user: str = "turnkey-notary"
    operator_user: str = "root"
    interlock_user: str = "turnkey-interlock"
    update_user: str = "turnkey-update"
    console_user: str = "turnkey-console"
    notary: Path = Path("/run/turnkey-notary/socket")
    booth: Path = Path("/run/turnkey-booth/socket")
    booth_state: Path = Path("/var/lib/turnkey-booth")
    interlock_state: Path = Path("/var/lib/turnkey-interlock")
    notary_state: Path = Path("/var/lib/turnkey-notary")
    markers: Path = Path("/run/turnkey-interlock")


class InterlockSettings(Section):
    """What the interlock is told; the defaults are the design's."""

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
    compare_s: int = Field(default=3600, ge=1, description="How often the latch is held to the ledger and to its file.")
    order_window_days: int = Field(default=92, ge=1, description="The longest time an order may be good for.")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.adapter == "gpio" and self.lines is None:
            raise ValueError("the adapter `gpio` needs `lines`: they are never guessed")
        if self.lease_validity_ms < 2 * self.lease_renewal_ms:
            raise ValueError("a lease must outlast at least one renewal that came late")
        return self


class CameraSettings(Section):
    """Where pictures come from.

    Attributes:
        adapter: `folder` plays the pictures of a directory, `picamera2` is the Pi's connector, `gstreamer` all else.
        folder: that directory.
        repeat: start again after the last picture.
        number: which camera of picamera2's.
        still_px: width and height of its stills; the sensor's own where it is not given.
        pipeline: GStreamer's, from a source to raw video.
        timeout_s: longest wait for a frame; a camera that delivers none is opened anew, once for each press.
        frozen_after: so many equal frames in a row are a camera that hangs; None where a still is played on purpose.
        burst: frames taken at one press of the shutter, at most; the good ones are fused into one probe.
    """

    adapter: Literal["folder", "picamera2", "gstreamer"] = "folder"
    folder: Path = Path("pictures")
    repeat: bool = False
    number: Annotated[int, Field(ge=0)] = 0
    still_px: tuple[Annotated[int, Field(ge=64)], Annotated[int, Field(ge=64)]] | None = None
    pipeline: str = ""
    timeout_s: Annotated[float, Field(gt=0, le=30)] = 1.0
    frozen_after: Annotated[int, Field(ge=2)] | None = 10
    burst: Annotated[int, Field(ge=1, le=10)] = 5

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.adapter == "gstreamer" and not self.pipeline:
            raise ValueError("the adapter `gstreamer` needs a `pipeline`: no camera is guessed")
        if self.adapter == "folder" and "folder" not in self.model_fields_set:
            raise ValueError("the adapter `folder` needs a `folder`")
        return self


class BrokerSettings(Section):
    """The one broker the uplink talks to, over mutual TLS 1.3.

    Attributes:
        host, port: its address; `host` is also the name its certificate must carry.
        ca: the CA that issued the broker's certificate, PEM. No other is believed.
        certificate, key: the device's own pair, PEM.
        settle_s: unbroken seconds between the broker's acknowledgement and a lead's removal; above the broker's
            autosave interval.
    """

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    ca: Path
    certificate: Path
    key: Path
    settle_s: Annotated[float, Field(ge=0, le=600)] = 15.0


class AttestationSettings(Section):
    """What the device says of itself: boots, changes of state, heartbeats. It is always on the ledger.

    Attributes:
        publish: also publish it, signed, for IT and for witnesses.
        heartbeat_s: seconds between heartbeats.
        most_waiting: with so many messages waiting no further attestation is queued: an outage of weeks must not let
            heartbeats take the room of leads.
    """

    publish: bool = True
    heartbeat_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    most_waiting: Annotated[int, Field(ge=1)] = 20_000


class GallerySettings(Section):
    """How the gallery is searched, and what its memory must be.

    Attributes:
        scan_budget_ms: where a scan of a partition takes longer, a graph that was built before stands in for it, and
            every result says so; None: always scan.
        require_locked_memory: refuse to run where templates in memory could reach a swap device.
    """

    scan_budget_ms: Annotated[float, Field(gt=0)] | None = None
    require_locked_memory: bool = True


class UpdateSettings(Section):
    """Where updates come from, and for whom.

    Attributes:
        server: https address under which `metadata/` and `targets/` are; None: only sticks.
        root: the TUF root that trust begins at; None: this device takes no updates.
        ca, certificate, key: the CA that issued the server's certificate, and this device's pair where the server
            wants one; PEM. Without `ca` nothing is fetched from the server.
        folder: trusted metadata, files on their way, memory.
        group: whose roll-outs are this device's.
        board: which bundles fit: RAUC's `compatible`.
        installer: `rauc`, or `simulated` on a machine without slots.
        release_file: os-release(5) whose IMAGE_VERSION is the running system's.
        models: directory of model sets that come as updates; None: they come with the system.
        restart_marker: made where the device is to restart; systemd's path unit waits for it.
        quiet_s: seconds without a picture after which no booking is open.
        most_bytes_per_s: what an update takes of the line.
    """

    server: Annotated[str, Field(pattern=r"^https://[^\s?#]+$")] | None = None
    root: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    group: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "station"
    board: str = "turnkey"
    installer: Literal["rauc", "simulated"] = "rauc"
    release_file: Path = Path("/etc/os-release")
    models: Path | None = None
    restart_marker: Path = Path("/run/turnkey-update/restart")
    quiet_s: Annotated[float, Field(ge=0, le=86400)] = 600.0
    most_bytes_per_s: Annotated[int, Field(ge=16384)] = 4 << 20
    folder: Path = Path("/var/lib/turnkey-update")


class ConsoleSettings(Section):
    """The console, on loopback, for this machine's own browser; `officers` is written by `turnkey officer`, as root."""

    officers: Path = Path("/etc/turnkey/officers.json")
    port: Annotated[int, Field(ge=0, le=65535)] = 8180
    idle_lock_min: float = Field(default=10.0, gt=0, le=30, description="Untouched so long, it asks for the PIN again.")
    abandoned_s: float = Field(default=15.0, ge=2, le=120, description="A browser silent so long may be replaced.")

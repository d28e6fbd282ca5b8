"""What the stages share: the card under test, the machine it runs in, the broker and the keys on this side."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.appliance.desk import ReleaseDesk
from tests.appliance.machine import COMMAND_S, Answer, Machine, MachineError

from turnkey.envelope import SigningKey
from turnkey.interlock.orders import RELEASE_TYPE, ReleaseRequest, make_release_order
from turnkey_tools.authority import sign_with
from turnkey_tools.broker import Broker
from turnkey_tools.provision import Site

KEY = "/sys/devices/platform/key-wires/key"
INTERLOCK = "/usr/lib/turnkey-test/interlock"
"""The test overlay's question to the interlock: what `turnkey status` says, without a minute of starting Python."""
SETTLE_S = 3600.0
"""Until the units have come to what was asked of them."""


class NotTried(Exception):
    """A stage cannot be tried here; the message says why."""


@dataclass(frozen=True)
class Prepared:
    """What `card.prepare` made.

    Attributes:
        out: folder of everything.
        card: the card under test; it lives through the stages.
        site: the site, with its desks' and its broker's identities.
        keys: folder with the release role's keys.
        ports: of the broker and of the update server, on loopback.
        stick: image of a stick with bundles on it, where one was asked for.
        built: the report of image-build, and the commit that it was built from.
    """

    out: Path
    card: Path
    site: Site
    keys: Path
    ports: tuple[int, int]
    stick: Path
    built: dict[str, object]


@dataclass
class Run:
    """One run of stages."""

    prepared: Prepared
    cuts: int
    seed: int
    _machine: Machine | None = None
    _ends: ExitStack = field(default_factory=ExitStack)
    _broker: Broker | None = None
    _desk: ReleaseDesk | None = None

    @property
    def machine(self) -> Machine:
        """The running machine; it is switched on where it is off, and has answered."""
        if self._machine is None:
            machine = self.new_machine()
            machine.power_on()
            machine.ready()
            return machine
        return self._machine

    def new_machine(self) -> Machine:
        """A machine with the card under test, and the stick where one was made, switched off."""
        assert self._machine is None, "a machine is on"
        kept = self.prepared.stick
        sticks = (kept,) if kept.exists() else ()
        self._machine = Machine(self.prepared.card, self.prepared.out / "serial.log", sticks)
        return self._machine

    @property
    def desk(self) -> ReleaseDesk:
        """IT's release desk; its files are served on loopback from now on."""
        if self._desk is None:
            self._desk = ReleaseDesk(self.prepared.out / "desk")
            self._ends.enter_context(self._desk.served(self.prepared.site, self.prepared.ports[1]))
        return self._desk

    @property
    def broker(self) -> Broker:
        """The site's broker on loopback, started where it was not."""
        if self._broker is None:
            self._broker = self._ends.enter_context(Broker(self.prepared.site, port=self.prepared.ports[0]))
        return self._broker

    def turnkey(self, words: str, timeout_s: float = COMMAND_S) -> Answer:
        """Run the device's command line in the guest, as root."""
        return self.machine.run(f"/usr/bin/turnkey {words}", timeout_s)

    def state(self) -> str:
        """What the interlock says recognition is. Raises: MachineError."""
        state: str = json.loads(self.machine.must(INTERLOCK))["state"]
        return state.upper()

    def until_state(self, wanted: str, within_s: float = SETTLE_S) -> None:
        """Wait for a state. Raises: MachineError."""
        self.machine.until(INTERLOCK, rf'(?i)"state": *"{wanted}"', within_s)

    def until_key(self, closed: bool) -> None:
        """Wait until the interlock has seen the key. Raises: MachineError."""
        self.machine.until(INTERLOCK, rf'"key_closed": *{str(closed).lower()}', SETTLE_S)

    def turn_key(self, on: bool) -> None:
        """Turn the key on its simulated wires."""
        self.machine.must(f"echo {int(on)} > {KEY}")

    def guest_clock(self) -> datetime:
        """The guest's time of day, which falls behind this machine's where this is busy. Raises: MachineError."""
        return datetime.fromtimestamp(int(self.machine.must("date +%s")), UTC)

    def release(self) -> str:
        """Have two of three sign a release order for the device as it stands, and apply it. Raises: MachineError."""
        asked = self.turnkey("order request")
        if asked.rc:
            raise MachineError(f"turnkey order request: {asked.out[-1500:]}")
        order = self.prepared.out / "release.json"
        order.write_bytes(self.signed_release(asked.out.strip().splitlines()[-1]))
        self.machine.put(order, "/run/release.json")
        applied = self.turnkey("order apply /run/release.json")
        if applied.rc:
            raise MachineError(f"turnkey order apply: {applied.out[-1500:]}")
        return applied.out.strip()

    def signed_release(self, asked: str) -> bytes:
        """A release order for what a device asked (JSON), signed by two of three."""
        request = ReleaseRequest.model_validate_json(asked)
        keys = [SigningKey.from_pem((self.prepared.keys / f"release-{n}.key").read_bytes()) for n in (1, 2)]
        payload = make_release_order(request, "release", now=self.guest_clock(), grounds="test of the appliance")
        return sign_with(RELEASE_TYPE, payload, keys)

    def keep_journal(self, stage: str) -> None:
        """Put the guest's journal beside the logs, for whoever asks why a stage failed."""
        if self._machine is None:
            return
        with suppress(MachineError):
            said = self._machine.run("journalctl -b --no-pager -o short-monotonic | tail -n 3000", 60)
            (self.prepared.out / f"journal-{stage}.log").write_text(said.out)

    def power_off(self) -> None:
        """Leave the card with the power off."""
        if self._machine is not None:
            self._machine.power_off()
            self._machine = None

    def cut_power(self) -> None:
        """Take the power away."""
        if self._machine is not None:
            self._machine.cut_power()
            self._machine = None

    def close(self) -> None:
        """End everything that was started here."""
        self.cut_power()
        self._ends.close()

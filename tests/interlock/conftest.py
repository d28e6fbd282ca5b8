"""A device on a bench: real interlock, latch on disk, signed orders, simulated switch; the test turns the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from turnkey.envelope import SigningKey, cosign, sign
from turnkey.interlock.authority import Authority, Holder, Role
from turnkey.interlock.interlock import Interlock, Transition
from turnkey.interlock.latch import Disk, Latch
from turnkey.interlock.orders import (
    MORATORIUM_TYPE,
    RELEASE_TYPE,
    OrderAccepted,
    OrderRefused,
    make_moratorium_order,
    make_release_order,
)
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.settings import InterlockSettings

DEVICE = "bench-1"
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GALLERY_KEY = bytes(range(32))


@dataclass
class Clock:
    """Both clocks of the bench; they move only when told."""

    monotonic: int = 1_000_000_000
    utc: datetime = NOON

    def monotonic_ns(self) -> int:
        return self.monotonic

    def utc_now(self) -> datetime:
        return self.utc

    def pass_ms(self, ms: int) -> None:
        self.monotonic += ms * 1_000_000
        self.utc += timedelta(milliseconds=ms)


@dataclass(frozen=True)
class Keyring:
    """Keys of everybody: chief 1 of 1, council 10 of 15, release 2 of 3, root 2 of 3."""

    chief: tuple[SigningKey, ...]
    council: tuple[SigningKey, ...]
    release: tuple[SigningKey, ...]
    root: tuple[SigningKey, ...]

    @classmethod
    def generate(cls) -> Keyring:
        return cls(*(tuple(SigningKey.generate() for _ in range(count)) for count in (1, 15, 3, 3)))

    def of(self, role: str) -> tuple[SigningKey, ...]:
        return {"chief": self.chief, "council": self.council, "release": self.release, "root": self.root}[role]

    def authority(self, version: int = 1) -> Authority:
        bodies = {"chief": self.chief, "council": self.council, "release": self.release, "root": self.root}

        def role(name: str, threshold: int, rank: int, may: frozenset[str]) -> Role:
            keys = tuple(key.public.to_hex() for key in bodies[name])
            return Role(keys=keys, threshold=threshold, rank=rank, may=may)

        holders = tuple(
            Holder(key=key.public.to_hex(), name=f"{name} {number}")
            for name, keys in bodies.items()
            for number, key in enumerate(keys)
        )
        return Authority(
            version=version,
            jurisdiction="Benchville",
            holders=holders,
            roles={
                "chief": role("chief", 1, 1, frozenset({"moratorium", "release"})),
                "council": role("council", 10, 2, frozenset({"moratorium", "release"})),
                "release": role("release", 2, 0, frozenset({"release"})),
                "root": role("root", 2, 3, frozenset({"authority"})),
            },
        )


def signed(payload_type: str, payload: bytes, keys: tuple[SigningKey, ...]) -> bytes:
    """Sign with each of the keys."""
    data = sign(payload_type, payload, keys[0])
    for key in keys[1:]:
        data = cosign(data, key)
    return data


@dataclass
class Bench:
    """One device and all that surrounds it."""

    folder: Path
    keyring: Keyring
    clock: Clock = field(default_factory=Clock)
    settings: InterlockSettings = field(default_factory=InterlockSettings)
    switch: SimulatedSwitch = field(default_factory=SimulatedSwitch)
    told: list[Transition] = field(default_factory=list)
    ledger_writable: bool = True
    disk: Disk | None = None
    interlock: Interlock = field(init=False)

    def __post_init__(self) -> None:
        self.boot()

    @property
    def latch_path(self) -> Path:
        return self.folder / "latch"

    def boot(self) -> Interlock:
        """Start a new interlock over the same disk and switch, as a reboot does."""
        self.switch.close()
        self.interlock = Interlock(
            self.switch,
            Latch(self.latch_path, self.disk),
            device_id=DEVICE,
            authority=self.keyring.authority(),
            settings=self.settings,
            monotonic_ns=self.clock.monotonic_ns,
            utc_now=self.clock.utc_now,
            witness=self.witness,
            gallery_key=GALLERY_KEY,
            ledger_epoch=max((each.epoch for each in self.told), default=0),
        )
        return self.interlock

    def witness(self, transition: Transition) -> None:
        if not self.ledger_writable:
            raise OSError("the ledger is full")
        self.told.append(transition)

    def run_ms(self, ms: int, each_ms: int = 20) -> None:
        """Let the interlock watch for a while."""
        for _ in range(ms // each_ms):
            self.clock.pass_ms(each_ms)
            self.interlock.tick()

    def release_order(self, role: str = "release", signers: int | None = None) -> bytes:
        """A release order for the present stop, signed by as many of the role as it needs."""
        threshold = self.keyring.authority().roles[role].threshold
        payload = make_release_order(self.interlock.release_request(), role, now=self.clock.utc)
        return signed(RELEASE_TYPE, payload, self.keyring.of(role)[: threshold if signers is None else signers])

    def moratorium_order(self, role: str = "chief", device: str = DEVICE) -> bytes:
        threshold = self.keyring.authority().roles[role].threshold
        payload = make_moratorium_order(device, role, now=self.clock.utc)
        return signed(MORATORIUM_TYPE, payload, self.keyring.of(role)[:threshold])

    def release(self, role: str = "release") -> OrderAccepted | OrderRefused:
        return self.interlock.apply(self.release_order(role))

    def commission(self) -> None:
        """Close the key, wait, release: what happens once when a device goes into service."""
        self.switch.close_key()
        self.run_ms(1100)
        verdict = self.release()
        assert isinstance(verdict, OrderAccepted), verdict


@pytest.fixture(scope="session")
def keyring() -> Keyring:
    return Keyring.generate()


@pytest.fixture
def bench(tmp_path: Path, keyring: Keyring) -> Bench:
    return Bench(tmp_path, keyring)


@pytest.fixture
def running(bench: Bench) -> Bench:
    bench.commission()
    return bench

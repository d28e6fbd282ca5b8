"""`turnkeyctl order`: orders made and signed offline, and what the device then says to them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from turnkey.interlock.interlock import Interlock
from turnkey.interlock.latch import Latch
from turnkey.interlock.machine import State
from turnkey.interlock.orders import OrderAccepted, OrderRefused
from turnkey.interlock.switch import SimulatedSwitch
from turnkey.settings import InterlockSettings
from turnkey_tools.authority import ThrowawayAuthority, throwaway_authority
from turnkey_tools.order import app


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


class Office:
    """A device that asks for its release, and everybody's keys as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.throwaway: ThrowawayAuthority = throwaway_authority()
        self.now = 10**9
        for name, body in self.throwaway.bodies.items():
            for number, key in enumerate(body.keys):
                (folder / f"{name}{number}.key").write_bytes(key.to_pem())
        (folder / "authority").write_bytes(self.throwaway.envelope)
        self.switch = SimulatedSwitch()
        self.switch.close_key()
        self.device = Interlock(
            self.switch,
            Latch(folder / "latch"),
            device_id="bench-1",
            authority=self.throwaway.authority,
            settings=InterlockSettings(),
            monotonic_ns=lambda: self.now,
            utc_now=lambda: datetime.now(UTC),
            witness=[].append,
        )
        for _ in range(60):
            self.now += 20_000_000
            self.device.tick()
        self.write_request()

    def write_request(self) -> None:
        (self.folder / "request").write_text(self.device.release_request().model_dump_json())

    def path(self, name: str) -> Path:
        return self.folder / name

    def apply(self, name: str) -> OrderAccepted | OrderRefused:
        return self.device.apply(self.path(name).read_bytes())


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_a_release_signed_on_two_machines_starts_the_device(office):
    p = office.path
    run("release", "--request", p("request"), "--role", "release", "--key", p("release0.key"), "--out", p("a"))
    assert "needs 2 of 3" in run("check", p("a"), "--authority", p("authority"), code=1)
    assert isinstance(office.apply("a"), OrderRefused)
    run("cosign", p("a"), "--key", p("release2.key"), "--out", p("b"))
    assert "good" in run("check", p("b"), "--authority", p("authority"), "--request", p("request"))
    verdict = office.apply("b")
    assert isinstance(verdict, OrderAccepted)
    assert verdict.signers == ("release 1", "release 3")
    assert office.device.state is State.RUNNING


def test_copies_signed_apart_are_merged_and_reach_the_threshold(office):
    p = office.path
    run("release", "--request", p("request"), "--role", "release", "--key", p("chief0.key"), "--out", p("a"))
    run("cosign", p("a"), "--key", p("release0.key"), "--out", p("b"))
    run("cosign", p("a"), "--key", p("release1.key"), "--out", p("c"))
    run("merge", p("b"), p("c"), "--out", p("d"))
    assert isinstance(office.apply("d"), OrderAccepted)


def test_one_key_signing_twice_counts_once(office):
    p = office.path
    run("release", "--request", p("request"), "--role", "release", "--key", p("release0.key"), "--out", p("a"))
    run("cosign", p("a"), "--key", p("release0.key"), "--out", p("b"))
    twice = json.loads(p("b").read_text())
    twice["signatures"] *= 2
    p("c").write_text(json.dumps(twice))
    for name in ("b", "c"):
        verdict = office.apply(name)
        assert isinstance(verdict, OrderRefused)
        assert office.device.state is State.MORATORIUM


def test_ten_of_fifteen_order_a_stop_for_every_device_and_nine_do_not(office):
    p = office.path
    run("moratorium", "--role", "council", "--key", p("council0.key"), "--out", p("0"), "--grounds", "vote 26-117")
    for number in range(1, 10):
        run("cosign", p(str(number - 1)), "--key", p(f"council{number}.key"), "--out", p(str(number)))
    nine = office.apply("8")
    assert isinstance(nine, OrderRefused)
    assert nine.reason == "not-signed"
    assert isinstance(office.apply("9"), OrderAccepted)
    assert office.device.status().standing[0].role == "council"


def test_an_order_is_shown_before_it_is_signed(office):
    p = office.path
    out = run("release", "--request", p("request"), "--role", "release", "--key", p("release0.key"), "--out", p("a"))
    assert "RELEASE of bench-1" in out
    assert "RELEASE of bench-1" in run("cosign", p("a"), "--key", p("release1.key"), "--out", p("b"))
    assert run("show", p("b")).startswith("RELEASE of bench-1")


def test_orders_for_different_stops_do_not_merge(office):
    p = office.path
    arguments = ("release", "--request", p("request"), "--role", "release")
    run(*arguments, "--key", p("release0.key"), "--out", p("a"))
    run(*arguments, "--key", p("release1.key"), "--out", p("b"))
    assert "not copies of one document" in run("merge", p("a"), p("b"), "--out", p("c"), code=1)
    assert not p("c").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"\x00" * 70_000])
def test_a_file_that_is_no_order_is_refused_without_a_traceback(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert "refused" in run("show", tmp_path / "file", code=1)

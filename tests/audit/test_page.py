"""The auditor's page and command: self-contained, one set of facts, exit codes that a script can use."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from audit.world import World
from typer.testing import CliRunner

from turnkey_tools.audit.intervals import Interval, Limits, Statement, Timeline, Verdict, window, worst
from turnkey_tools.audit.page import page
from turnkey_tools.audit.timeline import rows
from turnkey_tools.bench.ledger_script import DEVICE, START
from turnkey_tools.cli import app


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.classes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "action")]
        self.classes += [str(value) for name, value in attrs if name == "class"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A history with a violation and a gap in it, and its files."""
    world = World(tmp_path_factory.mktemp("world"))
    world.history()
    world.device.wait(20)
    world.device.book("B-9999")
    world.minutes(20)
    world.minutes(20, beat=False, seen=False)
    world.minutes(20)
    world.publish()
    world.audited(with_witness=True)
    (world.folder / f"{DEVICE}.pub").write_bytes(world.key.to_pem())
    (world.folder / "witness.vkey").write_text(world.witness.verifier_key.to_text())
    return world


def command(world: World, *more: str) -> list[str]:
    witness = ["--witness", str(world.witness.out), "--witness-key", str(world.folder / "witness.vkey")]
    return ["audit", str(world.export), "--keys", str(world.folder), *witness, *more]


def test_the_page_fetches_nothing_and_runs_nothing(world: World) -> None:
    elements = Elements(page(world.audited(with_witness=True)))
    assert elements.links == []
    assert not {"script", "link", "img", "iframe", "form"} & set(elements.tags)
    assert "@import" not in page(world.audited(with_witness=True))


def test_picture_and_table_say_the_same(world: World) -> None:
    found = world.audited(with_witness=True)
    elements = Elements(page(found))
    for verdict in Verdict:
        drawn = elements.classes.count(f"v-{verdict}") - 1  # one of them is the key's
        assert drawn == sum(one.verdict is verdict for one in found.intervals), verdict
    assert "work-while-stopped" in page(found)


def test_json_html_and_exit_code(world: World, tmp_path: Path) -> None:
    out = tmp_path / "audit.html"
    done = CliRunner().invoke(app, command(world, "--json", "--html", str(out)))
    said = json.loads(done.stdout)
    assert (done.exit_code, said["verdict"]) == (1, "VIOLATION")
    assert said["finding_counts"] == {"work-while-stopped": 3, "gap": 1}
    broken = next(one for one in said["intervals"] if one["verdict"] == "VIOLATION")
    assert broken["because"] == ["work-while-stopped"]
    assert out.read_text().startswith("<!doctype html>")
    assert not list(tmp_path.glob("*.draft"))


def test_a_window_is_cut_and_what_the_export_does_not_hold_is_unknown(world: World) -> None:
    begin, end = START + timedelta(hours=3), START + timedelta(hours=4)
    done = CliRunner().invoke(app, command(world, "--json", "--from", f"{begin:%FT%T}", "--to", f"{end:%FT%T}"))
    (only,) = json.loads(done.stdout)["intervals"]
    assert (only["from"], only["to"]) == (begin.isoformat(), end.isoformat())
    assert (only["state"], only["verdict"]) == ("MORATORIUM", "PROVEN")
    later = CliRunner().invoke(app, command(world, "--json", "--to", "2027-01-01T00:00:00"))
    last = json.loads(later.stdout)["intervals"][-1]
    assert (last["verdict"], last["because"]) == ("UNKNOWN", ["not-exported"])


def test_late_attested_ends_with_three_and_says_why(world: World, tmp_path: Path) -> None:
    honest = World(tmp_path)
    honest.history()
    honest.audited(with_witness=True)
    key = tmp_path / "device.pub"
    key.write_bytes(honest.key.to_pem())
    done = CliRunner().invoke(app, ["audit", str(honest.export), "--keys", str(key)])
    assert done.exit_code == 3
    assert "LATE-ATTESTED" in done.stdout
    assert "no-witness" in done.stdout


def test_what_cannot_be_audited_is_said_and_ends_with_two(world: World, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_text("{}\n")
    for wrong, message in (
        (["audit", str(nothing), "--keys", str(world.folder)], "not an export"),
        (["audit", str(world.export), "--keys", str(nothing)], "not a public key"),
        (["audit", str(world.export), "--keys", str(tmp_path)], "no device key"),
        (["audit", str(world.export), "--keys", str(world.folder), "--witness", str(world.export)], "go together"),
        ([*command(world)[:-1], "nonsense"], "not a verifier key"),
    ):
        done = CliRunner().invoke(app, wrong)
        assert done.exit_code == 2, done.output
        assert message in re.sub(r"\s+", " ", done.output)


def test_the_group_explains_itself() -> None:
    done = CliRunner().invoke(app, ["audit", "--help"])
    assert done.exit_code == 0
    assert "ledger" in done.stdout


def test_long_windows_are_drawn_by_days_and_by_months() -> None:
    start = datetime(2026, 1, 10, 6, tzinfo=UTC).timestamp()
    assert len(rows(start, start + 3600)) == 1
    assert [row.name for row in rows(start, start + 2 * 86400)] == ["Sat 10 Jan", "Sun 11 Jan", "Mon 12 Jan"]
    assert [row.name for row in rows(start, start + 60 * 86400)] == ["Jan 2026", "Feb 2026", "Mar 2026"]


def statement(at_s: float, index: int, state: str = "MORATORIUM", seen_s: float | None = None) -> Statement:
    return Statement(at_s, index, state, seen_s, 0 if seen_s is None else index + 1)


def test_silence_for_longer_than_the_limit_is_unknown_to_the_second() -> None:
    for silence, verdict in ((150.0, Verdict.LATE), (150.1, Verdict.UNKNOWN)):
        timeline = Timeline(Limits())
        timeline.state(statement(0, 0))
        timeline.state(statement(silence, 1))
        assert [one.verdict for one in timeline.close(None)] == [verdict]


def test_in_time_is_in_time_at_both_ends() -> None:
    for seen, verdict in (((10.0, 1800.0), Verdict.PROVEN), ((1801.0, 1861.0), Verdict.LATE)):
        timeline = Timeline(Limits())
        timeline.state(statement(0, 0, seen_s=seen[0]))
        timeline.state(statement(60, 1, seen_s=seen[1]))
        timeline.agree(2)
        assert [one.verdict for one in timeline.close(None)] == [verdict]


def test_entries_of_an_older_version_are_not_held_to_fields_that_it_did_not_have(tmp_path: Path) -> None:
    older = World(tmp_path)
    older.history()
    older.lines[:] = [re.sub(rb',"probe_quality":\d+', b"", line) for line in older.lines]
    assert any(b'"kind":"search"' in line for line in older.lines)
    assert older.audited(with_witness=False).findings.counts == {"no-witness": 1}


def test_no_time_at_all_is_unknown() -> None:
    assert worst([]) is Verdict.UNKNOWN
    assert window([], 0.0, 10.0) == [Interval(0.0, 10.0, "UNKNOWN", Verdict.UNKNOWN, ("not-exported",))]

"""`turnkeyctl case`: packed by an analyst, approved by a second person, sealed to one device that then accepts it."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

from booking_room import FACES, RunningDevice
from typer.testing import CliRunner, Result

from turnkey.casework import PacketApplied
from turnkey_tools.authority import write_new
from turnkey_tools.cli import app
from turnkey_tools.pilot import Pilot

PICTURE = FACES / "ardern/ardern-2018.jpg"


def case(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["case", *map(str, words)])


def keys(pilot: Pilot) -> tuple[Path, Path]:
    pair = []
    for role in ("analyst", "supervisor"):
        file = pilot.root / f"{role}.key"
        write_new(file, pilot.authority.bodies[role].keys[0].to_pem(), private=True)
        pair.append(file)
    return pair[0], pair[1]


def packed(pilot: Pilot, analyst: Path, out: Path, *more: str) -> Result:
    digest = hashlib.sha256(PICTURE.read_bytes()).hexdigest()
    words: list[str | Path] = ["pack", PICTURE, "--case", "C-2026-7", "--offence", "robbery", "--basis", "warrant"]
    words += ["--basis-reference", "W-17", "--captured-sha256", digest, "--device", pilot.device_id]
    return case(*words, "--key", analyst, "--out", out, *more)


def test_from_a_picture_to_a_packet_that_the_device_accepts(pilot: Pilot, running: RunningDevice) -> None:
    (analyst, supervisor), root = keys(pilot), pilot.root
    assert packed(pilot, analyst, root / "draft").exit_code == 0
    assert stat.S_IMODE((root / "draft").stat().st_mode) == 0o600, "a draft holds the picture in clear"
    held = ("--authority", root / "authority.json", "--policy", root / "policy.json")
    alone = json.loads(case("check", root / "draft", *held, "--json").stdout)
    assert (alone["verdict"], alone["reason"]) == ("refused", "one-signer")
    looked = case("show", root / "draft", "--picture", root / "look.jpg", "--authority", root / "authority.json")
    assert "claims to be signed by analyst 1" in looked.stdout
    assert (root / "look.jpg").read_bytes() == PICTURE.read_bytes()
    assert case("sign", root / "draft", "--key", supervisor, "--out", root / "approved").exit_code == 0
    assert json.loads(case("check", root / "approved", *held, "--json").stdout)["verdict"] == "good"
    device_key = pilot.site.device(pilot.device_id).sealing_key
    assert case("seal", root / "approved", "--device-key", device_key, "--out", root / "1.tkcase").exit_code == 0
    assert PICTURE.read_bytes()[1000:1064] not in (root / "1.tkcase").read_bytes()
    sealed = case("show", root / "1.tkcase")
    assert sealed.exit_code == 1
    assert "only its device opens it" in sealed.stderr
    with running() as device:
        assert isinstance(device.casework.apply((root / "1.tkcase").read_bytes()), PacketApplied)


def test_an_edited_picture_is_refused_before_anybody_signs(pilot: Pilot) -> None:
    analyst, _ = keys(pilot)
    out = pilot.root / "draft"
    refused = packed(pilot, analyst, out, "--captured-sha256", "0" * 64)
    assert refused.exit_code == 1
    assert "picture-not-as-captured" in refused.stderr
    assert not out.exists()


def test_an_unknown_kind_and_what_is_no_draft_are_refused(pilot: Pilot) -> None:
    analyst, _ = keys(pilot)
    assert packed(pilot, analyst, pilot.root / "draft", "--kind", "hologram").exit_code == 1
    refused = case("show", PICTURE)
    assert refused.exit_code == 1
    assert "no draft" in refused.stderr

"""`turnkeyctl pack` and the device's two commands, as four people use them: order, approve, export, import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from booking_room import MODELS
from exchange import change_policy, fill, named, present_policy, rule, running, units
from typer.testing import CliRunner

from turnkey.cli import app as turnkey
from turnkey.leads.policy import Policy
from turnkey_tools.cli import app as turnkeyctl
from turnkey_tools.pilot import Pilot, provision_pilot


def ctl(*words: str, expected: int = 0) -> str:
    result = CliRunner().invoke(turnkeyctl, list(words))
    assert result.exit_code == expected, result.output
    return result.output


def on(pilot: Pilot, *words: str, expected: int = 0) -> str:
    result = CliRunner().invoke(turnkey, ["--config", str(pilot.settings_file), *words])
    assert result.exit_code == expected, result.output
    return result.output


@pytest.fixture
def here(pilot: Pilot) -> Pilot:
    return pilot


@pytest.fixture
def there(tmp_path: Path, here: Pilot) -> Pilot:
    other = provision_pilot(tmp_path / "there", MODELS, device_id="booth-2")
    change_policy(here, template_packs=rule(named(other)))
    change_policy(other, template_packs=rule(named(here)))
    return other


def signed_order(folder: Path, here: Pilot, there: Pilot) -> Path:
    """An order that two people of each station signed, with the commands that they have."""
    (analyst, _), (supervisor, _) = here.write_keys("analyst"), here.write_keys("supervisor")
    (their_analyst, _), (their_supervisor, _) = there.write_keys("analyst"), there.write_keys("supervisor")
    draft, ours, theirs, whole = (str(folder / f"{name}.json") for name in ("draft", "ours", "theirs", "whole"))
    ends = ("--from", "booth-1", "--to", "booth-2", "--partition", "bookings", "--grounds", "station-closed")
    assert "booth-1 to booth-2" in ctl("pack", "new", *ends, "--key", str(analyst), "--out", draft)
    ctl("pack", "sign", draft, "--key", str(supervisor), "--out", ours)
    ctl("pack", "sign", draft, "--key", str(their_analyst), "--out", str(folder / "half.json"))
    ctl("pack", "sign", str(folder / "half.json"), "--key", str(their_supervisor), "--out", theirs)
    ctl("pack", "merge", ours, theirs, "--out", whole)
    for pilot, way in ((here, "export"), (there, "import")):
        judged = ("--authority", str(pilot.authority_file), "--policy", str(pilot.policy_file), "--way", way)
        assert json.loads(ctl("pack", "check", whole, *judged, "--json"))["verdict"] == "good"
    judged = ("--authority", str(there.authority_file), "--policy", str(there.policy_file), "--way", "import")
    assert "not-signed" in ctl("pack", "check", ours, *judged, expected=1)
    return folder / "whole.json"


def closed(pilot: Pilot) -> None:
    """The simulated key closed and the device released, for commands that each start it anew."""
    on(pilot, "key", "closed")
    with running(pilot):
        pass


def test_an_order_is_signed_by_four_and_a_pack_goes_from_one_station_to_the_other(
    here: Pilot, there: Pilot, tmp_path: Path
) -> None:
    order = signed_order(tmp_path, here, there)
    closed(here)
    with running(here) as device:
        fill(device, units(30))
    pack = tmp_path / "station.tkpack"
    receiver = there.site.device("booth-2").sealing_key
    said = on(here, "gallery", "export", "--order", str(order), "--to", str(pack), "--for", str(receiver))
    assert "30 template(s) of bookings; only booth-2 opens it" in said
    assert "is there already" in on(here, "gallery", "export", "--order", str(order), "--to", str(pack), expected=2)
    again = on(here, "gallery", "export", "--order", str(order), "--to", str(tmp_path / "again"), "--json", expected=1)
    assert json.loads(again.splitlines()[-1])["reason"] == "pack-used-before"
    assert not (tmp_path / "again").exists()
    assert not list(tmp_path.glob(".*.part"))
    closed(there)
    taken = json.loads(on(there, "gallery", "import-pack", str(pack), "--json").splitlines()[-1])
    assert (taken["outcome"], taken["device"], taken["enrolled"]) == ("imported", "booth-1", 30)
    refused = on(there, "gallery", "import-pack", str(pack), expected=1)
    assert "refused (pack-used-before)" in refused
    assert "refused (pack-for-another-device)" in on(here, "gallery", "import-pack", str(pack), expected=1)


def test_in_a_moratorium_there_is_no_export(here: Pilot, there: Pilot, tmp_path: Path) -> None:
    order = signed_order(tmp_path, here, there)
    said = on(here, "gallery", "export", "--order", str(order), "--to", str(tmp_path / "x"), expected=1)
    assert "recognition is stopped" in said
    assert not (tmp_path / "x").exists()


def test_the_policys_table_is_printed_from_a_devices_public_keys(here: Pilot, tmp_path: Path) -> None:
    files = here.site.device("booth-1")
    keys = ("--device", "booth-1", "--signing", str(files.public_key), "--encryption", str(files.sealing_key))
    table = ctl("pack", "keys", *keys)
    policy = present_policy(here).model_copy(update={"template_packs": rule(named(here))})
    assert policy.template_packs is not None
    (device,) = policy.template_packs.devices
    assert device.signing_key in table
    assert device.sealing_key in table
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    (tmp_path / "key").write_bytes(files.public_key.read_bytes())
    assert "refused" in ctl("pack", "keys", *keys[:4], "--encryption", str(tmp_path / "key"), expected=1)

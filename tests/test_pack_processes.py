"""Template packs where the booth, the notary and the interlock are three processes: by socket, as an open file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from booking_room import MODELS
from exchange import Pair, change_policy, exported, fill, imported, named, order, rule, running, units
from test_processes import Appliance, appliance  # noqa: F401 - a fixture

from turnkey.leads.records import PackAccepted, PackEnrolled, PackExported, PackImported
from turnkey_tools.pilot import Pilot, provision_pilot


@pytest.fixture
def other(tmp_path: Path) -> Pilot:
    return provision_pilot(tmp_path / "other", MODELS, device_id="booth-2")


def test_a_pack_is_taken_and_one_is_made_by_the_booths_process(
    appliance: Appliance,  # noqa: F811
    other: Pilot,
    tmp_path: Path,
) -> None:
    here = appliance.pilot
    for one, another in ((here, other), (other, here)):
        change_policy(one, template_packs=rule(named(another)))
    coming = tmp_path / "coming.tkpack"
    templates = units(150)
    with running(other) as device, coming.open("w+b") as file:
        fill(device, templates)
        exported(device, order(Pair(other, here)), file)
    taken = appliance.command("gallery", "import-pack", str(coming), "--json")
    assert taken.exit_code == 0, taken.output
    said = json.loads(taken.stdout)
    assert (said["outcome"], said["rows"], said["enrolled"]) == ("imported", 150, 150)
    again = appliance.command("gallery", "import-pack", str(coming))
    assert again.exit_code == 1
    assert "pack-used-before" in again.output
    ordered, going = tmp_path / "order.json", tmp_path / "going.tkpack"
    ordered.write_bytes(order(Pair(here, other), partition="cases"))
    made = appliance.command("gallery", "export", "--order", str(ordered), "--to", str(going))
    assert made.exit_code == 0, made.output
    assert "1 template(s) of cases" in made.stdout
    with running(other) as device, going.open("rb") as file:
        assert imported(device, file).enrolled == 1
    appliance.switch.open_key()
    ledger = appliance.ledger()
    kinds = [type(event) for event in ledger]
    assert kinds.count(PackAccepted) == kinds.count(PackImported) == kinds.count(PackExported) == 1
    assert sum(event.rows for event in ledger if isinstance(event, PackEnrolled)) == 150
    refused = appliance.command("gallery", "export", "--order", str(ordered), "--to", str(tmp_path / "never"))
    assert refused.exit_code == 1
    assert not (tmp_path / "never").exists()
    assert not list(tmp_path.glob(".*.part"))

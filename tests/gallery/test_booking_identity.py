"""The same person under another booking number is a candidate in `bookings`; nobody is a lead on themselves."""

from __future__ import annotations

import pytest
from booking_room import RunningDevice, events, lay

from turnkey.booth import Recorded
from turnkey.leads.policy import Policy
from turnkey.leads.records import Searched
from turnkey_tools.pilot import Pilot

FIRST = "ardern/ardern-2018.jpg"
LATER = "ardern/ardern-2022.jpg"


@pytest.mark.parametrize("permitted", [True, False])
def test_an_alias_is_a_lead_only_where_the_policy_permits_it(
    pilot: Pilot, running: RunningDevice, permitted: bool
) -> None:
    lay(pilot, FIRST, LATER)
    with running() as device:
        signed = device.policy()
        assert hasattr(signed, "policy")
        policy: Policy = signed.policy
        partitions = ("cases", "bookings") if permitted else ("cases",)
        pilot.adopt(policy.model_copy(update={"search_on_booking": partitions, "alias_leads": permitted}))
        assert isinstance(device.booth.book("B-1"), Recorded)
        outcome = device.booth.book("B-2")
        assert isinstance(outcome, Recorded)
        found = [(lead.partition, [candidate.reference for candidate in lead.candidates]) for lead in outcome.leads]
        assert found == ([("bookings", ["B-1"])] if permitted else [])
        assert all((lead.search, lead.search_recall) == ("exhaustive", 1.0) for lead in outcome.leads)
        searches = [event for event in events(device) if isinstance(event, Searched)]
        assert all((search.search, search.search_recall) == ("exhaustive", 1.0) for search in searches)


def test_a_retake_under_the_same_number_is_no_lead_on_oneself(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, FIRST, LATER)
    with running() as device:
        signed = device.policy()
        assert hasattr(signed, "policy")
        pilot.adopt(signed.policy.model_copy(update={"search_on_booking": ("cases", "bookings"), "alias_leads": True}))
        for _ in range(2):
            outcome = device.booth.book("B-1")
            assert isinstance(outcome, Recorded)
            assert outcome.leads == ()
        assert device.gallery.size("bookings") == 2


def test_a_lead_by_the_graph_says_so_and_with_which_recall(
    pilot: Pilot, running: RunningDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the lead and on the ledger: whoever reads it knows that not every template was compared."""
    monkeypatch.setenv("TURNKEY_GALLERY__SCAN_BUDGET_MS", "0.000001")
    lay(pilot, FIRST, LATER)
    with running() as device:
        signed = device.policy()
        assert hasattr(signed, "policy")
        pilot.adopt(signed.policy.model_copy(update={"search_on_booking": ("bookings",), "alias_leads": True}))
        assert isinstance(device.booth.book("B-1"), Recorded)
        recall = device.gallery.build_graph("bookings")
    with running() as device:
        outcome = device.booth.book("B-2")
        assert isinstance(outcome, Recorded)
        assert [(lead.search, lead.search_recall) for lead in outcome.leads] == [("graph", recall)]
        searches = [event for event in events(device) if isinstance(event, Searched)]
        assert (searches[-1].search, searches[-1].search_recall) == ("graph", recall)


def test_several_templates_of_a_person_are_kept_and_are_one_candidate(pilot: Pilot, running: RunningDevice) -> None:
    lay(pilot, FIRST, LATER, FIRST)
    with running() as device:
        signed = device.policy()
        assert hasattr(signed, "policy")
        pilot.adopt(signed.policy.model_copy(update={"search_on_booking": ("bookings",), "alias_leads": True}))
        for _ in range(2):
            assert isinstance(device.booth.book("B-1"), Recorded)
        assert device.gallery.size("bookings") == 2
        outcome = device.booth.book("B-2")
        assert isinstance(outcome, Recorded)
        assert [[candidate.reference for candidate in lead.candidates] for lead in outcome.leads] == [["B-1"]]

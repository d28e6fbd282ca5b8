"""The table itself: complete, latched, and drawn as it is."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from turnkey.interlock.machine import TABLE, Effect, Event, ImpossibleEvent, State, diagram, step

README = Path(__file__).parents[2] / "systemd" / "README.md"
IMPOSSIBLE = {
    *((state, event) for state in State if state is not State.BOOTING for event in (Event.FOUND_STOPPED,)),
    *((state, Event.FOUND_FAULTED) for state in State if state is not State.BOOTING),
    *((state, Event.CONDITIONS_HOLD) for state in State if state is not State.BOOTING),
    (State.BOOTING, Event.RELEASED),
    (State.RUNNING, Event.RELEASED),
}


def test_every_pair_is_either_in_the_table_or_known_to_be_impossible():
    assert set(itertools.product(State, Event)) - set(TABLE) == IMPOSSIBLE


@pytest.mark.parametrize(("state", "event"), sorted(IMPOSSIBLE))
def test_an_impossible_pair_raises(state, event):
    with pytest.raises(ImpossibleEvent):
        step(state, event)


def test_a_latched_state_is_left_for_running_by_a_release_alone():
    ways = {(state, event) for (state, event), after in TABLE.items() if after.state is State.RUNNING}
    ways.discard((State.RUNNING, Event.AUTHORITY_FOLLOWED))
    assert ways == {
        (State.BOOTING, Event.CONDITIONS_HOLD),
        (State.MORATORIUM, Event.RELEASED),
        (State.FAULT, Event.RELEASED),
    }


def test_no_latched_state_is_left_for_booting():
    for (state, event), after in TABLE.items():
        if state in (State.MORATORIUM, State.FAULT):
            assert after.state is not State.BOOTING, (state, event)


def test_leaving_running_takes_the_permit_before_anything_else():
    for (state, _), after in TABLE.items():
        if state is State.RUNNING and after.state is not State.RUNNING:
            assert after.effects[0] is Effect.REVOKE


def test_a_permit_is_granted_last_and_only_after_latch_and_witness():
    for after in TABLE.values():
        if Effect.GRANT in after.effects:
            assert after.state is State.RUNNING
            assert after.effects == (Effect.LATCH, Effect.WITNESS, Effect.LAMP, Effect.GRANT)


def test_what_stops_is_latched_before_it_is_told():
    for after in TABLE.values():
        if Effect.LATCH in after.effects and Effect.WITNESS in after.effects:
            assert after.effects.index(Effect.LATCH) < after.effects.index(Effect.WITNESS)


def test_a_lamp_goes_out_before_anybody_is_waited_for():
    for (state, event), after in TABLE.items():
        if after.state is not State.RUNNING and Effect.LAMP in after.effects:
            assert after.effects.index(Effect.LAMP) < after.effects.index(Effect.WITNESS), (state, event)


def test_the_diagram_in_the_documents_is_the_table():
    drawn = re.search(r"```mermaid\n(.*?)```", README.read_text(), re.DOTALL)
    assert drawn is not None
    assert drawn.group(1) == diagram()

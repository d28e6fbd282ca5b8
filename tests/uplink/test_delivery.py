"""The uplink's decisions: plain values in, plain values out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkey.uplink.delivery import Backoff, State, Status, Window, is_delivered, reason
from turnkey.uplink.topics import Kind, Topic, parse

BACKOFF = Backoff(first_s=1.0, most_s=8.0)


def window(size: int = 4, settle_s: float = 10.0) -> Window:
    return Window(size, settle_s, BACKOFF)


def test_only_a_plain_success_lets_a_lead_go() -> None:
    assert [code for code in range(256) if is_delivered(Kind.LEAD, code)] == [0x00]
    assert [code for code in range(256) if is_delivered(Kind.ATTESTATION, code)] == [0x00, 0x10]


@pytest.mark.parametrize(
    ("code", "name"),
    [(0x86, "bad-credentials"), (0x87, "not-authorised"), (0x97, "quota-exceeded"), (0x8E, "session-taken-over")],
)
def test_refusals_have_names(code: int, name: str) -> None:
    assert reason(code) == name


def test_unknown_reason_code_is_named_by_its_number() -> None:
    assert reason(0xEE) == "reason-0xee"


@given(st.integers(0, 10_000), st.floats(0.0, 1.0, exclude_max=True))
def test_back_off_grows_to_its_limit_and_never_hammers(attempt: int, chance: float) -> None:
    wait_s = BACKOFF.wait_s(attempt, chance)
    assert 0.5 <= wait_s <= 8.0
    assert BACKOFF.wait_s(attempt, 0.0) <= wait_s < 2.0 * BACKOFF.wait_s(attempt, 0.0) + 1e-9
    assert BACKOFF.wait_s(attempt + 1, chance) >= wait_s


def test_only_connected_counts_as_connected() -> None:
    assert [state for state in State if Status(state).connected] == [State.CONNECTED]


def test_window_never_has_more_than_its_size_on_the_way() -> None:
    w = window(size=2)
    w.sent(1, 10, Kind.LEAD, 0.0)
    assert w.room() == 1
    w.sent(2, 11, Kind.LEAD, 0.0)
    assert w.room() == 0
    w.answered(1, 0, 1.0)
    assert w.room() == 1


def test_row_settles_only_after_its_time() -> None:
    w = window(settle_s=10.0)
    w.sent(1, 10, Kind.LEAD, 0.0)
    w.answered(1, 0, 5.0)
    assert w.take_acknowledged() == [10]
    assert w.take_acknowledged() == []
    assert w.take_settled(14.9) == []
    assert w.take_settled(15.0) == [10]
    assert w.take_settled(99.0) == []


def test_duplicated_and_unknown_puback_change_nothing() -> None:
    w = window()
    w.sent(1, 10, Kind.LEAD, 0.0)
    w.answered(7, 0, 1.0)
    assert (w.take_acknowledged(), w.in_flight) == ([], 1)
    w.answered(1, 0, 1.0)
    w.answered(1, 0x87, 1.0)
    assert (w.take_acknowledged(), w.held) == ([10], None)


def test_refused_row_holds_the_queue_until_its_retry_succeeds_alone() -> None:
    w = window(size=4)
    for packet_id in (1, 2, 3):
        w.sent(packet_id, 9 + packet_id, Kind.LEAD, 0.0)
    w.answered(1, 0, 1.0)
    w.answered(2, 0x97, 1.0)
    assert w.room() == 0
    w.tend(1.0, 0.0)
    assert w.room() == 0, "row 12 is still on the way"
    w.answered(3, 0x97, 1.0)
    assert w.held is not None
    assert (w.held.sequence, w.held.reason) == (11, "quota-exceeded")
    w.tend(2.0, 0.0)
    w.tend(2.4, 0.0)
    assert w.room() == 0, "half a second of back-off at least"
    w.tend(2.5, 0.0)
    assert (w.room(), w.last_sequence) == (1, 10)
    w.sent(4, 11, Kind.LEAD, 2.5)
    assert w.room() == 0, "a retry goes alone"
    assert w.held is not None, "still shown as held while it is retried"
    w.answered(4, 0, 3.0)
    assert (w.held, w.room(), w.last_sequence) == (None, 4, 11)


def test_each_further_refusal_waits_longer() -> None:
    w = window()
    waits = []
    now_s = 0.0
    for packet_id in range(1, 6):
        w.sent(packet_id, 10, Kind.LEAD, now_s)
        w.answered(packet_id, 0x87, now_s)
        w.tend(now_s, 0.0)
        assert w.held is not None
        assert w.held.retry_at_s is not None
        waits.append(w.held.retry_at_s - now_s)
        now_s = w.held.retry_at_s
        w.tend(now_s, 0.0)
    assert waits == [0.5, 1.0, 2.0, 4.0, 4.0]


def test_silent_broker_is_noticed() -> None:
    w = window()
    assert not w.overdue(100.0, 20.0)
    w.sent(1, 10, Kind.LEAD, 0.0)
    w.sent(2, 11, Kind.LEAD, 15.0)
    assert not w.overdue(20.0, 20.0)
    assert w.overdue(20.1, 20.0)
    w.answered(1, 0, 20.1)
    assert not w.overdue(30.0, 20.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0x00, 0x10, 0x87, 0x97])), max_size=60))
def test_whatever_the_broker_answers_every_row_is_delivered_once_or_still_waiting(
    script: list[tuple[int, int]],
) -> None:
    """Against a model outbox of ten rows: what is acknowledged was answered 0x00, in any interleaving."""
    w = window(size=3, settle_s=0.0)
    waiting = list(range(1, 11))
    flying: dict[int, int] = {}
    said_yes: list[int] = []
    packet_id, now_s = 0, 0.0
    for which, code in script:
        for sequence in [row for row in waiting if row > w.last_sequence][: w.room()]:
            packet_id += 1
            w.sent(packet_id, sequence, Kind.LEAD, now_s)
            flying[packet_id] = sequence
        if flying:
            chosen = list(flying)[which % len(flying)]
            sequence = flying.pop(chosen)
            w.answered(chosen, code, now_s)
            if code == 0:
                said_yes.append(sequence)
        for sequence in w.take_acknowledged():
            waiting.remove(sequence)
        now_s += 5.0
        w.tend(now_s, 0.0)
        w.tend(now_s + 5.0, 0.0)
    assert sorted(said_yes + waiting) == list(range(1, 11))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "turnkey/v1/booking-1",
        "turnkey/v1/booking-1/lead/x",
        "turnkey/v1/+/lead",
        "turnkey/v1/#",
        "x/v1/booking-1/lead",
        "turnkey/v1//lead",
        "turnkey/v1/booking-1/image",
        "turnkey/v1/Booking-1/lead",
        "turnkey/v1/booking-1/lead\n",
    ],
)
def test_what_is_not_one_of_our_topics_is_not_parsed(text: str) -> None:
    assert parse(text) is None


def test_topic_survives_its_own_text() -> None:
    for kind in Kind:
        assert parse(str(Topic("booking-1", kind))) == Topic("booking-1", kind)

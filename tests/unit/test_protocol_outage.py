"""When readers go elsewhere: a store that does not answer, an edge that says nothing."""

import pytest

from lore.protocol.outage import LATE_S, Outage
from lore_client.protocol.silence import MAX_DOUBLINGS, Silence

LOST_S = 3.0


def lost(*, at: float = 3.0) -> Outage:
    outage = Outage(LOST_S, heard_at=0.0)
    outage.on_miss(1.0)
    outage.on_miss(2.0)
    assert outage.on_timer(at)
    return outage


def test_a_store_that_answers_nothing_for_long_is_lost_once() -> None:
    outage = lost()
    assert outage.is_lost
    assert outage.deadline() is None
    assert not outage.on_timer(4.0)


def test_an_answer_begins_the_time_anew_and_ends_an_outage() -> None:
    outage = Outage(LOST_S, heard_at=0.0)
    outage.on_answer(2.8, 2.9)
    assert not outage.on_timer(3.0)
    assert outage.deadline() == 5.9
    ended = lost()
    ended.on_answer(8.9, 9.0)
    assert not ended.is_lost
    assert not ended.sends_away(0.5)


@pytest.mark.rule("E13")
@pytest.mark.parametrize(
    ("opened_at", "goes"),
    [(-5.0, True), (0.5, True), (1.0, True), (1.1, False), (2.9, False)],
)
def test_who_came_before_the_silence_was_noticed_goes_and_nobody_else(
    opened_at: float, goes: bool
) -> None:
    assert lost().sends_away(opened_at) is goes


@pytest.mark.rule("E13")
@pytest.mark.parametrize(("asked_at", "goes"), [(0.9, False), (1.1, True)])
def test_a_late_answer_says_nothing_of_the_calls_after_it(asked_at: float, *, goes: bool) -> None:
    """Whoever came between a call in vain and such an answer stays."""
    outage = Outage(LOST_S, heard_at=0.0)
    outage.on_miss(1.0)
    outage.on_answer(asked_at, 1.5)
    outage.on_miss(2.0)
    assert outage.on_timer(4.5)
    assert outage.sends_away(1.2) is goes


def test_an_edge_that_stood_still_itself_gives_the_store_as_long_again() -> None:
    outage = Outage(LOST_S, heard_at=0.0)
    woke_at = LOST_S + LATE_S + 0.1
    assert not outage.on_timer(woke_at)
    assert outage.deadline() == woke_at + LOST_S
    assert outage.on_timer(woke_at + LOST_S)


@pytest.mark.rule("E6")
def test_silences_in_a_row_are_borne_for_longer_until_there_is_text() -> None:
    silence = Silence(40.0)
    silence.on_told(0.0)
    assert silence.limit_s == 40.0
    silence.on_told(4.0)
    limits: list[float] = []
    for _ in range(MAX_DOUBLINGS + 2):
        limits.append(silence.limit_s)
        silence.on_silent()
    assert limits == [4.0, 8.0, 16.0, 32.0, 32.0]
    silence.on_text()
    assert silence.limit_s == 4.0

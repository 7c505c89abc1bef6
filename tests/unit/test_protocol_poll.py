"""When a finished response is complete (protocol P18)."""

import pytest

from lore.protocol.lifecycle import Status
from lore.protocol.poll import GATHER_S, MAX_BYTES, MAX_WAIT_S, Poll

GENERATING = Status.GENERATING


@pytest.mark.rule("P18.5")
def test_without_news_it_is_due_when_its_time_is_over():
    poll = Poll(100.0, 5.0)
    assert poll.deadline == 105.0
    assert not poll.is_due(104.9, GENERATING)
    assert poll.is_due(105.0, GENERATING)


@pytest.mark.rule("P18.5")
def test_nobody_waits_for_longer_than_proxies_do():
    assert Poll(0.0, 10 * MAX_WAIT_S).deadline == MAX_WAIT_S


def test_who_does_not_wait_is_answered_at_once():
    assert Poll(7.0, 0.0).is_due(7.0, GENERATING)


@pytest.mark.rule("P18.3")
def test_text_is_gathered_for_a_moment_that_later_text_does_not_prolong():
    poll = Poll(0.0, 5.0)
    poll.on_text(3, 1.0)
    assert not poll.is_due(1.0, GENERATING)
    poll.on_text(3, 1.0 + GATHER_S / 2)
    assert poll.deadline == 1.0 + GATHER_S


def test_text_that_comes_last_keeps_nobody_waiting():
    poll = Poll(0.0, 5.0)
    poll.on_text(3, 5.0 - GATHER_S / 2)
    assert poll.deadline == 5.0


def test_a_write_without_text_is_no_news():
    poll = Poll(0.0, 5.0)
    poll.on_text(0, 1.0)
    assert poll.deadline == 5.0


@pytest.mark.rule("P18.4")
@pytest.mark.parametrize(("size", "due"), [(0, False), (3, True)])
def test_a_closed_window_waits_for_the_readers_ack(size: int, due: bool):
    poll = Poll(0.0, 5.0)
    poll.on_text(size, 1.0)
    assert poll.is_due(1.0, Status.PAUSED) is due


@pytest.mark.rule("P18.4")
def test_a_change_of_state_is_told_at_once():
    poll = Poll(0.0, 5.0)
    poll.on_state()
    assert poll.is_due(0.0, GENERATING)


@pytest.mark.rule("P18.4")
def test_an_answer_is_full_at_its_bound():
    poll = Poll(0.0, 5.0)
    assert poll.room_bytes == MAX_BYTES
    poll.on_text(MAX_BYTES + 1, 0.0)
    assert poll.room_bytes == 0

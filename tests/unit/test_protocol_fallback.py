"""When a reader leaves a stream that is held back on its way (protocol P18)."""

import pytest

from lore_client.protocol.fallback import (
    MAX_SILENCE_S,
    MAX_STREAM_AGAIN_S,
    OPENING_S,
    OVERDUE,
    STREAM_AGAIN_S,
    Fallback,
)


@pytest.mark.rule("P18.10")
def test_a_stream_that_has_not_begun_is_asked_about_after_a_second():
    fallback = Fallback()
    fallback.on_asked(10.0)
    assert fallback.ask_at == 10.0 + OPENING_S
    fallback.on_heard(10.5)  # a head, or padding, says nothing of the request
    assert fallback.ask_at == 10.5 + OPENING_S


@pytest.mark.rule("P18.10")
@pytest.mark.parametrize(
    ("silence_s", "patience_s"),
    [(3.0, 3.0 * OVERDUE), (0.3, OPENING_S), (0.0, MAX_SILENCE_S * OVERDUE)],
)
def test_one_that_has_begun_is_asked_about_when_its_heartbeat_is_overdue(
    silence_s: float, patience_s: float
):
    fallback = Fallback()
    fallback.on_asked(0.0)
    fallback.on_told(silence_s)
    fallback.on_heard(7.0)
    assert fallback.ask_at == 7.0 + patience_s
    assert silence_s == 0 or patience_s > silence_s / 2 or patience_s == OPENING_S


@pytest.mark.parametrize(
    ("told", "seq", "ended", "ahead"),
    [
        (False, 3, False, True),
        (True, 3, False, False),
        (True, 4, False, True),
        (True, 3, True, True),
    ],
)
def test_a_poll_is_ahead_if_it_tells_what_the_stream_has_not(
    told: bool, seq: int, ended: bool, ahead: bool
):
    fallback = Fallback()
    fallback.on_asked(0.0)
    if told:
        fallback.on_told(3.0)
    assert fallback.is_ahead(seq, ended=ended, position=3) is ahead


@pytest.mark.rule("P18.11")
def test_a_stream_is_tried_again_later_each_time():
    fallback, now = Fallback(), 0.0
    assert not fallback.is_polling(now)
    waits: list[float] = []
    for _ in range(7):
        fallback.on_held_back(now)
        wait_s = STREAM_AGAIN_S * 2 ** len(waits)
        waits.append(min(wait_s, MAX_STREAM_AGAIN_S))
        assert fallback.is_polling(now + waits[-1] - 0.1)
        now += waits[-1]
        assert not fallback.is_polling(now)
    assert waits[-1] == MAX_STREAM_AGAIN_S

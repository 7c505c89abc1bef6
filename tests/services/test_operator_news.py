"""Which Events the operator posts: few, and each about something new."""

from lore.sweep import Finding
from lore_operator.news import AGAIN_MS, GATHER_MS, PolicyEvents
from lore_operator.plan import Loss, Tell

WAITING = Tell(Finding.WAITING, 2, 61_000)


def reasons(news: PolicyEvents, now_ms: int, *found: Tell, store_away: str = "") -> list[str]:
    return [event.reason for event in news.take(found, store_away, "", now_ms)]


def test_what_lasts_is_told_when_it_begins_and_again_after_half_an_hour() -> None:
    news = PolicyEvents()
    assert reasons(news, 0, WAITING) == ["Waiting"]
    assert reasons(news, AGAIN_MS - 1, WAITING) == []
    assert reasons(news, AGAIN_MS, WAITING) == ["Waiting"]
    assert reasons(news, AGAIN_MS + 1) == []
    assert reasons(news, AGAIN_MS + 2, WAITING) == ["Waiting"]


def test_a_full_store_is_told_while_it_lasts_and_once_when_it_has_room() -> None:
    """P17"""
    news = PolicyEvents()

    def told(now_ms: int, *, full: bool, away: str = "") -> list[str]:
        return [one.reason for one in news.take((), away, "", now_ms, store_full=full)]

    assert told(0, full=True) == ["StoreFull"]
    assert told(1, full=True) == []
    assert told(AGAIN_MS, full=True) == ["StoreFull"]
    assert told(AGAIN_MS + 1, full=False) == ["StoreHasRoom"]
    assert told(AGAIN_MS + 2, full=False) == []


def test_one_thing_that_lasts_does_not_hide_another() -> None:
    news = PolicyEvents()
    reasons(news, 0, WAITING)
    assert reasons(news, 1, WAITING, Tell(Finding.STUCK, 1, 1)) == ["Stuck"]


def test_reaps_are_gathered_for_a_minute() -> None:
    news = PolicyEvents()
    news.reaped()
    assert reasons(news, 0) == ["Reaped"]
    news.reaped()
    news.reaped()
    assert reasons(news, GATHER_MS - 1) == []
    (event,) = news.take((), "", "", GATHER_MS)
    assert "2 requests" in event.message
    assert reasons(news, 2 * GATHER_MS) == []


def test_a_lost_generator_is_told_once_with_what_it_had() -> None:
    news = PolicyEvents()
    for _ in range(3):
        news.released("gen-1-0000000a", Loss.GONE)
    news.released("gen-2-0000000b", Loss.SILENT)
    first, second = news.take((), "", "", 0)
    assert first.message == "Generator gen-1-0000000a is gone: 3 requests went back to the queue"
    assert "gen-2-0000000b is not ready" in second.message
    assert reasons(news, 1) == []


def test_a_store_that_comes_back_is_told_once() -> None:
    news = PolicyEvents()
    assert reasons(news, 0, store_away="it is away") == ["StoreUnreachable"]
    assert reasons(news, 1, store_away="it is away") == []
    assert reasons(news, 2) == ["StoreReachable"]
    assert reasons(news, 3) == []

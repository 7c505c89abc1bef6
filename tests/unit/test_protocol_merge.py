"""P10 and P12: joining history and live loses nothing, doubles nothing, reorders nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.protocol.merge import Arrival, Merge


def test_live_chunks_in_order_pass() -> None:
    merge = Merge(3)
    assert [merge.on_live(seq) for seq in (4, 5, 6)] == [Arrival.NEXT] * 3
    assert merge.head == 6
    assert not merge.missing


def test_what_was_seen_is_dropped() -> None:
    merge = Merge(3)
    assert merge.on_live(3) is Arrival.KNOWN
    assert merge.on_log(2) is Arrival.KNOWN
    assert merge.head == 3


@pytest.mark.rule("P10.1")
def test_nothing_passes_after_a_gap_until_the_log_has_filled_it() -> None:
    merge = Merge(3)
    assert merge.on_live(5) is Arrival.GAP
    assert merge.on_live(6) is Arrival.GAP
    assert merge.head == 3
    assert merge.missing
    assert merge.start_read() == 3
    assert [merge.on_log(seq) for seq in (4, 5)] == [Arrival.NEXT] * 2
    assert merge.on_live(6) is Arrival.NEXT


def test_a_gap_seen_during_a_read_asks_for_another_read() -> None:
    """P10: the chunk that was dropped may be newer than what is being read."""
    merge = Merge(3)
    merge.on_live(5)
    merge.start_read()
    assert not merge.missing
    assert merge.on_live(7) is Arrival.GAP
    assert merge.missing


def test_a_hole_in_the_log_is_told() -> None:
    merge = Merge(3)
    assert merge.on_log(5) is Arrival.GAP
    assert merge.head == 3


def test_a_lost_subscription_asks_for_a_read() -> None:
    """P12"""
    merge = Merge(3)
    merge.on_reset()
    assert merge.missing


@pytest.mark.rule("P1.1")
@given(st.data())
def test_any_mix_of_news_and_reads_gives_the_log_once_and_in_order(data: st.DataObject) -> None:
    """P10, P12: news is lost, doubled and reordered; reads see the log as it was then."""
    merge, log, out, news = Merge(), 0, list[int](), list[int]()

    def read() -> None:
        start = merge.start_read()
        for seq in range(start + 1, log + 1):
            if merge.on_log(seq) is Arrival.NEXT:
                out.append(seq)

    for _ in range(data.draw(st.integers(0, 40))):
        step = data.draw(st.sampled_from(["append", "hear", "drop", "double", "read", "reset"]))
        if step == "append":
            log += 1
            news.append(log)
        elif step == "read":
            read()
        elif step == "reset":
            merge.on_reset()
        elif news:
            i = data.draw(st.integers(0, len(news) - 1))
            seq = news[i] if step == "double" else news.pop(i)
            if step != "drop" and merge.on_live(seq) is Arrival.NEXT:
                out.append(seq)
        assert out == list(range(1, merge.head + 1))
    read()
    assert out == list(range(1, log + 1))

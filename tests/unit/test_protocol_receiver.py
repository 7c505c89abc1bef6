"""P1, P9 and P11 at the reader's end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore_client.protocol.receiver import Receiver, ReceiverConfig

CONFIG = ReceiverConfig(window_tokens=16, ack_delay_s=0.1, reorder_limit=8, gap_timeout_s=3.0)


def test_chunks_in_order_are_text_at_once() -> None:
    """P1"""
    receiver = Receiver(CONFIG)
    assert [receiver.on_chunk(seq, f"{seq} ", 0.0) for seq in (1, 2, 3)] == ["1 ", "2 ", "3 "]
    assert receiver.position == 3


def test_a_chunk_that_comes_early_waits_for_its_turn() -> None:
    """P1"""
    receiver = Receiver(CONFIG)
    assert receiver.on_chunk(2, "b", 0.0) == ""
    assert receiver.on_chunk(3, "c", 0.0) == ""
    assert receiver.on_chunk(1, "a", 0.5) == "abc"
    assert receiver.position == 3


@pytest.mark.rule("P9.5", "P11.3")
def test_a_chunk_seen_twice_is_dropped_and_acknowledged_again() -> None:
    receiver = Receiver(CONFIG)
    receiver.on_chunk(1, "a", 0.0)
    assert receiver.take_ack(0.1) == 1
    assert receiver.on_chunk(1, "a", 2.0) == ""
    assert receiver.duplicates == 1
    assert receiver.take_ack(2.0) == 1


@pytest.mark.rule("P9.4")
def test_acks_are_delayed_and_cumulative() -> None:
    """P9; RFC 9293 section 3.8.6.3"""
    receiver = Receiver(CONFIG)
    receiver.on_chunk(1, "a", 0.0)
    receiver.on_chunk(2, "b", 0.05)
    assert receiver.deadline() == 0.1
    assert receiver.take_ack(0.09) is None
    assert receiver.take_ack(0.1) == 2
    assert receiver.deadline() is None


@pytest.mark.rule("P9.4")
def test_a_quarter_of_the_window_is_acknowledged_at_once() -> None:
    receiver = Receiver(CONFIG)
    receiver.on_window(64, 0.0)
    receiver.on_chunk(1, "x", 0.01, tokens=15)
    assert receiver.take_ack(0.01) is None
    receiver.on_chunk(2, "x", 0.02, tokens=16)
    assert receiver.take_ack(0.02) == 2
    receiver.on_chunk(3, "x", 0.03, tokens=31)
    assert receiver.take_ack(0.03) is None
    receiver.on_chunk(4, "x", 0.04, tokens=32)
    assert receiver.take_ack(0.04) == 4


def test_chunks_that_do_not_say_their_tokens_count_for_one_each() -> None:
    """An older edge"""
    receiver = Receiver(CONFIG)
    for seq in (1, 2, 3):
        receiver.on_chunk(seq, "x", 0.01)
    assert receiver.take_ack(0.01) is None
    receiver.on_chunk(4, "x", 0.01)
    assert receiver.take_ack(0.01) == 4


def test_a_window_that_became_smaller_asks_for_an_ack_sooner() -> None:
    """P9: a closed one would wait for it."""
    receiver = Receiver(CONFIG)
    receiver.on_window(1024, 0.0)
    receiver.on_chunk(1, "x", 0.01, tokens=20)
    receiver.on_window(64, 0.02)
    assert receiver.take_ack(0.02) == 1
    receiver.on_window(4, 0.03)
    assert receiver.deadline() is None, "there is nothing to acknowledge"


def test_what_came_early_counts_its_tokens_when_its_turn_comes() -> None:
    receiver = Receiver(CONFIG)
    receiver.on_window(400, 0.0)
    receiver.on_chunk(2, "x", 0.0, tokens=150)
    receiver.on_chunk(1, "x", 0.0, tokens=50)
    assert receiver.tokens == 150
    assert receiver.take_ack(0.0) == 2, "a filled gap"
    receiver.on_chunk(3, "x", 0.0, tokens=249)
    assert receiver.take_ack(0.0) is None


@pytest.mark.rule("P9.5")
def test_a_filled_gap_is_acknowledged_at_once() -> None:
    receiver = Receiver(CONFIG)
    receiver.on_chunk(2, "b", 0.0)
    receiver.on_chunk(1, "a", 0.02)
    assert receiver.take_ack(0.02) == 2


@pytest.mark.rule("P9.5")
def test_the_end_is_acknowledged_at_once_and_only_once() -> None:
    receiver = Receiver(CONFIG)
    receiver.on_chunk(1, "a", 0.0)
    receiver.on_end(0.01)
    assert receiver.take_ack(0.01) == 1
    receiver.on_end(0.02)
    assert receiver.deadline() is None


def test_an_ack_that_was_lost_is_said_again_later() -> None:
    receiver = Receiver(CONFIG)
    receiver.on_chunk(1, "a", 0.0)
    assert receiver.take_ack(0.1) == 1
    receiver.on_ack_lost(0.5)
    assert receiver.take_ack(0.55) is None
    assert receiver.take_ack(0.6) == 1


def test_nothing_is_acknowledged_before_there_is_anything() -> None:
    """Chunk 2 came twice before chunk 1: an ack was due at once that was never taken, so that a
    shell which works off deadlines spun for ever."""
    receiver = Receiver(CONFIG)
    receiver.on_chunk(2, "b", 0.0)
    receiver.on_chunk(2, "b", 0.0)
    assert receiver.deadline() is None


def test_a_gap_that_stays_asks_for_a_new_connection() -> None:
    """P11"""
    receiver = Receiver(CONFIG)
    receiver.on_chunk(2, "b", 1.0)
    receiver.on_chunk(3, "c", 2.0)
    assert receiver.gap_deadline == 4.0
    receiver.on_reconnect()
    assert receiver.gap_deadline is None
    assert receiver.on_chunk(1, "a", 5.0) == "a", "what came early is asked for again"


def test_a_new_connection_knows_nothing_of_the_gaps_of_the_one_before() -> None:
    receiver = Receiver(CONFIG)
    receiver.on_chunk(9, "i", 0.0)
    receiver.on_reconnect()
    receiver.on_chunk(2, "b", 1.0)
    receiver.on_chunk(1, "a", 1.1)
    assert receiver.gap_deadline is None


def test_the_wait_for_a_second_gap_starts_when_the_first_is_filled() -> None:
    receiver = Receiver(CONFIG)
    receiver.on_chunk(2, "b", 0.0)
    receiver.on_chunk(4, "d", 0.0)
    receiver.on_chunk(1, "a", 2.0)
    assert receiver.gap_deadline == 5.0
    receiver.on_chunk(3, "c", 2.5)
    assert receiver.gap_deadline is None


def test_a_gap_stays_one_when_what_came_early_was_too_much_to_keep() -> None:
    receiver = Receiver(ReceiverConfig(reorder_limit=1))
    receiver.on_chunk(2, "b", 0.0)
    receiver.on_chunk(3, "c", 0.0)
    assert receiver.on_chunk(1, "a", 1.0) == "ab"
    assert receiver.gap_deadline == 1.0 + ReceiverConfig().gap_timeout_s
    receiver.on_chunk(3, "c", 1.5)
    assert receiver.gap_deadline is None


def test_the_log_is_that_of_the_last_chunk_taken() -> None:
    """P4: a chunk that comes late, from before a fork, does not name the older log again."""
    receiver = Receiver(CONFIG, log_id="old")
    receiver.on_chunk(1, "a", 0.0, log_id="old")
    receiver.on_chunk(3, "c", 0.0, log_id="new")
    assert receiver.log_id == "old"
    receiver.on_chunk(2, "b", 0.0, log_id="old")
    assert receiver.log_id == "new"
    receiver.on_chunk(2, "b", 0.1, log_id="old")
    assert receiver.log_id == "new"
    receiver.on_chunk(4, "d", 0.2)
    assert receiver.log_id == "new"


@pytest.mark.rule("P1.1")
@given(st.data(), st.integers(0, 5), st.integers(1, 30))
def test_the_text_is_a_prefix_of_the_log_at_every_moment(
    data: st.DataObject, start: int, count: int
) -> None:
    """P1: chunks are lost, doubled, reordered, and sent again; acks never run ahead."""
    log = [f"<{seq}>" for seq in range(1, start + count + 1)]
    receiver = Receiver(CONFIG, position=start)
    have, now, acked = "".join(log[:start]), 0.0, 0
    for _ in range(data.draw(st.integers(0, 60))):
        now += data.draw(st.floats(0, 0.2))
        if data.draw(st.integers(0, 9)) == 0:
            receiver.on_reconnect()
        seq = data.draw(st.integers(max(1, receiver.position - 2), len(log)))
        have += receiver.on_chunk(seq, log[seq - 1], now)
        assert have == "".join(log[: receiver.position])
        ack = receiver.take_ack(now)
        if ack is not None:
            assert acked <= ack <= receiver.position
            acked = ack
    while receiver.position < len(log):
        have += receiver.on_chunk(receiver.position + 1, log[receiver.position], now)
    assert have == "".join(log)
    assert receiver.gap_deadline is None
    receiver.on_end(now)
    assert (receiver.take_ack(now) or acked or start) == len(log)

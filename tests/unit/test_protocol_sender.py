"""P11: what an edge sends again, when, and when it gives up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.protocol.rtt import RttConfig
from lore.protocol.sender import Action, Sender, SenderConfig
from lore_client.protocol.receiver import Receiver, ReceiverConfig

CONFIG = SenderConfig(max_retransmits=3)


def sent(*seqs: int, now: float = 0.0) -> Sender:
    sender = Sender(CONFIG, position=seqs[0] - 1)
    for seq in seqs:
        sender.on_sent(seq, now)
    return sender


def test_nothing_is_due_while_nothing_waits_for_an_ack() -> None:
    sender = Sender(CONFIG, position=7)
    assert (sender.deadline(), sender.oldest, sender.acked) == (None, None, 7)
    assert sender.on_timer(99.0) is None


@pytest.mark.rule("P11.2")
def test_the_oldest_chunk_is_sent_again_after_the_timeout() -> None:
    sender = sent(1, 2)
    assert sender.deadline() == 1.0
    assert sender.on_timer(0.99) is None
    assert sender.on_timer(1.0) is Action.RETRANSMIT
    assert sender.oldest == 1
    assert sender.retransmits == 1


@pytest.mark.rule("P11.2", "P11.6")
def test_each_timeout_waits_twice_as_long_until_it_gives_up() -> None:
    """RFC 6298 section 5.5"""
    sender, due = sent(1), [0.0]
    while sender.on_timer(sender.deadline() or 0.0) is Action.RETRANSMIT:
        due.append(sender.deadline() or 0.0)
    assert due == [0.0, 3.0, 7.0, 15.0]
    assert sender.on_timer(15.0) is Action.CLOSE


def test_an_ack_is_a_round_trip_and_starts_the_timer_again() -> None:
    """RFC 6298 section 5.3"""
    sender = sent(1, 2, 3)
    assert sender.on_ack(2, 0.4) == 0.4
    assert sender.oldest == 3
    assert sender.deadline() == 0.4 + sender.round_trip.rto_s
    sender.on_ack(3, 0.5)
    assert sender.deadline() is None


def test_late_and_doubled_acks_change_nothing() -> None:
    """P9"""
    sender = sent(1, 2)
    sender.on_ack(2, 0.4)
    srtt_s = sender.round_trip.srtt_s
    assert sender.on_ack(2, 0.9) is None
    assert sender.on_ack(1, 0.9) is None
    assert (sender.acked, sender.round_trip.srtt_s) == (2, srtt_s)


@pytest.mark.rule("P11.1")
def test_a_chunk_sent_twice_tells_no_round_trip() -> None:
    """Karn's rule, RFC 6298 section 3: which of the two is acknowledged, nobody knows."""
    sender = sent(1)
    sender.on_timer(1.0)
    assert sender.on_ack(1, 1.2) is None
    assert sender.round_trip.srtt_s is None
    assert sender.round_trip.rto_s == 2.0, "the backoff stays until there is a sample"
    sender.on_sent(2, 2.0)
    assert sender.on_ack(2, 2.5) == 0.5
    assert sender.round_trip.rto_s == 1.5


@pytest.mark.rule("P11.1")
def test_an_ack_that_waited_for_a_chunk_sent_twice_tells_no_round_trip() -> None:
    """Chunk 2 arrived long ago; its ack waited for chunk 1, and would read as a slow network."""
    sender = sent(1, 2)
    sender.on_timer(1.0)
    assert sender.on_ack(2, 1.1) is None
    assert sender.round_trip.srtt_s is None


@pytest.mark.rule("P11.4")
def test_chunks_lost_together_are_repaired_in_round_trips() -> None:
    """RFC 6582 section 3.2. Found by the simulator: seven chunks lost at once took minutes, as
    each waited for a timeout of its own, and Karn's rule kept doubling it."""
    sender = sent(*range(1, 8))
    now = 1.0
    for seq in range(1, 8):
        assert sender.deadline() == now
        assert sender.on_timer(now) is Action.RETRANSMIT
        assert sender.oldest == seq
        now += 0.1
        sender.on_ack(seq, now)
    assert sender.deadline() is None


def test_what_was_sent_after_the_timeout_is_not_taken_for_lost() -> None:
    sender = sent(1)
    sender.on_timer(1.0)
    sender.on_sent(2, 1.1)
    sender.on_ack(1, 1.2)
    assert sender.deadline() == 1.2 + 2.0


@pytest.mark.rule("P11.5")
def test_what_still_waits_in_the_socket_is_late_and_not_lost() -> None:
    sender = sent(1, 2)
    assert sender.on_timer(1.0, socket_pending=True) is None
    assert sender.deadline() == 2.0
    assert sender.on_timer(2.0) is Action.RETRANSMIT
    sender.on_ack(1, 2.1)
    assert sender.on_timer(2.1, socket_pending=True) is None
    deadline = sender.deadline()
    assert deadline is not None
    assert deadline > 2.1, "a deadline that stays in the past would make its shell spin"


def test_what_another_reader_acknowledged_is_not_watched() -> None:
    """P9: with several readers the fastest one moves the acks."""
    sender = Sender(CONFIG, position=0)
    sender.on_ack(5, 0.0)
    sender.on_sent(3, 0.1)
    assert sender.deadline() is None
    sender.on_sent(6, 0.2)
    assert sender.oldest == 6


def test_acks_of_a_log_say_nothing_of_the_one_it_forked_to() -> None:
    """P4: what the new log has under the same numbers is watched, whoever had the old one."""
    sender = Sender(CONFIG, position=0)
    sender.on_ack(7, 0.0)
    sender.on_fork(0)
    sender.on_sent(1, 0.1)
    assert sender.oldest == 1
    sender.on_ack(1, 0.2)
    assert sender.deadline() is None


def test_progress_allows_as_many_timeouts_again() -> None:
    sender = sent(1, 2)
    for _ in range(3):
        assert sender.on_timer(sender.deadline() or 0.0) is Action.RETRANSMIT
    sender.on_ack(1, 20.0)
    for _ in range(4):
        assert sender.on_timer(sender.deadline() or 0.0) is Action.RETRANSMIT
    assert sender.on_timer(sender.deadline() or 0.0) is Action.CLOSE


@given(st.data())
def test_a_lossy_connection_brings_every_chunk_or_is_closed(data: st.DataObject) -> None:
    """P1, P11: sender and receiver together; any event and any ack may be lost."""
    count = data.draw(st.integers(1, 12))
    sender = Sender(SenderConfig(rtt=RttConfig()), position=0)
    receiver, text, now = Receiver(ReceiverConfig()), "", 0.0
    log = [f"<{seq}>" for seq in range(1, count + 1)]

    def arrives(seq: int) -> str:
        return receiver.on_chunk(seq, log[seq - 1], now) if data.draw(st.booleans()) else ""

    for seq in range(1, count + 1):
        sender.on_sent(seq, now)
        text += arrives(seq)
    closed = False
    for _ in range(200):
        due = [d for d in (sender.deadline(), receiver.deadline()) if d is not None]
        if not due or closed:
            break
        now = max(now, min(due))
        ack = receiver.take_ack(now)
        if ack is not None and data.draw(st.booleans()):
            sender.on_ack(ack, now)
        action = sender.on_timer(now)
        if action is Action.RETRANSMIT:
            assert sender.oldest is not None
            text += arrives(sender.oldest)
        closed = action is Action.CLOSE
        assert text == "".join(log[: receiver.position])
        assert sender.acked <= receiver.position
    assert closed or receiver.position == count

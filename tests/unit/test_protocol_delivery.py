"""When an edge looks after its chunks, and what it sends behind one sent again (protocol P11)."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from lore.protocol.delivery import PADS_BYTES, Delivery, DeliveryConfig
from lore.protocol.sender import Action, Sender, SenderConfig

MANY = SenderConfig(max_retransmits=1_000)


class Piece(NamedTuple):
    seq: int


def delivery() -> Delivery[Piece]:
    """One chunk was written, and the peer's TCP has all of it."""
    follower: Any = SimpleNamespace(acked_seq=0)
    sender = Sender(MANY, position=0)
    where = {"position": 0, "log_id": "a", "returns": True, "repeats_text": False, "now": 0.0}
    one: Delivery[Piece] = Delivery(DeliveryConfig(), follower, sender=sender, **where)
    one.on_written([Piece(1)], 0.0)
    return one


def overdue(one: Delivery[Piece]) -> int | Action | None:
    assert one.sender is not None
    due = one.sender.deadline()
    assert due is not None
    return one.on_checked(due, away=False, arrived=2)


@pytest.mark.rule("P11.8")
def test_a_connection_is_padded_four_times_and_then_closed() -> None:
    one, pads = delivery(), list[int]()
    while overdue(one) == 1:
        pads.append(one.padding_bytes())
    assert pads == list(PADS_BYTES) == [16 * 1024, *[64 * 1024] * 3]


@pytest.mark.rule("P11.7")
def test_a_reader_that_acknowledged_since_is_not_padded() -> None:
    one = delivery()
    one.on_written([Piece(2)], 0.0)
    one.on_acked(1, 0.1)
    assert overdue(one) == 2
    assert one.padding_bytes() == 0
    assert overdue(one) == 2
    assert one.padding_bytes() == PADS_BYTES[0]


def test_a_shell_looks_at_once_when_an_ack_shows_a_loss_or_ends_a_backoff() -> None:
    """P11.4, and RFC 6298 section 5.5: its alarm stays where the longest timeout had set it."""
    one = delivery()
    one.on_written([Piece(2)], 0.0)
    assert [overdue(one), overdue(one)] == [1, 1], "at 1 s and at 3 s"
    assert one.on_acked(1, 3.1) == (None, True), "2 was sent with 1, and is lost as well"
    assert overdue(one) == 2
    one.on_written([Piece(3), Piece(4)], 3.2)
    assert one.on_acked(2, 3.3) == (None, False)
    rtt_s, looks = one.on_acked(3, 3.4)
    assert rtt_s == pytest.approx(0.2)
    assert looks, "4 is overdue at 4.4 s now, and not at 7.3 s"
    assert one.on_acked(4, 3.5)[1] is False, "nothing waits for an ack"

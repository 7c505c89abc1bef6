"""What an edge sends so that a chunk does not lie in a proxy that waits for more (protocol P11)."""

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

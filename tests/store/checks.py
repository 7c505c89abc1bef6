"""What holds of everything that a store keeps, whatever was called before."""

from lore.protocol.chunk import Chunk
from lore.protocol.lifecycle import ENDED, LIVE, OWNED, Status
from lore.store.base import View
from lore.store.keys import partition_of
from lore.store.memory.records import Record
from tests.store.real import PARTITIONS_USED


def check_places(views: list[View], records: dict[str, Record], places: list[list[str]]) -> None:
    """Every request is in the queue, the leases and the index where its state says."""
    expected: list[dict[str, int]] = []
    for partition in PARTITIONS_USED:
        here = [view for view in views if partition_of(view.request_id) == partition]
        expected += [
            {
                v.request_id: records[v.request_id].place_ms
                for v in here
                if v.status is Status.QUEUED
            },
            {v.request_id: v.lease_until_ms for v in here if v.status in OWNED},
            {v.request_id: records[v.request_id].moved_ms for v in here if v.status in LIVE},
        ]
    assert [dict(zip(p[::2], map(int, p[1::2]), strict=True)) for p in places] == expected


def check_request(view: View, log: list[Chunk]) -> None:
    if view.given_up_ms:
        assert (log, view.status in ENDED, view.acked_seq) == ([], True, view.next_seq - 1)
        return
    assert [entry.seq for entry in log] == list(range(1, view.next_seq))  # P2
    tokens = [0, *(entry.tokens for entry in log)]
    assert tokens == sorted(tokens)
    assert view.generated_tokens == tokens[-1]
    assert 0 <= view.acked_seq < view.next_seq  # P9
    assert view.acked_tokens == tokens[view.acked_seq]
    assert bool(view.owner) == (view.status in OWNED) == bool(view.lease_until_ms)  # P15

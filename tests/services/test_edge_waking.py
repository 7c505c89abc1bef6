"""Waiting and being woken, on each loop that an edge may run on."""

import asyncio
from typing import cast

import pytest

from lore.protocol.commands import Ack
from lore.protocol.follower_types import FollowerConfig
from lore.protocol.lifecycle import Status
from lore_edge.delivery.feed import Feed
from lore_edge.delivery.ring import EncodedChunk
from lore_edge.delivery.waker import Waker
from lore_edge.wire.subject import ANONYMOUS
from tests.services.edge_harness import WAIT_S, FaultyStore, Writer, ask, running_edge

AGO_S, SOON_S, LATE_S = -1.0, 0.01, 60.0


@pytest.mark.parametrize(
    "moves",
    [
        (SOON_S,),
        (AGO_S,),
        (AGO_S, SOON_S),
        (AGO_S, LATE_S, SOON_S),
        (LATE_S, SOON_S),
        (LATE_S, AGO_S, LATE_S),
        (SOON_S, LATE_S),
    ],
)
async def test_a_waiter_whose_time_moves_is_woken_by_the_earliest(moves: tuple[float, ...]) -> None:
    """An alarm for the past once broke the next one: uvloop's timers do not tell their time."""
    now = asyncio.get_running_loop().time()
    waker = Waker()
    for move in moves:
        waker.set(now + move)
    async with asyncio.timeout(WAIT_S):
        await waker.wait()
    waker.cancel()


class _Listening:
    def __init__(self, *, breaks: bool) -> None:
        self.heard: list[str] = []
        self._breaks = breaks

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if self._breaks:
            raise RuntimeError(what)

    def on_news(self) -> None:
        self._hear("news")

    def on_chunk(self, piece: EncodedChunk, now: float) -> None:
        del now
        self._hear(f"chunk {piece.seq}")

    def on_state(self, status: Status, reason: str) -> None:
        self._hear(reason)

    def on_acked(self, seq: int) -> None:
        self._hear(f"ack of {seq}")


async def test_a_reader_that_breaks_keeps_no_news_from_the_others() -> None:
    store = FaultyStore()
    async with running_edge(store) as edge:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        feed = Feed(
            store,
            writer.request_id,
            ANONYMOUS,
            FollowerConfig(),
            ring_chunks=8,
            ring_bytes=65_536,
        )
        await feed.start()
        listening = [_Listening(breaks=breaks) for breaks in (True, False, True, False)]
        feed.readers = cast("set[object]", listening)  # type: ignore[assignment]  # in this order
        await writer.write("a", reopen_tokens=1)
        await store.do(Ack(writer.request_id, 1))
        await feed.look()
        feed.stop()
        for one in listening:
            assert {"chunk 1", "paused", "ack of 1"} <= set(one.heard)

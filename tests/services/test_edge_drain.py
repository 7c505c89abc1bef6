"""Whom a draining edge cuts off."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from lore_edge.delivery import streams
from tests.services.edge_harness import (
    WAIT_S,
    FaultyStore,
    Writer,
    ask,
    running_edge,
    stream,
    text_of,
)


@dataclass(eq=False)
class Late:
    """A stream that has not yet had its turn to say farewell; it is its own socket."""

    is_blocked: bool
    aborted: bool = False
    returns: bool = True

    @property
    def socket(self) -> "Late":
        return self

    def leave(self) -> None:
        """Comes later."""

    def abort(self) -> None:
        self.aborted = True


async def test_a_drain_cuts_off_the_blocked_and_not_the_late(monkeypatch: pytest.MonkeyPatch):
    """Found by the storm: an edge with 2,000 streams that was short of CPU cut off 11 readers,
    whose turn for the farewell came more than a second late."""
    monkeypatch.setattr(streams, "BLOCKED_S", 0.0)
    late, blocked = Late(is_blocked=False), Late(is_blocked=True)
    async with running_edge(FaultyStore()) as edge:
        opened = edge.edge.streams._open
        opened |= cast("set[Any]", {late, blocked})
        await edge.edge.streams.drain(0.0)
        assert (late.aborted, blocked.aborted) == (False, True)
        opened.clear()


@pytest.mark.rule("E10")
async def test_an_old_stream_is_sent_to_come_back_on_another_connection():
    """So that an edge that is new gets readers; P12 for what they miss."""
    store = FaultyStore()
    async with running_edge(store, max_connection_age_s=0.05) as edge, running_edge(store) as new:
        writer = Writer(store, await ask(edge))
        await writer.claim()
        await writer.write("a")
        response = await stream(edge, writer.request_id)
        *_, farewell = await response.events()
        assert farewell.data["reason"] == "drain"
        async with asyncio.timeout(WAIT_S):
            assert await response.reader.read() == b"", "closed, although it might be kept alive"
        await writer.write("b")
        await writer.finish()
        again = await stream(new, writer.request_id, after=1)
        assert text_of(await again.events()) == "b"

"""Readers that poll (protocol P18)."""

import asyncio
from typing import Any

import httpx

from tests.services.edge_harness import WAIT_S, FaultyStore, RunningEdge, Writer, ask, until
from tests.services.meters import meter

LONG = 30


async def generating(store: FaultyStore, edge: RunningEdge, *texts: str, **body: Any) -> Writer:
    writer = Writer(store, await ask(edge, **body))
    await writer.claim()
    await writer.write(*texts)
    return writer


async def poll(
    edge: RunningEdge, request_id: str, after: str | int = 0, wait: object = 0, **query: object
) -> httpx.Response:
    asked = {"after": after, "wait": wait, **query}
    async with edge.client() as client:
        return await client.get(f"/v1/streams/{request_id}", params=asked)


async def waiting(edge: RunningEdge, request_id: str, after: int = 0) -> asyncio.Task[Any]:
    """A poll that waits, once it does."""
    before = meter("lore_edge_polls", ack="client")
    task = asyncio.create_task(poll(edge, request_id, after, LONG))
    await until(lambda: meter("lore_edge_polls", ack="client") > before or task.done())
    assert not task.done(), task.result().text
    return task


async def read(edge: RunningEdge, request_id: str) -> tuple[str, dict[str, Any]]:
    """The whole text by polls alone, and its end."""
    text, after = "", 0
    while True:
        async with asyncio.timeout(WAIT_S):
            answer = (await poll(edge, request_id, after, 1)).json()
        text, after = text + answer["text"], answer["seq"]
        if answer["end"]:
            return text, answer["end"]

"""Readers of server-sent events that others wrote resume a native stream, whatever is cut."""

import asyncio
import json
from collections import Counter
from typing import Any

import httpx
import httpx_sse
import ld_eventsource
from ld_eventsource.actions import Event
from ld_eventsource.config import ConnectStrategy, ErrorStrategy, RetryDelayStrategy

from tests.examples.stack import LIMIT_S, Stack, tell

CUTS = 4
MOST_BYTES = 1_500


async def read_with_httpx_sse(stack: Stack, urls: list[str]) -> list[Any]:
    """Every chunk that came, each time from another edge."""
    chunks: list[Any] = []
    last, ended = "", False
    while not ended:
        urls.reverse()
        headers = stack.bearer | ({"Last-Event-ID": last} if last else {})
        try:
            async with (
                httpx.AsyncClient(headers=headers, trust_env=False) as http,
                httpx_sse.aconnect_sse(http, "GET", urls[0]) as source,
            ):
                async for event in source.aiter_sse():
                    # A connection may be cut after its first event, which has no id.
                    last, ended = event.id or last, event.event == "end"
                    if event.event == "message":
                        chunks.append(event.json())
        except httpx.TransportError:
            continue
    return chunks


def read_with_launchdarkly(stack: Stack, url: str) -> list[Any]:
    chunks: list[Any] = []
    with ld_eventsource.SSEClient(
        ConnectStrategy.http(url, headers=stack.bearer),
        error_strategy=ErrorStrategy.continue_with_time_limit(LIMIT_S),
        retry_delay_strategy=RetryDelayStrategy.default(backoff_multiplier=1),
    ) as client:
        for event in client.all:
            if isinstance(event, Event):
                if event.event == "end":
                    break
                if event.event == "message":
                    chunks.append(json.loads(event.data))
    return chunks


async def test_each_reads_every_chunk_once(stack: Stack) -> None:
    """P1, P12; P8, as none of them acknowledges by itself."""
    cuts: Counter[str] = Counter()
    near, far = (stack.balancer(cuts, CUTS, MOST_BYTES) for _ in stack.edges)
    asked = [await stack.ask(ack="socket") for _ in range(3)]
    async with near, far:
        paths = [view["stream_url"] for view in asked]
        # Both go to both edges by turns; this client goes to both addresses as well.
        both = [near.url + paths[0], far.url + paths[0]]
        read = await asyncio.gather(
            read_with_httpx_sse(stack, both),
            asyncio.to_thread(read_with_launchdarkly, stack, near.url + paths[1]),
            tell("eventsource.mjs", near.url + paths[2], env=stack.environment("")),
        )
    assert cuts == {view["request_id"]: CUTS for view in asked}
    for chunks, view in zip(read, asked, strict=True):
        assert [chunk["seq"] for chunk in chunks] == list(range(1, len(chunks) + 1))
        text = "".join(chunk["text"] for chunk in chunks)
        assert text == await stack.text(view["request_id"]) != ""

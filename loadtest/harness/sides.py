"""Streams under way, through Lore and through the bare pipe, and what each part spends on them."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.harness import taps
from loadtest.harness.stage import Part, Stage
from loadtest.harness.taps import Tap
from lore.cli.fleet import free_ports

SETTLE_S = 1.0
DUMP_S = 30.0
Times = dict[tuple[str, int], float]


@dataclass
class Load:
    streams: int
    rate: float
    """Tokens a second of each stream."""
    seconds: float
    """What is measured."""
    ack: str = "none"
    edges: int = 1
    later: int = 0
    """Streams that join after the first ones."""

    @property
    def length(self) -> int:
        """Tokens an answer needs to last through the warm-up and the measurement."""
        return round(self.rate * (self.seconds + 20)) + 20


@dataclass
class Sample:
    """What one turn of one side cost. CPU times are in seconds, by part."""

    seconds: float
    chunks: int
    latencies_s: list[float]
    cpu_s: dict[str, float]
    calls: dict[str, int]
    read_cpu_s: float = 0.0
    """Of the process that reads, which no side is charged for."""

    def us_per_chunk(self, *parts: str) -> float:
        used = sum(self.cpu_s[part] for part in parts or self.cpu_s)
        return used / self.chunks * 1e6

    def calls_per_chunk(self, *names: str) -> float:
        return sum(self.calls.get(name, 0) for name in names) / self.chunks


class Lore:
    """Streams through edges, taken up by POSTs that ask for the stream itself."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def start(self, load: Load) -> list[Tap]:
        stage = self._stage
        self.generator = await stage.generator(
            synthetic_rate=load.rate, synthetic_length=load.length
        )
        self.edges = [await stage.edge() for _ in range(load.edges)]
        self._load = load
        return await self.join(load.streams)

    async def join(self, streams: int) -> list[Tap]:
        """So many more."""
        opened: list[Tap] = []
        edges = len(self.edges)
        for number, (_, port) in enumerate(self.edges):
            opened += await self._join(port, range(number, streams, edges))
        return opened

    async def _join(self, port: int, numbers: range) -> list[Tap]:
        load = self._load
        requests = [taps.ask(n, ack=load.ack, max_tokens=load.length) for n in numbers]
        return await taps.join(port, requests, spread_s=1.0 + len(requests) / 1000)

    def name(self, tap: Tap, number: int) -> str:
        del number
        return tap.header(b"x-request-id")

    def parts(self) -> dict[str, Callable[[], float]]:
        return {
            "generator": self.generator.loop_s,
            "valkey": self._stage.valkey.cpu_s,
            "edge": lambda: sum(edge.cpu_s() for edge, _ in self.edges),
        }

    async def times(self) -> Times:
        return await written(self.generator, self._stage.times_file())


class Pipe:
    """The same engine, a PUBLISH a chunk, and a server that passes on what it gets."""

    def __init__(self, stage: Stage, *, log: bool = False) -> None:
        self._stage = stage
        self._log = log

    async def start(self, load: Load) -> list[Tap]:
        stage = self._stage
        (port,) = free_ports(1)
        at = (port, stage.valkey_port)
        self.server = await stage.script("loadtest.harness.pipe_server", port, *at)
        self._port, self._joined = port, 0
        opened = await self.join(load.streams)
        streams = load.streams + load.later
        arguments = (stage.valkey_port, streams, load.rate, load.length, stage.times_file())
        log = ("--log",) if self._log else ()
        self.producer = await stage.script("loadtest.harness.pipe_producer", None, *arguments, *log)
        return opened

    async def join(self, streams: int) -> list[Tap]:
        """So many more."""
        numbers = range(self._joined, self._joined + streams)
        self._joined += streams
        return await self._join(self._port, numbers)

    async def _join(self, port: int, numbers: range) -> list[Tap]:
        requests = [taps.get(f"/s{number}") for number in numbers]
        return await taps.join(port, requests, spread_s=len(requests) / 1000)

    def name(self, tap: Tap, number: int) -> str:
        del tap
        return f"s{number}"

    def parts(self) -> dict[str, Callable[[], float]]:
        return {
            "generator": self.producer.loop_s,
            "valkey": self._stage.valkey.cpu_s,
            "edge": self.server.cpu_s,
        }

    async def times(self) -> Times:
        return await written(self.producer, self._stage.times_file())


async def written(part: Part, path: Path) -> Times:
    """When each chunk was appended, by (request, seq)."""
    os.kill(part.pid, signal.SIGUSR1)
    text = await asyncio.to_thread(wait_for, path)
    times: Times = {}
    for line in text.splitlines():
        name, first, last, when_s = line.rsplit(" ", 3)
        for seq in range(int(first), int(last) + 1):
            times.setdefault((name, seq), float(when_s))
    return times


def wait_for(path: Path) -> str:
    """What another process writes there, whole when it is there."""
    give_up_s = time.monotonic() + DUMP_S
    while not path.exists():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"nobody has written {path}")
        time.sleep(0.05)
    return path.read_text(encoding="utf-8")


async def measure(make: Callable[[Stage], Any], load: Load) -> Sample:
    """One turn: start the parts, wait until all streams run, measure, end."""
    gc.disable()  # a pause of this process would be taken for the other side's
    try:
        async with Stage() as stage:
            side = make(stage)
            readers = await side.start(load)
            await taps.until_reading(readers, 3)
            await asyncio.sleep(SETTLE_S)
            sample = await _sample(stage, side, readers, load.seconds)
            taps.leave(readers)
            return sample
    finally:
        gc.enable()
        gc.collect()


async def _sample(stage: Stage, side: Any, readers: list[Tap], seconds: float) -> Sample:
    calls, parts = stage.calls(), side.parts()
    began_s, mine_s = time.perf_counter(), time.process_time()
    used = {name: cpu_s() for name, cpu_s in parts.items()}
    await asyncio.sleep(seconds)
    used = {name: cpu_s() - used[name] for name, cpu_s in parts.items()}
    mine_s, ended_s = time.process_time() - mine_s, time.perf_counter()
    made = {name: count - calls.get(name, 0) for name, count in stage.calls().items()}
    await asyncio.sleep(0.2)  # what was on its way is there
    appended = await side.times()
    count, latencies_s = 0, []
    for number, tap in enumerate(readers):
        name = side.name(tap, number)
        for seq, here_s in tap.chunks():
            if began_s <= here_s < ended_s:
                count += 1
                if (sent_s := appended.get((name, seq))) is not None:
                    latencies_s.append(here_s - sent_s)
    return Sample(ended_s - began_s, count, latencies_s, used, made, mine_s)

"""How soon a reader that comes back has the first byte it lacks, from an edge that knows nothing.

It has half of the log. The edge drops what it followed at once, so that each return finds it
cold: it has to look the request up, subscribe and read the log. Beside it a bare GET of as many
bytes, once from the memory of a raw ASGI application on the same server, and once with a GET
from Valkey. All from the beginning of the TCP connection, one at a time, and then 1,000 at once.

Usage: python -m loadtest.bench.resume [--chunks 10 100 1000 10000] [--times 200] [--storm 1000]
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

from loadtest.harness import taps
from loadtest.harness.logs import make_logs
from loadtest.harness.record import Report, options, quantile, ratio
from loadtest.harness.stage import Part, Stage
from loadtest.harness.taps import Tap
from lore.cli.fleet import free_ports

STORM_CHUNKS = 100
GIVE_UP_S = 60.0
HEAD = ("log", "missing bytes", "side", "first byte p50 ms", "p99 ms", "p99 to a GET", "all p50 ms")


class Timed(Tap):
    """Knows when its first byte of text came, and its last."""

    def __init__(self, request: bytes, first: bytes, last: bytes) -> None:
        super().__init__(request)
        self.began_s = time.perf_counter()
        self.first_s = 0.0
        self.done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._first, self._last = first, last
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        seen = self._tail + data
        if not self.first_s and self._first in seen:
            self.first_s = now - self.began_s
        if self.first_s and self._last in seen and not self.done.done():
            self.done.set_result(now - self.began_s)
        self._tail = seen[-64:]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"cut off after {self._tail!r}"))


@dataclass
class Visit:
    """What is asked of whom, and what shows that it is there."""

    port: int
    request: bytes
    first: bytes
    last: bytes

    @classmethod
    def resume(cls, port: int, name: str, chunks: int) -> "Visit":
        had = chunks // 2
        accept = "Accept: text/event-stream"
        request = taps.get(f"/v1/streams/{name}", accept, f"Last-Event-ID: {had}")
        return cls(port, request, b"id: %d\n" % (had + 1), b"id: %d\n" % chunks)

    @classmethod
    def bare(cls, port: int, path: str) -> "Visit":
        return cls(port, taps.get(path), b"\r\n\r\nx", b"xy")

    async def pay(self) -> tuple[float, float]:
        """Seconds to the first byte and to the last."""
        tap: Timed = await taps.open_tap(
            self.port, lambda: Timed(self.request, self.first, self.last)
        )
        async with asyncio.timeout(GIVE_UP_S):
            whole_s = await tap.done
        tap.transport.abort()
        return tap.first_s, whole_s


@dataclass
class Seen:
    first_s: list[float] = field(default_factory=list[float])
    whole_s: list[float] = field(default_factory=list[float])

    def add(self, times: tuple[float, float]) -> None:
        self.first_s.append(times[0])
        self.whole_s.append(times[1])

    def row(self, what: str, size: int, side: str, bare: "Seen") -> list[str]:
        p50_s, p99_s = quantile(self.first_s, 0.5), quantile(self.first_s, 0.99)
        return [
            what,
            f"{size:,}",
            side,
            f"{p50_s * 1000:.2f}",
            f"{p99_s * 1000:.2f}",
            ratio(p99_s, quantile(bare.first_s, 0.99)),
            f"{quantile(self.whole_s, 0.5) * 1000:.2f}",
        ]


def missing_bytes(chunks: int) -> int:
    return sum(
        len(b'id: %d\ndata: {"seq": %d, "text": " some words"}\n\n' % (seq, seq))
        for seq in range(chunks // 2 + 1, chunks + 1)
    )


class Bench:
    """Two edges, the bare server beside them, and logs."""

    async def start(self, stage: Stage) -> None:
        self.stage = stage
        _, self.first_port = await stage.edge()
        self.edge, self.port = await stage.edge(linger_s=0.001)
        (self.bare_port,) = free_ports(1)
        self.bare: Part = await stage.script(
            "loadtest.harness.pipe_server", self.bare_port, self.bare_port, stage.valkey_port
        )

    async def visits(self, chunks: int, requests: int) -> dict[str, list[Visit]]:
        url, size = self.stage.valkey_url, missing_bytes(chunks)
        names = await make_logs(url, self.first_port, requests, chunks, ack="none")
        key = f"bytes-{size}"
        self.stage.client.set(key, "x" * (size - 1) + "y")
        return {
            "GET from memory": [Visit.bare(self.bare_port, f"/bytes/{size}")] * requests,
            "GET from Valkey": [Visit.bare(self.bare_port, f"/key/{key}")] * requests,
            "Lore": [Visit.resume(self.port, name, chunks) for name in names],
        }

    async def one_by_one(self, chunks: int, times: int) -> dict[str, Seen]:
        visits = await self.visits(chunks, 1)
        seen = {side: Seen() for side in visits}
        for number in range(times):
            for side, (visit,) in visits.items():
                got = await visit.pay()
                if number >= times // 20:  # the first ones warm the caches
                    seen[side].add(got)
                await asyncio.sleep(random.uniform(0.002, 0.006))  # the edge lets go
        return seen

    async def at_once(self, readers: int, rounds: int) -> dict[str, Seen]:
        visits = await self.visits(STORM_CHUNKS, readers)
        seen = {side: Seen() for side in visits}
        for _ in range(rounds):
            for side, them in visits.items():
                began_s = time.perf_counter()
                for got in await asyncio.gather(*(self._rush(v, began_s) for v in them)):
                    seen[side].add(got)
                await asyncio.sleep(0.5)
        return seen

    async def _rush(self, visit: Visit, began_s: float) -> tuple[float, float]:
        late_s = time.perf_counter() - began_s
        first_s, whole_s = await visit.pay()
        return first_s + late_s, whole_s + late_s


async def run(report: Report, lengths: Sequence[int], times: int, storm: int, rounds: int) -> None:
    rows: list[list[str]] = []
    async with Stage() as stage:
        bench = Bench()
        await bench.start(stage)
        for chunks in lengths:
            seen = await bench.one_by_one(chunks, times)
            rows += _rows(f"{chunks:,} chunks", missing_bytes(chunks), seen)
        if storm:
            seen = await bench.at_once(storm, rounds)
            rows += _rows(f"{storm:,} at once", missing_bytes(STORM_CHUNKS), seen)
    report.table(HEAD, rows)


def _rows(what: str, size: int, seen: dict[str, Seen]) -> list[list[str]]:
    bare = seen["GET from memory"]
    return [some.row(what, size, side, bare) for side, some in seen.items()]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--times", type=int, default=300, help="returns for each length")
    parser.add_argument("--storm", type=int, default=1000, help="returns at once; 0 for none")
    chosen = parser.parse_args()
    taps.raise_file_limit()
    report = Report("Latency of a resume", "python -m loadtest.bench.resume")
    report.say(
        f"{chosen.times} returns for each length, one at a time, by turns with the bare GETs; "
        f"{chosen.rounds} times {chosen.storm:,} at once, with logs of {STORM_CHUNKS} chunks."
    )
    uvloop.run(run(report, chosen.chunks, chosen.times, chosen.storm, chosen.rounds))
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()

"""What one edge carries: memory of an idle connection, and the cost of a chunk in company.

Idle: every stream has had some chunks, then the generator (or producer) is stopped and the edge
is weighed. Active: from 10 to 5,000 streams, with no more chunks a second in all than two cores
shared with everything else can make. Several edges stand for uvicorn's workers, which an edge
does not have: it is one process, and more of them stand behind a balancer.

Usage: python -m loadtest.bench.scale [--streams 10 100 1000 2000 5000] [--idle 2000]
"""

import asyncio
import os
import signal
from typing import Any

import uvloop

from loadtest.harness import taps
from loadtest.harness.record import Report, middle, options, ratio
from loadtest.harness.sides import Load, Lore, Pipe, Sample, measure
from loadtest.harness.stage import Stage

RATE = 20.0
CHUNKS_PER_S = 5000.0  # of all streams together, at most
SIDES: dict[str, Any] = {"pipe": Pipe, "Lore": Lore}
WARM = 50  # connections before the edge is weighed for the first time
IDLE_S = 5.0


def rate(streams: int) -> float:
    return min(RATE, CHUNKS_PER_S / streams)


async def weigh(make: Any, connections: int) -> tuple[float, float]:
    """KiB for each idle connection, and CPU µs a second for it."""
    async with Stage() as stage:
        side = make(stage)
        # Few chunks a second: what is weighed is not a backlog.
        load = Load(WARM, 2.0, 30.0, later=connections)
        warm = await side.start(load)
        await taps.until_reading(warm, 3)
        server = side.server if isinstance(side, Pipe) else side.edges[0][0]
        before_kib = server.rss_kib()
        more = await side.join(connections)
        await taps.until_reading(more, 3)
        await asyncio.sleep(1.0)
        source = side.producer if isinstance(side, Pipe) else side.generator
        os.kill(source.pid, signal.SIGSTOP)
        await asyncio.sleep(1.0)
        used_s = server.cpu_s()
        await asyncio.sleep(IDLE_S)
        used_s = server.cpu_s() - used_s
        kib = (server.rss_kib() - before_kib) / connections
        taps.leave([*warm, *more])
        os.kill(source.pid, signal.SIGCONT)
        return kib, used_s / IDLE_S / connections * 1e6


def weigh_both(report: Report, connections: int, rounds: int) -> None:
    weights: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, make in SIDES.items():
            weights[name].append(uvloop.run(weigh(make, connections)))
    report.table(
        ("idle connections", "side", "KiB a connection", "CPU µs a second and connection"),
        [
            [
                f"{connections:,}",
                name,
                f"{middle(kib for kib, _ in some):.1f}",
                f"{middle(cpu for _, cpu in some):.1f}",
            ]
            for name, some in weights.items()
        ],
    )


def run_active(report: Report, streams: list[int], seconds: float, rounds: int) -> None:
    measured: dict[tuple[int, str], list[Sample]] = {}
    for count in streams:
        load = Load(count, rate(count), seconds)
        for _ in range(rounds):
            for name, make in SIDES.items():
                turn = uvloop.run(measure(make, load))
                measured.setdefault((count, name), []).append(turn)
    first = {name: _edge_us(measured[streams[0], name]) for name in SIDES}
    report.table(
        ("streams", "tokens/s each", "side", "chunks/s", "edge µs a chunk", f"to {streams[0]}"),
        [
            [
                f"{count:,}",
                f"{rate(count):g}",
                name,
                f"{middle(s.chunks / s.seconds for s in some):,.0f}",
                f"{_edge_us(some):.1f}",
                ratio(_edge_us(some), first[name]),
            ]
            for (count, name), some in measured.items()
        ],
    )


def run_edges(report: Report, count: int, seconds: float, rounds: int) -> None:
    samples: dict[int, list[Sample]] = {1: [], 2: [], 4: []}
    for _ in range(rounds):
        for edges, some in samples.items():
            load = Load(count, rate(count), seconds, edges=edges)
            some.append(uvloop.run(measure(Lore, load)))
    report.table(
        ("edges", "streams", "chunks/s", "µs a chunk, all edges", "valkey µs a chunk"),
        [
            [
                str(edges),
                f"{count:,}",
                f"{middle(s.chunks / s.seconds for s in some):,.0f}",
                f"{_edge_us(some):.1f}",
                f"{middle(s.us_per_chunk('valkey') for s in some):.1f}",
            ]
            for edges, some in samples.items()
        ],
    )


def _edge_us(samples: list[Sample]) -> float:
    return middle(sample.us_per_chunk("edge") for sample in samples)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[10, 100, 1000, 2000, 5000])
    parser.add_argument("--idle", type=int, default=2000, help="idle connections")
    parser.add_argument("--seconds", type=float, default=8.0)
    chosen = parser.parse_args()
    taps.raise_file_limit()
    report = Report("What one edge carries", "python -m loadtest.bench.scale")
    report.say(
        f"Medians of {chosen.rounds} turns of {chosen.seconds:g} s; every stream has a request and "
        "a connection of its own, and its window does not bind (ack `none`)."
    )
    weigh_both(report, chosen.idle, chosen.rounds)
    run_active(report, chosen.streams, chosen.seconds, chosen.rounds)
    run_edges(report, 1000, chosen.seconds, chosen.rounds)
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()

"""What acknowledgments cost: how many an edge takes, and what they add to a chunk.

First 64 connections acknowledge as fast as they are answered, beside a raw ASGI application on
the same server that parses the same body and sets a key in Valkey. Then 100 streams run with
acks of each kind: none, by the edge from the socket, and by clients as ours do it (one for each
quarter of the window, or 0.4 s after the first new chunk).

Usage: python -m loadtest.bench.acks [--streams 100] [--connections 64]
"""

import asyncio
from collections.abc import Callable
from typing import Any

import uvloop

from loadtest.harness import taps
from loadtest.harness.ackers import AckingTap, Hammer, Posts
from loadtest.harness.logs import make_logs
from loadtest.harness.record import Report, middle, options, quantile, ratio
from loadtest.harness.sides import Load, Lore, Pipe, Sample, measure
from loadtest.harness.stage import Part, Stage
from lore.cli.fleet import free_ports

RATE = 20.0
LOG_CHUNKS = 10_000
WARM_S = 0.5


class AckingLore(Lore):
    """Its readers acknowledge as our own clients do."""

    async def _join(self, port: int, numbers: range) -> list[taps.Tap]:
        opened: list[taps.Tap] = []
        for number in numbers:
            posts: Posts = await taps.open_tap(port, Posts)
            request = taps.ask(number, ack="client", max_tokens=self._load.length)
            opened.append(await taps.open_tap(port, lambda r=request, p=posts: AckingTap(r, p)))
        return opened


class AckingPipe(Pipe):
    """A pipe whose readers acknowledge as often; its server sets a key for each ack."""

    async def _join(self, port: int, numbers: range) -> list[taps.Tap]:
        opened: list[taps.Tap] = []
        for number in numbers:
            name, posts = f"s{number}", await taps.open_tap(port, Posts)
            asked = taps.get(f"/{name}"), posts, f"/ack/{name}"
            opened.append(await taps.open_tap(port, lambda a=asked: AckingTap(*a)))
        return opened


async def hammer(
    server: Part, valkey: Part, port: int, paths: list[str], seconds: float
) -> tuple[float, ...]:
    """Acks a second; p50 and p99 in ms; CPU µs an ack in the server and in Valkey."""
    hammers: list[Hammer] = [
        await taps.open_tap(port, lambda path=path: Hammer(path, LOG_CHUNKS)) for path in paths
    ]
    await asyncio.sleep(WARM_S)
    before = [len(h.latencies_s) for h in hammers]
    server_s, valkey_s = server.cpu_s(), valkey.cpu_s()
    await asyncio.sleep(seconds)
    server_s, valkey_s = server.cpu_s() - server_s, valkey.cpu_s() - valkey_s
    measured = [s for h, skip in zip(hammers, before, strict=True) for s in h.latencies_s[skip:]]
    for each in hammers:
        each.transport.abort()
    return (
        len(measured) / seconds,
        quantile(measured, 0.5) * 1000,
        quantile(measured, 0.99) * 1000,
        server_s / len(measured) * 1e6,
        valkey_s / len(measured) * 1e6,
    )


async def run_hammers(report: Report, connections: int, seconds: float, rounds: int) -> None:
    turns: dict[str, list[tuple[float, ...]]] = {"bare POST": [], "Lore": []}
    async with Stage() as stage:
        edge, port = await stage.edge()
        (bare_port,) = free_ports(1)
        module = "loadtest.harness.pipe_server"
        bare = await stage.script(module, bare_port, bare_port, stage.valkey_port)
        names = await make_logs(stage.valkey_url, port, connections, LOG_CHUNKS, ack="client")
        for _ in range(rounds):
            bare_paths = [f"/ack/{name}" for name in names]
            turn = await hammer(bare, stage.valkey, bare_port, bare_paths, seconds)
            turns["bare POST"].append(turn)
            paths = [f"/v1/streams/{name}/ack" for name in names]
            turns["Lore"].append(await hammer(edge, stage.valkey, port, paths, seconds))
    rows: list[list[str]] = []
    for side, some in turns.items():
        acks, p50_ms, p99_ms, server_us, valkey_us = map(middle, zip(*some, strict=True))
        bare_us = middle(turn[3] + turn[4] for turn in turns["bare POST"])
        costs = [f"{us:.1f}" for us in (server_us, valkey_us)]
        waits = [f"{ms:.2f}" for ms in (p50_ms, p99_ms)]
        to_bare = ratio(server_us + valkey_us, bare_us)
        rows.append([side, f"{acks:,.0f}", *waits, *costs, to_bare])
    head = ("side", "acks/s", "p50 ms", "p99 ms", "edge µs an ack", "valkey µs an ack", "to bare")
    report.table(head, rows)


def run_streams(report: Report, streams: int, seconds: float, rounds: int) -> None:
    kinds: dict[str, tuple[Callable[[Stage], Any], str]] = {
        "bare pipe": (Pipe, "none"),
        "bare pipe, as many acks": (AckingPipe, "none"),
        "Lore, ack none": (Lore, "none"),
        "Lore, ack socket": (Lore, "socket"),
        "Lore, ack client": (AckingLore, "client"),
    }
    samples: dict[str, list[Sample]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, (make, ack) in kinds.items():
            load = Load(streams, RATE, seconds, ack=ack)
            samples[kind].append(uvloop.run(measure(make, load)))
    none_us = middle(sample.us_per_chunk() for sample in samples["Lore, ack none"])
    rows: list[list[str]] = []
    for kind, some in samples.items():
        each = [middle(s.us_per_chunk(part) for s in some) for part in some[0].cpu_s]
        total_us = middle(s.us_per_chunk() for s in some)
        chunks = middle(s.chunks for s in some)
        added = f"{total_us - none_us:+.1f}" if kind.startswith("Lore") else "-"
        rows.append(
            [kind, f"{chunks / some[0].seconds:,.0f}"]
            + [f"{middle(s.calls_per_chunk('fcall') for s in some):.2f}"]
            + [f"{us:.1f}" for us in each]
            + [f"{total_us:.1f}", added]
        )
    pipe_us, lore_us = (
        middle(s.us_per_chunk() for s in samples[kind])
        for kind in ("bare pipe, as many acks", "Lore, ack client")
    )
    parts = [f"{part} µs" for part in ("generator", "valkey", "edge")]
    head = ("side", "chunks/s", "function calls a chunk", *parts, "CPU µs a chunk", "acks' part")
    report.table(head, rows)
    report.say(
        f"With clients' acks, a chunk costs {lore_us / pipe_us:.2f} times a pipe's whose readers "
        "acknowledge as often."
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8.0)
    chosen = parser.parse_args()
    taps.raise_file_limit()
    report = Report("What acknowledgments cost", "python -m loadtest.bench.acks")
    report.say(
        f"Medians of {chosen.rounds} turns of {chosen.seconds:g} s. "
        f"{chosen.connections} connections acknowledge; then {chosen.streams} streams at "
        f"{RATE:g} tokens a second."
    )
    uvloop.run(run_hammers(report, chosen.connections, chosen.seconds, chosen.rounds))
    run_streams(report, chosen.streams, chosen.seconds, chosen.rounds)
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()

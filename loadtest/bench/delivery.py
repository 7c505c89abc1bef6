"""What a chunk costs on its way from the generator to its reader, beside a bare pipe.

Both have the same engine and the same readers. The pipe publishes each piece of text, and its
server passes it on: no log, no acks, no leases. "pipe + log" adds each to a stream of Valkey
first, which is the least that a resume needs. Latency is from the append (or PUBLISH) in the
producing process to the bytes in the reader. CPU is that of the generator's event loop (not of
the synthetic engine's thread), of Valkey and of the edge.

Usage: python -m loadtest.bench.delivery [--streams 1 100 1000] [--seconds 8]
"""

from functools import partial
from typing import Any

import uvloop

from loadtest.harness import taps
from loadtest.harness.record import Report, middle, options, quantile, ratio
from loadtest.harness.sides import Load, Lore, Pipe, Sample, measure

RATE = 20.0
PARTS = ("generator", "valkey", "edge")
SIDES: dict[str, Any] = {"pipe": Pipe, "pipe + log": partial(Pipe, log=True), "Lore": Lore}
HEAD = (
    "streams",
    "side",
    "chunks/s",
    "p50 ms",
    "p99 ms",
    *(f"{part} µs" for part in PARTS),
    "CPU µs a chunk",
    "to the pipe",
    "p99 to the pipe",
    "calls a chunk",
)


def row(name: str, samples: list[Sample], pipe: list[Sample], streams: int) -> list[str]:
    side = SIDES[name]
    calls = ("fcall",) if side is Lore else ("publish", "xadd")
    p99_s, cpu_us = _p99(samples), _cpu(samples)
    return [
        f"{streams:,}",
        name,
        f"{middle(s.chunks / s.seconds for s in samples):,.0f}",
        f"{middle(quantile(s.latencies_s, 0.5) for s in samples) * 1000:.2f}",
        f"{p99_s * 1000:.2f}",
        *(f"{middle(s.us_per_chunk(part) for s in samples):.1f}" for part in PARTS),
        f"{cpu_us:.1f}",
        ratio(cpu_us, _cpu(pipe)),
        ratio(p99_s, _p99(pipe)),
        f"{middle(s.calls_per_chunk(*calls) for s in samples):.2f}",
    ]


def _p99(samples: list[Sample]) -> float:
    return middle(quantile(sample.latencies_s, 0.99) for sample in samples)


def _cpu(samples: list[Sample]) -> float:
    return middle(sample.us_per_chunk() for sample in samples)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--seconds", type=float, default=8.0)
    chosen = parser.parse_args()
    taps.raise_file_limit()
    report = Report("What a delivered chunk costs", "python -m loadtest.bench.delivery")
    report.say(
        f"{RATE:g} tokens a second a stream, {chosen.seconds:g} s a turn, "
        f"medians of {chosen.rounds} turns of each side. The window does not bind (ack `none`). "
        "Calls are function calls (Lore), PUBLISH and XADD (pipe)."
    )
    rows: list[list[str]] = []
    for streams in chosen.streams:
        load = Load(streams, RATE, chosen.seconds)
        samples: dict[str, list[Sample]] = {name: [] for name in SIDES}
        for _ in range(chosen.rounds):
            for name, make in SIDES.items():
                samples[name].append(uvloop.run(measure(make, load)))
        rows += [row(name, some, samples["pipe"], streams) for name, some in samples.items()]
    report.table(HEAD, rows)
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()

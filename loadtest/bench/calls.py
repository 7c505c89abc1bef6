"""How many function calls a chunk takes, in the generator's event loop and in the edge's.

A count does not depend on how busy the machine is, so it shows whether a change takes work away
where times are too noisy. ``ours`` are Lore's functions, ``theirs`` those of libraries that are
written in Python, ``builtins`` those in C. The generator's engine has a thread of its own, which
is not counted.

Usage: python -m loadtest.bench.calls [--streams 100] [--ack none] [--seconds 4] [--top 30]
"""

import argparse
import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from loadtest.bench.acks import AckingLore
from loadtest.harness import taps
from loadtest.harness.record import Report, options
from loadtest.harness.sides import SETTLE_S, Load, Lore, wait_for
from loadtest.harness.stage import Part, Stage

RATE = 20.0
ROOT = str(Path(__file__).parents[2])
KINDS = ("ours", "theirs", "builtins")
Calls = Counter[tuple[str, str]]
"""By kind and function."""


async def count(load: Load) -> tuple[int, dict[str, Calls]]:
    """The chunks that readers got while calls were counted, and the calls by part."""
    async with Stage(counted=True) as stage:
        side = (AckingLore if load.ack == "client" else Lore)(stage)
        readers = await side.start(load)
        await taps.until_reading(readers, 3)
        await asyncio.sleep(SETTLE_S)
        parts = {"generator": side.generator, "edge": side.edges[0][0]}
        before = _chunks(readers)
        _signal(parts)
        await asyncio.sleep(load.seconds)
        _signal(parts)
        chunks = _chunks(readers) - before
        paths = {name: stage.folder / str(part.pid) for name, part in parts.items()}
        calls = {name: _read(await asyncio.to_thread(wait_for, p)) for name, p in paths.items()}
        taps.leave(readers)
    return chunks, calls


def _chunks(readers: list[taps.Tap]) -> int:
    return sum(sum(1 for _ in tap.chunks()) for tap in readers)


def _signal(parts: dict[str, Part]) -> None:
    for part in parts.values():
        os.kill(part.pid, signal.SIGUSR2)


def _read(text: str) -> Calls:
    calls: Calls = Counter()
    functions: list[tuple[str, int, str, int]] = json.loads(text)
    for file, _, function, count in functions:
        if not file:
            calls["builtins", function] += count
        elif file.startswith(ROOT) and "site-packages" not in file:
            calls["ours", f"{Path(file).stem}.{function}"] += count
        else:
            calls["theirs", f"{Path(file).stem}.{function}"] += count
    return calls


def rows(chunks: int, calls: dict[str, Calls]) -> list[list[str]]:
    return [
        [
            part,
            f"{sum(some.values()) / chunks:.1f}",
            *(
                f"{sum(n for (k, _), n in some.items() if k == kind) / chunks:.1f}"
                for kind in KINDS
            ),
        ]
        for part, some in calls.items()
    ]


def main() -> None:
    parser: argparse.ArgumentParser = options(__doc__)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--ack", default="none", choices=("none", "socket", "client"))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--top", type=int, default=0, help="also print so many functions a part")
    chosen = parser.parse_args()
    taps.raise_file_limit()
    load: Any = Load(chosen.streams, RATE, chosen.seconds, chosen.ack)
    chunks, calls = uvloop.run(count(load))
    report = Report("How many calls a chunk takes", "python -m loadtest.bench.calls")
    report.say(
        f"{chosen.streams} streams of {RATE:g} tokens a second, ack `{chosen.ack}`, "
        f"{chosen.seconds:g} s, {chunks:,} chunks. Function calls a chunk in the event loop."
    )
    report.table(("part", "calls", *KINDS), rows(chunks, calls))
    for part, some in calls.items():
        for (kind, function), number in some.most_common(chosen.top):
            print(f"{part:10} {number / chunks:7.2f} {kind:9} {function}")
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()

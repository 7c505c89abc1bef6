"""What traces cost: CPU of an edge and a generator for each chunk, with and without them.

Both pairs of processes stand side by side and take turns, so that whatever else the machine
does falls on both alike. Every request is sampled, and a collector takes the spans.
Usage: python -m loadtest.bench.tracing [ROUNDS]
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from statistics import median

import httpx
import psutil

from tests.faults.fleet import Fleet
from tests.services.tracing_harness import collector

STREAMS = 100
ASKED = {"question": "What is a list?", "ack": "none", "max_tokens": 300}
STREAM = {"Accept": "text/event-stream"}
GENERATOR = {"synthetic_rate": 50, "synthetic_length": 300, "coalesce_delay_s": 0}


async def read(http: httpx.AsyncClient, url: str) -> int:
    """The chunks of one answer."""
    async with http.stream("POST", f"{url}/v1/streams", json=ASKED, headers=STREAM) as answer:
        answer.raise_for_status()
        return sum([line.startswith("id:") async for line in answer.aiter_lines()])


def cpu_s(fleet: Fleet) -> float:
    """Of edge and generator."""
    times = [psutil.Process(part.pid).cpu_times() for part in [*fleet.edges, *fleet.generators]]
    return sum(time.user + time.system for time in times)


async def round_of(fleet: Fleet) -> float:
    """Microseconds of CPU for each chunk."""
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=limits) as http:
        before_s = cpu_s(fleet)
        chunks = sum(await asyncio.gather(*(read(http, fleet.readers[0]) for _ in range(STREAMS))))
        await asyncio.sleep(1)  # spans are still on their way
        return (cpu_s(fleet) - before_s) / chunks * 1e6


async def main(rounds: int) -> None:
    with collector() as taken:
        async with AsyncExitStack() as stack:
            plain = await stack.enter_async_context(
                Fleet(generators=1, edges=1, generator=GENERATOR)
            )
            os.environ |= {
                "OTEL_EXPORTER_OTLP_ENDPOINT": taken.url,
                "OTEL_BSP_SCHEDULE_DELAY": "500",
            }
            traced = await stack.enter_async_context(
                Fleet(generators=1, edges=1, generator=GENERATOR)
            )
            found: dict[str, list[float]] = {"off": [], "on": []}
            turns = [("off", plain), ("on", traced)]
            for _ in range(rounds + 1):
                for name, fleet in turns:
                    found[name].append(await round_of(fleet))
                turns.reverse()
            assert taken.names() >= {"POST /v1/streams", "queue"}
        for fleet in (plain, traced):
            fleet.forget_logs()
    off, on = (found[name][1:] for name in ("off", "on"))  # the first warms up
    print("| round | off | on |\n|---|---|---|")
    for number, pair in enumerate(zip(off, on, strict=True), 1):
        print(f"| {number} | {pair[0]:.0f} | {pair[1]:.0f} |")
    ratio = median(one / other for one, other in zip(on, off, strict=True))
    print(f"| median | {median(off):.0f} | {median(on):.0f} |")
    print(f"\nratio, median of the rounds: {ratio:.3f}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 6))

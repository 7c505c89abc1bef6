"""The memory of an edge and a generator over many streams."""

import asyncio
import itertools

from lore_client import Reader, ReaderConfig
from tests.faults.fleet import Fleet
from tests.faults.report import markdown

AT_ONCE = 40
ANSWER_TOKENS = 12
SAMPLES = 10


async def leaks(streams: int) -> str:
    """A table: resident memory before the first stream, and after each tenth of them."""
    generator = {"synthetic_rate": 1000, "synthetic_length": ANSWER_TOKENS}
    rows: list[tuple[str, ...]] = []
    async with Fleet(generators=1, edges=1, generator=generator) as fleet:
        (edge,), (source,) = fleet.edges, fleet.generators

        def sample(done: int) -> None:
            rows.append((f"{done:,}", f"{edge.rss_mib():.1f}", f"{source.rss_mib():.1f}"))
            print(*rows[-1], sep="  ", flush=True)

        sample(0)
        numbers = itertools.count(1)
        async with Reader(fleet.readers, config=ReaderConfig(patience_s=300)) as reader:
            for part in range(1, SAMPLES + 1):
                last = streams * part // SAMPLES
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(AT_ONCE):
                        tasks.create_task(_read_until(reader, numbers, last))
                sample(last)
                numbers = itertools.count(last + 1)
        fleet.forget_logs()
    return markdown(("streams", "edge MiB", "generator MiB"), rows)


async def _read_until(reader: Reader, numbers: "itertools.count[int]", last: int) -> None:
    while (number := next(numbers)) <= last:
        asked = await reader.create(f"What is the number {number}?")
        async for _ in reader.stream(asked.request_id):
            pass

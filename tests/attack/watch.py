"""What others notice of an attack: an edge's memory, and the pauses of those who read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import psutil

from lore_client import Reader, Text
from tests.faults.fleet import Fleet, Part
from tests.faults.readers import READER
from tests.services.edge_harness import WAIT_S

SAMPLE_S = 0.05


@dataclass
class Watch:
    edge: Part
    first_mib: float = 0.0
    most_mib: float = 0.0
    pauses_s: list[float] = field(default_factory=list[float])
    """Each reader's longest since ``reset``."""
    heard: list[asyncio.Event] = field(default_factory=list[asyncio.Event])

    @property
    def grown_mib(self) -> float:
        return self.most_mib - self.first_mib

    @property
    def longest_s(self) -> float:
        return max(self.pauses_s)

    def reset(self) -> None:
        self.pauses_s = [0.0] * len(self.pauses_s)
        self.first_mib = self.most_mib = self.edge.rss_mib()

    async def all_go_on(self) -> None:
        """Wait until each reader has been given more."""
        for event in self.heard:
            event.clear()
        async with asyncio.timeout(WAIT_S):
            for event in self.heard:
                await event.wait()

    async def sample(self) -> None:
        process = psutil.Process(self.edge.pid)
        while True:
            self.most_mib = max(self.most_mib, process.memory_info().rss / 2**20)
            await asyncio.sleep(SAMPLE_S)  # memory tells of no peak by itself


@contextlib.asynccontextmanager
async def watched(fleet: Fleet, readers: int) -> AsyncIterator[Watch]:
    """So many readers of answers that never end while this lasts."""
    edge = fleet.edges[0]
    heard = [asyncio.Event() for _ in range(readers)]
    watch = Watch(edge, pauses_s=[0.0] * readers, heard=heard)

    async def read(number: int) -> None:
        now = asyncio.get_running_loop().time
        async with Reader([f"http://127.0.0.1:{edge.serving_port}"], config=READER) as reader:
            while True:
                asked = await reader.create(question=f"{number}", max_tokens=4096)
                last = None
                async for event in reader.stream(asked.request_id):
                    if isinstance(event, Text):
                        at = now()
                        if last is not None:
                            watch.pauses_s[number] = max(watch.pauses_s[number], at - last)
                        last = at
                        heard[number].set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(read(number)) for number in range(readers)]
        tasks.append(group.create_task(watch.sample()))
        await watch.all_go_on()
        watch.reset()
        yield watch
        for task in tasks:
            task.cancel()

"""A Valkey, a generator and edges, as processes that can be weighed."""

import asyncio
import itertools
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from lore.cli.fleet import free_ports, readiness
from tests.faults.crowd import Question
from tests.faults.fleet import Part, Valkey

CALL_S = 60.0
LOOK_EVERY_S = 0.1


class Stand:
    """A Valkey, a generator and edges without proxies between them: a proxy in this process
    would be measured as well."""

    def __init__(
        self, edges: int, generator: dict[str, Any], edge: dict[str, Any] | None = None
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lore-storm-"))
        self.valkey = Valkey(self.folder)
        self.ports = free_ports(edges)
        health = free_ports(edges + 1)
        self._health_ports = health[1:]
        self.generator = self._part("generator", health[0], {"engine": "synthetic"} | generator)
        one = {"auth": "off"} | (edge or {})
        self.edges = [
            self._part("edge", at, one | {"port": port, "edge_id": f"edge-{port}"})
            for at, port in zip(self._health_ports, self.ports, strict=True)
        ]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.callback(shutil.rmtree, self.folder)
        self._stack.push_async_callback(self.valkey.admin.aclose)
        for part in (self.valkey, self.generator, *self.edges):
            self._stack.push_async_callback(_end, part)
        await self.valkey.restart()
        await asyncio.gather(*(part.restart() for part in (self.generator, *self.edges)))
        limits = httpx.Limits(max_connections=16)
        self.http = await self._stack.enter_async_context(
            httpx.AsyncClient(timeout=CALL_S, limits=limits, trust_env=False)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ask(
        self, count: int, *, length_tokens: int | None = None, **parameters: Any
    ) -> list[Question]:
        """Accepted requests, by turns on each edge."""
        questions = [Question.number(n, length_tokens, **parameters) for n in range(count)]
        ports = itertools.cycle(self.ports)
        await asyncio.gather(*map(self._ask, questions, ports))
        return questions

    async def _ask(self, question: Question, port: int) -> None:
        answer = await self.http.post(f"http://127.0.0.1:{port}/v1/streams", json=question.body)
        question.request_id = answer.raise_for_status().json()["request_id"]

    async def until_done(self, question: Question) -> None:
        url = f"http://127.0.0.1:{self.ports[0]}/v1/streams/{question.request_id}"
        while (await self.http.get(url)).raise_for_status().json()["status"] != "done":  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)

    def watch(self, edge: int) -> "Watch":
        return Watch(self.edges[edge], f"http://127.0.0.1:{self._health_ports[edge]}/livez")

    def _part(self, service: str, health_port: int, settings: dict[str, Any]) -> Part:
        chosen = {"valkey_url": self.valkey.url, "health_port": health_port} | settings
        env = {f"LORE_{key.upper()}": str(value) for key, value in chosen.items()}
        argv = [sys.executable, "-m", f"lore_{service}"]
        log = self.folder / f"{service}-{health_port}.log"
        return Part(f"{service}-{health_port}", argv, env, log, readiness(health_port))


async def _end(part: Part) -> None:
    if part.is_running():
        await part.die()


class Watch:
    """Asks an edge all the while how it is, and keeps its highest memory and its CPU time."""

    def __init__(self, edge: Part, livez: str) -> None:
        self.peak_mib = 0.0
        self.cpu_s = 0.0
        self.answers = Counter[int]()
        self._edge = edge
        self._livez = livez

    async def __aenter__(self) -> Self:
        self.cpu_s -= self._cpu_s()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cpu_s += self._cpu_s()
        self._look()
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()  # raises what ended it

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=CALL_S, trust_env=False) as http:
            while True:
                self._look()
                self.answers[(await http.get(self._livez)).status_code] += 1
                await asyncio.sleep(LOOK_EVERY_S)

    def _look(self) -> None:
        self.peak_mib = max(self.peak_mib, self._edge.rss_mib())

    def _cpu_s(self) -> float:
        used = psutil.Process(self._edge.pid).cpu_times()
        return used.user + used.system

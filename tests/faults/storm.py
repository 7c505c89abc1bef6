"""Thousands of connections: idle, back at once after an edge was killed, sent away, and slow.

``python -m tests.faults.storm --readers 2000`` prints what it measured.
"""

import argparse
import asyncio
import itertools
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import uvloop

from lore.cli.fleet import readiness
from lore.request import Ack
from lore_edge.settings import EdgeSettings
from tests.faults.crowd import Crowd, Question, until
from tests.faults.fleet import Part, Valkey, free_ports

GRACE_S = EdgeSettings().grace_s
STEP_S = 120.0
"""No step of a run takes longer, on the slowest machine."""
WINDOW_TOKENS = 16
READERS_OF_ONE = 20
SAMPLE = 20
SLOW_TOKENS = 10_000
SLOW_REQUESTS = 2
WARM_TOKENS = 2000
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
        self.edges = [
            self._part("edge", at, {"port": port, "edge_id": f"edge-{port}"} | (edge or {}))
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
            httpx.AsyncClient(timeout=STEP_S, limits=limits, trust_env=False)
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
    """Asks an edge all the while how it is, and keeps its highest memory."""

    def __init__(self, edge: Part, livez: str) -> None:
        self.peak_mib = 0.0
        self.answers = Counter[int]()
        self._edge = edge
        self._livez = livez

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=STEP_S, trust_env=False) as http:
            while True:
                self.peak_mib = max(self.peak_mib, self._edge.rss_mib())
                self.answers[(await http.get(self._livez)).status_code] += 1
                await asyncio.sleep(LOOK_EVERY_S)


@dataclass
class Storm:
    """What a run of ``storm`` saw. Times are in seconds."""

    readers: int
    requests: int
    shared_kib: float
    """Memory of an edge for one more idle reader of a request that others read as well."""
    own_kib: float
    """The same for a reader with a request of its own."""
    back_s: list[float]
    """From the kill to the reader's next stream, each reader of the killed edge."""
    before_mib: float
    idle_mib: float
    peak_mib: float
    """The surviving edge's memory: without readers, with half of them, with all at most."""
    livez: Counter[int]
    drain_s: float
    """From SIGTERM to the exit."""
    exit_status: int | None
    sent_away: int
    """Readers that the drained edge told to go elsewhere."""
    moved_s: list[float]
    """From SIGTERM to the reader's next stream."""
    finished: int
    """Readers whose answers were read to the end, once somebody acknowledged."""
    statuses: Counter[int]
    violations: list[str]


async def storm(readers: int) -> Storm:
    """Half of the readers share requests, and half have one each. All windows are closed."""
    raise_file_limit()
    loop = asyncio.get_running_loop()
    shared = max(1, readers // 2 // READERS_OF_ONE)
    async with Stand(2, {"synthetic_rate": 50}) as stand:
        crowd = Crowd(stand.ports)
        survivor = stand.edges[1]
        questions = await stand.ask(shared + readers // 2, window=WINDOW_TOKENS, ack=Ack.CLIENT)
        sizes = [survivor.rss_mib()]
        for some, times in ((questions[:shared], READERS_OF_ONE), (questions[shared:], 1)):
            async with asyncio.timeout(STEP_S):
                await crowd.join([question for question in some for _ in range(times)])
                await until(crowd.readers, lambda reader: reader.status == "paused")
            sizes.append(survivor.rss_mib())
        a_quarter = len(crowd.readers) / 4

        async with stand.watch(1) as watch, asyncio.timeout(STEP_S):
            lost = crowd.on(0)
            killed_at = loop.time()
            await stand.edges[0].die()
            await until(lost, lambda reader: reader.opened_at > killed_at)
            back_s = [reader.opened_at - killed_at for reader in lost]

        await stand.edges[0].restart()
        on_survivor = crowd.on(1)
        told = [reader.drains for reader in on_survivor]
        term_at = loop.time()
        survivor.send(signal.SIGTERM)
        async with asyncio.timeout(GRACE_S):
            await survivor.until_dead()
        drain_s = loop.time() - term_at
        async with asyncio.timeout(STEP_S):
            await until(crowd.readers, lambda reader: reader.opened_at > term_at)
        sent_away = sum(
            reader.drains > before for reader, before in zip(on_survivor, told, strict=True)
        )
        moved_s = [reader.opened_at - term_at for reader in on_survivor]

        finished = await _finish(stand, crowd, questions[:1] + questions[-SAMPLE:])
        crowd.leave()
    return Storm(
        readers=len(crowd.readers),
        requests=len(questions),
        shared_kib=(sizes[1] - sizes[0]) * 1024 / a_quarter,
        own_kib=(sizes[2] - sizes[1]) * 1024 / a_quarter,
        back_s=back_s,
        before_mib=sizes[0],
        idle_mib=sizes[2],
        peak_mib=watch.peak_mib,
        livez=watch.answers,
        drain_s=drain_s,
        exit_status=survivor.returncode,
        sent_away=sent_away,
        moved_s=moved_s,
        finished=finished,
        statuses=crowd.statuses,
        violations=crowd.violations,
    )


async def _finish(stand: Stand, crowd: Crowd, questions: list[Question]) -> int:
    """Open the windows of these requests; the number of readers that read to the end."""
    theirs = [reader for reader in crowd.readers if reader.question in questions]
    first = {reader.question.request_id: reader for reader in theirs}
    async with asyncio.timeout(STEP_S), asyncio.TaskGroup() as tasks:
        for reader in first.values():
            tasks.create_task(reader.acknowledge(stand.http))
        await until(theirs, lambda reader: reader.over)
    return len(theirs)


@dataclass
class Slow:
    """What a run of ``slow_readers`` saw of an edge's memory."""

    readers: int
    before_mib: float
    peak_mib: float
    stream_kib: float
    """What the edge had to send to each of them."""
    livez: Counter[int]
    violations: list[str]

    @property
    def each_kib(self) -> float:
        return (self.peak_mib - self.before_mib) * 1024 / self.readers


async def slow_readers(readers: int, **edge: Any) -> Slow:
    """They read nothing until the answers are complete, and then everything. Chunks are small:
    an edge's memory for bytes that wait is mostly what comes with each write."""
    raise_file_limit()
    generator = {
        "synthetic_rate": 2000,
        "synthetic_length": SLOW_TOKENS,
        "coalesce_chars": 8,
    }
    async with Stand(1, generator, edge) as stand:
        crowd = Crowd(stand.ports)
        asked = {"length_tokens": SLOW_TOKENS, "ack": Ack.NONE}
        async with asyncio.timeout(STEP_S):  # so that what is measured later is the readers alone
            await crowd.join(await stand.ask(SLOW_REQUESTS, max_tokens=WARM_TOKENS, **asked))
            await until(crowd.readers, lambda reader: reader.over)
        before = stand.edges[0].rss_mib()
        questions = await stand.ask(SLOW_REQUESTS, max_tokens=SLOW_TOKENS, **asked)
        async with stand.watch(0) as watch, asyncio.timeout(STEP_S):
            await crowd.join(
                [questions[number % SLOW_REQUESTS] for number in range(readers)], slow=True
            )
            for question in questions:
                await stand.until_done(question)
            for reader in crowd.readers:
                reader.read_on()
            await until(crowd.readers, lambda reader: reader.over)
    return Slow(
        readers=readers,
        before_mib=before,
        peak_mib=watch.peak_mib,
        stream_kib=crowd.readers[-1].body_bytes / 1024,
        livez=watch.answers,
        violations=crowd.violations,
    )


def raise_file_limit() -> None:
    """A reader is a file descriptor; the usual soft limit of 1,024 is there for select()."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def quantiles(times_s: list[float]) -> str:
    ordered = sorted(times_s)
    p50, p99 = (ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {ordered[-1]:.2f} s"


def describe(seen: Storm) -> str:
    return f"""\
readers {seen.readers}, requests {seen.requests}
idle, one of {READERS_OF_ONE} readers of a request: {seen.shared_kib:.1f} KiB
idle, the only reader of a request: {seen.own_kib:.1f} KiB
back after kill -9: {len(seen.back_s)} readers, {quantiles(seen.back_s)}
surviving edge: {seen.before_mib:.0f} MiB without readers, {seen.idle_mib:.0f} MiB with \
{seen.readers // 2}, at most {seen.peak_mib:.0f} MiB with all; livez {dict(seen.livez)}
drain: {seen.drain_s:.2f} s, exit status {seen.exit_status}, {seen.sent_away} told to go
on the third edge after SIGTERM: {quantiles(seen.moved_s)}
answers read to the end by {seen.finished} readers; statuses {dict(seen.statuses)}
violations: {len(seen.violations)} {seen.violations[:5]}"""


def describe_slow(seen: Slow) -> str:
    return (
        f"slow readers {seen.readers}: {seen.each_kib:.0f} KiB each at most, with "
        f"{seen.stream_kib:.0f} KiB to send to each; edge {seen.before_mib:.0f} MiB before; "
        f"violations: {len(seen.violations)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__)
    parser.add_argument("--readers", type=int, default=2000)
    parser.add_argument("--slow", type=int, default=200, help="slow readers")
    options = parser.parse_args()
    seen = uvloop.run(storm(options.readers))
    print(describe(seen), flush=True)
    slow = uvloop.run(slow_readers(options.slow))
    print(describe_slow(slow))
    sys.exit(bool(seen.violations or slow.violations))


if __name__ == "__main__":
    main()

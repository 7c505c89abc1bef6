"""Thousands of connections: idle, back at once after an edge was killed, sent away, and slow.

``python -m tests.faults.storm --readers 2000`` prints what it measured.
"""

import argparse
import asyncio
import resource
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import uvloop

from lore.request import AckKind
from lore_edge.settings import EdgeSettings
from tests.faults.crowd import Crowd, Question, until
from tests.faults.stand import Stand

GRACE_S = EdgeSettings().grace_s
STEP_S = 120.0
"""No step of a run takes longer, on the slowest machine."""
IDLE_TOKENS, WINDOW_TOKENS = 120, 16
"""Each return acknowledges what the reader has and opens the window once: twice in a run."""
READERS_OF_ONE = 20
SAMPLE = 20
SLOW_TOKENS = 20_000
SLOW_REQUESTS = 2
WARM_TOKENS = 2000


@dataclass
class Storm:
    """What a run of ``storm`` saw. Times are in seconds."""

    readers: int
    requests: int = 0
    before_mib: float = 0.0
    idle_mib: float = 0.0
    peak_mib: float = 0.0
    """The surviving edge's memory: without readers, with half of them, with all at most."""
    shared_kib: float = 0.0
    """Memory of an edge for one more idle reader of a request that others read as well."""
    own_kib: float = 0.0
    """The same for a reader with a request of its own."""
    back_s: list[float] = field(default_factory=list[float])
    """From the kill to the reader's next stream, each reader of the killed edge."""
    back_cpu_s: float = 0.0
    """CPU time of the surviving edge meanwhile."""
    livez: Counter[int] = field(default_factory=Counter[int])
    drain_s: float = 0.0
    """From SIGTERM to the exit."""
    exit_status: int | None = None
    sent_away: int = 0
    """Readers that the drained edge told to go elsewhere."""
    moved_s: list[float] = field(default_factory=list[float])
    """From SIGTERM to the reader's next stream."""
    finished: int = 0
    """Readers whose answers were read to the end, once somebody acknowledged."""
    statuses: Counter[int] = field(default_factory=Counter[int])
    violations: list[str] = field(default_factory=list[str])


async def storm(readers: int) -> Storm:
    """Half of the readers share requests, and half have one each. All windows are closed."""
    raise_file_limit()
    seen = Storm(readers)
    async with Stand(2, {"synthetic_rate": 50, "synthetic_length": IDLE_TOKENS}) as stand:
        crowd = Crowd(stand.ports, statuses=seen.statuses, violations=seen.violations)
        questions = await _gather(seen, stand, crowd)
        await _kill(seen, stand, crowd)
        await stand.edges[0].restart()
        await _drain(seen, stand, crowd)
        seen.finished = await _finish(stand, crowd, questions[:1] + questions[-SAMPLE:])
        crowd.leave()
    return seen


async def _gather(seen: Storm, stand: Stand, crowd: Crowd) -> list[Question]:
    """Until all are idle."""
    half = seen.readers // 2
    shared = max(1, half // READERS_OF_ONE)
    asked = {"length_tokens": IDLE_TOKENS, "window": WINDOW_TOKENS, "ack": AckKind.CLIENT}
    questions = await stand.ask(shared + half, **asked)
    seen.requests = len(questions)
    sizes = [stand.edges[1].rss_mib()]
    for some, times in ((questions[:shared], READERS_OF_ONE), (questions[shared:], 1)):
        async with asyncio.timeout(STEP_S):
            await crowd.join([question for question in some for _ in range(times)])
            await until(crowd.readers, lambda reader: reader.status == "paused")
        sizes.append(stand.edges[1].rss_mib())
    seen.before_mib, between_mib, seen.idle_mib = sizes
    on_one_edge = half / 2
    seen.shared_kib = (between_mib - seen.before_mib) * 1024 / on_one_edge
    seen.own_kib = (seen.idle_mib - between_mib) * 1024 / on_one_edge
    return questions


async def _kill(seen: Storm, stand: Stand, crowd: Crowd) -> None:
    """The first edge, and wait until its readers are back."""
    lost = crowd.on(0)
    async with stand.watch(1) as watch, asyncio.timeout(STEP_S):
        killed_at = asyncio.get_running_loop().time()
        await stand.edges[0].die()
        await until(lost, lambda reader: reader.opened_at > killed_at)
    seen.back_s = [reader.opened_at - killed_at for reader in lost]
    seen.back_cpu_s, seen.peak_mib, seen.livez = watch.cpu_s, watch.peak_mib, watch.answers


async def _drain(seen: Storm, stand: Stand, crowd: Crowd) -> None:
    """The second edge, which has all the readers."""
    loop, edge, theirs = asyncio.get_running_loop(), stand.edges[1], crowd.on(1)
    drains = [reader.drains for reader in theirs]
    term_at = loop.time()
    edge.send(signal.SIGTERM)
    async with asyncio.timeout(GRACE_S):
        await edge.until_dead()
    seen.drain_s, seen.exit_status = loop.time() - term_at, edge.returncode
    async with asyncio.timeout(STEP_S):
        await until(theirs, lambda reader: reader.opened_at > term_at)
    seen.sent_away = sum(r.drains > before for r, before in zip(theirs, drains, strict=True))
    seen.moved_s = [reader.opened_at - term_at for reader in theirs]


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


async def slow_readers(readers: int, tokens: int, **edge: Any) -> Slow:
    """They read nothing until the answers are complete, and then everything. Chunks are small:
    an edge's memory for bytes that wait is mostly what comes with each write."""
    raise_file_limit()
    generator = {
        "synthetic_rate": 2000,
        "synthetic_length": tokens,
        "coalesce_chars": 8,
    }
    async with Stand(1, generator, edge) as stand:
        crowd = Crowd(stand.ports)
        asked = {"length_tokens": tokens, "ack": AckKind.NONE}
        async with asyncio.timeout(STEP_S):  # so that what is measured later is the readers alone
            await crowd.join(await stand.ask(SLOW_REQUESTS, max_tokens=WARM_TOKENS, **asked))
            await until(crowd.readers, lambda reader: reader.over)
        before = stand.edges[0].rss_mib()
        questions = await stand.ask(SLOW_REQUESTS, max_tokens=tokens, **asked)
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
back after kill -9: {len(seen.back_s)} readers, {quantiles(seen.back_s)}, \
CPU of the edge {seen.back_cpu_s:.2f} s
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
    slow = uvloop.run(slow_readers(options.slow, SLOW_TOKENS))
    print(describe_slow(slow))
    sys.exit(bool(seen.violations or slow.violations))


if __name__ == "__main__":
    main()

"""What a request costs: bytes in Valkey and on the wires, and what Valkey spends on all that is
not a chunk. ``loadtest/capacity`` computes with these.

Whole answers of 300 tokens run through real parts, read by clients that acknowledge; what the
parts say to Valkey while nobody asks is taken off. Then single calls, 64 in flight (appends
join, so those are one call), by the CPU time of Valkey's process.

Usage: python -m loadtest.bench.weights [--streams 40] [--tokens 300]
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import uvloop

from loadtest.harness import taps
from loadtest.harness.ackers import AckingTap, Posts
from loadtest.harness.record import Report, options
from loadtest.harness.stage import Stage
from lore.protocol.chunk import Chunk
from lore.protocol.commands import Ack, Append, Claim, Finish, Renew, Waiting
from lore.protocol.lifecycle import Status
from lore.store import ValkeyStore
from lore.store.base import Claimed, NewRequest
from lore.store.keys import PARTITIONS, log_key, partition_of, request_key
from lore.store.types import Open

RATE = 20.0
IDLE_S = 5.0
AT_ONCE = 64
CALLS = 3000
LISTENERS = 40
PAGE = 200
LEASE_MS, RETENTION_MS = 600_000, 600_000
BODY = '{"messages": [{"role": "user", "content": "%s"}]}' % (20 * "Why is that so? ")


Calls = Sequence[Callable[[], Awaitable[Any]]]


async def in_turn(calls: Calls) -> None:
    """All of them, ``AT_ONCE`` at a time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[Any]]) -> None:
        async with limit:
            await call()

    await asyncio.gather(*(one(call) for call in calls))


class Single:
    """Single calls of a store of this process, and what they cost."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.rows: list[tuple[str, float, float]] = []
        """What, µs of Valkey, µs of this process."""
        self.channel_bytes = 0.0

    async def cost(self, what: str, calls: Calls, per: int = 1) -> float:
        """µs of Valkey for each; ``per`` is how many each call stands for."""
        theirs_s, mine_s = self._stage.valkey.cpu_s(), time.process_time()
        await in_turn(calls)
        count = len(calls) * per
        theirs = (self._stage.valkey.cpu_s() - theirs_s) / count * 1e6
        mine = (time.process_time() - mine_s) / count * 1e6
        self.rows.append((what, theirs, mine))
        return theirs

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            store = await self._connected(stack)
            claimed: list[Claimed] = []

            async def claim(partition: int) -> None:
                found = await store.do(Claim(partition, "bench", lease_ms=LEASE_MS))
                assert found is not None
                claimed.append(found)

            names = [f"single-{number}" for number in range(CALLS)]
            quiet = await self.cost("open", [lambda n=n: self._open(store, n) for n in names])
            await self.cost("look at the queue", [lambda: store.do(Waiting())] * 50, per=PARTITIONS)
            await self.cost("claim", [lambda n=n: claim(partition_of(n)) for n in names])
            await self.cost("claim of nothing", [self._claim_nothing(store, n) for n in names])
            await self._per_request(store, claimed)
            listeners = [await self._connected(stack) for _ in range(LISTENERS)]
            for one in listeners:
                await one.on_wake(DEAF)
            more = [f"heard-{number}" for number in range(CALLS // 4)]
            heard = await self.cost("", [lambda n=n: self._open(store, n) for n in more])
            del self.rows[-1]
            told = (heard - quiet) / LISTENERS
            self.rows.append(("wake-up of one generator", told, float("nan")))

    async def _per_request(self, store: ValkeyStore, claimed: list[Claimed]) -> None:
        views = [one.view for one in claimed]
        appends = [self._append(store, one, 1) for one in claimed]
        await self.cost("append, 64 requests in a call", appends)
        await self.cost("ack", [lambda v=v: store.do(Ack(v.request_id, 1)) for v in views])
        leases: dict[int, list[tuple[str, int, str]]] = {}
        for view in views:
            lease = (view.request_id, view.epoch, view.log_id)
            leases.setdefault(partition_of(view.request_id), []).append(lease)
        renewals = [
            lambda p=p, some=some: store.do(Renew(p, "bench", leases=some, lease_ms=LEASE_MS))
            for p, some in leases.items()
        ]
        await self.cost("renewal of a lease", renewals, per=len(views) // len(renewals))
        await self.cost("view", [lambda v=v: store.view(v.request_id) for v in views])
        await self._follow(store, [view.request_id for view in views])
        long = [self._append(store, one, 2, PAGE) for one in claimed[:300]]
        await self.cost("append, 200 chunks in a call", long, per=PAGE)
        pages = [lambda v=v: store.read(v.request_id, after=1) for v in views[:300]]
        await self.cost("read, 200 chunks in a call", pages, per=PAGE)
        await self.cost("finish", [lambda v=v: self._finish(store, v, 2) for v in views[300:]])

    async def _follow(self, store: ValkeyStore, names: list[str]) -> None:
        before: Any = self._stage.client.info("memory")
        await self.cost("follow", [lambda n=n: store.follow(n, DEAF) for n in names])
        after: Any = self._stage.client.info("memory")
        self.channel_bytes = (after["used_memory"] - before["used_memory"]) / len(names)
        await self.cost("unfollow", [lambda n=n: self._unfollow(store, n) for n in names])

    @staticmethod
    async def _unfollow(store: ValkeyStore, name: str) -> None:
        store.unfollow(name, DEAF)

    async def _connected(self, stack: AsyncExitStack) -> ValkeyStore:
        store = ValkeyStore(self._stage.valkey_url)
        await store.connect()
        stack.push_async_callback(store.close)
        return store

    @staticmethod
    async def _open(store: ValkeyStore, name: str) -> None:
        await store.do(
            Open(NewRequest(name, "bench", BODY, "bench", "client", 32), queue_limit=CALLS)
        )

    @staticmethod
    def _claim_nothing(store: ValkeyStore, name: str) -> Callable[[], Awaitable[Any]]:
        return lambda: store.do(Claim(partition_of(name), "bench", lease_ms=LEASE_MS))

    @staticmethod
    def _append(
        store: ValkeyStore, claimed: Claimed, first: int, count: int = 1
    ) -> Callable[[], Awaitable[Any]]:
        view = claimed.view
        return lambda: store.do(
            Append(
                view.request_id,
                "bench",
                epoch=view.epoch,
                chunks=[Chunk(seq, " word", (seq,), seq) for seq in range(first, first + count)],
                log_id=view.log_id,
                window=32,
                reopen_tokens=0,
                lease_ms=LEASE_MS,
            )
        )

    @staticmethod
    async def _finish(store: ValkeyStore, view: Any, next_seq: int) -> None:
        command = Finish(
            view.request_id,
            "bench",
            view.epoch,
            next_seq,
            log_id=view.log_id,
            status=Status.DONE,
            finish_reason="stop",
            error="",
            prompt_tokens=0,
            retention_ms=RETENTION_MS,
        )
        await store.do(command)


class Deaf:
    """Hears everything and does nothing."""

    def on_wake(self, partition: int | None) -> None: ...

    def on_message(self, message: Any) -> None: ...

    def on_reset(self) -> None: ...


DEAF = Deaf()


class Reader(AckingTap):
    def __init__(self, request: bytes, posts: Posts) -> None:
        super().__init__(request, posts)
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if b"\nevent: end\n" in self.body()[-1000:]:
            self.ended.set()


class Whole:
    """Whole answers, from the question to the last ack."""

    def __init__(self, stage: Stage, streams: int, tokens: int) -> None:
        self._stage, self._streams, self._tokens = stage, streams, tokens

    def _net(self) -> tuple[int, int]:
        stats: Any = self._stage.client.info("stats")
        return stats["total_net_input_bytes"], stats["total_net_output_bytes"]

    async def run(self) -> list[tuple[str, str]]:
        stage = self._stage
        await stage.generator(synthetic_rate=RATE, synthetic_length=self._tokens)
        _, port = await stage.edge()
        before, began_s = self._net(), time.monotonic()
        await asyncio.sleep(IDLE_S)
        idle = [b - a for a, b in zip(before, self._net(), strict=True)]
        idle_s = time.monotonic() - began_s
        before, began_s = self._net(), time.monotonic()
        readers = [await self._ask(port, number) for number in range(self._streams)]
        for tap, _ in readers:
            async with asyncio.timeout(self._tokens / RATE + 30):
                await tap.ended.wait()
        went_s = time.monotonic() - began_s
        net = [b - a for a, b in zip(before, self._net(), strict=True)]
        received, sent = (n - i * went_s / idle_s for n, i in zip(net, idle, strict=True))
        chunks = sum(len(list(tap.chunks())) for tap, _ in readers)
        acks = sum(posts.answered for _, posts in readers)
        ids = [tap.header(b"x-request-id") for tap, _ in readers]
        body = sum(len(data) for tap, _ in readers for _, data in tap.got)

        def bytes_of(key: Callable[[str], str]) -> str:
            total = sum(stage.client.memory_usage(key(one), samples=0) for one in ids)
            return f"{total / len(ids):,.0f}"

        return [
            ("chunks an answer", f"{chunks / len(ids):.0f}"),
            ("acks a chunk", f"{acks / chunks:.2f}"),
            ("Valkey: hash of a request, bytes", bytes_of(request_key)),
            ("Valkey: log of an answer, bytes", bytes_of(log_key)),
            ("Valkey receives, bytes a chunk", f"{received / chunks:,.0f}"),
            ("Valkey sends, bytes a chunk", f"{sent / chunks:,.0f}"),
            ("an idle generator and edge, bytes a second both ways", f"{sum(idle) / idle_s:,.0f}"),
            ("a reader receives, bytes a chunk", f"{body / chunks:,.0f}"),
        ]

    async def _ask(self, port: int, number: int) -> tuple[Reader, Posts]:
        posts: Posts = await taps.open_tap(port, Posts)
        request = taps.ask(number, ack="client", max_tokens=self._tokens)
        tap: Reader = await taps.open_tap(port, lambda: Reader(request, posts))
        return tap, posts


async def weigh(report: Report, streams: int, tokens: int) -> None:
    async with Stage() as stage:
        report.table(("what", "measured"), await Whole(stage, streams, tokens).run())
    async with Stage() as stage:
        single = Single(stage)
        await single.run()
    report.say(f"A subscription of one edge takes {single.channel_bytes:.0f} bytes of Valkey.")
    report.table(
        ("call", "Valkey µs", "µs of the caller"),
        [(what, f"{theirs:.1f}", f"{mine:.1f}") for what, theirs, mine in single.rows],
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=300)
    chosen = parser.parse_args()
    report = Report("What a request costs", "python -m loadtest.bench.weights")
    report.say(
        f"{chosen.streams} answers of {chosen.tokens} tokens at {RATE:g} a second, acks by "
        f"clients; then {CALLS:,} calls of each kind, {AT_ONCE} in flight, the wake-up with "
        f"{LISTENERS} generators listening."
    )
    uvloop.run(weigh(report, chosen.streams, chosen.tokens))
    report.publish(keep=not chosen.dry)


if __name__ == "__main__":
    main()

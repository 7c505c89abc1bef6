"""The kinds of faults. Each function injects one, at a moment that its caller chose, and
returns when it is over and what it stopped runs again. A sleep of a drawn length is how long the
fault lasts."""

import asyncio
import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.faults import machine
from tests.faults.fleet import Fleet, Part
from tests.faults.full import store_full
from tests.faults.proxy import Proxy

CUT_OFF_S = 10.0
NO_NEWS = f"a {'0' * 4000} {'0' * 4000}"

Injection = Callable[[Fleet, random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    name: str
    inject: Injection
    times: int = 2
    """How often in one round."""
    may_lose: bool = False
    """The store forgets: a reader may be told ``history_lost``."""
    fills_disk: bool = False
    ends_store: bool = False
    """The server ends: of what it took as its disk became full, it may have nothing."""
    gives_up: bool = False
    """The store has no room: what was read may be given up (P17)."""
    keeps_owners: bool = False
    """Every generator lives, can be reached, and keeps its requests (P15)."""
    of_one_server: bool = False
    """It is done to a store of one server, which the fleet has started."""

    def once(self) -> "Kind":
        return replace(self, times=1)


async def _down(part: Part, number: signal.Signals, rng: random.Random) -> None:
    await part.die(number)
    await asyncio.sleep(rng.uniform(0, 1))
    await part.restart()


async def generator_kill(fleet: Fleet, rng: random.Random) -> None:
    await _down(rng.choice(fleet.generators), signal.SIGKILL, rng)


async def generator_term(fleet: Fleet, rng: random.Random) -> None:
    await _down(rng.choice(fleet.generators), signal.SIGTERM, rng)


async def generator_freeze(fleet: Fleet, rng: random.Random) -> None:
    """Longer than its lease: when it wakes up, another owns what it still believes to own."""
    part = rng.choice(fleet.generators)
    part.send(signal.SIGSTOP)
    await asyncio.sleep(rng.uniform(2.5, 4))
    part.send(signal.SIGCONT)


async def edge_kill(fleet: Fleet, rng: random.Random) -> None:
    await _down(rng.choice(fleet.edges), signal.SIGKILL, rng)


async def edge_term(fleet: Fleet, rng: random.Random) -> None:
    await _down(rng.choice(fleet.edges), signal.SIGTERM, rng)


async def valkey_kill(fleet: Fleet, rng: random.Random) -> None:
    await _down(fleet.valkey, signal.SIGKILL, rng)


async def valkey_term(fleet: Fleet, rng: random.Random) -> None:
    await _down(fleet.valkey, signal.SIGTERM, rng)


async def valkey_empty(fleet: Fleet, rng: random.Random) -> None:
    await fleet.valkey.die()
    fleet.valkey.forget_all()
    await fleet.valkey.restart()


async def valkey_cut(fleet: Fleet, rng: random.Random) -> None:
    await fleet.valkey.die()
    fleet.valkey.forget_last(rng.randint(1, 60_000))
    await fleet.valkey.restart()


async def valkey_replica(fleet: Fleet, rng: random.Random) -> None:
    """Demoted, of a primary that is not there, and promoted again."""
    admin = fleet.valkey.admin
    await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(rng.uniform(0.5, 3))
    await admin.execute_command("REPLICAOF", "NO", "ONE")


async def valkey_oom(fleet: Fleet, rng: random.Random) -> None:
    await fleet.until_asked()  # who asks without any room is told to come back in an hour
    await fleet.valkey.admin.config_set("maxmemory", 1)
    await asyncio.sleep(rng.uniform(0.5, 3))
    await fleet.valkey.admin.config_set("maxmemory", 0)


async def disk_full(fleet: Fleet, rng: random.Random) -> None:
    """The append-only file cannot grow: Valkey refuses what would have to be kept."""
    fleet.valkey.fill_disk()
    await asyncio.sleep(rng.uniform(0.5, 3))
    fleet.valkey.free_disk()


async def pubsub_kill(fleet: Fleet, rng: random.Random) -> None:
    await fleet.valkey.admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


async def buffer_limit(fleet: Fleet, rng: random.Random) -> None:
    """An edge takes no news for a while, and there is more than Valkey will hold for it."""
    async with _small_buffers(fleet) as admin:
        proxy = rng.choice(fleet.links.edge)
        hole = asyncio.create_task(proxy.black_hole(2.0, ends=False))
        cut_off = await _cut_off(fleet)
        while not hole.done() and await _cut_off(fleet) == cut_off:
            # News that says nothing new (P9), of some thousand bytes, for all that are followed.
            names: Any = await admin.execute_command("PUBSUB", "SHARDCHANNELS", "*:n:*")
            pipe = admin.pipeline(transaction=False)
            for name in names * (500 // max(1, len(names))):
                pipe.execute_command("SPUBLISH", name.decode(), NO_NEWS)
            await pipe.execute()
        await hole


async def own_buffer_limit(fleet: Fleet, rng: random.Random) -> None:
    """Generators are sent more at once than Valkey will hold for them, and lose nothing but their
    subscriptions."""
    async with _small_buffers(fleet) as admin:
        cut_off = await _cut_off(fleet)
        pipe = admin.pipeline(transaction=True)
        async with asyncio.timeout(CUT_OFF_S):
            names: Any = []
            while not names:  # right after another fault nobody may have subscribed again
                names = await admin.execute_command("PUBSUB", "SHARDCHANNELS", "*{p00}:o:*")
            for name in names:
                for _ in range(40):
                    pipe.execute_command("SPUBLISH", name.decode(), NO_NEWS)
            await pipe.execute()
            while await _cut_off(fleet) < cut_off + len(names):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # a count, of which Valkey sends no news


@asynccontextmanager
async def _small_buffers(fleet: Fleet) -> AsyncGenerator[Any]:
    """Valkey holds 64 KiB for a subscriber, and closes the connection of one with more."""
    admin = fleet.valkey.admin
    await admin.config_set("client-output-buffer-limit", "pubsub 65536 0 0")
    yield admin
    await admin.config_set("client-output-buffer-limit", "pubsub 33554432 8388608 60")


async def _cut_off(fleet: Fleet) -> int:
    """How many clients did not take what Valkey had for them."""
    stats = await fleet.valkey.admin.info("stats")
    return stats["client_output_buffer_limit_disconnections"]


def _link(fleet: Fleet, rng: random.Random) -> Proxy:
    """Any kind of link alike, however many of it there are."""
    links = fleet.links
    there = [some for some in (links.generator, links.edge, links.reader) if some]
    return rng.choice(rng.choice(there))


async def net_delay(fleet: Fleet, rng: random.Random) -> None:
    await _link(fleet, rng).delay(rng.uniform(0.05, 0.3), rng.uniform(1, 3))


async def net_reset(fleet: Fleet, rng: random.Random) -> None:
    _link(fleet, rng).reset()


async def net_black_hole(fleet: Fleet, rng: random.Random) -> None:
    await _link(fleet, rng).black_hole(rng.uniform(0.5, 6), ends=rng.random() < 0.5)


async def net_half_open(fleet: Fleet, rng: random.Random) -> None:
    await _link(fleet, rng).half_open(rng.uniform(1, 6), rng)


async def net_trickle(fleet: Fleet, rng: random.Random) -> None:
    await _link(fleet, rng).trickle(rng.uniform(1, 3))


KINDS = (
    Kind("generator kill -9", generator_kill),
    Kind("generator SIGTERM", generator_term),
    Kind("generator frozen", generator_freeze),
    Kind("edge kill -9", edge_kill),
    Kind("edge SIGTERM", edge_term),
    Kind("valkey kill -9", valkey_kill, ends_store=True, of_one_server=True),
    Kind("valkey SIGTERM", valkey_term, ends_store=True, of_one_server=True),
    Kind("valkey empty", valkey_empty, times=1, may_lose=True, of_one_server=True),
    Kind("valkey log cut", valkey_cut, times=1, may_lose=True, of_one_server=True),
    Kind("valkey read-only", valkey_replica, may_lose=True, of_one_server=True),
    Kind("valkey out of memory", valkey_oom, gives_up=True, of_one_server=True),
    Kind("disk full", disk_full, fills_disk=True, of_one_server=True),
    Kind("subscriptions killed", pubsub_kill, times=4, keeps_owners=True, of_one_server=True),
    Kind("buffer limit", buffer_limit, keeps_owners=True, of_one_server=True),
    Kind("buffer limit of generators", own_buffer_limit, keeps_owners=True, of_one_server=True),
    Kind("store full", store_full, times=1, gives_up=True, of_one_server=True),
    Kind("log disk full", machine.log_full),
    Kind("log reader gone", machine.log_unread, times=1),
    Kind("no descriptors", machine.no_descriptors),
    Kind("header flood", machine.header_flood),
    Kind("network delay", net_delay, times=4),
    Kind("network reset", net_reset, times=6),
    Kind("network black hole", net_black_hole, times=3),
    Kind("network half-open", net_half_open, times=3),
    Kind("network trickle", net_trickle, times=3),
)

"""Outages: a store that is away for long, or out of reach for some, and an edge that stands still.

The kinds of ``kinds.py`` are over within seconds; these outlast leases and patience, so each test
run takes the short ones alone, and ``make faults`` and ``make soak`` all of them.
"""

import asyncio
import random
import signal
from collections.abc import Callable, Sequence

from tests.faults.fleet import Fleet
from tests.faults.kinds import Injection, Kind
from tests.faults.proxy import Proxy

LENGTHS_S = (5, 14, 60)
"""Shorter than any lease, longer than a default one, and longer than any patience."""
CUT_S = 8.0

Pick = Callable[[Fleet, random.Random], Sequence[Proxy]]


def store_away(length_s: float) -> Injection:
    """It ends, and is started again with all that it had."""

    async def inject(fleet: Fleet, rng: random.Random) -> None:
        await fleet.valkey.die()
        await asyncio.sleep(length_s)
        await fleet.valkey.restart()

    return inject


def cut_off(pick: Pick, length_s: float = CUT_S, *, ends: bool | None = None) -> Injection:
    """The way to the store goes silent, and what was on its way arrives later, or never."""

    async def inject(fleet: Fleet, rng: random.Random) -> None:
        dies = rng.random() < 0.5 if ends is None else ends
        ways = pick(fleet, rng)
        await asyncio.gather(*(way.black_hole(length_s, ends=dies) for way in ways))

    return inject


def edge_frozen(length_s: float = CUT_S) -> Injection:
    async def inject(fleet: Fleet, rng: random.Random) -> None:
        part = rng.choice(fleet.edges)
        part.send(signal.SIGSTOP)
        await asyncio.sleep(length_s)
        part.send(signal.SIGCONT)

    return inject


def one_edge(fleet: Fleet, rng: random.Random) -> Sequence[Proxy]:
    return [rng.choice(fleet.links.edge)]


def one_generator(fleet: Fleet, rng: random.Random) -> Sequence[Proxy]:
    return [rng.choice(fleet.links.generator)]


def everybody(fleet: Fleet, rng: random.Random) -> Sequence[Proxy]:
    return [*fleet.links.edge, *fleet.links.generator]


def _kind(name: str, inject: Injection, *, ends_store: bool = False) -> Kind:
    return Kind(name, inject, times=1, ends_store=ends_store)


OUTAGES = (
    *(
        _kind(f"store away for {length} s", store_away(length), ends_store=True)
        for length in LENGTHS_S
    ),
    _kind("store cut off from one edge", cut_off(one_edge)),
    _kind("store cut off from one generator", cut_off(one_generator)),
    _kind("store cut off from all", cut_off(everybody)),
    _kind("edge frozen", edge_frozen()),
)
SHORT = (OUTAGES[0], OUTAGES[3], OUTAGES[6])
"""What each test run takes."""

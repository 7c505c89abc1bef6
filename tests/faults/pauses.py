"""What a reader waits when a part dies: the pause between two pieces of text, as services are
set by default (a lease of 10 s above all)."""

import asyncio
import math
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lore_client import Reader, State, Text
from tests.faults import kinds
from tests.faults.fleet import Fleet, Part
from tests.faults.kinds import Injection
from tests.faults.outages import cut_off, edge_frozen, store_away
from tests.faults.proxy import Proxy
from tests.faults.readers import READER
from tests.faults.report import markdown

LONG_S = 12.0
SETTLED_S = 4.0
SYNTHETIC = {"synthetic_rate": 20, "synthetic_length": 500, "lease_s": 10}
MODEL = {"engine": "transformers", "threads": 1, "lease_s": 10}
EDGE = {"heartbeat_s": 15, "tcp_user_timeout_s": 30, "drain_spread_s": 1, "grace_s": 20}

Injected = Callable[[Fleet], Awaitable[None]]


@dataclass
class Watched:
    """One reader: when its text came, and whether the fault touched it."""

    times: list[float] = field(default_factory=list[float])
    touched: bool = False
    began: asyncio.Event = field(default_factory=asyncio.Event)

    def pause_s(self, fault_s: float) -> float:
        """The longest silence that ended after the fault."""
        pairs = zip(self.times, self.times[1:], strict=False)
        return max((late - early for early, late in pairs if late > fault_s), default=math.nan)

    def again_s(self, healed_s: float) -> float:
        """How long there was no text after the fault was over."""
        return next(time - healed_s for time in self.times if time > healed_s)


@dataclass(frozen=True)
class Case:
    name: str
    inject: Callable[[Fleet], Awaitable[None]]
    touched: Callable[[Any], bool]
    """Whether an event of a stream shows that the fault touched it."""
    streams: int = 40
    times: int = 2
    heals: bool = False
    """What counts is how long text takes to move again once the fault is over."""
    engine: str = "synthetic"
    settled_s: float = SETTLED_S
    """How long streams run before the fault, and longer if one has not begun by then."""


def _killed(pick: Callable[[Fleet], Part], number: signal.Signals) -> Any:
    async def inject(fleet: Fleet) -> None:
        part = pick(fleet)
        await part.die(number)
        await part.restart()

    return inject


async def _empty(fleet: Fleet) -> None:
    await kinds.valkey_empty(fleet, random.Random(0))


def _away(length_s: float) -> Injected:
    return outage(store_away(length_s))


def outage(inject: Injection) -> Injected:
    return lambda fleet: inject(fleet, random.Random(0))


def _first_edge(fleet: Fleet, rng: random.Random) -> list[Proxy]:
    return [fleet.links.edge[0]]


def _says(*reasons: str) -> Callable[[Any], bool]:
    return lambda event: isinstance(event, State) and event.reason in reasons


def _always(event: Any) -> bool:
    return True


OPENED = "open", "store_lost"
GENERATOR_KILL = _killed(lambda fleet: fleet.generators[0], signal.SIGKILL)
CASES = (
    Case("edge kill -9", _killed(lambda f: f.edges[0], signal.SIGKILL), _says("open")),
    Case("generator kill -9, synthetic", GENERATOR_KILL, _says("failed_over")),
    Case(
        "generator kill -9, SmolLM2-135M",
        GENERATOR_KILL,
        _says("failed_over"),
        16,  # more than one generator takes
        engine="transformers",
        settled_s=0.5,  # a quiet machine makes its short answers in a few seconds
    ),
    Case(
        "generator SIGTERM",
        _killed(lambda f: f.generators[0], signal.SIGTERM),
        _says("released", "failed_over"),
    ),
    Case("Valkey kill -9 and restart", _killed(lambda f: f.valkey, signal.SIGKILL), _always),
    Case("Valkey restart, all data lost", _empty, _always),
    Case(
        "store cut off from an edge",
        outage(cut_off(_first_edge, LONG_S, ends=False)),
        _says(*OPENED),
    ),
    Case("edge frozen", outage(edge_frozen(LONG_S)), _says(*OPENED)),
    Case("store away for 5 s, since its return", _away(5), _always, heals=True),
    Case("store away for 14 s, since its return", _away(14), _always, heals=True),
)


async def pauses(names: Sequence[str] | None = None) -> str:
    """Of these cases, or of all."""
    rows: list[tuple[str, ...]] = []
    for case in CASES:
        if names and case.name not in names:
            continue
        settings = MODEL if case.engine == "transformers" else SYNTHETIC
        found: list[float] = []
        async with Fleet(generator=settings, edge=EDGE) as fleet:
            for _ in range(case.times):
                found += await _measure(fleet, case)
            fleet.forget_logs()
        if not found:
            raise RuntimeError(f"{case.name}: no reader was touched, answers end before the fault")
        found.sort()
        values = (_at(found, 0.5), _at(found, 0.99), found[-1])
        rows.append((case.name, str(len(found)), *(f"{value:.2f} s" for value in values)))
        print(*rows[-1], sep="  ", flush=True)
    return markdown(("fault", "readers", "p50", "p99", "max"), rows)


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


async def _measure(fleet: Fleet, case: Case) -> list[float]:
    """The pauses of the readers that the fault touched."""
    loop = asyncio.get_running_loop()
    readers = [Watched() for _ in range(case.streams)]
    async with Reader(fleet.readers, config=READER) as reader, asyncio.TaskGroup() as tasks:
        streams = [tasks.create_task(_watch(reader, one, case)) for one in readers]
        await asyncio.sleep(case.settled_s)
        await asyncio.gather(*(one.began.wait() for one in readers))
        for one in readers:
            one.touched = False
        fault_s = loop.time()
        await case.inject(fleet)
        since_s = loop.time() if case.heals else fault_s
        await asyncio.wait(streams)
    touched = [one for one in readers if one.touched and one.times[-1] > since_s]
    return [one.again_s(since_s) if case.heals else one.pause_s(since_s) for one in touched]


async def _watch(reader: Reader, watched: Watched, case: Case) -> None:
    now = asyncio.get_running_loop().time
    asked = await reader.create("What is a list in Python?", max_tokens=240)
    async for event in reader.stream(asked.request_id):
        watched.touched = watched.touched or case.touched(event)
        if isinstance(event, Text):
            watched.times.append(now())
            watched.began.set()

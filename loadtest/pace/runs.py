"""Many readers and one engine with slots, in virtual time, under one policy.

The window is the real one (``Window``). Virtual are the clock, the readers and the engine, which
makes one token in each step for each request that has a slot. Readers acknowledge what they have
read, as our clients do, and their acks are here a step later.
"""

import math
import random
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from loadtest.harness.ackers import BATCHING
from loadtest.pace.measures import READING, Answer
from lore.protocol.pace import Pacer
from lore.protocol.pace_types import PaceConfig
from lore.protocol.window import Window, WindowConfig

SHORTEST, LONGEST = 0.05, 2.7
"""Of answers, in their mean."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who asks, and what the engine can do."""

    load: float = 1.2
    """Tokens asked for, as a share of what the slots can make in that time."""
    tokens: int = 300
    """The mean of an answer."""
    speed: float = READING
    """Tokens a second that a reader reads."""
    answers: int = 400
    slots: int = 50
    rate: float = 20.0
    """Tokens a second of each slot."""
    burst: int = 1
    """How many ask at the same moment."""
    seed: int = 0

    def lengths(self) -> list[int]:
        """Tokens of each answer: exponential, cut at both ends, with this very mean."""
        rng = random.Random(f"lengths {self.seed}")
        drawn = [min(LONGEST, max(SHORTEST, rng.expovariate(1))) for _ in range(self.answers)]
        scale = self.tokens * self.answers / sum(drawn)
        return [max(1, round(share * scale)) for share in drawn]

    def times_s(self) -> list[float]:
        """When each is asked for: a Poisson process of this load, or bursts at one distance."""
        asked_in_s = self.tokens * self.answers / (self.load * self.slots * self.rate)
        if self.burst > 1:
            burst_s = asked_in_s * self.burst / self.answers
            return [number // self.burst * burst_s for number in range(self.answers)]
        rng = random.Random(f"times {self.seed}")
        times = list(accumulate(rng.expovariate(1) for _ in range(self.answers)))
        return [time * asked_in_s / times[-1] for time in times]


@dataclass(eq=False, slots=True)
class Request:
    """One answer under way, its reader, and the window between them."""

    number: int
    asked_s: float
    length: int
    window: Window | None
    speed: float
    arrivals_s: list[float] = field(default_factory=list[float])
    read: int = 0
    """Tokens that the reader has read."""
    _next_s: float = 0.0
    _acked_s: float = 0.0

    @property
    def generated(self) -> int:
        return len(self.arrivals_s)

    @property
    def has_ended(self) -> bool:
        return self.generated == self.length

    @property
    def limit(self) -> int | None:
        """The window's credit."""
        return None if self.window is None else self.window.limit

    @property
    def has_credit(self) -> bool:
        return self.limit is None or self.generated < self.limit

    def read_on(self, now: float) -> None:
        """The reader reads what it can by now, and acknowledges it if it is time."""
        while self.read < self.generated:
            read_s = max(self.arrivals_s[self.read], self._next_s)
            if read_s > now:
                break
            self.read, self._next_s = self.read + 1, read_s + 1 / self.speed
        if self.window is None or self.read == self.window.acked_tokens:
            return
        if now >= self._acked_s + BATCHING.ack_delay_s:
            self._acked_s = now
            self.window.on_ack(self.read, self.generated, now)

    def on_token(self, now: float) -> None:
        self.arrivals_s.append(now)
        if self.window is not None and self.window.is_closed(self.generated):
            self.window.on_closed(now)


class Policy(Protocol):
    window: bool
    """Whether the window binds."""

    def choose(self, live: Sequence[Request], waiting: deque[Request], now: float) -> list[Request]:
        """Who makes a token in this step, at most one for each slot, as it was planned in the step
        before: an engine plans a batch before anybody hears of the one under way. Requests that
        begin are taken from ``waiting``; ``live`` are those that have begun and not ended.
        """
        ...


class InOrder:
    """As a generator does it without pace: a request that begins keeps its slot until it ends, or
    until its window closes. When that opens, it goes on at once, before any that has not begun.
    """

    def __init__(self, *, slots: int, window: bool) -> None:
        self.window = window
        self._slots = slots
        self._planned: list[tuple[Request, float]] = []
        """Each with its credit when the batch was planned."""

    def choose(self, live: Sequence[Request], waiting: deque[Request], now: float) -> list[Request]:
        del now
        makes = [
            one for one, credit in self._planned if one.generated < credit and not one.has_ended
        ]
        begun = [one for one in makes if not one.generated]
        chosen = [one for one in (*live, *begun) if one.has_credit][: self._slots]
        while waiting and len(chosen) < self._slots:
            chosen.append(waiting.popleft())
        self._planned = [(one, math.inf if one.limit is None else one.limit) for one in chosen]
        return makes


class Paced:
    """With pace, as a generator drives a ``Pacer``: it claims while there is room, and the engine
    makes what is granted.
    """

    def __init__(self, *, slots: int, config: PaceConfig, pace: float) -> None:
        self.window = True
        self._slots = slots
        self._pace = pace
        self._pacer = Pacer[Request](config, slots)
        self._told: dict[Request, tuple[int, int]] = {}
        self._granted: dict[Request, float] = {}

    def choose(self, live: Sequence[Request], waiting: deque[Request], now: float) -> list[Request]:
        del live
        makes = [r for r in self._told if not r.has_ended and r.generated < self._granted[r]]
        for request in list(self._told):
            self._tell(request, now)
        self._take(waiting, now)
        while waiting and self._pacer.decoding < self._slots:
            self._begin(waiting.popleft(), now)
            self._take(waiting, now)
        return makes[: self._slots]

    def _begin(self, request: Request, now: float) -> None:
        self._pacer.add(request, pace=self._pace, credit=request.limit, now=now)
        self._told[request], self._granted[request] = (0, 0), 0

    def _take(self, waiting: deque[Request], now: float) -> None:
        self._pacer.on_waiting(len(waiting))
        for request, limit in self._pacer.take(now).grants:
            self._granted[request] = math.inf if limit is None else limit

    def _tell(self, request: Request, now: float) -> None:
        """What became of it in the last step, and the reader's ack."""
        if request.has_ended:
            self._pacer.remove(request)
            del self._told[request], self._granted[request]
            return
        assert request.window is not None
        told = request.generated, request.window.acked_tokens
        if told[0] != self._told[request][0]:
            self._pacer.on_tokens(request, request.generated, now)
        if told[1] != self._told[request][1]:
            acked_tokens = request.window.acked_tokens
            self._pacer.on_credit(request, request.limit, acked_tokens=acked_tokens, now=now)
        self._told[request] = told


def simulate(crowd: Crowd, policy: Policy) -> list[Answer]:
    """All answers, read to their ends."""
    step_s = 1 / crowd.rate
    asked = deque(
        Request(number, at_s, length, _window() if policy.window else None, crowd.speed)
        for number, (at_s, length) in enumerate(zip(crowd.times_s(), crowd.lengths(), strict=True))
    )
    waiting: deque[Request] = deque()
    live: list[Request] = []
    done: list[Request] = []
    step = 0
    while asked or waiting or live:
        now = step * step_s
        while asked and asked[0].asked_s <= now:
            waiting.append(asked.popleft())
        for request in live:
            request.read_on(now)
        step += 1
        for request in policy.choose(live, waiting, now):
            if not request.generated:
                insort(live, request, key=lambda request: request.number)
            request.on_token(step * step_s)
        done += [request for request in live if request.has_ended]
        live = [request for request in live if not request.has_ended]
    return [Answer(request.asked_s, request.arrivals_s) for request in done]


def _window() -> Window:
    config = WindowConfig()
    return Window(config, size=config.initial_tokens)

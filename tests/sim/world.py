"""The clock, the network and the chance of one run. Nothing here knows the protocol.

Everything that happens is an entry in one heap, and all chance comes from one ``Random``:
a seed replays a run exactly. An event belongs to a node: it is dropped when the node has
crashed since, and waits while the node is frozen.
"""

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.sim.faults import Options

CALL_TIMEOUT_S = 2.0
ASK_TIMEOUT_S = 5.0
MAX_EVENTS = 200_000


class Violation(AssertionError):
    """A safety or liveness rule was broken."""


class Node:
    """A part that can crash (``incarnation`` grows) and freeze."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.up = True
        self.incarnation = 0
        self.frozen_until = 0.0
        self.pending: dict[Pending, None] = {}

    def crash(self) -> None:
        self.incarnation += 1
        self.up = False
        self.frozen_until = 0.0
        broken, self.pending = self.pending, {}
        for call in broken:
            if call.caller.incarnation == call.incarnation:
                self.world.after(self.world.delay_s(), call.caller, call.answer, None)

    def on_store_reset(self) -> None:
        """The connection to the store was lost and is back."""


class World:
    def __init__(self, seed: int, options: Options, trace: Callable[[str], None] | None) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.options = options
        self.is_prompt = options.is_prompt
        self.tells_in_time = options.tells_in_time
        self.healed_s = 0.0
        """When the last faults ended."""
        self.injected: Counter[str] = Counter()
        self.events = 0
        self.tracing = trace is not None
        self._trace = trace
        self._heap: list[tuple[float, int, Node, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._cuts: set[frozenset[Node]] = set()
        self._broken: set[frozenset[Node]] = set()

    @property
    def now_ms(self) -> int:
        return int(self.now * 1000) + 1_000_000

    def say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.now:9.3f}  {text}")

    def chance(self, ratio: float, kind: str) -> bool:
        """Whether this fault happens now."""
        if ratio and self.random.random() < ratio:
            self.injected[kind] += 1
            return True
        return False

    # time

    def at(self, when: float, node: Node, act: Callable[..., None], *args: Any) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, node, node.incarnation, act, args))

    def after(self, delay_s: float, node: Node, act: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay_s, node, act, *args)

    def run(self, until: float, done: Callable[[], bool]) -> bool:
        """Let events happen until ``done()``, which is asked once a second, or until the time."""
        heap = self._heap
        ask_at = self.now + 1.0
        while heap and heap[0][0] <= until:
            when, order, node, incarnation, act, args = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            if when >= ask_at:
                if done():
                    return True
                ask_at = when + 1.0
            if node.incarnation != incarnation:
                continue
            if node.frozen_until > when:
                heapq.heappush(heap, (node.frozen_until, order, node, incarnation, act, args))
                continue
            self.events += 1
            if self.events > MAX_EVENTS:
                raise Violation("liveness: something happens again and again at one time")
            act(*args)
        return done()

    # the network

    def delay_s(self) -> float:
        return self.random.uniform(self.options.delay_min_s, self.options.delay_max_s)

    def far_delay_s(self) -> float:
        """Between a reader and an edge."""
        return self.delay_s() + self.options.reader_delay_s

    def cut(self, one: Node, other: Node) -> None:
        self.say(f"partition {one.name} | {other.name}")
        self._cuts.add(frozenset((one, other)))

    def mend(self, one: Node, other: Node) -> None:
        self.say(f"partition {one.name} | {other.name} is over")
        self._cuts.discard(frozenset((one, other)))

    def mend_all(self) -> None:
        self._cuts.clear()

    def break_off(self, one: Node, other: Node) -> None:
        """Their connection ends, and both know it."""
        self._broken.add(frozenset((one, other)))

    def connect(self, one: Node, other: Node) -> None:
        self._broken.discard(frozenset((one, other)))

    def is_broken(self, one: Node, other: Node) -> bool:
        return bool(self._broken) and frozenset((one, other)) in self._broken

    def is_cut(self, one: Node, other: Node) -> bool:
        return bool(self._cuts) and frozenset((one, other)) in self._cuts

    def call(
        self, caller: Node, server: Node, act: Callable[[], Any], answer: Callable[[Any], None]
    ) -> None:
        """Have ``act`` done at ``server`` and ``answer`` called with what it returned.

        None is the answer when it got lost; it may have been done all the same, or be yet.
        """
        options = self.options
        if self.is_broken(caller, server):
            self.after(self.delay_s(), caller, answer, None)
            return
        if (
            not server.up
            or self.is_cut(caller, server)
            or self.chance(options.call_lost, "call lost")
        ):
            self.after(CALL_TIMEOUT_S if server.up else self.delay_s(), caller, answer, None)
            return
        delay_s = self.delay_s()
        if self.chance(options.call_late, "call late"):
            self.after(CALL_TIMEOUT_S, caller, answer, None)
            self.after(self.random.uniform(1.0, 3.0) * CALL_TIMEOUT_S, server, act)
            return
        pending = Pending(caller, caller.incarnation, answer)
        server.pending[pending] = None
        self.after(delay_s, server, self._arrive, pending, server, act)

    def ask(
        self,
        caller: Node,
        server: Node,
        begin: Callable[[Callable[[Any], None]], None],
        answer: Callable[[Any], None],
    ) -> None:
        """As ``call``, of a server that works on it and replies later through a function."""
        open_, incarnation = [True], caller.incarnation

        def settle(result: Any) -> None:
            if open_[0] and caller.incarnation == incarnation:
                open_[0] = False
                answer(result)

        def reply(result: Any) -> None:
            lost = self.is_cut(caller, server) or self.chance(
                self.options.answer_lost, "answer lost"
            )
            if open_[0] and not lost:
                self.after(self.far_delay_s(), caller, settle, result)

        self.after(ASK_TIMEOUT_S, caller, settle, None)
        if server.up and not self.is_cut(caller, server):
            if not self.chance(self.options.call_lost, "call lost"):
                self.after(self.far_delay_s(), server, begin, reply)
        elif not server.up:
            self.after(self.far_delay_s(), caller, settle, None)

    def _arrive(self, pending: "Pending", server: Node, act: Callable[[], Any]) -> None:
        server.pending.pop(pending, None)
        result = act()
        caller = pending.caller
        if caller.incarnation != pending.incarnation:
            return
        if self.is_broken(caller, server):
            self.after(self.delay_s(), caller, pending.answer, None)
        elif self.is_cut(caller, server) or self.chance(self.options.answer_lost, "answer lost"):
            self.after(CALL_TIMEOUT_S, caller, pending.answer, None)
        else:
            self.after(self.delay_s(), caller, pending.answer, result)


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A call on its way; it breaks when its server crashes."""

    caller: Node
    incarnation: int
    answer: Callable[[Any], None]


class Timer:
    """One deadline of a node, moved at will. Late moves cost nothing."""

    def __init__(self, node: Node, act: Callable[[], None]) -> None:
        self._node = node
        self._act = act
        self._wanted: float | None = None
        self._set: float | None = None

    @property
    def idle(self) -> bool:
        return self._wanted is None

    def arm(self, when: float | None) -> None:
        self._wanted = when
        if when is not None and (self._set is None or when < self._set):
            self._set = max(when, self._node.world.now)
            self._node.world.at(self._set, self._node, self._ring, self._set)

    def _ring(self, when: float) -> None:
        if when != self._set:
            return
        self._set = None
        if self._wanted is None:
            return
        if self._wanted > self._node.world.now:
            self.arm(self._wanted)
            return
        self._wanted = None
        self._act()

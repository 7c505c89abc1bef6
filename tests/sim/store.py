"""The store as a part of the simulation: the real twin, its publications and its crashes."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from lore.protocol.commands import Claim, Finish
from lore.store.base import Message, News, View
from lore.store.keys import partition_of
from lore.store.memory import StoreState
from lore.store.records import Publication, Snapshot
from tests.sim.calls import perform
from tests.sim.checkers import Safety
from tests.sim.world import Node, World

SNAPSHOT_EVERY_S = 0.2


class StoreNode(Node):
    def __init__(self, world: World, safety: Safety) -> None:
        super().__init__(world, "store")
        self.state = StoreState(run_id="run-1")
        self.safety = safety
        self.clients: list[Node] = []
        self._readers: dict[str, dict[Node, Callable[[str, Message], None]]] = {}
        self._owners: dict[str, tuple[Node, Callable[[str, News], None]]] = {}
        self._wakers: list[tuple[Node, Callable[[int], None]]] = []
        self._hearing: dict[Node, float] = {}
        """Generators whose connection for what is published is up, and since when."""
        self.unheard: set[tuple[str, int]] = set()
        """(request, epoch) of each claim whose answer has not arrived."""
        self._snapshots: deque[tuple[float, Snapshot]] = deque()
        self._runs = 1
        self._forgets = world.options.store_crash_rate > 0 and world.options.forget_ratio > 0
        self._arrivals: dict[Node, float] = {}
        self._keep_snapshots()

    def call(
        self,
        caller: Node,
        answer: Callable[[Any], None],
        method: str,
        request_id: str,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Call a method of the twin on one request; None answers a call without a reply."""

        def act() -> Any:
            return self._do(method, request_id, args, kwargs)

        self.world.call(caller, self, act, answer)

    def _do(self, method: str, request_id: str, args: Any, kwargs: Any) -> Any:
        now_ms = self.world.now_ms
        before = self.safety.before(self.state, request_id)
        if method == "renew":
            owner, epoch, log_id = args
            leases = [(request_id, epoch, log_id)]
            (result,) = self.state.renew(
                partition_of(request_id), owner, leases, now_ms=now_ms, **kwargs
            )
        elif method == "finish":
            result = self.state.finish(Finish(request_id, *args), now_ms=now_ms)
        elif method == "reinstate":
            result = self.state.reinstate(*args, now_ms=now_ms, **kwargs)
        else:
            result = getattr(self.state, method)(request_id, *args, now_ms=now_ms, **kwargs)
        self.safety.after(before, self.state, method, request_id, args, result)
        if self.world.tracing:
            outcome = getattr(result, "outcome", "")
            self.world.say(f"store {method} {request_id} {_short(args)} -> {outcome or result}")
        self._publish()
        return result

    def carry(self, caller: Node, answer: Callable[[Any], None], command: Any) -> None:
        """Carry out a generator's command. Answers (result, …), or None when the call was lost. An
        answer goes with the connection that it would come by: none comes from an earlier life."""

        def do(method: str, request_id: str, *args: Any, **kwargs: Any) -> Any:
            return self._do(method, request_id, args, kwargs)

        def act() -> tuple[Any, int]:
            return perform(command, do), self.incarnation

        def heard(found: tuple[Any, int] | None) -> None:
            answer(found if found is not None and found[1] == self.incarnation else None)

        self.world.call(caller, self, act, heard)

    def do(self, caller: Node, answer: Callable[[Any], None], act: Callable[[int], Any]) -> None:
        """Any other work at the store: ``act`` is given the store's time in milliseconds."""

        def work() -> Any:
            result = act(self.world.now_ms)
            self._publish()
            return result

        self.world.call(caller, self, work, answer)

    def view(
        self, caller: Node, answer: Callable[[tuple[View | None] | None], None], request_id: str
    ) -> None:
        """Answers (view,), (None,) for an unknown request, or None when the call was lost."""
        self.do(caller, answer, lambda now_ms: (self.state.view(request_id, now_ms=now_ms),))

    def claim(self, caller: Node, answer: Callable[[Any], None], command: Claim) -> None:
        """Answers (claimed or None,), or None when the call was lost."""
        partition, owner, lease_ms, untried = command

        def heard(found: Any) -> None:
            if found is not None and found[0] is not None:
                view = found[0].view
                self.unheard.discard((view.request_id, view.epoch))
            answer(found)

        def act(now_ms: int) -> Any:
            before = self.safety.before_claim(self.state)
            claimed = self.state.claim(
                partition, owner, lease_ms=lease_ms, untried=untried, now_ms=now_ms
            )
            if claimed is not None:
                view = claimed.view
                self.unheard.add((view.request_id, view.epoch))
                self.safety.after_claim(before, self.state, view)
                self.world.say(
                    f"store claim {view.request_id} by {owner}: epoch {view.epoch} "
                    f"log {view.log_id} next_seq {view.next_seq} forks {view.forks!r}"
                )
            return (claimed,)

        self.do(caller, heard, act)

    # subscriptions

    def follow(
        self,
        edge: Node,
        request_id: str,
        heard: Callable[[str, Message], None],
        answer: Callable[[Any], None],
    ) -> None:
        def act(_: int) -> bool:
            self._readers.setdefault(request_id, {})[edge] = heard
            return True

        self.do(edge, answer, act)

    def unfollow(self, edge: Node, request_id: str) -> None:
        self._readers.get(request_id, {}).pop(edge, None)

    def guard(
        self,
        owner: Node,
        request_id: str,
        heard: Callable[[str, News], None],
        answer: Callable[[Any], None],
    ) -> None:
        def act(_: int) -> Any:
            if owner not in self._hearing:
                return None  # there is no connection to subscribe it on
            self._owners[request_id] = (owner, heard)
            return (None,)

        self.do(owner, answer, act)

    def unguard(self, owner: Node, request_id: str) -> None:
        if self._owners.get(request_id, (None, None))[0] is owner:
            del self._owners[request_id]

    def on_wake(self, generator: Node, heard: Callable[[int], None]) -> None:
        self._wakers.append((generator, heard))

    def hear(self, generator: Node) -> None:
        """Its connection for what is published is there, if the store is."""
        if self.up:
            self._hearing[generator] = self.world.now

    def hang_up(self, generator: Node) -> None:
        self._hearing.pop(generator, None)
        for request_id, (owner, _) in list(self._owners.items()):
            if owner is generator:
                del self._owners[request_id]

    def is_heard_by(self, generator: Node) -> bool:
        return generator in self._hearing

    def heard_since(self, generator: Node) -> float:
        return self._hearing.get(generator, math.inf)

    def _publish(self) -> None:
        for publication in self.state.take_outbox():
            if publication.channel == "n":
                for edge, heard in self._readers.get(publication.request_id, {}).items():
                    self._tell(edge, heard, publication)
            elif publication.channel == "wake":
                for generator, wake in self._wakers:
                    if generator in self._hearing:
                        delay_s = self.world.delay_s()
                        self.world.after(delay_s, generator, wake, publication.message)
            elif publication.request_id in self._owners:
                owner, heard = self._owners[publication.request_id]
                self._tell(owner, heard, publication)

    def _tell(self, node: Node, heard: Callable[..., None], publication: Publication) -> None:
        world, options = self.world, self.world.options
        if not node.up or world.is_cut(self, node) or world.chance(options.news_loss, "news lost"):
            return
        when = max(world.now + world.delay_s(), self._arrivals.get(node, 0.0))
        if world.chance(options.news_reordering, "news reordered"):
            when += world.random.uniform(0.0, 1.0)
        else:
            self._arrivals[node] = when
        news = (self.incarnation, heard, publication.request_id, publication.message)
        world.at(when, node, self._deliver, *news)
        if world.chance(options.news_duplication, "news doubled"):
            world.at(when + world.random.uniform(0.0, 1.0), node, self._deliver, *news)

    def _deliver(self, run: int, heard: Callable[..., None], request_id: str, message: Any) -> None:
        if run == self.incarnation:  # its connection broke with the store
            heard(request_id, message)

    # crashes

    def _keep_snapshots(self) -> None:
        if not self._forgets or self.world.options.store_crash_rate == 0:
            return
        self._snapshots.append((self.world.now, self.state.snapshot()))
        while self._snapshots[0][0] < self.world.now - self.world.options.forget_s - 1:
            self._snapshots.popleft()
        self.world.after(SNAPSHOT_EVERY_S, self, self._keep_snapshots)

    def crash(self) -> None:
        super().crash()
        self._readers.clear()
        self._owners.clear()
        self._hearing.clear()
        self.world.say("store is down")

    def restart(self) -> None:
        """Come back, with less than before if chance wants it, and let every client know."""
        world = self.world
        self._runs += 1
        snapshot = self.state.snapshot()
        if self._forgets and world.chance(world.options.forget_ratio, "store forgot"):
            since = world.now - world.random.uniform(0.0, world.options.forget_s)
            while len(self._snapshots) > 1 and self._snapshots[-1][0] > since:
                self._snapshots.pop()
            snapshot = self._snapshots[-1][1]
        if world.chance(world.options.wipe_ratio, "store wiped"):
            self._snapshots.clear()
            snapshot = StoreState().snapshot()
        self.state.restore(snapshot, f"run-{self._runs}")
        self.state.take_outbox()
        self.safety.on_restore(self.state.run_id)
        self.up = True
        world.say(f"store is up as {self.state.run_id}: {self.safety.summary(self.state)}")
        self._keep_snapshots()
        for client in self.clients:
            world.after(world.random.uniform(0.0, 1.0), client, self._back, client)

    def _back(self, client: Node) -> None:
        self.hear(client)
        client.on_store_reset()


def _short(args: tuple[Any, ...]) -> str:
    return " ".join(
        f"chunks {[chunk.seq for chunk in arg]}" if isinstance(arg, tuple | list) else str(arg)
        for arg in args
    )

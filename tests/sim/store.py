"""The store as a part of the simulation: the real twin, its publications and its crashes."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lore.protocol.commands import Claim, Reap, Waiting, name_of
from lore.store.base import ChunkMessage, Claimed, Message, News, Outcome, View
from lore.store.memory import StoreState
from lore.store.memory.records import Publication, Snapshot
from tests.sim.checkers import Safety, lease_of
from tests.sim.world import Node, World

if TYPE_CHECKING:
    from tests.sim.generator import Generator

SNAPSHOT_EVERY_S = 0.2
BACK_WITHIN_S = 1.0
LATE_S = (2.0, 5.0)
"""When a generator is back that finds a new server late: longer than the grace."""


class StoreNode(Node):
    def __init__(self, world: World, safety: Safety) -> None:
        super().__init__(world, "store")
        self.state = StoreState(run_id="run-1")
        self.safety = safety
        safety.on_missed = self._on_missed
        self.clients: list[Node] = []
        self.generators: list[Generator] = []
        self._readers: dict[str, dict[Node, Callable[[str, Message], None]]] = {}
        self._owners: dict[str, tuple[Node, Callable[[str, News], None]]] = {}
        self._wakers: list[tuple[Node, Callable[[int], None]]] = []
        self._connected: dict[Generator, float] = {}
        """Generators whose connection for what is published is up, and since when."""
        self.unheard: set[tuple[str, int]] = set()
        """(request, epoch) of each claim whose answer has not arrived."""
        self.reaped: set[str] = set()
        """Requests whose owner lost them by a reap (P16), for who looks to take note of."""
        self.stays: dict[str, tuple[str, float, float]] = {}
        """When each owner was last subscribed, in which life of the store, since when and until
        when."""
        self._snapshots: deque[tuple[float, Snapshot]] = deque()
        self._runs = 1
        self._forgets = world.options.store_crash_rate > 0 and world.options.forget_ratio > 0
        self._arrivals: dict[Node, float] = {}
        self._keep_snapshots()

    def carry(self, caller: Node, answer: Callable[[Any], None], command: Any) -> None:
        """Carry a command out. Answers (result,), or None when the call was lost. An answer goes
        with the connection that it would come by: none comes from an earlier life, but that to a
        claim, which may have been heard just before, and its log is read after."""

        def act() -> tuple[Any, int]:
            return self._do(command), self.incarnation

        def heard(found: tuple[Any, int] | None) -> None:
            is_claim = isinstance(command, Claim | Waiting)
            if found is None or (found[1] != self.incarnation and not is_claim):
                answer(None)
                return
            if isinstance(found[0], Claimed):
                self.unheard.discard(lease_of(found[0].view))
            answer(found[:1])

        self.world.call(caller, self, act, heard)

    def call(self, caller: Node, answer: Callable[[Any], None], command: Any) -> None:
        """For who is told by None that the call was lost, and asks again by himself."""
        self.world.call(caller, self, lambda: self._do(command), answer)

    def _do(self, command: Any) -> Any:
        result = self.safety.carry_out(self.state, command)
        if isinstance(result, Claimed):
            self.unheard.add(lease_of(result.view))
        elif isinstance(command, Reap) and result.outcome is Outcome.OK:
            self.reaped.add(command.request_id)
        if self.world.tracing:
            said = result.view if isinstance(result, Claimed) else result
            self.world.say(f"store {_short(command)} -> {getattr(said, 'outcome', said)}")
        self._publish()
        return result

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

    def read(
        self,
        caller: Node,
        answer: Callable[[list[ChunkMessage] | None], None],
        request_id: str,
        after: int,
        limit: int,
    ) -> None:
        def act(now_ms: int) -> list[ChunkMessage]:
            return self.state.read(request_id, after=after, limit=limit, now_ms=now_ms)

        self.do(caller, answer, act)

    def _on_missed(self, view: View) -> None:
        """P15: whoever is there and can say so keeps its requests, whatever it has lost."""
        self.world.injected["owner missed (seen)"] += 1
        owner = self.generator(view.owner)
        if owner is not None and self.world.is_prompt and not owner.draining:
            self.safety.fail("P15", f"{view.request_id} was taken from {view.owner}, which lives")

    def generator(self, owner: str) -> "Generator | None":
        """The one of this name, if it is up."""
        found = (one for one in self.generators if one.up and one.owner == owner)
        return next(found, None)

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

    def subscribe(
        self,
        owner: Node,
        request_id: str,
        heard: Callable[[str, News], None],
        answer: Callable[[Any], None],
    ) -> None:
        def act(_: int) -> Any:
            if owner not in self._connected:
                return None  # there is no connection to subscribe it on
            self._owners[request_id] = (owner, heard)
            return (None,)

        self.do(owner, answer, act)

    def unsubscribe(self, owner: Node, request_id: str) -> None:
        if self._owners.get(request_id, (None, None))[0] is owner:
            del self._owners[request_id]

    def on_wake(self, generator: Node, heard: Callable[[int], None]) -> None:
        self._wakers.append((generator, heard))

    def hear(self, generator: "Generator") -> None:
        """Its connection for what is published is there, if the store is."""
        if self.up:
            self._connected[generator] = self.world.now
            self.state.present = {one.owner for one in self._connected}

    def hang_up(self, generator: "Generator") -> None:
        if generator in self._connected:
            stay = (self.state.run_id, self._connected.pop(generator), self.world.now)
            self.stays[generator.owner] = stay
        self.state.present = {one.owner for one in self._connected}
        for request_id, (owner, _) in list(self._owners.items()):
            if owner is generator:
                del self._owners[request_id]

    def is_heard_by(self, generator: "Generator") -> bool:
        return generator in self._connected and not self.world.is_broken(generator, self)

    def heard_since(self, generator: "Generator") -> float:
        return self._connected.get(generator, math.inf)

    def _publish(self) -> None:
        for publication in self.state.take_outbox():
            if publication.channel == "n":
                for edge, heard in self._readers.get(publication.request_id, {}).items():
                    self._tell(edge, heard, publication)
            elif publication.channel == "wake":
                for generator, wake in self._wakers:
                    if generator in self._connected:
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
        self._connected.clear()
        self.state.present = set()
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
        late = [one for one in self.generators if world.chance(world.options.late_ratio, "late")]
        self._come_back([client for client in self.clients if client not in late])
        for generator in late:
            world.break_off(generator, self)
            world.after(world.random.uniform(*LATE_S), generator, self.back, generator)

    def _come_back(self, clients: Sequence[Node]) -> None:
        for client in clients:
            back_s = self.world.random.uniform(0.0, BACK_WITHIN_S)
            self.world.after(back_s, client, self.back, client)

    def back(self, client: Node) -> None:
        if not client.up:
            return  # it connects when it starts
        self.world.connect(client, self)
        for generator in self.generators:
            if generator is client:
                self.hear(generator)
        client.on_store_reset()

    # lost connections

    def drop(self, generator: "Generator", *, calls: bool) -> None:
        """Its subscriptions are lost, and with them its connection for ``calls``, perhaps."""
        self.world.say(f"{generator.name} loses its {'connections' if calls else 'subscriptions'}")
        self.hang_up(generator)
        if calls:
            self.world.break_off(generator, self)

    def drop_all(self) -> None:
        """The same server loses all generators, and each comes back in its own time."""
        for generator in self.generators:
            self.drop(generator, calls=True)
        self._come_back(self.generators)

    def move(self) -> None:
        """Its partitions go to another server, with all that is in them, and without those who are
        subscribed. Calls find their way."""
        self._runs += 1
        came_from = self.state.run_id
        self.state.restore(self.state.snapshot(), f"run-{self._runs}")
        self.safety.on_move(came_from, self.state.run_id)
        self._readers.clear()
        for generator in list(self._connected):
            self.drop(generator, calls=False)
        self.world.say(f"store moves, and is {self.state.run_id}")
        self._come_back(self.clients)


def _short(command: Any) -> str:
    fields = (
        f"chunks {[chunk.seq for chunk in value]}" if name == "chunks" else str(value)
        for name, value in command._asdict().items()
    )
    return f"{name_of(type(command))} {' '.join(fields)}"

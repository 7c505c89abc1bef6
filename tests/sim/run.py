"""One run: builds the system from its options, lets faults happen, heals it, and judges."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from lore.protocol.commands import Reap, Release
from lore.protocol.lifecycle import ENDED, OWNED, Status
from lore.store.base import NewRequest, View
from tests.sim.checkers import Safety
from tests.sim.edge import Edge
from tests.sim.faults import LONGEST_FREEZE, Options, calm, draw
from tests.sim.generator import RETENTION_MS, Generator
from tests.sim.liveness import Progress
from tests.sim.reader import Reader
from tests.sim.store import BACK_WITHIN_S, StoreNode
from tests.sim.world import Node, World

HEALED_WITHIN_S = 800.0
"""Before a request that was reaped expires (``RETENTION_MS``)."""
SWEEP_EVERY_S = 5.0
RESET_S = 0.4
"""A generator that has lost its connections has new ones within this time."""
APART_S = 3.0
DRAIN_S = 3.0


@dataclass(frozen=True)
class Result:
    seed: int
    options: Options
    violation: str
    virtual_s: float
    events: int
    injected: Counter[str]


class Sweeper(Node):
    """Reaps what made no progress (P16) and takes owners for lost, as the operator would."""

    def __init__(self, world: World, store: StoreNode) -> None:
        super().__init__(world, "sweeper")
        self._store = store
        options = world.options
        reading_s = options.prompt_steps * options.step_s  # no progress, and no reason to reap
        self._idle_ms = int((reading_s + options.reap_idle_s) * 1000) if options.reap_idle_s else 0
        if self._idle_ms or world.options.seizure_rate:
            self._sweep()

    def _sweep(self) -> None:
        state = self._store.state
        self._store.do(self, self._on_live, lambda now_ms: state.live(now_ms=now_ms))
        self.world.after(SWEEP_EVERY_S, self, self._sweep)

    def _on_live(self, views: list[View] | None) -> None:
        for view in views or ():
            if view.status not in OWNED:
                continue
            if self.world.chance(self.world.options.seizure_rate * SWEEP_EVERY_S, "seizure"):
                self._call(Release(view.request_id, view.owner, view.epoch, "silent"))
            elif self._idle_ms and self.world.now_ms - view.progress_ms >= self._idle_ms:
                self._call(Reap(view.request_id, self._idle_ms, RETENTION_MS))

    def _call(self, command: Release | Reap) -> None:
        self._store.call(self, lambda _: None, command)


class Simulation:
    def __init__(self, seed: int, options: Options, trace: Callable[[str], None] | None) -> None:
        self.world = world = World(seed, options, trace)
        self.options = options
        self.safety = Safety(world)
        self.store = StoreNode(world, self.safety)
        self.edges = [Edge(world, f"edge{i}", self.store) for i in range(options.edges)]
        self.generators = [
            Generator(world, f"gen{i}", self.store) for i in range(options.generators)
        ]
        self.fate = Node(world, "fate")
        self.readers: list[Reader] = []
        self._settled_s = 0.0
        self.poisoned = False
        """A request kills generators, each of which is missed for its lease."""
        Sweeper(world, self.store)
        for i in range(options.requests):
            self._make_request(i)
        self._plan_faults()

    def _make_request(self, i: int) -> None:
        random, options = self.world.random, self.options
        unbound = random.random() < options.unbound_ratio
        new = NewRequest(
            request_id=f"r{i}",
            subject="",
            body=self._body(),
            fingerprint="",
            ack="none" if unbound else "client",
            window=0 if unbound else options.window_tokens,
        )
        start = random.uniform(0.0, options.arrive_within_s)
        for j in range(options.readers_per_request):
            reader = Reader(self.world, f"reader{i}.{j}", self.safety, self.edges, new)
            self.readers.append(reader)
            self.world.at(start + j * random.uniform(0.0, 5.0), reader, reader.ask)
            self._plan_reader(reader)

    def _body(self) -> str:
        if self.world.random.random() < self.options.failing_ratio:
            return "fails"
        poison = self.world.random.random() < self.options.poisonous_ratio
        self.poisoned |= poison
        return "poison" if poison else ""

    def _plan_reader(self, reader: Reader) -> None:
        random, options, fate = self.world.random, self.options, self.fate
        if random.random() < options.slow_ratio:
            reader.spacing_s = random.uniform(0.0, options.slow_spacing_s)
            self.world.injected["slow reader"] += 1
        when = random.uniform(0.0, options.faults_until_s)
        if random.random() < options.vanish_ratio:
            self.world.injected["reader vanishes"] += 1
            self.world.at(when, fate, reader.vanish)
            if random.random() < options.return_ratio:
                reload = random.random() < options.reload_ratio
                self.world.injected["reader returns"] += 1
                reader.expected = True
                self.world.at(when + random.uniform(0.5, 40.0), fate, reader.come_back, reload)
        if random.random() < options.cancel_ratio:
            self.world.injected["cancel"] += 1
            self.world.at(random.uniform(0.0, options.faults_until_s), fate, reader.cancel)

    def _plan_faults(self) -> None:
        options = self.options
        for generator in self.generators:
            generator.die = partial(self._die, generator)
            self._plan(options.generator_crash_rate, self._restart_later, generator)
            self._plan(options.generator_freeze_rate, self._freeze, generator)
            self._plan(options.generator_drain_rate, self._drain, generator)
            self._plan(options.subscription_loss_rate, self._lose, generator, calls=False)
            self._plan(options.connection_loss_rate, self._lose, generator, calls=True)
        self._plan(options.client_loss_rate, self._lose_all)
        self._plan(options.move_rate, self._move)
        for edge in self.edges:
            self._plan(options.edge_crash_rate, self._restart_later, edge)
        self._plan(options.store_crash_rate, self._crash_store)
        self._plan(options.partition_rate * len(self.readers), self._partition)

    def _plan(self, rate: float, act: Callable[..., None], *args: Node, **how: bool) -> None:
        """Let ``act`` happen at this rate (a Poisson process) until the faults end."""
        act, when = partial(act, **how), 0.0
        while rate > 0:
            when += self.world.random.expovariate(rate)
            if when >= self.options.faults_until_s:
                break
            self.world.at(when, self.fate, act, *args)

    def _restart_later(self, node: Generator | Edge) -> None:
        if node.up:
            self.world.injected[f"{type(node).__name__.lower()} crash"] += 1
            node.crash()
            down_s = self.world.random.uniform(0.1, self.options.down_s)
            self.world.after(down_s, self.fate, node.start)

    def _is_settled(self, kind: str) -> bool:
        """Whether all that has lost its connections has them again, so that it may lose some."""
        if not self.store.up or self.world.now < self._settled_s:
            return False
        self._settled_s = self.world.now + APART_S
        self.world.injected[kind] += 1
        return True

    def _lose(self, generator: Generator, *, calls: bool) -> None:
        kind = "connections lost" if calls else "subscriptions lost"
        if generator.up and self._is_settled(kind):
            self.store.drop(generator, calls=calls)
            back_s = self.world.random.uniform(0.02, RESET_S if calls else BACK_WITHIN_S)
            self.world.after(back_s, generator, self.store.back, generator)

    def _lose_all(self) -> None:
        if self._is_settled("clients lost"):
            self.store.drop_all()

    def _move(self) -> None:
        if self._is_settled("partitions moved"):
            self.store.move()

    def _die(self, generator: Generator) -> None:
        """Of a request: the process, or its engine alone, which hands everything back (P15)."""
        if self.world.random.random() < 0.5:
            self._restart_later(generator)
        else:
            self._drain(generator, failed=True)

    def _freeze(self, generator: Generator) -> None:
        self.world.injected["generator freeze"] += 1
        frozen_s = self.options.lease_s * self.world.random.uniform(0.5, LONGEST_FREEZE)
        self.world.say(f"{generator.name} freezes for {frozen_s:.1f} s")
        # A short freeze does not end a longer one.
        generator.frozen_until = max(generator.frozen_until, self.world.now + frozen_s)

    def _drain(self, generator: Generator, *, failed: bool = False) -> None:
        if generator.up and not generator.draining:
            self.world.injected["engine failure" if failed else "generator drain"] += 1
            generator.drain(failed=failed)
            self.world.after(DRAIN_S, self.fate, self._replace, generator)

    def _replace(self, generator: Generator) -> None:
        if generator.up and generator.draining:
            generator.check_drained()
            generator.crash()
            generator.start()

    def _crash_store(self) -> None:
        if self.store.up:
            self.world.injected["store crash"] += 1
            self.store.crash()
            down_s = self.world.random.uniform(0.1, self.options.down_s)
            self.world.after(down_s, self.fate, self.store.restart)
            for generator in self.generators:
                if self.world.random.random() < self.options.crash_together_ratio:
                    self._restart_later(generator)

    def _partition(self) -> None:
        parts: list[Node] = [self.store, *self.edges, *self.generators, *self.readers]
        one, other = self.world.random.sample(parts, 2)
        self.world.injected["partition"] += 1
        self.world.cut(one, other)
        self.world.after(
            self.world.random.uniform(0.1, self.options.partition_s),
            self.fate,
            self._mend,
            one,
            other,
        )

    def _mend(self, one: Node, other: Node) -> None:
        self.world.mend(one, other)
        for node, peer in ((one, other), (other, one)):
            # A connection that broke comes back with a word; a short cut may pass unnoticed.
            if peer is self.store and self.world.random.random() < 0.5 and node.up:
                self.world.after(self.world.delay_s(), node, node.on_store_reset)

    def run(self) -> None:
        world, options = self.world, self.options
        # A store that crashes may forget an end as well, so nothing is over before the faults are.
        if world.run(options.faults_until_s, self._quiet if not options.store_crash_rate else _no):
            return
        world.say("the faults end")
        world.options, world.healed_s = calm(options), world.now
        world.mend_all()
        progress = Progress(world, self.store, self.generators, self.edges)
        if not world.run(world.now + HEALED_WITHIN_S, partial(self._quiet, progress)):
            self.safety.fail("liveness", "; ".join(self._unsettled()))

    def _quiet(self, progress: Progress | None = None) -> bool:
        if progress is not None and not self.poisoned:
            progress.watch({reader.request_id for reader in self.readers})
        return not self._unsettled()

    def _unsettled(self) -> list[str]:
        """What should have happened and did not (P17)."""
        waiting = [
            f"{reader.name} has {reader.receiver.position} chunks of {reader.request_id}"
            for reader in self.readers
            if not reader.satisfied
        ]
        for request_id in {reader.request_id for reader in self.readers}:
            view = self.store.state.view(request_id, now_ms=self.world.now_ms)
            if view is None or view.status in ENDED:
                continue
            if view.status not in (Status.REAPED, Status.PAUSED):
                waiting.append(f"{request_id} is {view.status}")
        return waiting


def _no() -> bool:
    return False


def simulate(
    seed: int, options: Options | None = None, trace: Callable[[str], None] | None = None
) -> Result:
    """Run one seed. A violation is in the result; its seed and options replay it."""
    options = options or draw(Random(seed))
    simulation = Simulation(seed, options, trace)
    violation = ""
    try:
        simulation.run()
    except AssertionError as found:  # a checker's Violation, or one of the core's own assertions
        violation = str(found) or repr(found)
    world = simulation.world
    return Result(seed, options, violation, world.now, world.events, world.injected)

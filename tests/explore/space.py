"""The states of the whole system, and every step out of each.

A world is a tuple of numbers: the store, two generators, the readers with their edges, and
what of the bounds is spent. Parts are numbered by their forms, so a step of one part is
worked out once, however many worlds it happens in. Generators, and readers, are alike:
their numbers are sorted, and worlds that differ in names alone are one.

**Reduction.** What an owner does whom the store has fenced concerns nobody, so it does all of
it at once; ``check_fences`` proves that its calls never change a thing, whatever state the
store is in. And the first message of a channel to which others only append may be taken now
or later: all that happens elsewhere meanwhile commutes with it. So where a line has such a
message, the only steps explored are those of that end of the line (a persistent set): the
orders left out lead to the same states, and break no rule that these do not. It needs
channels that nobody else empties or overtakes, so it is off while the store may restart or a
subscription be lost, and needs a second message where one may overtake.
"""

from collections.abc import Iterator

from lore.protocol.lifecycle import ENDED
from tests.explore.bounds import COUNTED, FREE, Bounds
from tests.explore.calls import epoch_of
from tests.explore.depot import Depot
from tests.explore.forms import Numbers, Violation
from tests.explore.line import Line
from tests.explore.maker import Maker
from tests.explore.parts import SAME, Parts, Step

World = tuple[int, ...]
MAKERS = (1, 2)
KINDS = {kind: index for index, kind in enumerate(COUNTED)}
PART_BITS = 24


Option = tuple[int, Step]
"""The place in the world of the part that moves (0: the store), and its step."""


class Space:
    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.lines = tuple(range(3, 3 + bounds.readers))
        self.parts = Parts(bounds)
        self._spent = Numbers[tuple[int, ...]]()
        self._budgets: dict[tuple[int, str], int] = {}
        self._checked: set[tuple[int, int]] = set()
        self._limits = tuple(getattr(bounds, kind) for kind in COUNTED)

    def start(self) -> World:
        depot = Depot(self.bounds.window, misses=self.bounds.losses > 0)
        bounds = self.bounds
        keeps = bounds.restarts > 0 or bounds.wipes > 0
        rest = {"gives_back": bounds.wipes > 0, "paced": bounds.paced}
        maker = Maker(bounds.tokens, keeps=keeps, **rest)
        line = Line(depot.view.log_id, slow_reads=self.bounds.slow_reads)
        if self.bounds.joined:
            line = line.moves(depot)[0].part.caught_up(depot)
        spent = self._spent.of((0,) * len(COUNTED), (0,) * len(COUNTED))
        lines = (self.parts.line(line),) * self.bounds.readers
        return (self.parts.depot(depot), *(self.parts.maker(maker),) * 2, *lines, spent)

    # numbers

    def depot(self, world: World) -> Depot:
        return self.parts.depots.things[world[0]]

    def maker(self, world: World, place: int) -> Maker:
        return self.parts.makers.things[world[place]]

    def line(self, world: World, place: int) -> Line:
        return self.parts.lines.things[world[place]]

    def spent(self, world: World) -> tuple[int, ...]:
        """How often each kind of ``COUNTED`` has happened."""
        return self._spent.things[world[-1]]

    # steps

    def options(self, world: World) -> list[Option]:
        """The steps to explore: every one, or those of a persistent set."""
        if self._may_reduce(world):
            for place in MAKERS:
                if steps := self._fenced(world, place):
                    return self._affordable(world, place, steps)
            for place in self.lines:
                if steps := self._first(world, place):
                    return self._affordable(world, place, steps)
        return self.every(world)

    def every(self, world: World) -> list[Option]:
        """Every step that the bounds allow."""
        found = self._affordable(world, 0, self.parts.steps_of("depot", world[0]))
        for place in MAKERS:
            found += self._affordable(world, place, self.parts.steps_of("maker", world[place]))
            for group in ("maker at", "maker late"):
                steps = self.parts.steps_of(group, world[place], world[0])
                found += self._affordable(world, place, steps)
        for place in self.lines:
            found += self._affordable(world, place, self.parts.steps_of("reader", world[place]))
            found += self._affordable(world, place, self.parts.steps_of("edge", world[place]))
            steps = self.parts.steps_of("line at", world[place], world[0])
            found += self._affordable(world, place, steps)
        return found

    def _may_reduce(self, world: World) -> bool:
        """Channels are emptied by nobody else, and an edge that is cut off would have said no ack
        in its reader's place."""

        def is_left(*kinds: str) -> bool:
            return any(self._budget(world[-1], kind) != SAME for kind in kinds)

        if not self.bounds.reduced or is_left("restarts", "wipes", "resets"):
            return False
        if not self.depot(world).is_there:
            return False
        return self.depot(world).runs == 1 or not is_left("cuts", "timers")

    def _fenced(self, world: World, place: int) -> tuple[Step, ...]:
        """All that an owner can do whom the store has fenced, or its calls that are late."""
        maker, epoch = self.maker(world, place), self.depot(world).view.epoch
        if any(epoch_of(call) < epoch for call in maker.late):
            return self.parts.steps_of("maker late", world[place], world[0])
        if 0 < maker.lives < epoch:
            at_store = self.parts.steps_of("maker at", world[place], world[0])
            return self.parts.steps_of("maker", world[place]) + at_store
        return ()

    def _first(self, world: World, place: int) -> tuple[Step, ...]:
        line = self.parts.lines.things[world[place]]
        reorders = self._budget(world[-1], "reorders") != SAME
        if line.may_deliver_first(reorders=reorders):
            return self.parts.steps_of("reader", world[place])
        if line.may_hear_first(reorders=reorders):
            steps = self.parts.steps_of("edge", world[place])
            if not any(s.part != SAME and self.parts.lines.things[s.part].must_read for s in steps):
                return steps
        return ()

    def _affordable(self, world: World, place: int, steps: tuple[Step, ...]) -> list[Option]:
        spent = world[-1]
        return [
            (place, step)
            for step in steps
            if not step.kind or self._budget(spent, step.kind) != SAME
        ]

    def free(self, world: World) -> Iterator[Option]:
        """Steps that happen by themselves."""
        lines = ((group, place) for group in ("reader", "edge", "line at") for place in self.lines)
        makers = (
            (group, place) for group in ("maker", "maker at", "maker late") for place in MAKERS
        )
        for group, place in (*lines, *makers, ("depot", 0)):
            depot = world[0] if " " in group else SAME
            for step in self.parts.steps_of(group, world[place], depot):
                if not step.kind:
                    yield place, step

    def timers(self, world: World, place: int) -> Iterator[Step]:
        """Timers of one part that go off when nothing else happens."""
        if place in MAKERS:
            for step in self.parts.steps_of("maker", world[place]):
                if step.kind == "timers":
                    yield step
        elif place == 0:
            store = self.depot(world)
            epoch = store.view.epoch if store.is_there else 0
            if not any(self.maker(world, other).lives == epoch for other in MAKERS):
                for step in self.parts.steps_of("depot", world[0]):
                    if step.kind == "lapses":
                        yield step
        else:
            groups = (("reader", SAME), ("edge", SAME), ("idle", SAME), ("line at", world[0]))
            for group, depot in groups:
                for step in self.parts.steps_of(group, world[place], depot):
                    if step.kind in ("timers", "surrenders"):
                        yield step

    def _budget(self, spent: int, kind: str) -> int:
        """What is spent after one more of ``kind``, or SAME when that is too much."""
        key = (spent, kind)
        after = self._budgets.get(key)
        if after is None:
            counts = list(self._spent.things[spent])
            counts[KINDS[kind]] += 1
            faults = sum(n for n, name in zip(counts, COUNTED, strict=True) if name not in FREE)
            within = counts[KINDS[kind]] <= self._limits[KINDS[kind]]
            after = SAME
            if within and faults <= self.bounds.faults:
                after = self._spent.of(tuple(counts), tuple(counts))
            self._budgets[key] = after
        return after

    # taking a step

    def take(self, world: World, place: int, step: Step, *, counted: bool = True) -> World:
        """The world afterwards, its parts in their old places. Raises Violation."""
        new = list(world)
        if step.kind and counted:
            new[-1] = self._budget(world[-1], step.kind)
        if step.part != SAME:
            new[place] = step.part
        if step.depot != SAME:
            new[0] = step.depot
            restarted = step.kind in ("restarts", "wipes")
            for other in MAKERS:
                new[other] = self.parts.meet(new[other], step.depot)
                new[other] = self.parts.touch(self.parts.makers, new[other], step.wakes, restarted)
            for other in self.lines:
                new[other] = self.parts.touch(self.parts.lines, new[other], step.news, restarted)
        if place in self.lines and self.parts.lines.things[new[place]].must_read:
            new[place] = self.parts.catch_up(new[place], new[0])
        for other in self.lines:
            if (new[other], new[0]) not in self._checked:
                self._check(self.parts.lines.things[new[other]], self.parts.depots.things[new[0]])
                self._checked.add((new[other], new[0]))
        return tuple(new)

    def _check(self, line: Line, depot: Depot) -> None:
        """P1 and P4: what a reader has is what its log has held, to the end if it was told so."""
        log_id, position = line.receiver.log_id, line.receiver.position
        text = "".join(line.texts)
        held = depot.logs.get(log_id, ())
        right = "".join(chunk for chunk, _ in held[:position])
        if text != right or position > len(held):
            raise Violation(f"P1: a reader has {text!r}, and log {log_id} is {right!r} there")
        if line.phase == "complete" and (log_id, position) not in depot.ends:
            raise Violation(f"P1: a reader was told that log {log_id} ends at {position}")
        if line.phase == "lost" and not depot.lossy and self.bounds.restarts < 2:
            raise Violation("P4: a reader lost its history, and the store lost nothing")

    # one world for all that are alike

    def sort(self, world: World) -> World:
        makers = sorted(world[1:3])
        return (world[0], *makers, *sorted(world[3:-1]), world[-1])

    def pack(self, world: World) -> int:
        packed = 0
        for number in world:
            packed = packed << PART_BITS | number
        return packed

    def unpack(self, packed: int) -> World:
        numbers: list[int] = []
        for _ in range(4 + self.bounds.readers):
            numbers.append(packed & (1 << PART_BITS) - 1)
            packed >>= PART_BITS
        return tuple(reversed(numbers))

    def is_over(self, world: World) -> bool:
        """Every reader has all there is or knows why not, and the request has ended.

        What a store forgot after everyone was gone is nobody's to read, and is reaped (P16).
        """
        depot = self.depot(world)
        phases = {self.line(world, place).phase for place in self.lines}
        return "reading" not in phases and (depot.runs > 1 or depot.view.status in ENDED)

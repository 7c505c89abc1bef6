"""The states of the whole system, and every step out of each.

A world is a tuple of numbers: the store, two generators, the readers with their edges, and
what of the bounds is spent. Parts are numbered by their forms, so a step of one part is
worked out once, however many worlds it happens in. Generators, and readers, are alike:
their numbers are sorted, and worlds that differ in names alone are one.

**Reduction.** The first message of a channel to which others only append may be taken now
or later: all that happens elsewhere meanwhile commutes with it. So where a line has such a
message, the only steps explored are those of that end of the line (a persistent set): the
orders left out lead to the same states, and break no rule that these do not. It needs
channels that nobody else empties or overtakes, so it is off where the store restarts or a
subscription is lost, and needs a second message where one may overtake.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lore.protocol.lifecycle import ENDED
from tests.explore.bounds import COUNTED, FREE, Bounds
from tests.explore.depot import Depot
from tests.explore.forms import Move, Numbers, Violation
from tests.explore.line import Line
from tests.explore.maker import Maker

World = tuple[int, ...]
MAKERS = (1, 2)
SAME = -1
KINDS = {kind: index for index, kind in enumerate(COUNTED)}
PART_BITS = 24


class Step(NamedTuple):
    """A move, with numbers for the parts. ``SAME``: not changed."""

    label: str
    kind: str
    part: int
    depot: int
    news: tuple[Any, ...]
    wakes: tuple[Any, ...]
    violation: str


Option = tuple[int, Step]
"""The place in the world of the part that moves (0: the store), and its step."""


class Space:
    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.lines = tuple(range(3, 3 + bounds.readers))
        self._depots, self._makers, self._lines = Numbers(), Numbers(), Numbers()
        self._spent = Numbers()
        self._steps: dict[Any, tuple[Step, ...]] = {}
        self._touched: dict[Any, int] = {}
        self._budgets: dict[tuple[int, str], int] = {}
        self._checked: set[tuple[int, int]] = set()
        self._limits = tuple(getattr(bounds, kind) for kind in COUNTED)
        self._reduces = bounds.reduced and not bounds.restarts and not bounds.resets

    def start(self) -> World:
        depot = Depot(self.bounds.window)
        maker = Maker(self.bounds.tokens, keeps=self.bounds.restarts > 0)
        line = Line(depot.view.log_id, slow_reads=self.bounds.slow_reads)
        if self.bounds.joined:
            line = line.moves(depot)[0].part.caught_up(depot)
        spent = self._spent.of((0,) * len(COUNTED), (0,) * len(COUNTED))
        lines = (self._line(line),) * self.bounds.readers
        return (self._depot(depot), *(self._maker(maker),) * 2, *lines, spent)

    # numbers

    def depot(self, world: World) -> Depot:
        return self._depots.things[world[0]]

    def maker(self, world: World, place: int) -> Maker:
        return self._makers.things[world[place]]

    def line(self, world: World, place: int) -> Line:
        return self._lines.things[world[place]]

    def spent(self, world: World) -> dict[str, int]:
        return dict(zip(COUNTED, self._spent.things[world[-1]], strict=True))

    def _depot(self, depot: Depot) -> int:
        return self._depots.of(depot.form(), depot)

    def _maker(self, maker: Maker) -> int:
        return self._makers.of(maker.form(), maker)

    def _line(self, line: Line) -> int:
        return self._lines.of(line.form(), line)

    def sizes(self) -> str:
        parts = (self._depots, self._makers, self._lines)
        return "{} of the store, {} of a generator, {} of a reader".format(
            *(len(numbers.things) for numbers in parts)
        )

    # steps

    def options(self, world: World) -> list[Option]:
        """Every step that the bounds allow, or those of a persistent set."""
        if self._reduces:
            for place in self.lines:
                steps = self._first(world, place)
                if steps:
                    return self._affordable(world, place, steps)
        found = self._affordable(world, 0, self._steps_of("depot", world[0]))
        for place in MAKERS:
            found += self._affordable(world, place, self._steps_of("maker", world[place]))
            steps = self._steps_of("maker at", world[place], world[0])
            found += self._affordable(world, place, steps)
        for place in self.lines:
            found += self._affordable(world, place, self._steps_of("reader", world[place]))
            found += self._affordable(world, place, self._steps_of("edge", world[place]))
            steps = self._steps_of("line at", world[place], world[0])
            found += self._affordable(world, place, steps)
        return found

    def _first(self, world: World, place: int) -> tuple[Step, ...]:
        line = self._lines.things[world[place]]
        reorders = self._budget(world[-1], "reorders") != SAME
        if line.may_deliver_first(reorders=reorders):
            return self._steps_of("reader", world[place])
        if line.may_hear_first(reorders=reorders):
            steps = self._steps_of("edge", world[place])
            if not any(s.part != SAME and self._lines.things[s.part].must_read for s in steps):
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
        groups = [(place, ("reader", world[place])) for place in self.lines]
        groups += [(place, ("edge", world[place])) for place in self.lines]
        groups += [(place, ("line at", world[place], world[0])) for place in self.lines]
        groups += [(place, ("maker", world[place])) for place in MAKERS]
        groups += [(place, ("maker at", world[place], world[0])) for place in MAKERS]
        for place, group in (*groups, (0, ("depot", world[0]))):
            for step in self._steps_of(*group):
                if not step.kind:
                    yield place, step

    def timers(self, world: World, place: int) -> Iterator[Step]:
        """Timers of one part that go off when nothing else happens."""
        if place in MAKERS:
            for step in self._steps_of("maker", world[place]):
                if step.kind == "timers":
                    yield step
        elif place == 0:
            epoch = self.depot(world).view.epoch
            if not any(self.maker(world, other).lives == epoch for other in MAKERS):
                for step in self._steps_of("depot", world[0]):
                    if step.kind == "lapses":
                        yield step
        else:
            for group in ("reader", "edge", "idle"):
                for step in self._steps_of(group, world[place]):
                    if step.kind == "timers":
                        yield step

    def _steps_of(self, group: str, number: int, depot: int = SAME) -> tuple[Step, ...]:
        key = (group, number, depot)
        steps = self._steps.get(key)
        if steps is None:
            steps = self._steps[key] = tuple(self._work_out(group, number, depot))
        return steps

    def _work_out(self, group: str, number: int, depot: int) -> Iterator[Step]:
        store: Depot | None = None if depot == SAME else self._depots.things[depot]
        count: Callable[[Any], int] = self._maker if group.startswith("maker") else self._line
        match group:
            case "depot":
                moves = self._depots.things[number].moves()
                depot = number
            case "maker":
                moves = self._makers.things[number].local_moves()
            case "maker at":
                moves = self._makers.things[number].moves(store)
            case "reader":
                moves = self._lines.things[number].reader_moves()
            case "edge":
                moves = self._lines.things[number].edge_moves()
            case "idle":
                moves = self._lines.things[number].idle_moves()
            case _:
                moves = self._lines.things[number].moves(store)
        move: Move
        for move in moves:
            part = SAME if move.part is None else count(move.part)
            after = SAME if move.depot is None else self._depot(move.depot)
            if move.kind not in ("", "timers", "lapses") and not getattr(self.bounds, move.kind):
                continue  # never within the bounds
            changed = (part not in (SAME, number), after not in (SAME, depot))
            if any(changed) or move.violation:
                yield Step(
                    move.label,
                    move.kind,
                    part if changed[0] else SAME,
                    after if changed[1] else SAME,
                    move.depot.news if move.depot is not None else (),
                    move.depot.wakes if move.depot is not None else (),
                    move.violation,
                )

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
            restarted = step.kind == "restarts"
            for other in MAKERS:
                new[other] = self._touch(self._makers, new[other], step.wakes, restarted)
            for other in self.lines:
                new[other] = self._touch(self._lines, new[other], step.news, restarted)
        if place in self.lines and self._lines.things[new[place]].must_read:
            new[place] = self._catch_up(new[place], new[0])
        for other in self.lines:
            if (new[other], new[0]) not in self._checked:
                self._check(self._lines.things[new[other]], self._depots.things[new[0]])
                self._checked.add((new[other], new[0]))
        return tuple(new)

    def _touch(self, numbers: Numbers, number: int, news: tuple[Any, ...], restarted: bool) -> int:
        if not news and not restarted:
            return number
        key = (numbers is self._makers, number, news, restarted)
        touched = self._touched.get(key)
        if touched is None:
            thing = numbers.things[number]
            if restarted:
                new = thing.cut_off()
            else:
                new = thing.woken(news) if numbers is self._makers else thing.told(news)
            touched = self._touched[key] = numbers.of(new.form(), new)
        return touched

    def _catch_up(self, number: int, depot: int) -> int:
        key = (number, depot)
        caught_up = self._touched.get(key)
        if caught_up is None:
            line = self._lines.things[number].caught_up(self._depots.things[depot])
            caught_up = self._touched[key] = self._line(line)
        return caught_up

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
        return "reading" not in phases and (depot.view.status in ENDED or depot.runs > 1)

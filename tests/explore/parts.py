"""The parts that worlds are made of, each with a number, and every step that each can take."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.explore.bounds import Bounds
from tests.explore.calls import epoch_of, perform
from tests.explore.depot import Depot, record_form
from tests.explore.forms import Move, Numbers
from tests.explore.line import Line
from tests.explore.maker import Maker

SAME = -1
IN_THE_END = frozenset({"", "timers", "lapses", "surrenders"})
"""Kinds that a run without further faults may need (see ``search.py``)."""


class Step(NamedTuple):
    """A move, with numbers for the parts. ``SAME``: not changed."""

    label: str
    kind: str
    part: int
    depot: int
    news: tuple[Any, ...]
    wakes: tuple[Any, ...]
    violation: str


class Parts:
    """A step is worked out once for its part, and for the store where that is in it."""

    def __init__(self, bounds: Bounds) -> None:
        self.depots = Numbers[Depot]()
        self.makers = Numbers[Maker]()
        self.lines = Numbers[Line]()
        self._bounds = bounds
        self._steps: dict[Any, tuple[Step, ...]] = {}
        self._touched: dict[Any, int] = {}

    def depot(self, depot: Depot) -> int:
        return self.depots.of(depot.form(), depot)

    def maker(self, maker: Maker) -> int:
        return self.makers.of(maker.form(), maker)

    def line(self, line: Line) -> int:
        return self.lines.of(line.form(), line)

    def sizes(self) -> str:
        parts = (self.depots, self.makers, self.lines)
        return "{} of the store, {} of a generator, {} of a reader".format(
            *(len(numbers.things) for numbers in parts)
        )

    def steps_of(self, group: str, number: int, depot: int = SAME) -> tuple[Step, ...]:
        key = (group, number, depot)
        steps = self._steps.get(key)
        if steps is None:
            steps = self._steps[key] = tuple(self._work_out(group, number, depot))
        return steps

    def _work_out(self, group: str, number: int, depot: int) -> Iterator[Step]:
        count: Callable[[Any], int] = self.maker if group.startswith("maker") else self.line
        match group:
            case "depot":
                moves = self.depots.things[number].moves()
                depot = number
            case "maker":
                moves = self.makers.things[number].local_moves()
            case "maker at":
                moves = self.makers.things[number].moves(self.depots.things[depot])
            case "maker late":
                moves = self.makers.things[number].late_moves(self.depots.things[depot])
            case "reader":
                moves = self.lines.things[number].reader_moves()
            case "edge":
                moves = self.lines.things[number].edge_moves()
            case "idle":
                moves = self.lines.things[number].idle_moves()
            case _:
                moves = self.lines.things[number].moves(self.depots.things[depot])
        move: Move
        for move in moves:
            part = SAME if move.part is None else count(move.part)
            after = SAME if move.depot is None else self.depot(move.depot)
            if move.kind not in ("", "timers", "lapses", "surrenders") and not getattr(
                self._bounds, move.kind
            ):
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

    def touch(self, numbers: Numbers, number: int, news: tuple[Any, ...], restarted: bool) -> int:
        if not news and not restarted:
            return number
        key = (numbers is self.makers, number, news, restarted)
        touched = self._touched.get(key)
        if touched is None:
            thing = numbers.things[number]
            if restarted:
                new = thing.cut_off()
            else:
                new = thing.woken(news) if numbers is self.makers else thing.told(news)
            touched = self._touched[key] = numbers.of(new.form(), new)
        return touched

    def meet(self, number: int, depot: int) -> int:
        """What a generator knows by itself of the store: its time, and which life it is in."""
        new = self.makers.things[number].met(self.depots.things[depot])
        return number if new is self.makers.things[number] else self.maker(new)

    def catch_up(self, number: int, depot: int) -> int:
        key = (number, depot)
        caught_up = self._touched.get(key)
        if caught_up is None:
            line = self.lines.things[number].caught_up(self.depots.things[depot])
            caught_up = self._touched[key] = self.line(line)
        return caught_up

    def check_fences(self) -> None:
        """No call that an older epoch ever made changes any state that the store was ever in."""
        calls = {
            call
            for maker in self.makers.things
            for call in (maker.call, maker.renewal, *maker.late)
            if call is not None
        }
        there = [depot for depot in self.depots.things if depot.is_there]
        records = {record_form(depot.record): depot for depot in there}
        for depot in records.values():
            for call in calls:
                if epoch_of(call) < depot.view.epoch:
                    perform(call, depot)  # its check is a fenced call's

"""Breadth first through a space, so that what is found first is found by its shortest path.

After that, from every state found a run without further faults has to end well: whatever can
happen happens, in a fixed order, and timers go off when nothing else can. Each such run goes
on until it meets a state that is known to end well.
"""

import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.explore.bounds import Bounds
from tests.explore.forms import Violation
from tests.explore.space import MAKERS, Option, Space, World

NAMES = ("the store", "generator A", "generator B", "reader X", "reader Y")


@dataclass(slots=True)
class Found:
    """What a search has seen."""

    bounds: Bounds
    states: int = 0
    transitions: int = 0
    depth: int = 0
    took_s: float = 0.0
    parts: str = ""
    is_whole: bool = True
    """False when the search stopped at its limit of states or at a violation."""
    violation: str = ""
    path: tuple[str, ...] = ()
    ending: tuple[str, ...] = ()
    """The run without faults that did not end well, where that is the violation."""

    def report(self) -> str:
        counts = f"{self.states:,} states, {self.transitions:,} transitions, depth {self.depth}"
        lines = [f"{self.bounds.name}: {counts}, {self.took_s:.1f} s ({self.parts})"]
        if self.violation:
            lines.append(f"  VIOLATION {self.violation}")
            lines += [f"  {n:>3}. {label}" for n, label in enumerate(self.path, 1)]
            lines += [f"     - {label}" for label in self.ending]
        elif not self.is_whole:
            lines.append("  NOT ALL: stopped at the limit of states")
        return "\n".join(lines)


class Search:
    def __init__(self, bounds: Bounds, *, max_states: int = 10**9, endings: bool = True) -> None:
        self.space = Space(bounds)
        self.found = Found(bounds)
        self._max_states = max_states
        self._endings = endings
        self._worlds: list[int] = []
        self._parents = array("q")
        self._choices = array("h")
        self._seen: set[int] = set()
        self._ends_well: set[int] = set()

    def run(self) -> Found:
        began = time.monotonic()
        found, space = self.found, self.space
        start = space.start()
        self._add(space.sort(start), -1, -1)
        level_end, index = 1, 0
        while index < len(self._worlds) and not found.violation:
            if index == level_end:
                level_end = len(self._worlds)
                found.depth += 1
            if len(self._worlds) >= self._max_states:
                found.is_whole = False
                break
            self._expand(index)
            index += 1
        if not found.violation:
            self._check_fences()
        if self._endings and not found.violation:
            any(self._follow(index) for index in range(len(self._worlds)))
        found.states = len(self._worlds)
        found.took_s = time.monotonic() - began
        found.parts = space.parts.sizes()
        return found

    def worlds(self) -> Iterator[World]:
        """Every state found."""
        return map(self.space.unpack, self._worlds)

    def _check_fences(self) -> None:
        try:
            self.space.parts.check_fences()
        except Violation as violation:
            self.found.violation = f"{violation} (in a state that was not reached)"

    def _add(self, world: World, parent: int, choice: int) -> None:
        packed = self.space.pack(world)
        if packed not in self._seen:
            self._seen.add(packed)
            self._worlds.append(packed)
            self._parents.append(parent)
            self._choices.append(choice)

    def _expand(self, index: int) -> None:
        space = self.space
        world = space.unpack(self._worlds[index])
        for choice, (place, step) in enumerate(space.options(world)):
            self.found.transitions += 1
            try:
                if step.violation:
                    raise Violation(step.violation)
                new = space.take(world, place, step)
            except Violation as violation:
                self._fail(str(violation), index, (place, step))
                return
            self._add(space.sort(new), index, choice)

    def _fail(self, violation: str, index: int, last: Option | None) -> None:
        self.found.violation = violation
        self.found.is_whole = False
        path, names = self._path(index)
        if last is not None:
            path = self._shorten([*path, _words(last, names)])
        self.found.path = tuple(path)

    def _path(self, index: int) -> tuple[list[str], list[str]]:
        """The steps to a state in words, and the names of the parts that are then in each place.

        Sorting moves parts about, and their names go with them.
        """
        choices: list[int] = []
        while self._parents[index] >= 0:
            choices.append(self._choices[index])
            index = self._parents[index]
        space, labels = self.space, list[str]()
        world, names = space.unpack(self._worlds[0]), list[str](NAMES)
        for choice in reversed(choices):
            option = space.options(world)[choice]
            labels.append(_words(option, names))
            world, names = _sorted_with(space.take(world, *option), names)
        return labels, names

    def _shorten(self, path: list[str]) -> list[str]:
        """Without the steps that a persistent set put before their turn."""
        for place in reversed(range(len(path) - 1)):
            shorter = path[:place] + path[place + 1 :]
            if self._breaks(shorter):
                path = shorter
        return path

    def _breaks(self, path: list[str]) -> bool:
        """Whether these steps can be taken, and the last one breaks a rule."""
        space, world = self.space, self.space.start()
        for label in path:
            options = space.every(world)
            option = next((o for o in options if _words(o, NAMES) == label), None)
            if option is None:
                return False
            try:
                if option[1].violation:
                    return label is path[-1]
                world = space.take(world, *option)
            except Violation:
                return label is path[-1]
        return False

    # runs without faults

    def _follow(self, index: int) -> bool:
        """Go on from a state until it is known to end well. True when it does not: a violation."""
        space = self.space
        world = space.unpack(self._worlds[index])
        run: dict[int, None] = {}
        taken: list[Option] = []
        while True:
            key = space.pack(space.sort((*world[:-1], 0)))
            if key in self._ends_well or space.is_over(world):
                self._ends_well.update(run, (key,))
                return False
            try:
                if key in run:
                    raise Violation("P17: without further faults it goes round and never ends")
                run[key] = None
                world = self._next(world, taken)
            except Violation as violation:
                self._fail(str(violation), index, None)
                _, names = self._path(index)
                self.found.ending = tuple(_words(option, names) for option in taken)
                return True

    def _next(self, world: World, taken: list[Option]) -> World:
        """One step without a fault, or, when there is none, every timer in its turn."""
        space = self.space
        for option in space.free(world):
            return self._take(world, option, taken)
        before = len(taken)
        for place in (0, *MAKERS, *space.lines):
            tried: set[str] = set()
            while (
                step := next((s for s in space.timers(world, place) if s.label not in tried), None)
            ) is not None:
                tried.add(step.label)
                world = self._take(world, (place, step), taken)
        if len(taken) == before:
            raise Violation("P17: without further faults it stands still and never ends")
        return world

    def _take(self, world: World, option: Option, taken: list[Option]) -> World:
        taken.append(option)
        if option[1].violation:
            raise Violation(option[1].violation)
        return self.space.take(world, *option, counted=False)


def _words(option: Option, names: Sequence[str]) -> str:
    place, step = option
    return step.label.format(names[place])


def _sorted_with(world: World, names: list[str]) -> tuple[World, list[str]]:
    """The world with its parts in order, and their names in the same order."""

    def order(places: range) -> list[int]:
        return sorted(places, key=lambda place: world[place])

    places = [0, *order(range(1, 3)), *order(range(3, len(world) - 1))]
    return (*(world[p] for p in places), world[-1]), [names[p] for p in places]

"""Copies and hashable forms of protocol objects, and small numbers that stand for them."""

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from lore.protocol.lifecycle import LifecycleError
from tests.sim.world import Violation

T = TypeVar("T")

SHARED = frozenset({"_config", "config"})
"""Never changed, so copies share them and forms leave them out."""
INERT = frozenset({"duplicates", "retransmits", "round_trip", "looks", "_looks_asked", "view"})
"""Counters and measurements that decide nothing while every duration is 0, and a view, of which
little counts (see ``edge.py``)."""


PURE = ("lore.protocol.", "lore_client.protocol.")
"""Whose objects change, and are copied with their state."""


def copy_of(value: Any) -> Any:
    """A copy that shares nothing that can change with the original."""
    match value:
        case None | bool() | int() | float() | str() | tuple() | frozenset():
            return value
        case list():
            return [copy_of(item) for item in value]
        case deque():
            return deque(copy_of(item) for item in value)
        case dict():
            return {key: copy_of(item) for key, item in value.items()}
    kind = type(value)
    if kind.__module__.startswith(PURE) and not _is_frozen(kind):
        new: Any = object.__new__(kind)
        for name in _names(value):
            item = getattr(value, name)
            setattr(new, name, item if name in SHARED else copy_of(item))
        return new
    return value


def form_of(value: Any) -> Any:
    """A hashable value that is equal for states that behave alike."""
    match value:
        case None | bool() | int() | float() | str() | frozenset():
            return value
        case tuple() | list() | deque():
            return tuple(form_of(item) for item in value)
        case dict():
            return tuple(sorted((key, form_of(item)) for key, item in value.items()))
    kind = type(value)
    if kind.__module__.startswith(PURE) and not _is_frozen(kind):
        return tuple(
            form_of(getattr(value, name))
            for name in _names(value)
            if name not in SHARED and name not in INERT
        )
    return value


def _is_frozen(kind: type) -> bool:
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and parameters.frozen


def _names(value: Any) -> Any:
    return value.__dict__ if hasattr(value, "__dict__") else value.__slots__


class Numbers(Generic[T]):
    """Numbers for things: equal forms get the same one, and the first of them is kept."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self.things: list[T] = []

    def of(self, form: Any, thing: T) -> int:
        number = self._numbers.setdefault(form, len(self.things))
        if number == len(self.things):
            self.things.append(thing)
        return number


class Move(NamedTuple):
    """One step that a part can take. ``{}`` in the label is the part's name."""

    label: str
    kind: str = ""
    """The bound that it counts against; '' for what happens by itself."""
    part: Any = None
    """The part afterwards, or None: as before."""
    depot: Any = None
    """The store afterwards, or None: as before."""
    violation: str = ""


def attempt(label: str, act: Callable[[], tuple[Any, Any]], kind: str = "") -> Move:
    """The move to the part and the store that ``act`` returns, or to the rule that it breaks."""
    try:
        part, depot = act()
    except Violation as violation:
        return Move(label, kind, violation=str(violation))
    except (LookupError, ValueError, AssertionError, LifecycleError) as error:
        return Move(label, kind, violation=f"{type(error).__name__}: {error}")
    return Move(label, kind, part, depot)


__all__ = ["Move", "Numbers", "Violation", "attempt", "copy_of", "form_of"]

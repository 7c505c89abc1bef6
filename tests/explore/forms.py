"""Copies and hashable forms of protocol objects, and small numbers that stand for them."""

from collections import deque
from typing import Any, NamedTuple

from tests.sim.world import Violation

SHARED = frozenset({"_config", "config"})
"""Never changed, so copies share them and forms leave them out."""
INERT = frozenset({"duplicates", "retransmits", "round_trip"})
"""Counters and measurements that decide nothing while every duration is 0."""


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
    if kind.__module__.startswith("lore.protocol.") and not _is_frozen(kind):
        new = kind.__new__(kind)
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
    if kind.__module__.startswith("lore.protocol.") and not _is_frozen(kind):
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
    return value.__slots__ if hasattr(value, "__slots__") else value.__dict__


class Numbers:
    """Numbers for things: equal forms get the same one, and the first of them is kept."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self.things: list[Any] = []

    def of(self, form: Any, thing: Any) -> int:
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


__all__ = ["Move", "Numbers", "Violation", "copy_of", "form_of"]

"""What may happen at most how often, and the scopes that are explored."""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Bounds:
    """One scope. Counts are maxima on every path; ``faults`` bounds their sum."""

    name: str
    tokens: int = 3
    window: int = 2
    joined: bool = True
    """Whether the readers are connected from the start, or connect at any time."""
    paced: bool = False
    """Whether credit comes a token at a time, at any time (P20), or the window's whole credit."""
    slow_reads: bool = False
    """Whether what an edge reads of the store is under way for a while, or there at once."""
    readers: int = 2
    faults: int = 0
    drops: int = 0
    """Messages and calls lost: news, events, acks, calls and their answers."""
    doubles: int = 0
    """News, events and acks that arrive twice."""
    reorders: int = 0
    """News and events that overtake the one before. Acks and late calls always may."""
    lates: int = 0
    """Calls given up while they are still under way, so that they may happen later."""
    crashes: int = 0
    """Generators that die. They are back at once, knowing nothing."""
    lapses: int = 0
    """Leases that lapse, whether their owner lives or not."""
    cancels: int = 0
    reaps: int = 0
    seizures: int = 0
    losses: int = 0
    """Owners that are not connected for a while, and keep on asking and appending all the same."""
    restarts: int = 0
    """Stores that come back, with another run id, as they are or as they were saved."""
    wipes: int = 0
    """Stores that come back with nothing: owners give back what they know (P3)."""
    saves: int = 0
    """Times at which the store is saved; what a restart brings back is the latest."""
    resets: int = 0
    """Subscriptions lost."""
    cuts: int = 0
    """Connections between an edge and its reader that break."""
    surrenders: int = 0
    """Edges that tell their reader that nobody gave the request back in time."""
    timers: int = 0
    """Timers that go off before they have to: renewals, retransmissions, reconnections."""
    reduced: bool = True
    """Leave out orders of steps that lead to the same state (see ``space.py``)."""

    def describe(self) -> str:
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        return f"{self.name}: " + ", ".join(f"{k}={v}" for k, v in chosen.items() if v)


COUNTED = (
    "drops",
    "doubles",
    "reorders",
    "lates",
    "crashes",
    "lapses",
    "cancels",
    "reaps",
    "seizures",
    "losses",
    "restarts",
    "wipes",
    "saves",
    "resets",
    "cuts",
    "surrenders",
    "timers",
)
FREE = frozenset({"saves", "surrenders"})
"""Counted, but no faults."""


ONE_OF_EACH = {"drops": 1, "doubles": 1, "lates": 1, "cuts": 1, "timers": 1}
LOSES_ALL = {"wipes": 1, "surrenders": 1}
FORGETS = {"restarts": 1, "saves": 1, "lapses": 1}
TWICE = ("drops", "doubles", "reorders", "lates", "cuts", "timers", "lapses")
ONCE = {"crashes": 1, "cancels": 1, "reaps": 1}
SMALL = {"readers": 1, "tokens": 2}


def scope(name: str, **changes: Any) -> Bounds:
    """A scope with only these faults. ``faults`` is their sum unless it is given."""
    most = sum(changes.get(kind, 0) for kind in COUNTED if kind not in FREE)
    return Bounds(name, **{"faults": most, **changes})


SHORT = (
    scope("2 readers, no faults"),
    scope("2 readers, a cancel", cancels=1, tokens=2),
    scope("1 reader, a fault on a path", **ONE_OF_EACH, reorders=1, resets=1, readers=1, faults=1),
    scope("1 reader, a generator lost", crashes=1, lapses=1, readers=1),
    scope("1 reader, a reaping", reaps=1, readers=1, tokens=2),
    scope("1 reader, paced, a generator lost", paced=True, crashes=1, lapses=1, **SMALL),
    scope("1 reader, an owner missed", losses=1, readers=1, tokens=2),
    scope("1 reader, a store that forgets", restarts=1, saves=1, readers=1, tokens=1),
    scope("1 reader, a store that loses all", **LOSES_ALL, readers=1, tokens=1),
)
"""What ``make test`` explores, in seconds."""

SCOPES = (
    scope("2 readers who come at any time", joined=False),
    scope("2 readers, a fault on a path", **ONE_OF_EACH, faults=1),
    scope("2 readers, a reordering", reorders=1),
    scope("2 readers, a subscription lost", resets=1),
    scope("2 readers, a cancel", cancels=1),
    scope("2 readers, a generator lost", crashes=1, lapses=1),
    scope("2 readers, a reaping", reaps=1),
    scope("2 readers, paced", paced=True),
    scope("1 reader, paced, a fault on a path", paced=True, **ONE_OF_EACH, readers=1, faults=1),
    scope(
        "1 reader, two faults on paths", **ONE_OF_EACH, reorders=1, resets=1, readers=1, faults=2
    ),
    scope(
        "1 reader, a fault on a path, slow reads",
        **ONE_OF_EACH,
        readers=1,
        faults=1,
        slow_reads=True,
    ),
    scope("1 reader, a store that forgets", **FORGETS, readers=1, tokens=2),
    scope("1 reader, a store that loses all", **LOSES_ALL, **SMALL),
    scope("1 reader, a store that loses all, a lapse", **LOSES_ALL, lapses=1, readers=1, tokens=1),
    scope(
        "1 reader, a store that loses all, a seizure", **LOSES_ALL, seizures=1, readers=1, tokens=1
    ),
    scope("2 readers, an owner missed", losses=1),
    scope("1 reader, an owner missed and a fault", losses=1, **ONE_OF_EACH, **SMALL, faults=2),
    scope(
        "1 reader, a store that loses all, an owner missed",
        **LOSES_ALL,
        losses=1,
        readers=1,
        tokens=1,
    ),
    scope(
        "1 reader, a store that forgets, an owner missed",
        restarts=1,
        saves=1,
        losses=1,
        readers=1,
        tokens=1,
    ),
    scope(
        "1 reader, any two faults but a loss", **dict.fromkeys(TWICE, 2), **ONCE, **SMALL, faults=2
    ),
    scope("1 reader who comes at any time, slow reads", joined=False, slow_reads=True, readers=1),
)
"""What ``make explore`` explores, in minutes: each one whole. The product of everything with
everything is too large, so each scope is a stated part of it."""
